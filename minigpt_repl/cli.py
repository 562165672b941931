"""The commands `minigpt-repl` and its subcommands, and what they exit with.

Exit codes: 0 ok, 1 runtime, 2 usage, 130 interrupted. What a run needs is imported
where it is needed, so that `--help` answers at once.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.exceptions import Exit
from click.shell_completion import CompletionItem, shell_complete

from minigpt_repl.config import Options
from minigpt_repl.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_RUNTIME,
    EXIT_USAGE,
    MiniGPTError,
)
from minigpt_repl.paths import known_checkpoints
from minigpt_repl.sampling.chain import STAGES
from minigpt_repl.sampling.registry import all_samplers
from minigpt_repl.settings import SESSION_PARAMETERS
from minigpt_repl.shown import (
    defect,
    did_you_mean,
    quoted,
    shortened,
    shown_line,
    shown_path,
)
from minigpt_repl.version import __version__

PROGRAM = "minigpt-repl"
COMPLETION_VARIABLE = "_MINIGPT_REPL_COMPLETE"


def complete_sampler(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Samplers and rules that begin with what was typed, each with its summary."""
    before, plus, typed = incomplete.rpartition("+")
    summaries = {name: stage.summary for name, stage in STAGES.items()}
    if not plus:
        summaries = {s.name: s.summary for s in all_samplers()} | summaries
    return [
        CompletionItem(f"{before}{plus}{name}", help=summary)
        for name, summary in summaries.items()
        if name.startswith(typed)
    ]


