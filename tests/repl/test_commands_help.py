"""`:help` and `:explain`: everything can be found from the prompt."""

import io

import numpy as np
import pytest
from fakes import VOCABULARY, softmax
from rich.console import Console
from rich.text import Text
from talk import Talk

from minigpt_repl.repl.dispatch import all_commands
from minigpt_repl.repl.tables import make_table, samplers_table, settings_table
from minigpt_repl.sampling.registry import all_samplers, find_sampler
from minigpt_repl.settings import Settings


def test_help_lists_every_command_and_how_the_prompt_works():
    said = Talk().type(":help").said
    for command in all_commands():
        assert f":{command.name}" in said
    assert "^C" in said and "^D" in said and "Tab" in said


@pytest.mark.parametrize("command", all_commands(), ids=lambda command: command.name)
def test_help_on_a_command_shows_usage_and_its_whole_help(command):
    said = " ".join(Talk().type(f":help {command.name}").said.split())
    assert said.startswith(f":{command.name} {command.usage}".strip())
    assert " ".join(command.help.split()) in said
    assert said == " ".join(Talk().type(f":help :{command.name}").said.split())


def test_help_on_a_sampler_or_a_setting():
    said = Talk().type(":help topk").said
    assert find_sampler("top_k").story[:40] in said and "1..38" in said
    assert "new tokens a text" in Talk().type(":help length").said
    assert "1..64" in Talk().type(":help beam.num_beams").said


@pytest.mark.parametrize("spec", all_samplers(), ids=lambda spec: spec.name)
def test_explain_works_the_rule_on_the_models_own_distribution(spec):
    talk = Talk().set(length="3", seed="1").type("the king", f":explain {spec.name}")
    said = " ".join(talk.said.split())
    assert spec.story[:60] in said
    scores = talk.engine.logits(talk.engine.encode("the king"))[-1]
    probabilities = softmax(scores)
    kept = spec.kept(np, probabilities, talk.session.settings.parameters(spec))
    rows = [line.split() for line in talk.said.splitlines() if "%" in line]
    best = np.argsort(-probabilities, kind="stable")[:10]
    words = [row for row in rows if row[1] != "more"]
    assert [row[0] for row in words] == [VOCABULARY[token_id] for token_id in best]
    for row, token_id in zip(words, best, strict=True):
        assert row[1] == f"{100 * probabilities[token_id]:.1f}%"
        renormalised = 100 * probabilities[token_id] / probabilities[kept].sum()
        assert row[-1] == (f"{renormalised:.1f}%" if kept[token_id] else "-")
    total = sum(float(row[-1].rstrip("%")) for row in rows if row[-1] != "-")
    assert total == pytest.approx(100, abs=0.6)


def test_explain_starts_from_nothing_and_means_the_sampler_in_use():
    talk = Talk().set(sampler="greedy").type(":explain")
    assert talk.notices == ["greedy, the next token after: at the start"]
    best = int(talk.engine.logits(())[-1].argmax())
    kept = [line.split() for line in talk.said.splitlines() if "100.0%" in line]
    assert [row[0] for row in kept] == [VOCABULARY[best]]


def test_explain_names_a_prompt_of_several_lines_in_one():
    talk = Talk().set(sampler="greedy").type("the king\nand the queen", ":explain")
    assert talk.notices[-1].endswith("the next token after: the king and the queen")


def test_explain_applies_the_temperature():
    talk = Talk().type(":set temperature 0.5", ":explain random")
    assert "temperature=1" in talk.notices[0]
    sharp = Talk().type(":explain").said
    talk = Talk().type(":set temperature 0.5", ":explain")
    scores = talk.engine.logits(())[-1]
    best = f"{100 * softmax(scores / 0.5).max():.1f}%"
    assert best in talk.said and best not in sharp
    greedy = Talk().type(":set temperature 0", ":explain").said
    assert greedy.count("100.0%") == 1


def draw(content, width):
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(content)
    return file.getvalue()


def test_square_brackets_are_no_markup():
    assert "[BOS] [/x]" in draw(make_table(("a",), [("[BOS] [/x]",)]), 80)


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 200])
def test_tables_fit_every_width_and_lose_no_word(width):
    settings = Settings()
    for table in (settings_table(settings), samplers_table(settings)):
        drawn = draw(table, width)
        assert max(map(len, drawn.splitlines())) <= width
        squeezed = "".join(drawn.split())
        for row in table.rows:
            for cell in row[: table.whole]:
                assert "".join(cell.plain.split()) in squeezed


def test_where_there_is_no_room_for_columns_rows_become_lines():
    table = make_table(("name", "meaning"), [("temperature", Text("flat " * 8))])
    wide, narrow = draw(table, 80), draw(table, 25)
    assert wide.splitlines()[0].split() == ["name", "meaning"]
    assert narrow.splitlines()[0].strip() == "temperature"
    assert narrow.splitlines()[1].startswith("    flat flat")
