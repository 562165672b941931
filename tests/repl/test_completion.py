"""What Tab offers: pure, from the tables, never an exception, never a wait."""

import pytest
from fakes import VOCABULARY, FakeEngine
from hypothesis import given
from hypothesis import strategies as st

from minigpt_repl.errors import EngineError
from minigpt_repl.repl import commands  # noqa: F401, fills the table of commands
from minigpt_repl.repl.completion import complete
from minigpt_repl.repl.context import Context, Session
from minigpt_repl.repl.dispatch import all_commands
from minigpt_repl.sampling.chain import STAGES
from minigpt_repl.sampling.presets import DEFAULTS
from minigpt_repl.sampling.registry import all_samplers
from minigpt_repl.settings import SESSION_PARAMETERS, Settings


def make_desk(**values):
    settings = Settings(limits={"vocabulary": len(VOCABULARY)})
    settings, _ = settings.set(values)
    # Not loaded: anything that asked the engine would fail.
    engine = FakeEngine(broken=EngineError("not loaded"))
    return Context(Session(settings), engine)


def texts(line, **values):
    return [candidate.text for candidate in complete(line, make_desk(**values))]


def results(line, **values):
    """The whole line after each candidate was taken."""
    found = complete(line, make_desk(**values))
    return [line[: candidate.start] + candidate.text for candidate in found]


def test_a_colon_offers_every_command_with_its_meaning():
    found = complete(":", make_desk())
    assert [candidate.text for candidate in found] == [c.name for c in all_commands()]
    assert all(candidate.meaning for candidate in found)
    assert {candidate.start for candidate in found} == {1}


@pytest.mark.parametrize("line", ["", "the ki", " :se", "\\:se", "the :se", ":{\n:se"])
def test_a_prompt_gets_no_candidates(line):
    assert texts(line) == []


@pytest.mark.parametrize(
    ("line", "result"),
    [
        (":sam", ":sampler"),
        (":sampler t", ":sampler top_k"),
        (":sam con", ":sam contrastive"),
        (":sampler top_p ", ":sampler top_p p="),
        (":sampler top_p p=0", ":sampler top_p p=0.9"),
        (":sampler top_p p=0.5 t", ":sampler top_p p=0.5 temperature="),
        (":set le", ":set length"),
        (":set length ", ":set length 80"),
        (":set k=1", ":set k=10"),
        (":set k 10 se", ":set k 10 seed"),
        (":set stop s", ":set stop sentence"),
        (":set chat ", ":set chat on"),
        (":set seed o", ":set seed off"),
        (":set sampler g", ":set sampler greedy"),
        (":set top_p.", ":set top_p.p"),
        (":set color=n", ":set color=never"),
        (":unset k se", ":unset k seed"),
        (":show h", ":show history"),
        (":help sam", ":help sampler"),
        (":explain be", ":explain beam"),
        (":? qu", ":? quit"),
    ],
)
def test_the_word_before_the_cursor_is_completed(line, result):
    assert result in results(line)
    assert all(text.startswith(line) for text in results(line))


CHAINED = "xtc + dry + mirostat"


@pytest.mark.parametrize(
    ("line", "result"),
    [
        (":sampler min_p=", ":sampler min_p=0.05"),
        (":sampler top_k=2", ":sampler top_k=20"),
        (":sampler top_k:", ":sampler top_k:k="),
        (":sampler xtc:th", ":sampler xtc:threshold="),
        (":sampler min_p + xt", ":sampler min_p + xtc"),
        (":sampler min_p+xt", ":sampler min_p+xtc"),
        (":sampler min_p=0.1 + xtc:", ":sampler min_p=0.1 + xtc:probability="),
        (
            ":sampler a + xtc:probability=1,th",
            ":sampler a + xtc:probability=1,threshold=",
        ),
        (":sampler min_p + xtc:threshold=0", ":sampler min_p + xtc:threshold=0.1"),
        (":sampler min_p + top_k=2", ":sampler min_p + top_k=20"),
        (":compare greedy min_p+top_k=2", ":compare greedy min_p+top_k=20"),
        (":compare xtc:th", ":compare xtc:threshold="),
        (":chain a", ":chain add"),
        (":chain add typ", ":chain add typical_p"),
        (":chain add min_p ", ":chain add min_p 0.05"),
        (":chain add min_p=0", ":chain add min_p=0.05"),
        (":chain add min_p 0.1 ", ":chain add min_p 0.1 at"),
        (":chain add min_p at ", ":chain add min_p at 4"),
        (":chain move d", ":chain move dry"),
        (":chain move dry ", ":chain move dry 3"),
        (":chain drop x", ":chain drop xtc"),
    ],
)
def test_a_chain_is_completed_stage_by_stage(line, result):
    assert result in results(line, sampler=CHAINED)