def complete_strategy(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[str]:
    """Samplers and rules; after a colon parameters, after an equal sign values."""
    from minigpt_repl.repl.completion import spec_words
    from minigpt_repl.settings import Settings

    words = spec_words(Settings(), incomplete)
    return [word for word in words if word.startswith(incomplete)]


def complete_setting(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[str]:
    """Settings of the session and of the samplers."""
    names = [parameter.name for parameter in SESSION_PARAMETERS]
    for spec in all_samplers():
        names += [name for name in spec.parameter_names if name not in names]
    return [f"{name}=" for name in names if name.startswith(incomplete)]


def complete_checkpoint(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of checkpoints; the shell itself knows folders."""
    names = [name for name in known_checkpoints() if name.startswith(incomplete)]
    return [*map(CompletionItem, names), CompletionItem(incomplete, type="dir")]


def assignment(typed: str) -> tuple[str, str]:
    """The name and the text of a setting's value, of `k=10` or `top_p.p=0.5`."""
    name, equals, text = typed.partition("=")
    if not (name.strip() and equals):
        raise click.BadParameter(f"--set takes NAME=VALUE, such as k=10; got {typed!r}")
    return name.strip(), text.strip()


class Group(click.Group):
    """A group that helps who typed a prompt in place of a subcommand."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a better message."""
        names = self.list_commands(ctx)
        if args and args[0] not in names:
            raise click.UsageError(
                f"no command {quoted(args[0])}: there are {', '.join(names)}"
                f"{did_you_mean(args[0], names)}; a text to continue goes after -p"
            )
        return super().resolve_command(ctx, args)


_CHECKPOINT = click.option(
    "--checkpoint",
    metavar="DIR",
    type=click.Path(),
    shell_complete=complete_checkpoint,
    help="Folder or name of the model; else MINIGPT_CHECKPOINT, the config, default.",
)


@click.group(
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
    epilog="Without -p, --script and a terminal, each line of standard input is "
    "handled as if it had been typed.",
)
@_CHECKPOINT
@click.option("--no-verify", is_flag=True, help="Load it without checking its record.")
@click.option(
    "-p", "--prompt", metavar="TEXT", help="Continue TEXT and leave; - reads stdin."
)
@click.option(
    "--sampler",
    metavar="NAME",
    shell_complete=complete_sampler,
    help="Decoding strategy.",
)
@click.option(
    "--set",
    "assignments",
    type=assignment,
    multiple=True,
    metavar="K=V",
    shell_complete=complete_setting,
    help="A setting, as :set takes it; may be given again.",
)
@click.option("--seed", metavar="N", help="Seed; text i of -n uses N+i.")
@click.option("--length", metavar="N", help="New tokens a text.")
@click.option(
    "-n",
    "count",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    help="Texts to make of -p.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a text.")
@click.option("--jsonl", is_flag=True, help="As --json, and an object a token.")
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(0, 100),
    default=0,
    help="With --json: N alternatives and the entropy of each token.",
)
@click.option("--only-new", is_flag=True, help="Leave the prompt out.")
@click.option(
    "--script",
    metavar="FILE",
    type=click.Path(),
    help="Handle the lines of FILE as if typed, and leave.",
)
@click.option(
    "-e",
    "commands",
    multiple=True,
    metavar="LINE",
    help="Handle LINE first, such as ':set k 5'; may be given again.",
)
@click.option("--keep-going", is_flag=True, help="Go on after a line that fails.")
@click.option(
    "--config", metavar="FILE", type=click.Path(), help="Settings, in place of yours."
)
@click.option("--print-config", is_flag=True, help="Print a commented config file.")
@click.option(
    "--color",
    metavar="WHEN",
    type=click.Choice(["auto", "always", "never"]),
    help="auto, always or never.",
)
@click.option("--no-history", is_flag=True, help="Keep no history of what is typed.")
@click.option("--debug", is_flag=True, help="Show tracebacks and TensorFlow's log.")
@click.version_option(__version__, "--version", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, /, **flags: Any) -> int:
    """Continue texts with a small language model, and see how it chooses.

    Without -p it opens a prompt: type a text to have it continued, :help for the
    commands, ^D to leave.
    """
    ctx.obj = Options(**flags)
    if ctx.invoked_subcommand is not None:
        return EXIT_OK
    from minigpt_repl.repl.entry import run

    return run(ctx.obj)


@cli.command()
@_CHECKPOINT
@click.option("--no-verify", is_flag=True, help="Do not compare it with its record.")
@click.pass_obj
def doctor(options: Options, /, checkpoint: str | None, no_verify: bool) -> int:
    """Check all that a text needs, and say what to do.

    Looks at versions, devices, checkpoint, settings and folders, and makes 20
    tokens. Each line is ok, or says what to do.
    """
    from minigpt_repl.repl.entry import run_doctor

    chosen = options.changed(checkpoint=checkpoint, no_verify=no_verify)
    return EXIT_OK if run_doctor(chosen) else EXIT_RUNTIME


@cli.command()
@click.argument(
    "specs", nargs=-1, metavar="[SPEC]...", shell_complete=complete_strategy
)
@click.option("-p", "--prompt", metavar="TEXT", required=True, help="- reads stdin.")
@click.option("--n", "-n", "count", default="1", metavar="N", help="Texts a strategy.")
@click.option("--seed", metavar="N", help="Of the first text; text i uses N+i.")
@click.option("--length", metavar="N", help="New tokens a text.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", metavar="FILE", help="Write Markdown to FILE.")
@click.option("--html", metavar="FILE", help="Write one self-contained page to FILE.")
@_CHECKPOINT
@click.pass_obj
def compare(
    options: Options,
    /,
    prompt: str,
    checkpoint: str | None,
    seed: str | None,
    length: str | None,
    **wanted: Any,
) -> int:
    """Continue one prompt with several strategies.

    SPEC is a sampler, with parameters if you like: top_k:k=10,temperature=0.8.
    Without one it is every sampler as it is set. The texts and their measures are
    printed side by side, or written as JSON, Markdown or HTML.
    """
    from minigpt_repl.repl.entry import run_comparison

    chosen = options.changed(checkpoint=checkpoint, seed=seed, length=length)
    run_comparison(replace(chosen, prompt=prompt), **wanted)
    return EXIT_OK


@cli.command()
@click.argument("file", metavar="FILE.json")
@_CHECKPOINT
@click.pass_obj
def replay(options: Options, /, file: str, checkpoint: str | None) -> int:
    """Run an exported comparison again; fail at the first token that differs."""
    from minigpt_repl.repl.entry import run_replay

    run_replay(options.changed(checkpoint=checkpoint), Path(file))
    return EXIT_OK


@cli.command()
@click.argument("file", metavar="FILE")
@click.option("--tokens", is_flag=True, help="A line a token first: bits and token.")
@_CHECKPOINT
@click.pass_obj
def score(options: Options, /, file: str, tokens: bool, checkpoint: str | None) -> int:
    """Tell how little the model expects a text: perplexity and bits a byte.

    FILE is UTF-8 text; - reads standard input.
    """
    from minigpt_repl.repl.entry import run_score

    run_score(options.changed(checkpoint=checkpoint), Path(file), tokens)
    return EXIT_OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code.

    Without `arguments` it is this process's own program: those of the process are
    taken, and once a model was loaded it ends here.
    """
    code = _run(arguments)
    if arguments is None and "tensorflow" in sys.modules:
        # Taking TensorFlow apart again costs half a second, and gains nothing.
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    return code


def _run(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_streams()
    try:
        if instruction := os.environ.get(COMPLETION_VARIABLE):
            return shell_complete(cli, {}, PROGRAM, COMPLETION_VARIABLE, instruction)
        code = _invoke(list(given))
        sys.stdout.flush()
        return code
    except BaseException as error:  # noqa: BLE001, the end of every error
        return _explain(error, is_debug="--debug" in given)


def _invoke(arguments: list[str]) -> int:
    # Not `cli.main()`, which has its own way with ^C and closed pipes.
    try:
        with cli.make_context(PROGRAM, arguments) as context:
            code: int = cli.invoke(context)
            return code
    except Exit as end:  # after --help and --version
        return end.exit_code


def _explain(error: BaseException, is_debug: bool) -> int:
    """Say in one line what went wrong; returns the exit code."""
    if isinstance(error, BrokenPipeError):
        # Who read our output has what it wanted, as `head` does.
        _discard_stdout()
        return EXIT_OK
    if isinstance(error, KeyboardInterrupt | click.Abort | EOFError):
        return EXIT_INTERRUPTED
    if is_debug:
        traceback.print_exception(error)
    if isinstance(error, MiniGPTError):
        _complain(str(error))
        return error.exit_code
    if isinstance(error, click.ClickException):
        hint = f"; see {PROGRAM} --help" if error.exit_code == EXIT_USAGE else ""
        message = error.format_message().rstrip(".")
        _complain(f"{shortened(message[:1].lower() + message[1:])}{hint}")
        return error.exit_code
    if isinstance(error, OSError):
        _discard_stdout()
        where = f" {shown_path(error.filename)}" if error.filename else ""
        _complain(f"can't read or write{where}: {error.strerror or error}")
        return EXIT_RUNTIME
    _complain(f"a defect of this program, {defect(error)}; --debug shows where")
    return EXIT_RUNTIME


def _complain(message: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody to tell it to
        sys.stderr.write(f"{PROGRAM}: {shown_line(' '.join(message.split()))}\n")


def _discard_stdout() -> None:
    # Python flushes stdout once more at its end, and would complain there.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _prepare_streams() -> None:
    """Any text can be written, and a stream that was closed is no reason to fail."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
