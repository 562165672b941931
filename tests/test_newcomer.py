"""What trips a newcomer: each way of going wrong has a way back on the screen."""

import io
import os
import re
import shutil
from dataclasses import replace

import msgspec
import pytest
from click.shell_completion import ShellComplete
from drawn import drawn
from fakes import VOCABULARY, FakeEngine
from recorded import make_recorded
from talk import Talk

from minigpt_repl import glossary, paths, shown
from minigpt_repl.cli import cli
from minigpt_repl.compare.spec import parse_strategies
from minigpt_repl.errors import UsageError
from minigpt_repl.formats import encode
from minigpt_repl.models.record import read_record
from minigpt_repl.paths import RECORD_FILE
from minigpt_repl.repl.commands.program import grouped_commands
from minigpt_repl.repl.completion import complete
from minigpt_repl.repl.context import Context, Session
from minigpt_repl.repl.continuation import continue_times
from minigpt_repl.repl.dispatch import all_commands
from minigpt_repl.repl.entry import PlainLoop
from minigpt_repl.repl.output import Notice, SwitchModel
from minigpt_repl.repl.screen import Screen
from minigpt_repl.settings import Settings, limits_of
from minigpt_repl.shown import did_you_mean

# A command without its colon.


@pytest.mark.parametrize(
    "line",
    ["help", "set k 5", "set k=5", "sampler top_p", "compare greedy", "show model"],
)
def test_a_command_without_its_colon_is_continued_and_pointed_out(line):
    talk = Talk().set(length="2").type(line)
    assert len(talk.session.nodes) == 1 and talk.texts[0].startswith(line)
    assert talk.notices[-1] == f"did you mean :{line}?"


def test_a_short_name_without_its_colon_is_told_in_full():
    # It was "did you mean :??".
    talk = Talk().set(length="2")
    assert talk.type("?").notices[-1] == "did you mean :help?"
    assert talk.type("q").notices[-1] == "did you mean :quit?"


@pytest.mark.parametrize(
    "line",
    ["the king", "set the table", "show me the house", "help me", " help", "\\:help"],
)
def test_a_text_that_begins_with_a_commands_name_is_a_text(line):
    talk = Talk().set(length="2").type(line)
    assert not any("did you mean" in notice for notice in talk.notices)


# Names that are nearly right.


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        (":set temp 0.5", "temperature"),
        (":set tempreature 0.5", "temperature"),
        (":set top_p.temp 1", "temperature"),
        (":sampler specul", "speculative or speculative_sampling"),
        (":sampler top_k temp=2", "temperature"),
        (":compare top_k:temp=2", "temperature"),
        (":hepl", ":help"),
        (":help perplexty", "perplexity"),
        (":help smapler", ":sampler"),
        (":unset len", "length"),
        (":show hist0ry", "history"),
    ],
)
def test_a_beginning_and_a_near_miss_are_answered_with_the_name(line, meant):
    error = str(Talk().type("the king", line).error)
    assert f"did you mean {meant}?" in error


def test_a_beginning_of_few_names_lists_them_and_of_many_none():
    names = ["min_p", "min_k", "max"]
    assert did_you_mean("mi", names) == "; did you mean min_p or min_k?"
    assert did_you_mean("m", ["max", "mean", "median", "mode"]) == ""
    assert did_you_mean("", names) == did_you_mean("x" * 99, names) == ""


def test_a_name_with_a_letter_left_out_is_no_other_commands_beginning():
    talk = Talk().type(":st k 5")
    assert str(talk.error) == ":st could be :set, :step; type more of it"
    assert talk.outputs == [] and talk.session.nodes == ()


