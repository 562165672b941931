"""One run of the program: lines or texts without a terminal, or the loop of one.

Where there is no terminal each line is handled as if it had been typed. Only text goes
to stdout, flushed as it comes; everything else goes to stderr, and no escape byte is
written to a pipe unless colour is forced.
"""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from minigpt_repl import paths
from minigpt_repl.config import Options, prepare
from minigpt_repl.engine.request import Engine
from minigpt_repl.errors import EXIT_OK, EXIT_RUNTIME, MiniGPTError, UsageError
from minigpt_repl.files import open_user_file
from minigpt_repl.repl.context import Context, Session, Steps
from minigpt_repl.repl.dispatch import App, Lines, run_line, whole_inputs
from minigpt_repl.repl.output import (
    Ask,
    AskEditor,
    AskKey,
    Mistake,
    Output,
    TextDelta,
    TextEnded,
    TextReplaced,
    TextStarted,
)
from minigpt_repl.repl.screen import Screen, make_screen, work_of
from minigpt_repl.repl.signals import leaving_after_stop, on_interrupt
from minigpt_repl.report import JsonWriter, WatchedEngine
from minigpt_repl.sampling.registry import all_samplers
from minigpt_repl.shown import shown_line, shown_path

if TYPE_CHECKING:
    from minigpt_repl.engine.remote import RemoteEngine
    from minigpt_repl.engine.worker import Warming

SEVERAL = 8
"""Texts together that a session on a terminal is prepared for: `:again 5`."""

WIDE = 16
"""Texts that a search may keep and still begin at once, whatever was prepared."""

BYTE_ORDER_MARK = "\ufeff"
LONGEST_INPUT = 4 * 1024 * 1024
"""Bytes of a line, or of a prompt on standard input."""


def run(options: Options) -> int:
    """Do what the options say, with the standard streams of this process; returns the
    exit code.

    Raises:
        MiniGPTError: what went wrong, in one line.
        KeyboardInterrupt: after ^C.
    """
    _check(options)
    directory, settings = prepare(options)
    session = Session(settings)
    if _is_interactive(options):
        return _run_terminal(options, directory, session)
    return _run_plain(options, directory, session)


def _run_terminal(options: Options, directory: Path, session: Session) -> int:
    from minigpt_repl.engine.texts import is_drawn
    from minigpt_repl.repl.terminal import Terminal

    settings = session.settings
    in_use = settings.sampler

    def open_warming_engine(folder: str) -> "RemoteEngine":
        # Called when the prompt is there: only then are plugins looked for.
        empty = settings.request("")
        warm, wide = [], []
        for spec in dict.fromkeys((in_use, *all_samplers())):
            values = settings.parameters(spec)
            text = replace(empty, sampler=spec.name, parameters=values)
            warm.append((text, 1))
            if spec.search is not None and spec.search.rows is not None:
                values = {**values, spec.search.rows: WIDE}
                wide.append((replace(text, parameters=values), 1))
        if is_drawn(in_use.name, empty.parameters):
            warm.append((empty, SEVERAL))
        warm += wide
        return open_engine(folder, replace(options, debug=False), warm)

    terminal = Terminal(
        session,
        open_warming_engine,
        str(directory),
        history=None if options.no_history else paths.state_home() / "history",
        debug=options.debug,
    )
    return terminal.run(options.commands)


def open_engine(
    directory: str,
    options: Options,
    warm: "Sequence[Warming]" = (),
) -> "RemoteEngine":
    """The engine of a checkpoint's folder; it is started when it is needed."""
    from minigpt_repl.engine.remote import RemoteEngine

    return RemoteEngine(
        directory, verify=not options.no_verify, warm=warm, shows_log=options.debug
    )


def _check(options: Options) -> None:
    if options.prompt is None and options.count != 1:
        raise UsageError(
            "-n makes several texts of one prompt: give the prompt with -p"
        )
    if options.top and not options.wants_json:
        raise UsageError("--top N tells alternatives in JSON: add --json or --jsonl")
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


def _run_plain(options: Options, directory: Path, session: Session) -> int:
    """Run the sources in their order: -e, then --script, then -p or stdin."""
    from minigpt_repl.repl.continuation import continue_times

    json = options.wants_json
    writer = JsonWriter(sys.stdout, options.jsonl) if json else None

    def open_watched(folder: str) -> WatchedEngine:
        watch = writer.watch if writer else None
        return WatchedEngine(open_engine(folder, options), watch, options.top)

    loop = PlainLoop(
        session,
        open_watched,
        str(directory),
        make_screen(has_objects=json, work=lambda: work_of(loop.engine)),
        keep_going=options.keep_going,
        only_new=options.only_new,
        hides_texts=json,
    )
    with ExitStack() as stack:
        stack.callback(loop.close)
        sources = [Lines("-e", options.commands)]
        if options.script is not None:
            name = shown_path(options.script)
            file = stack.enter_context(open_user_file(Path(options.script)))
            sources.append(Lines(name, read_lines(file, name)))
        elif options.prompt is None:
            sources.append(Lines("stdin", read_lines(sys.stdin.buffer, "stdin")))
        goes_on = all(loop.run(source) for source in sources)
        if goes_on and options.prompt is not None:
            prompt = read_prompt(options.prompt)
            loop.run_steps(
                lambda context: continue_times(context, prompt, options.count)
            )
    return EXIT_RUNTIME if loop.has_failed else EXIT_OK


