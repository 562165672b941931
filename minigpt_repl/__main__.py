"""The programs `minigpt-repl`, `python -m minigpt_repl` and `minigpt-setup`, and what
they exit with: 0 ok, 1 runtime, 2 usage, 130 interrupted.

^C is set up before the slow imports: until the program installs a handler of its own,
it ends the process at once, without a traceback.
"""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence

from minigpt_repl.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_RUNTIME,
    MiniGPTError,
    UsageError,
)
from minigpt_repl.shown import defect, shortened, shown_line, shown_path

REPL, SETUP = "minigpt-repl", "minigpt-setup"


def main(arguments: Sequence[str] | None = None) -> int:
    """`minigpt-repl`; returns its exit code.

    Without `arguments` it is this process's own program: those of the process are
    taken, and once a model was loaded it ends here.
    """
    if arguments is not None:
        return _run(REPL, arguments)
    _leave_on_interrupt()
    code = _run(REPL, sys.argv[1:])
    if "tensorflow" in sys.modules:
        # Taking TensorFlow apart again costs half a second, and gains nothing.
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    return code


def setup(arguments: Sequence[str] | None = None) -> int:
    """`minigpt-setup`; as `main`."""
    if arguments is not None:
        return _run(SETUP, arguments)
    _leave_on_interrupt()
    return _run(SETUP, sys.argv[1:])


def _leave_on_interrupt() -> None:
    # Not if it is ignored, as behind `nohup`.
    if callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(EXIT_INTERRUPTED))


def _run(program: str, arguments: Sequence[str]) -> int:
    _prepare_streams()
    try:
        code = _carry_out(program, list(arguments))
        sys.stdout.flush()
        return code
    except BaseException as error:  # noqa: BLE001, the end of every error
        return _explain(error, program, is_debug="--debug" in arguments)


def _carry_out(program: str, arguments: list[str]) -> int:
    """Do what the arguments of a command line say; returns the exit code.

    Not by the command's own `main`, which has its own way with ^C and closed pipes.
    """
    import click
    from click.shell_completion import shell_complete

    command: click.Command
    if program == SETUP:
        from minigpt_repl.training.setup_model import command
    else:
        from minigpt_repl.cli import cli as command
    variable = f"_{program}_COMPLETE".replace("-", "_").upper()
    if instruction := os.environ.get(variable):
        return shell_complete(command, {}, program, variable, instruction)
    try:
        with command.make_context(program, arguments) as context:
            code: int = command.invoke(context)
            return code
    except click.exceptions.Exit as end:  # after --help and --version
        return end.exit_code
    except click.UsageError as error:
        message = error.format_message().rstrip(".")
        message = shortened(message[:1].lower() + message[1:])
        asked = program if error.ctx is None else error.ctx.command_path
        raise UsageError(f"{message}; see {asked} --help") from error


def _explain(error: BaseException, program: str, is_debug: bool) -> int:
    """Say in one line what went wrong; returns the exit code."""
    if isinstance(error, BrokenPipeError):
        # Who read our output has what it wanted, as `head` does.
        _discard_stdout()
        return EXIT_OK
    if isinstance(error, KeyboardInterrupt | EOFError):
        return EXIT_INTERRUPTED
    if is_debug:
        traceback.print_exception(error)
    if isinstance(error, MiniGPTError):
        _complain(program, str(error))
        return error.exit_code
    if isinstance(error, OSError):
        _discard_stdout()
        where = f" {shown_path(error.filename)}" if error.filename else ""
        _complain(program, f"can't read or write{where}: {error.strerror or error}")
        return EXIT_RUNTIME
    told = f"a defect of this program, {defect(error)}; --debug shows where"
    _complain(program, told)
    return EXIT_RUNTIME


def _complain(program: str, message: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody to tell it to
        sys.stderr.write(f"{program}: {shown_line(' '.join(message.split()))}\n")


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


if __name__ == "__main__":
    sys.exit(main())
