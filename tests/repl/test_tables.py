"""Whatever a table or a text holds, no character of it steers the terminal."""

import io
from shutil import get_terminal_size

import pytest
from rich.console import Group
from rich.table import Table
from rich.text import Text

from minigpt_repl.repl.output import Say, TextDelta, TextEnded, TextStarted
from minigpt_repl.repl.screen import Screen
from minigpt_repl.repl.tables import draw

HOSTILE = "a\x1b]52;c;aGk=\x07\x9b2J\u202eb"


def table() -> Table:
    made = Table(HOSTILE)
    made.add_row(Text(HOSTILE))
    return made


@pytest.mark.parametrize("content", [Text(HOSTILE), table(), Group(table(), "x")])
@pytest.mark.parametrize("height", [None, 24])
def test_controls_are_visible_in_what_rich_draws(content, height):
    out = io.StringIO()
    draw(content, out, width=80, height=height)
    assert r"a\x1b]52;c;aGk=" in out.getvalue()
    assert r"\x9b2J\u202eb" in out.getvalue()
    assert all(c.isprintable() or c == "\n" for c in out.getvalue())


def test_colour_is_the_only_escape_sequence():
    out = io.StringIO()
    draw(Text(HOSTILE, style="bold"), out, width=80, has_color=True)
    assert out.getvalue().count("\x1b[1m") == 1
    assert out.getvalue().count("\x1b") == 2


def test_streamed_text_in_a_pipe_has_its_controls_visible():
    out = io.StringIO()
    page = Screen(out, io.StringIO(), get_terminal_size, can_move=False)
    outputs = TextStarted("b\x1b"), TextDelta(HOSTILE), TextEnded(), Say(HOSTILE)
    for output in outputs:
        page.show(output)
    line = r"a\x1b]52;c;aGk=\x07\x9b2J\u202eb"
    assert out.getvalue() == f"b\\x1b{line}\n{line}\n"
