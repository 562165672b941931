"""What a screen shows of outputs, seen on an emulated terminal."""

import os

import pytest
from rich.table import Table
from rich.text import Text
from terminals import Screen as Emulated

from minigpt_repl.repl.output import (
    ClearScreen,
    Live,
    Notice,
    Say,
    TextDelta,
    TextEnded,
    TextStarted,
)
from minigpt_repl.repl.screen import Screen


@pytest.fixture
def terminal():
    return Emulated(30, 10)


@pytest.fixture
def screen(terminal):
    size = os.terminal_size((terminal.columns, terminal.rows))
    return Screen(terminal, terminal, lambda: size)


def test_a_text_ends_before_what_follows(screen, terminal):
    for output in (TextStarted("the king"), TextDelta(" ran"), Notice("3 tokens")):
        screen.show(output)
    assert terminal.lines == ["the king ran", "3 tokens"]


def test_live_blocks_take_the_place_of_each_other(screen, terminal):
    screen.show(Say("before"))
    for count in (3, 5, 2):
        screen.show(Live(Text("\n".join(f"{count}.{n}" for n in range(count)))))
    screen.show(Notice("after"))
    assert terminal.lines == ["before", "2.0", "2.1", "after"]


def test_of_a_live_block_that_is_too_tall_the_end_is_shown_then_all(screen, terminal):
    screen.show(Say("before"))
    for start in (0, 100):
        rows = (str(start + n) for n in range(15))
        screen.show(Live(Text("\n".join(rows))))
    assert terminal.lines[-1] == "114"
    screen.show(Say("after"))
    shown = terminal.lines
    assert shown[-1] == "after"
    assert shown[-16:-1] == [str(100 + n) for n in range(15)]


def test_a_full_screen_is_never_cleared_from_its_corner(screen, terminal):
    # tmux then kept every frame of a tall comparison in what one scrolls back to.
    for start in (0, 100, 200):
        rows = (str(start + n) for n in range(15))
        screen.show(Live(Text("\n".join(rows))))
    screen.show(Live(Text("short")))
    assert terminal.lines[-1] == "short" and terminal.written.count("\x1b[J") == 3
    assert "A\x1b[J" not in terminal.written


def test_tables_fit_the_terminal_and_have_no_colour_unless_allowed(screen, terminal):
    table = Table("sampler", "summary")
    table.add_row(Text("greedy", style="bold red"), "the most probable token " * 3)
    screen.show(Say(table))
    assert all(len(line) <= 30 for line in terminal.lines)
    assert "\x1b[" not in terminal.written
    screen.color = True
    screen.show(Say(table))
    assert "\x1b[" in terminal.written


def test_notices_are_wrapped_between_words(screen, terminal):
    text = "the context was full and the model went on from the last words"
    screen.show(Notice(text))
    assert len(terminal.lines) == 3
    assert " ".join(terminal.lines) == text


def test_of_a_long_prompt_the_end_is_shown_again(screen, terminal):
    prompt = "\n".join(f"line {n}" for n in range(50))
    screen.show(TextStarted(screen.end_of(prompt)))
    screen.show(TextDelta(" and on"))
    screen.show(TextEnded())
    assert terminal.lines[0] == "[47 lines above]"
    assert terminal.lines[-1] == "line 49 and on"


def test_clearing_the_screen_leaves_nothing_on_it(screen, terminal):
    screen.show(Say("before"))
    screen.show(ClearScreen())
    screen.show(Say("after"))
    assert terminal.lines[-1] == "after"
    assert "before" not in terminal.text


def test_what_can_only_print_gets_no_escape_sequence(terminal):
    size = os.terminal_size((terminal.columns, terminal.rows))
    screen = Screen(terminal, terminal, lambda: size, can_move=False)
    for output in (
        TextStarted("the king"),
        TextDelta(" ran"),
        TextEnded(),
        Live(Text("one")),
        Live(Text("two")),
        ClearScreen(),
        Notice("end"),
    ):
        screen.show(output)
    assert terminal.written == "the king ran\ntwo\nend\n"