# Checkpoints by name.


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """The user's own: `mine`, with figures, and `plain`, without a draft."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folder = tmp_path / paths.APP / "checkpoints"
    folder.mkdir(parents=True)
    for name, changes in {
        "mine": {"training": {"metrics": {"perplexity": 41.26, "bits_per_byte": 1.4}}},
        "plain": {"has_draft": False, "vocabulary_size": 20},
    }.items():
        record = read_record(make_recorded(folder / name))
        changed = msgspec.structs.replace(record, **changes)
        (folder / name / RECORD_FILE).write_text(encode(changed))
        os.utime(folder / name / RECORD_FILE, (86400 * 365, 86400 * 365))
    return folder


def test_a_checkpoint_is_found_by_its_name(checkpoints, monkeypatch):
    assert paths.find_checkpoint("mine") == checkpoints / "mine"
    assert paths.find_checkpoint("default") == paths.bundled_checkpoint()
    monkeypatch.delenv("MINIGPT_CHECKPOINT", raising=False)
    assert paths.find_checkpoint(None, "plain") == checkpoints / "plain"
    monkeypatch.chdir(checkpoints / "plain")
    (checkpoints / "plain" / "mine").mkdir()
    assert str(paths.find_checkpoint("mine")) == "mine"  # a folder that is here


def test_model_lists_the_checkpoints_with_size_date_and_figures(checkpoints):
    lines = Talk().type(":model").said.splitlines()
    row = next(line.split() for line in lines if line.split()[:1] == ["mine"])
    assert row[1:] == ["1,234", "1971-01-01", "41.3", "1.400"]
    assert any(line.split()[:2] == ["plain", "1,234"] for line in lines)


def test_a_checkpoint_that_cant_be_read_is_listed_as_such(checkpoints):
    (checkpoints / "mine" / RECORD_FILE).write_text("{")
    assert re.search(r"mine +can't be read", Talk().type(":model").said)


def test_model_takes_a_name_and_completes_it(checkpoints, monkeypatch):
    talk = Talk().type(":model mine")
    assert talk.outputs[0] == SwitchModel(str(checkpoints / "mine"))
    monkeypatch.chdir(checkpoints / "plain")
    context = Context(Session(Settings()), FakeEngine())
    assert [each.text for each in complete(":model mi", context)] == ["mine"]
    error = str(Talk().type(":model mien").error)
    assert "there is no checkpoint at" in error and "did you mean mine?" in error
    assert "known by name: " in str(Talk().type(":model zzz").error)


def test_what_another_model_does_not_allow_is_told_before_it_is_loaded(checkpoints):
    info = replace(FakeEngine().info, has_draft=False, vocabulary_size=20)
    talk = Talk(switched=info).set(k="30").set(sampler="speculative")
    talk.type(":model plain")
    kinds = [type(output) for output in talk.outputs]
    assert kinds[:3] == [Notice, Notice, SwitchModel]
    assert talk.notices[:2] == [
        "sampler: speculative -> top_k, the model has no draft model",
        "top_k.k: 30 -> 10, the model's vocabulary is smaller",
    ]
    assert talk.session.settings.sampler.name == "top_k"
    assert talk.type("the king").error is None


def test_without_a_draft_model_speculative_is_refused_where_it_is_asked_for():
    limits = limits_of(replace(FakeEngine().info, has_draft=False))
    settings = Settings(limits=limits)
    with pytest.raises(UsageError, match="needs a draft model"):
        settings.set({"sampler": "speculative"})
    with pytest.raises(UsageError, match="needs a draft model"):
        parse_strategies(["greedy", "speculative"], settings)
    assert Settings().set({"sampler": "speculative"})  # nothing is known of a model


# What Tab offers for a comparison.


@pytest.mark.parametrize(
    ("word", "offered"),
    [
        ("top", "top_k"),
        ("min", "min_p"),
        ("top_k:", "top_k:k="),
        ("top_k:k=10,t", "top_k:k=10,temperature="),
        ("top_k:k=1", "top_k:k=10"),
        ("min_p=0.05+xt", "min_p=0.05+xtc"),
    ],
)
def test_strategies_are_completed_in_the_prompt_and_in_the_shell(word, offered):
    context = Context(Session(Settings()), FakeEngine())
    texts = [each.text for each in complete(f":compare {word}", context)]
    assert offered in texts
    shell = ShellComplete(cli, {}, "minigpt-repl", "_COMPLETE")
    assert offered in [c.value for c in shell.get_completions(["compare"], word)]
    assert shell.get_completions(["compare"], "nosuch:") == []


def test_the_shell_completes_names_of_checkpoints(checkpoints):
    shell = ShellComplete(cli, {}, "minigpt-repl", "_COMPLETE")
    found = shell.get_completions(["--checkpoint"], "mi")
    assert [each.value for each in found if each.type == "plain"] == ["mine"]


# A pipe that ends in a terminal.


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def piped(out, err, size, prompt="the king") -> None:
    limits = {"vocabulary": len(VOCABULARY)}
    settings, _ = Settings(limits=limits).set({"length": "30", "seed": "1"})
    opened = FakeEngine()
    screen = Screen(out, err, size or shutil.get_terminal_size, can_move=bool(size))
    loop = PlainLoop(Session(settings), lambda folder: opened, "/x", screen)
    loop.run_steps(lambda context: continue_times(context, prompt, 1))


def test_a_text_is_wrapped_where_stdout_is_a_terminal_and_only_there():
    import pyte

    plain, terminal, err = io.StringIO(), Terminal(), Terminal()
    piped(plain, io.StringIO(), None)
    piped(terminal, err, lambda: os.terminal_size((30, 24)))
    assert plain.getvalue().count("\n") == 1 and "\x1b" not in plain.getvalue()
    screen = pyte.Screen(30, 24)
    pyte.Stream(screen).feed(terminal.getvalue().replace("\n", "\r\n"))
    rows = [row.rstrip() for row in screen.display if row.strip()]
    assert len(rows) > 3 and " ".join(rows) == plain.getvalue().strip()
    figures = err.getvalue().splitlines()
    assert len(figures) > 1 and max(map(len, figures)) < 30


# Help and the glossary.


def test_help_groups_every_command_once_by_what_one_wants_to_do():
    groups = grouped_commands()
    listed = [command for commands in groups.values() for command in commands]
    assert sorted(c.name for c in listed) == [c.name for c in all_commands()]
    said = Talk().type(":help").said
    assert said.split()[:2] == ["begin", ":tour"]
    assert all(group in said for group in groups)
    assert max(map(len, said.splitlines())) <= 100


def test_help_fits_a_small_terminal_and_tells_how_to_have_a_line_on_each():
    shown = drawn(*(output.content for output in Talk().type(":help").outputs))
    rows = shown.splitlines()
    # The prompt, the bar below it and the line that was typed are on the screen too.
    assert len(rows) <= 24 - 3 and max(map(len, rows)) <= 80
    assert ":help all" in shown
    said = Talk().type(":help all").said
    assert all(f":{each.name}" in said for each in all_commands())
    assert all(each.summary in said for each in all_commands())


@pytest.mark.parametrize("entry", glossary.ENTRIES, ids=lambda entry: entry.names[0])
def test_every_word_of_the_glossary_is_explained_in_two_sentences(entry):
    for name in entry.names:
        said = " ".join(Talk().type(f":help {name}").said.split())
        assert entry.text in said
    sentences = re.findall(r"[.][ ]?(?=[A-Z`]|$)", entry.text)
    assert len(sentences) == 2


def test_what_is_both_a_setting_and_a_word_is_told_as_both():
    said = " ".join(Talk().type(":help temperature").said.split())
    assert "What the logits are divided by" in said and "0..100" in said


@pytest.mark.parametrize(
    "word",
    [
        "left",
        "seen",
        "smallest k",
        "smallest p",
        "similarity",
        "rows",
        "vocabulary",
        "checkpoint",
        "softmax",
        "log-probability",
        "n-gram",
        "4-grams",
        "told apart",
        "warming",
        "ready",
        "dropped",
        "strategy",
    ],
)
def test_what_a_lesson_is_asked_about_is_explained(word):
    assert Talk().type(f":help {word}").error is None


def test_the_glossary_knows_the_columns_of_a_comparison():
    from minigpt_repl.compare.measures import MEASURES

    headings = [measure.heading for measure in MEASURES]
    unknown = [each for each in headings if glossary.find_entry(each) is None]
    assert unknown == []


# One format a quantity.


def test_numbers_are_written_in_one_way():
    assert [shown.percent(x) for x in (0, 1e-9, 0.0004, 0.1234, 1)] == [
        "-",
        "<0.1%",
        "<0.1%",
        "12.3%",
        "100.0%",
    ]
    assert shown.in_seconds(0.0123) == "12 ms" and shown.in_seconds(3.21) == "3.2 s"
    assert shown.in_seconds(1560.2) == "1,560 s"
    assert shown.in_seconds(23_719) == "6.6 h"
    assert shown.in_bits(3.14159) == "3.1 bits"
    assert shown.in_tokens_per_second(1234.5) == "1,234 tokens/s"
    assert shown.as_perplexity(39.7776) == "39.8"


def test_no_command_writes_a_number_in_a_form_of_its_own():
    folder = paths.PACKAGE / "repl" / "commands"
    own = re.compile(r":[<>+,0-9]*\.[1-9]+[f%]\}")
    assert [f.name for f in folder.glob("*.py") if own.search(f.read_text())] == []


def test_what_was_so_already_is_told_as_such():
    talk = Talk().type(":sampler greedy", ":sampler greedy")
    assert talk.notices == ["sampler: greedy, as before"]
    talk.type(":sampler top_k=5 + min_p", ":sampler top_k=5 + min_p")
    assert talk.notices == ["sampler: top_k=5 + min_p=0.05, as before"]
    assert talk.type(":set k 5").notices == ["k: 5, as before"]


def test_a_sweep_tells_the_way_on():
    talk = Talk().type(":sampler greedy", "the king", ":sweep temperature 0.2..1.4/5")
    assert ":sampler NAME switches to one of them" in str(talk.error)
    talk.type(":sampler random", ":sweep temperature 0.2 1.4 n=3")
    assert "one text for each value" in str(talk.error)
    hint = str(talk.error).rpartition(" by ")[2]
    assert talk.type(hint).error is None, hint


def test_nothing_left_over_is_shown_as_nothing():
    talk = Talk().type("the king", ":next 12 top_k:k=3")
    row = next(line.split() for line in talk.said.splitlines() if "more" in line)
    assert row[-1] == "-"
