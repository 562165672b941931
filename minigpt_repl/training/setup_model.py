"""`minigpt-setup`: the command line of the training.

The work is `pipeline.py`'s, which is imported only when there is some: help and wrong
options answer without TensorFlow.
"""

import contextlib
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.console import Console

from minigpt_repl.engine.worker import quiet
from minigpt_repl.errors import EXIT_INTERRUPTED, EXIT_OK, MiniGPTError
from minigpt_repl.paths import training_folder
from minigpt_repl.shown import as_perplexity, in_bits_a_byte
from minigpt_repl.training.progress import Display
from minigpt_repl.training.resume import clear, is_finished, locked
from minigpt_repl.training.setup_options import (
    Options,
    Setup,
    click_options,
    make_setup,
)
from minigpt_repl.version import __version__

if TYPE_CHECKING:
    from minigpt_repl.training.trainer import Run


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]}, params=click_options()
)
@click.version_option(__version__, prog_name="minigpt-setup")
@click.option(
    "--debug", is_flag=True, expose_value=False, help="Show a traceback for errors."
)
@click.pass_context
def command(context: click.Context, /, **options: Any) -> int:
    """Learn a vocabulary, train a model, and save both as a checkpoint.

    What is finished is kept. ^C saves the training; --resume goes on with it.
    """
    given = {
        name
        for name in options
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    setup = make_setup(Options(**options), given)
    if setup.cluster is not None:
        code = fork_and_watch(
            "the training lost its coordinator, process 0 at "
            f"{setup.cluster.coordinator}: see what ended it, then start all again "
            "with --resume"
        )
        if code is not None:
            return code
    try:
        # Inside: `quiet` gives `sys.stderr` a descriptor of its own.
        with (
            quiet(),
            contextlib.closing(Display(Console(file=sys.stderr))) as progress,
            _stop_on_interrupt(progress.say) as should_stop,
            locked(setup.out) if setup.is_chief else contextlib.nullcontext(),
        ):
            return _run(setup, progress, should_stop)
    except KeyboardInterrupt:
        click.echo(
            "minigpt-setup: interrupted; what was finished is kept, the same command "
            "(with --resume, once steps were made) goes on from there",
            err=True,
        )
        raise


def _run(setup: Setup, progress: Display, should_stop: Callable[[], bool]) -> int:
    out = setup.out
    if is_finished(out, setup.options.resume, setup.options.overwrite):
        progress.say(
            f"the training of {out} is finished: talk to it with "
            f"{_typed('minigpt-repl', '--checkpoint', str(out))}, or start anew with "
            "--overwrite"
        )
        return EXIT_OK
    from minigpt_repl.training import pipeline

    if setup.options.overwrite and setup.is_chief:
        clear(training_folder(out))
    run = pipeline.set_up(setup, progress, should_stop)
    if run.was_stopped:
        progress.say(f"stopped after step {run.step:,}, saved. Go on with:")
        progress.say(f"  {_resume_command(setup)}")
        return EXIT_INTERRUPTED
    assert run.best  # a finished run has been evaluated
    if not setup.is_chief:
        return EXIT_OK
    is_last = run.best.step == run.step
    best = "" if is_last else f", the best after step {run.best.step:,}"
    progress.say(
        f"saved in {out}: {run.step:,} steps{best}, validation perplexity "
        f"{as_perplexity(run.best.perplexity)}, "
        f"{in_bits_a_byte(run.best.bits_per_byte)} bits a byte"
    )
    progress.say(_by_heart(run))
    progress.say(f"try it: {_typed('minigpt-repl', '--checkpoint', str(out))}")
    return EXIT_OK


def _by_heart(run: "Run") -> str:
    """Whether the model knows its own text much better than any other."""
    assert run.best and run.on_seen  # a finished run has been evaluated
    seen, unseen = run.on_seen.perplexity, run.best.perplexity
    times = unseen / seen
    told = "partly learned by heart" if times > 2 else "not learned by heart"
    if times > 10:
        told = "learned by heart: more text helps"
    return (
        f"{told}: perplexity {as_perplexity(seen)} on the text that it learned from, "
        f"{as_perplexity(unseen)} on text that it never saw (:next and :score show it)"
    )


def fork_and_watch(told: str) -> int | None:
    """Go on in a child process, and wait for it here.

    JAX ends a process whose coordinator is gone from a thread of its own by `abort()`,
    without an exception: only another process can say so in a line and choose the exit
    code. To be called while there is one thread. Signals that ask for an end are passed
    on to the child, and whatever ends the parent ends the child as well.

    Returns:
        `None` in the child. In the parent, the child's exit code.

    Raises:
        MiniGPTError: in the parent, if a signal ended the child; `told`, if that was
            by `abort()`.
    """
    parent_is_alive, held_by_parent = os.pipe()
    child = os.fork()
    if not child:
        os.close(held_by_parent)
        os.setpgrp()  # ^C comes once, passed on by the parent
        threading.Thread(
            target=_end_with_parent, args=(parent_is_alive,), daemon=True
        ).start()
        return None
    os.close(parent_is_alive)

    def pass_on(number: int, frame: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, pass_on)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(held_by_parent)
    if code == -signal.SIGABRT:
        raise MiniGPTError(told)
    if code < 0:
        raise MiniGPTError(f"the training was ended by {signal.Signals(-code).name}")
    return code


def _end_with_parent(parent_is_alive: int) -> None:
    os.read(parent_is_alive, 1)  # returns when the parent is gone
    os._exit(1)


@contextlib.contextmanager
def _stop_on_interrupt(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Once steps are made, the first ^C asks for an orderly stop.

    Before, and at the second ^C, `KeyboardInterrupt` ends it at once: each stage
    keeps what it has finished.
    """
    is_training = was_asked = False

    def on_signal(number: int, frame: Any) -> None:
        nonlocal was_asked
        if was_asked or not is_training:
            raise KeyboardInterrupt
        was_asked = True
        say("stopping after this step (^C again: at once)")

    def should_stop() -> bool:
        nonlocal is_training
        is_training = True
        return was_asked

    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, on_signal) for kind in kinds}
    try:
        yield should_stop
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _resume_command(setup: Setup) -> str:
    """What goes on with the training; the state holds all the other options."""
    if setup.cluster is None:
        return _typed("minigpt-setup", "--out", str(setup.out), "--resume")
    starts = ("--overwrite", "--resume")
    given = [each for each in sys.argv[1:] if each not in starts]
    return _typed("minigpt-setup", *given, "--resume")


def _typed(program: str, *arguments: str) -> str:
    """A command line that works as it is printed, whatever the path of this shell."""
    beside = Path(sys.executable).with_name(program)
    if shutil.which(program) is None and beside.exists():
        program = os.path.relpath(beside)
    return shlex.join([program, *arguments])
