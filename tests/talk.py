"""A session without a terminal: types lines, keeps what the commands yielded."""

from dataclasses import replace

from drawn import drawn
from fakes import VOCABULARY, FakeEngine

from minigpt_repl.errors import MiniGPTError
from minigpt_repl.repl import commands  # noqa: F401, fills the table of commands
from minigpt_repl.repl.context import Context, Session
from minigpt_repl.repl.dispatch import run_line
from minigpt_repl.repl.output import (
    Ask,
    AskEditor,
    AskKey,
    Live,
    Notice,
    Output,
    Say,
    SwitchModel,
    TextDelta,
    TextReplaced,
    TextStarted,
)
from minigpt_repl.settings import Settings


class Talk:
    """Types lines to a fake engine.

    Attributes:
        outputs: of the last line.
        error: what the last line raised, or `None`.
    """

    def __init__(
        self,
        engine=None,
        is_terminal=True,
        edited=None,
        switched=None,
        answers=(),
        keys=None,
    ):
        self.engine = engine or FakeEngine()
        limits = {"vocabulary": len(VOCABULARY)}
        self.session = Session(Settings(limits=limits))
        self.is_terminal = is_terminal
        self.edited = edited
        self.answers = iter(answers)  # to questions; none after the last
        self.keys = None if keys is None else iter(keys)  # pressed one by one
        self.switched = switched  # an `EngineInfo`, or an error to raise
        self.outputs: list[Output] = []
        self.error: MiniGPTError | None = None

    def type(self, *lines: str) -> "Talk":
        for line in lines:
            self._type(line)
        return self

    def _type(self, line):
        self.outputs, self.error = [], None
        context = Context(
            self.session,
            self.engine,
            80,
            self.is_terminal,
            has_keys=self.keys is not None,
        )
        steps = run_line(line, context)
        reply = None
        try:
            while True:
                output = steps.send(reply)
                while isinstance(output, SwitchModel) and self._refuses():
                    self.outputs.append(output)
                    output = steps.throw(self.switched)
                self.outputs.append(output)
                reply = self._reply(output)
        except StopIteration as stop:
            self.session = stop.value
        except MiniGPTError as error:
            self.error = error

    def _refuses(self):
        return isinstance(self.switched, MiniGPTError)

    def _reply(self, output):
        if isinstance(output, AskEditor):
            return self.edited
        if isinstance(output, AskKey):
            return next(self.keys, None)
        if isinstance(output, Ask):
            return next(self.answers, None)
        if isinstance(output, SwitchModel):
            return self.switched or self.engine.info
        return None

    def set(self, **values: str) -> "Talk":
        """Settings as if set, without what `:set` says about it."""
        settings, _ = self.session.settings.set(values)
        self.session = replace(self.session, settings=settings)
        return self

    @property
    def notices(self) -> list[str]:
        return [output.text for output in self.outputs if isinstance(output, Notice)]

    @property
    def said(self) -> str:
        """Everything for stdout, as it looks without colour in 100 columns."""
        return self._printed(Say)

    @property
    def lives(self) -> str:
        """Every frame of what was live, one below the other."""
        return self._printed(Live)

    def _printed(self, kind):
        shown = (each.content for each in self.outputs if isinstance(each, kind))
        return drawn(*shown, width=100, markup=False)

    @property
    def texts(self) -> list[str]:
        """Prompt and continuation of each text, as they stand at the end."""
        texts: list[list[str]] = []
        for output in self.outputs:
            if isinstance(output, TextStarted):
                texts.append([output.prompt, ""])
            elif isinstance(output, TextDelta):
                texts[-1][1] += output.delta
            elif isinstance(output, TextReplaced):
                texts[-1][1] = output.text
        return ["".join(text) for text in texts]

    def count(self, kind: type) -> int:
        return sum(isinstance(output, kind) for output in self.outputs)


def talk(*lines: str, **more) -> Talk:
    """Lines typed where texts have a seed and are short, but fit the context."""
    more = {"engine": FakeEngine(context_length=64)} | more
    return Talk(**more).set(seed="3", length="12").type(*lines)
