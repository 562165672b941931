"""`:help`: everything can be found from the prompt."""

import pytest
from drawn import drawn
from rich.text import Text
from talk import Talk

from minigpt_repl.repl.dispatch import all_commands
from minigpt_repl.repl.tables import FittingTable, samplers_table, settings_table
from minigpt_repl.sampling.registry import find_sampler
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


def test_square_brackets_are_no_markup():
    assert "[BOS] [/x]" in drawn(FittingTable(("a",), [("[BOS] [/x]",)]))


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 200])
def test_tables_fit_every_width_and_lose_no_word(width):
    settings = Settings()
    for table in (settings_table(settings), samplers_table(settings)):
        shown = drawn(table, width=width)
        assert max(map(len, shown.splitlines())) <= width
        squeezed = "".join(shown.split())
        for row in table.rows:
            for cell in row[: table.whole]:
                assert "".join(cell.plain.split()) in squeezed


def test_where_there_is_no_room_for_columns_rows_become_lines():
    table = FittingTable(("name", "meaning"), [("temperature", Text("flat " * 8))])
    wide, narrow = drawn(table), drawn(table, width=25)
    assert wide.splitlines()[0].split() == ["name", "meaning"]
    assert [line.strip() for line in narrow.splitlines()[:2]] == ["name", "temperature"]
    assert narrow.splitlines()[2].startswith("    meaning: flat flat")


def test_where_rows_become_lines_each_value_has_its_heading():
    shown = drawn(settings_table(Settings(), ["seed"]), width=30)
    heading, first, *_ = shown.split("\n")
    assert heading == "setting"
    assert first.split() == ["seed", "value:", "off", "default:", "off"]
    assert "    allowed: 0..2147483647" in shown and "    meaning: " in shown
