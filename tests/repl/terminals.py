"""Two terminals for one set of behaviour tests.

`PipeTerminal` runs the loop in this process, on prompt_toolkit's pipe input and a
fake engine; `PtyTerminal` runs a program on a real pseudo-terminal. Both show what
a person would see, by an emulated screen.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pyte
from engines import make_engine
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output

from minigpt_repl.repl.context import Session
from minigpt_repl.repl.terminal import Terminal as Program
from minigpt_repl.settings import Settings

PATIENCE = 240.0
"""Seconds: many, since a failure alone waits for them and a busy machine may."""

HERE = Path(__file__).parent
KEYS = {
    "enter": "\r",
    "alt-enter": "\x1b\r",
    "tab": "\t",
    "up": "\x1b[A",
    "right": "\x1b[C",
    "escape": "\x1b",
    "^C": "\x03",
    "^D": "\x04",
    "^R": "\x12",
}


class Screen:
    """What is on a screen of some size; bytes come from any thread.

    As a terminal does, it answers when it is asked where the cursor is.
    """

    encoding = "utf-8"

    def __init__(self, columns: int, rows: int) -> None:
        self.answer: Callable[[str], object] = lambda text: None
        self._screen = pyte.HistoryScreen(columns, rows, history=2000)
        self._screen.write_process_input = lambda text: self.answer(text)
        self._screen.set_mode(pyte.modes.LNM)  # \n goes to the line's start
        self._stream = pyte.Stream(self._screen)
        self._lock = threading.Lock()
        self.columns, self.rows = columns, rows
        self.written = ""

    def write(self, text: str) -> None:
        with self._lock:
            self.written += text
            self._stream.feed(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True

    def resize(self, columns: int, rows: int) -> None:
        with self._lock:
            self.columns, self.rows = columns, rows
            self._screen.resize(rows, columns)

    @property
    def lines(self) -> list[str]:
        """Rows from the top of all that was shown, without empty ones at the end."""
        with self._lock:
            top = [
                "".join(row[x].data for x in range(self._screen.columns))
                for row in self._screen.history.top
            ]
            shown = [*top, *self._screen.display]
        lines = [line.rstrip() for line in shown]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class Terminal:
    """What a scenario can do with either terminal."""

    screen: Screen

    def send(self, text: str) -> None:
        raise NotImplementedError

    def type(self, text: str) -> None:
        """Type a line and press Enter."""
        self.send(f"{text}\r")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.send(KEYS[key])

    def paste(self, text: str) -> None:
        """As a terminal does with bracketed paste."""
        self.send(f"\x1b[200~{text}\x1b[201~")

    def interrupt(self) -> None:
        """^C while a line is carried out."""
        raise NotImplementedError

    def see(self, text: str, times: int = 1) -> None:
        """Wait until a text is on the screen, rows put together."""
        self.wait(lambda: self.flat.count(text) >= times, f"{text!r}")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"no {what} on:\n{self.screen.text}"
            time.sleep(0.01)

    @property
    def flat(self) -> str:
        """The screen's words with single spaces, however they are wrapped."""
        return " ".join(self.screen.text.split())

    def at_prompt(self) -> None:
        """Wait until there is an empty prompt at the end."""

        def is_there() -> bool:
            lines = [line for line in self.screen.lines if line]
            # The last line may be the toolbar.
            return any(line == ">" for line in lines[-2:])

        self.wait(is_there, "prompt")


class PipeTerminal(Terminal):
    """The loop in this process. Its scenario runs in a thread, because signals
    come to the main one."""

    def __init__(self, directory: str, home: Path, columns: int, rows: int) -> None:
        self.screen = Screen(columns, rows)
        self._directory = directory
        self._home = home
        self.exit_code: int | None = None

    def run(self, scenario: Callable[[Terminal], None], *settings: str) -> int:
        failures: list[BaseException] = []
        with create_pipe_input() as keys:
            self.send = keys.send_text  # type: ignore[method-assign]
            self.screen.answer = keys.send_text

            has_ended = threading.Event()

            def play() -> None:
                try:
                    scenario(self)
                    self.wait(has_ended.is_set, "end of the loop")
                except BaseException as error:  # noqa: BLE001, raised again below
                    failures.append(error)
                    if not has_ended.is_set():
                        os.kill(os.getpid(), signal.SIGTERM)

            thread = threading.Thread(target=play)
            thread.start()
            output = Vt100_Output(
                self.screen,
                lambda: Size(self.screen.rows, self.screen.columns),
                term="xterm",
            )
            program = Program(
                Session(Settings().set(dict(s.split("=") for s in settings))[0]),
                make_engine,
                self._directory,
                history=self._home / "history",
                input=keys,
                output=output,
                out=self.screen,
                err=self.screen,
                debug=True,
            )
            code = program.run()
            has_ended.set()
            thread.join()
        if failures:
            raise failures[0]
        return code

    def interrupt(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(columns, rows)


class PtyTerminal(Terminal):
    """A program on a pseudo-terminal."""

    def __init__(
        self,
        command: list[str],
        home: Path,
        columns: int,
        rows: int,
        **environment: str,
    ) -> None:
        self.screen = Screen(columns, rows)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MINIGPT_")}
        kept.pop("NO_COLOR", None)
        paths = [*map(str, (HERE, HERE.parent, HERE.parent.parent)), *sys.path]
        places = {f"XDG_{name}_HOME": str(home) for name in ("STATE", "CONFIG", "DATA")}
        self._variables = {
            **kept,
            **places,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "TERM": "xterm-256color",
            "LC_ALL": "C.UTF-8",
            **environment,
        }
        self._command = command

    def run(self, scenario: Callable[[Terminal], None], *settings: str) -> int:
        """Play a scenario; returns the exit code, or minus the signal's number."""
        self.process = pexpect.spawn(
            self._command[0],
            [*self._command[1:], *settings],
            env=self._variables,
            dimensions=(self.screen.rows, self.screen.columns),
            encoding="utf-8",
            codec_errors="replace",
        )
        self.process.delaybeforesend = None
        self.screen.answer = self.process.send
        reader = threading.Thread(target=self._read)
        reader.start()
        try:
            scenario(self)
            self.wait(lambda: not reader.is_alive(), "end of the program")
        finally:
            self.process.close(force=True)
            reader.join()
        if self.process.exitstatus is None:
            return -int(self.process.signalstatus or 0)
        return int(self.process.exitstatus)

    def _read(self) -> None:
        while True:
            try:
                self.screen.write(self.process.read_nonblocking(65536, timeout=0.2))
            except pexpect.TIMEOUT:
                continue
            except (pexpect.EOF, ValueError, OSError):
                return

    def send(self, text: str) -> None:
        self.process.send(text)

    def interrupt(self) -> None:
        self.press("^C")

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(columns, rows)
        self.process.setwinsize(rows, columns)
