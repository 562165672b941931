"""Whatever is typed: an error of ours or none, and settings that are allowed."""

import io
import os
from dataclasses import fields, is_dataclass, replace

import pytest
from fakes import FakeEngine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from minigpt_repl.errors import CheckpointError, EngineError, MiniGPTError
from minigpt_repl.repl import commands  # noqa: F401, fills the table of commands
from minigpt_repl.repl.completion import complete
from minigpt_repl.repl.context import Context, Session
from minigpt_repl.repl.dispatch import all_commands, perform, run_line, whole_input
from minigpt_repl.repl.output import Ask, AskEditor, Live, Notice, Say, SwitchModel
from minigpt_repl.sampling.chain import STAGES
from minigpt_repl.sampling.registry import all_samplers
from minigpt_repl.settings import SESSION_PARAMETERS, Settings

MOST_TOKENS = 4
MOST_TEXTS = 12
LONGEST_ERROR = 2000


class BriefEngine(FakeEngine):
    """Makes short texts, and fails after a few, so that no line takes long."""

    def generate_rows(self, requests):
        if len(self.requests) >= MOST_TEXTS:
            raise EngineError("tired")
        brief = [replace(r, length=min(r.length, MOST_TOKENS)) for r in requests]
        yield from super().generate_rows(brief)


class Bench:
    """A session that lines are run in, checked after each."""

    def __init__(self, answers=()):
        self.engine = BriefEngine()
        limits = {"vocabulary": self.engine.info.vocabulary_size}
        self.session = Session(Settings(limits=limits))
        self.answers = list(answers)
        self.open = ""  # the lines of a block that is not closed yet

    def type(self, line, is_terminal):
        whole = whole_input(self.open + line)
        if whole is None:
            self.open += f"{line}\n"
            return
        self.open = ""
        self.engine.requests.clear()
        context = Context(self.session, self.engine, width=60, is_terminal=is_terminal)
        try:
            self.session = perform(run_line(whole, context), self.carry_out)
        except MiniGPTError as error:
            check_line(str(error))
        check_session(self.session)

    def carry_out(self, output):
        assert is_dataclass(output)
        if isinstance(output, Notice):
            check_line(output.text)
        if isinstance(output, Say | Live):
            console = Console(file=io.StringIO(), width=60, markup=False)
            console.print(output.content)
        if isinstance(output, Ask | AskEditor):
            return self.answers.pop() if self.answers else None
        if isinstance(output, SwitchModel):
            if output.directory.endswith("other"):
                return replace(self.engine.info, directory="other", vocabulary_size=9)
            raise CheckpointError("there is no checkpoint")
        return None


def check_line(text):
    assert text
    assert "\n" not in text
    assert len(text) < LONGEST_ERROR


def check_session(session):
    chosen = session.settings
    for key in chosen.names():
        if key != "sampler":
            value = chosen.value(key)
            assert chosen.parameter(key).check(value, chosen.limits) == value
    # A rule's name alone is a chain of one, which no list of samplers has.
    stages = chosen.sampler.stages
    assert all(stage in STAGES.values() for stage in stages)
    assert stages or chosen.sampler in all_samplers()
    ids = [node.id for node in session.nodes]
    assert len(set(ids)) == len(ids)
    assert session.current is None or session.node is not None
    for node in session.nodes:
        assert node.parent is None or session.find(node.parent) is not None
    assert {field.name for field in fields(session)} >= {"settings", "nodes"}


NAMES = sorted(
    {entry.name for entry in all_commands()}
    | {alias for entry in all_commands() for alias in entry.aliases}
)
SETTINGS = [parameter.name for parameter in SESSION_PARAMETERS]
PARAMETERS = sorted({n for spec in all_samplers() for n in spec.parameter_names})
QUALIFIED = [f"{s.name}.{n}" for s in all_samplers() for n in s.parameter_names]
SAMPLERS = [
    name
    for spec in all_samplers()
    for name in (spec.name, spec.name.replace("_", "-"), *spec.aliases)
]

OTHERS = [
    "settings",
    "model",
    "history",
    "stats",
    "n=3",
    "--",
    "the king",
    "0.2..1.4/5",
]
words = st.sampled_from(
    [*SETTINGS, *PARAMETERS, *QUALIFIED, *SAMPLERS, *NAMES, *OTHERS]
)
numbers = st.one_of(
    st.integers(-3, 12).map(str),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        ["1e400", "-0", "٣", "1_0", "0x5", "½", "nan", "off", "on", "none"]
    ),
)
pairs = st.builds("{}{}{}".format, words, st.sampled_from(["=", " ", " = "]), numbers)
specs = st.builds("{}:{}".format, st.sampled_from(SAMPLERS), pairs)
files = st.sampled_from(["a.json", "b", ".", "..", "~", "a\0b", "x" * 300, "dir/", "é"])
garbage = st.text(max_size=40)
control = st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zs", "Co"]), max_size=12)
arguments = st.lists(
    st.one_of(words, numbers, pairs, specs, files, garbage), max_size=4
).map(" ".join)
command_lines = st.builds(":{} {}".format, st.sampled_from(NAMES), arguments)


