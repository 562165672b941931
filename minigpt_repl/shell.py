"""One run of the program: settings from all layers, then a prompt, lines or texts.

Decides between the terminal and the plain loop. Chooses no exit code and knows
no click; imports the model's modules only when a text is wanted.
"""

import contextlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from minigpt_repl import paths
from minigpt_repl.config import default_config_text, read_environment
from minigpt_repl.engine.quiet import quiet
from minigpt_repl.engine.request import Engine
from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.models.record import read_record, verify_files
from minigpt_repl.report import JsonWriter
from minigpt_repl.sampling.registry import all_samplers
from minigpt_repl.startup import Options, prepare, read_settings_file

if TYPE_CHECKING:
    from minigpt_repl.repl.plain import PlainLoop
    from minigpt_repl.repl.session import Session


@dataclass(frozen=True)
class Outcome:
    """How a run ended: whether a line failed, and what `:quit` carried."""

    has_failed: bool = False
    quit_code: int = 0


def run(options: Options) -> Outcome:
    """Do what the options say, with the standard streams of this process.

    Raises:
        MiniGPTError: what went wrong, in one line.
        KeyboardInterrupt: after ^C.
    """
    if options.print_config:
        sys.stdout.write(default_config_text())
        return Outcome()
    _check(options)
    directory, session = prepare(options)
    if _is_interactive(options):
        return _run_terminal(options, directory, session)
    # What TensorFlow writes by itself goes nowhere; errors of ours are told.
    silence = contextlib.nullcontext() if options.debug else quiet()
    with silence:
        loop = _make_loop(options, directory, session)
        try:
            _run_plain(options, loop)
        finally:
            loop.close()
    return Outcome(loop.has_failed, loop.quit_code or 0)


def _run_terminal(options: Options, directory: Path, session: "Session") -> Outcome:
    from minigpt_repl.engine.remote import RemoteEngine
    from minigpt_repl.repl.history import history_file
    from minigpt_repl.repl.loop import run_terminal

    defaults = session.settings
    in_use = defaults.sampler

    def open_remote_engine(folder: str) -> RemoteEngine:
        # Called when the prompt is there: only then are plugins looked for.
        others = [spec for spec in all_samplers() if spec.name != in_use.name]
        warm = [(spec.name, defaults.parameters(spec)) for spec in (in_use, *others)]
        return RemoteEngine(folder, verify=not options.no_verify, warm=warm)

    code = run_terminal(
        session,
        open_remote_engine,
        str(directory),
        history=None if options.no_history else history_file(),
        first_lines=options.commands,
        debug=options.debug,
    )
    return Outcome(quit_code=code)


def run_doctor(options: Options) -> bool:
    """Print what `doctor` finds, line by line; returns whether all is well."""
    from minigpt_repl.doctor import examine

    config = read_settings_file(options)
    directory = paths.find_checkpoint(options.checkpoint, config.checkpoint)
    problems = (*config.problems, *read_environment(os.environ).problems)
    is_well = True
    with contextlib.nullcontext() if options.debug else quiet():
        verify = not options.no_verify
        for finding in examine(directory, verify, problems, open_engine):
            is_well = is_well and not finding.advice
            sys.stdout.write(f"{finding}\n")
            sys.stdout.flush()
    return is_well


def open_engine(directory: str, verify: bool) -> Engine:
    """An engine in this process.

    Raises:
        CheckpointError: if the checkpoint can't be used.
    """
    if verify:  # before the seconds that importing TensorFlow takes
        verify_files(Path(directory), read_record(Path(directory)))
    from minigpt_repl.engine.engine import load_engine

    return load_engine(directory, verify)


def _check(options: Options) -> None:
    if options.prompt is None and options.count != 1:
        raise UsageError(
            "-n makes several texts of one prompt: give the prompt with -p"
        )
    of_pipes = {
        "--json": options.as_json,
        "--jsonl": options.jsonl,
        "--only-new": options.only_new,
        "--keep-going": options.keep_going,
    }
    given = [name for name, is_given in of_pipes.items() if is_given]
    if given and _is_interactive(options):
        raise UsageError(f"{given[0]} needs -p, --script or lines on standard input")


def _is_interactive(options: Options) -> bool:
    is_asked = options.prompt is None and options.script is None
    return is_asked and sys.stdin.isatty() and sys.stdout.isatty()


def _run_plain(options: Options, loop: "PlainLoop") -> None:
    """Run the sources in their order: -e, then --script, then -p or stdin."""
    from minigpt_repl.repl.plain import Lines, read_lines

    with contextlib.ExitStack() as stack:
        sources = [Lines("-e", iter(options.commands))]
        if options.script is not None:
            file = stack.enter_context(_open_script(options.script))
            sources.append(Lines(options.script, read_lines(file)))
        elif options.prompt is None:
            sources.append(Lines("stdin", read_lines(sys.stdin.buffer)))
        for source in sources:
            if not loop.run(source):
                return
    if options.prompt is not None:
        from minigpt_repl.repl.batch import continue_times

        prompt = read_prompt(options.prompt)
        loop.run_steps(lambda desk: continue_times(desk, prompt, options.count))


def _open_script(name: str) -> BinaryIO:
    try:
        return open(name, "rb")
    except OSError as error:
        raise MiniGPTError(f"can't read {name}: {error.strerror}") from error


def read_prompt(flag: str) -> str:
    """The prompt that a flag gives; `-` reads standard input."""
    if flag != "-":
        # A byte that is no UTF-8 came as a surrogate, which nothing can encode.
        return flag.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return sys.stdin.buffer.read().decode("utf-8", "replace").rstrip("\r\n")


def _make_loop(options: Options, directory: Path, session: "Session") -> "PlainLoop":
    from minigpt_repl.engine.lazy import LazyEngine
    from minigpt_repl.repl.plain import PlainLoop

    writer = JsonWriter(sys.stdout, options.jsonl) if options.wants_json else None

    def lazily(folder: str) -> LazyEngine:
        return LazyEngine(
            lambda: open_engine(folder, not options.no_verify),
            watch=writer.watch if writer else None,
        )

    return PlainLoop(
        session,
        lazily,
        str(directory),
        sys.stdout,
        sys.stderr,
        keep_going=options.keep_going,
        only_new=options.only_new,
        hide_texts=options.wants_json,
        width=shutil.get_terminal_size().columns,
    )