class PlainLoop(App):
    """Runs lines and prompts one after another.

    Args:
        keep_going: whether a line that fails is only reported.
        only_new: whether the prompt is left out of what is shown.
        hides_texts: whether texts are not shown, since someone else writes them in
            another form.

    Attributes:
        has_failed: whether any line failed.
    """

    def __init__(
        self,
        session: Session,
        open_engine: Callable[[str], Engine],
        directory: str,
        screen: Screen,
        *,
        keep_going: bool = False,
        only_new: bool = False,
        hides_texts: bool = False,
    ) -> None:
        super().__init__(session, open_engine, directory, screen)
        self._keep_going = keep_going
        self._only_new = only_new
        self._hides_texts = hides_texts
        self._lines = Lines("", ())
        self.has_failed = False

    def run(self, lines: Lines) -> bool:
        """Handle every line. Returns whether to go on with what comes next.

        A line that fails is reported as `NAME:LINE: message`.

        Raises:
            KeyboardInterrupt: after ^C; a text that was being made is ended.
        """
        from minigpt_repl.repl import commands  # noqa: F401 - fills their table

        self._lines, inputs = lines, whole_inputs(lines)
        while True:
            try:
                whole = next(inputs, None)
                if whole is None:
                    return True
                self.run_steps(partial(run_line, whole))
            except MiniGPTError as error:
                self.has_failed = True
                place = shown_line(f"{lines.name}:{lines.number}")
                self.screen.notice(f"{place}: {shown_line(str(error))}", is_error=True)
            if self.has_quit or (self.has_failed and not self._keep_going):
                return False

    def stop(self) -> None:
        """As `App`; raises `KeyboardInterrupt` where there is nothing yet to keep."""
        super().stop()
        _check_loaded(self.engine)

    def run_steps(self, make_steps: Callable[[Context], Steps]) -> None:
        """Carry out one command; raises what it raises, and as `run` after ^C."""
        self.screen.color = self.session.settings.value("color") == "always"
        with leaving_after_stop(self.stop):
            self.carry_out(make_steps)

    def show(self, output: Output) -> object:
        """As `App`; a mistake is noted, and what of a text is not wanted left out."""
        self.has_failed |= isinstance(output, Mistake)
        is_text = isinstance(output, TextStarted | TextDelta | TextReplaced | TextEnded)
        if is_text and self._hides_texts:
            return None
        if isinstance(output, TextStarted) and self._only_new:
            output = TextStarted("")
        return super().show(output)

    def answer(self, question: Ask | AskKey | AskEditor) -> str | None:
        """The next line of the input, unless it is a command."""
        if not isinstance(question, Ask):
            return None
        self.screen.notice(question.question)
        with on_interrupt(signal.default_int_handler):
            return self._lines.next_answer()


def read_lines(file: BinaryIO, name: str) -> Iterator[str]:
    """Lines of a file as they come. What is not UTF-8 becomes U+FFFD.

    Raises:
        MiniGPTError: at a line of more than `LONGEST_INPUT` bytes: it may be endless.
    """
    lines = iter(partial(file.readline, LONGEST_INPUT + 1), b"")
    for number, line in enumerate(lines, start=1):
        if len(line) > LONGEST_INPUT:
            raise too_long(f"line {number} of {name}")
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        yield text.removeprefix(BYTE_ORDER_MARK) if number == 1 else text


def too_long(what: str) -> MiniGPTError:
    """The error for an input of more than `LONGEST_INPUT` bytes."""
    return MiniGPTError(f"{shown_line(what)} is longer than {LONGEST_INPUT >> 20} MB")


def read_prompt(flag: str) -> str:
    """The prompt that a flag gives; `-` reads standard input."""
    if flag != "-":
        # A byte that is no UTF-8 came as a surrogate, which nothing can encode.
        return flag.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    text = sys.stdin.buffer.read(LONGEST_INPUT + 1)
    if len(text) > LONGEST_INPUT:
        raise too_long("the prompt on standard input")
    return text.decode("utf-8", "replace").rstrip("\r\n")


@contextmanager
def opened_engine(directory: Path, options: Options) -> Iterator[Engine]:
    """An engine; the first ^C ends a text within a step, and what is there is kept."""
    with closing(open_engine(str(directory), options)) as engine:

        def stop() -> None:
            engine.stop()
            _check_loaded(engine)

        with leaving_after_stop(stop):
            yield engine


def _check_loaded(engine: Engine) -> None:
    # A stop before the first request, which needs the model, is heard by nobody.
    if engine.status.info is None:
        raise KeyboardInterrupt
