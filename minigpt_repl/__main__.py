"""The programs `minigpt-repl`, `python -m minigpt_repl` and `minigpt-setup`.

^C is set up before the slow imports: until the program installs a handler of its own,
it ends the process at once, without a traceback.
"""

import os
import signal
import sys


def main() -> int:
    """`minigpt-repl`; returns its exit code."""
    _leave_on_interrupt()
    from minigpt_repl.cli import main as run

    return run()


def setup() -> None:
    """`minigpt-setup`."""
    _leave_on_interrupt()
    from minigpt_repl.training.setup_model import main as run

    try:
        if callable(signal.getsignal(signal.SIGINT)):
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:  # before `run` is in a state to say so
        sys.exit(130)


def _leave_on_interrupt() -> None:
    # Not if it is ignored, as behind `nohup`.
    if callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))


if __name__ == "__main__":
    sys.exit(main())