@st.composite
def nearly_valid(draw):
    line = draw(command_lines)
    place = draw(st.integers(0, len(line)))
    return (
        line[:place]
        + draw(st.text(max_size=2))
        + line[place + draw(st.integers(0, 2)) :]
    )


prefixes = st.builds(
    lambda name, length, rest: f":{name[:length]} {rest}",
    st.sampled_from(NAMES),
    st.integers(0, 4),
    arguments,
)
allowed = st.one_of(
    st.builds(":set {} {}".format, st.sampled_from(SETTINGS), numbers),
    st.builds(":set {} {}".format, st.sampled_from(QUALIFIED), numbers),
    st.builds(":sampler {}".format, st.sampled_from(SAMPLERS)),
    st.builds(":{}".format, st.sampled_from(NAMES)),
    st.builds(":show {}".format, words),
    st.builds(":help {}".format, st.sampled_from(NAMES)),
    st.builds(":{} {}".format, st.sampled_from(NAMES), st.integers(0, 4)),
    st.sampled_from(
        [
            ":save a.json",
            ":load a.json",
            ":source lines",
            ":model other",
            ":load b",
            ":set chat on",
            ":set raw on",
            ":set stats off",
            ":again",
            ":continue",
        ]
    ),
)
lines = st.one_of(
    allowed,
    allowed,
    command_lines,
    nearly_valid(),
    prefixes,
    garbage,
    control,
    st.builds(":{}".format, garbage),
    st.builds(":{}".format, control),
    st.sampled_from([":{", ":}", ":", "::", "\\:", " :set k 3", "", "the little boy"]),
)
answers = st.lists(
    st.one_of(
        st.none(), st.sampled_from(["", "1", "u", "c", "q", "s greedy"]), garbage
    ),
    max_size=8,
)


@pytest.fixture(autouse=True, scope="module")
def somewhere_else(tmp_path_factory):
    """Files that a line happens to name are made where nobody minds."""
    before = os.getcwd()
    folder = tmp_path_factory.mktemp("typed")
    (folder / "lines").write_text("the king\n:set k 2\n")
    (folder / "b").write_text('{"broken": ')
    os.chdir(folder)
    yield
    os.chdir(before)


def type_all(typed, replies, is_terminal):
    bench = Bench(replies)
    for line in typed:
        bench.type(line, is_terminal)


ANY = {"deadline": None, "suppress_health_check": list(HealthCheck)}
prompts = st.sampled_from(["the little boy", "the king and the queen", "?"])
some_lines = st.lists(st.one_of(prompts, lines), min_size=1, max_size=6)


@given(some_lines, answers, st.booleans())
@settings(max_examples=80, **ANY)
def test_any_lines(typed, replies, is_terminal):
    type_all(typed, replies, is_terminal)


@pytest.mark.slow
@given(some_lines, answers, st.booleans())
@settings(max_examples=1000, **ANY)
def test_any_lines_at_length(typed, replies, is_terminal):
    type_all(typed, replies, is_terminal)


@given(st.one_of(lines, nearly_valid()), st.lists(lines, max_size=2))
@settings(max_examples=80, **ANY)
def test_completion_of_anything(line, typed):
    bench = Bench()
    for before in typed:
        bench.type(before, is_terminal=True)
    context = Context(bench.session, bench.engine, is_terminal=True)
    for candidate in complete(line, context):
        assert 0 <= candidate.start <= len(line)
        check_line(candidate.text)


@pytest.mark.parametrize("name", NAMES)
@given(arguments, answers)
@settings(max_examples=8, **ANY)
def test_every_command_with_any_arguments(name, typed, replies):
    bench = Bench(replies)
    for line in ("the little boy", f":{name} {typed}", f":{name}"):
        bench.type(line, is_terminal=False)


@pytest.mark.parametrize(
    "line",
    [
        "a" * 1_000_000,
        ":" + "a" * 1_000_000,
        ":set " + "k=5 " * 250_000,
        ":set k " + "9" * 1_000_000,
        ":sampler " + "top_" * 250_000,
        ":load " + "x" * 1_000_000,
        ":help " + "\0" * 1_000_000,
        " " * 1_000_000,
        "\N{HANGUL SYLLABLE GA}" * 300_000,
        "\N{GRINNING FACE} " * 200_000,
    ],
    ids=lambda line: repr(line[:9]),
)
def test_lines_of_a_megabyte(line):
    Bench().type(line, is_terminal=False)