def test_what_a_chain_has_is_not_offered_again():
    for line in (":chain add ", ":sampler xtc + ", ":compare xtc=1+"):
        assert not any(text.endswith("xtc") for text in texts(line, sampler=CHAINED))
    assert texts(":chain add min_p at 2 ", sampler=CHAINED) == []
    assert texts(":chain move dry 1 ", sampler=CHAINED) == []
    meanings = {
        c.text: c.meaning for c in complete(":chain drop ", make_desk(sampler=CHAINED))
    }
    assert meanings == {name: STAGES[name].summary for name in CHAINED.split(" + ")}


def test_names_and_values_carry_their_meaning():
    meanings = {c.text: c.meaning for c in complete(":sampler ", make_desk())}
    rules = {name: stage.summary for name, stage in STAGES.items()}
    defaults = {name: f"what {name} does by default" for name in DEFAULTS}
    samplers = {spec.name: spec.summary for spec in all_samplers()}
    assert meanings == rules | samplers | defaults
    meanings = {c.text: c.meaning for c in complete(":set ", make_desk())}
    assert meanings["length"] == "new tokens a text"
    assert meanings["k"] == "tokens kept"


def test_every_setting_is_offered():
    offered = set(texts(":set ", sampler="top_p"))
    assert {parameter.name for parameter in SESSION_PARAMETERS} <= offered
    assert {"p", "k", "temperature", "top_k.k", "beam.num_beams"} <= offered


@pytest.mark.parametrize("name", [n for n in Settings().names() if n != "sampler"])
def test_every_offered_value_is_allowed(name):
    context = make_desk()
    for word in texts(f":set {name} "):
        context.session.settings.set({name: word})


@pytest.mark.parametrize(
    "command", ["nonsense ", "s ", "quit ", "clear x", "sampler x "]
)
def test_nothing_is_offered_where_nothing_fits(command):
    assert texts(f":{command}") == []


def test_files_and_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my session.json").touch()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").mkdir()
    (tmp_path / "models" / "note").touch()
    (tmp_path / ".hidden").touch()
    assert texts(":load ") == ["models/", "my session.json"]
    assert results(":load my s") == [":load my session.json"]
    assert texts(":load models/") == ["models/mine/", "models/note"]
    assert texts(":model models/") == ["models/mine/"]
    assert texts(":load .h") == [".hidden"]
    assert texts(":load nowhere/") == []
    monkeypatch.setenv("HOME", str(tmp_path))
    assert texts(":model ~/mo") == ["~/models/"]


def test_only_some_of_many_files_are_offered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(300):
        (tmp_path / f"f{number}").touch()
    assert len(texts(":load f")) == 200


@given(
    st.sampled_from([":", *(f":{command.name} " for command in all_commands())]),
    st.text(max_size=12)
    | st.sampled_from(["k=", "k 1", "top_p.", "= =", "\x00", "~~/"]),
)
def test_no_line_raises(start, typed):
    line = start + typed
    for candidate in complete(line, make_desk()):
        assert 0 <= candidate.start <= len(line)


@pytest.mark.parametrize("kind", ["NAME", "FILE", "DIR", "SAMPLER"])
def test_every_command_that_takes_a_name_completes_it(kind):
    takers = [command for command in all_commands() if kind in command.usage]
    assert takers and all(command.complete for command in takers)
