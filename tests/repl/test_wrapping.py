"""Text that grows and changes on a terminal, seen on an emulated one."""

import os
import re
from itertools import pairwise

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth

from minigpt_repl.repl.output import TextEnded, TextReplaced, TextStarted
from minigpt_repl.repl.screen import Screen, TextBlock, on_terminal, wrap

WORDS = st.sampled_from(
    [
        " the",
        " king",
        " ",
        "ing",
        ",",
        "--",
        " a",
        "\n",
        " 왕이",
        "왕",
        " x" * 9,
        "y" * 9,
    ]
)
TEXTS = st.lists(WORDS, max_size=40).map("".join)


class Emulated:
    """A terminal of which every row can be seen."""

    def __init__(self, columns: int, rows: int = 400) -> None:
        self.size = os.terminal_size((columns, rows))
        self._screen = pyte.Screen(columns, rows)
        self._screen.set_mode(pyte.modes.LNM)
        self._stream = pyte.Stream(self._screen)
        self.written = ""

    def flush(self) -> None:
        pass

    def write(self, text: str) -> None:
        self.written += text
        self._stream.feed(text)

    @property
    def rows(self) -> list[str]:
        rows = [row.rstrip() for row in self._screen.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows


def expected(text: str, columns: int) -> list[str]:
    rows = [row.rstrip() for row in wrap(text, columns - 1)]
    while rows and not rows[-1]:
        rows.pop()
    return rows


@given(TEXTS, st.integers(4, 60))
def test_rows_put_together_are_the_text_and_fit(text, columns):
    rows = wrap(text, columns)
    assert "".join(rows) == text
    assert all(get_cwidth(row.rstrip()) <= columns for row in rows)


@given(TEXTS, st.integers(12, 60))
def test_only_words_that_do_not_fit_begin_a_row(text, columns):
    rows = wrap(text, columns)
    for row, after in pairwise(rows):
        if row.endswith("\n") or not row.strip():
            continue
        word = re.match(r"\S*", after)[0]
        assert get_cwidth(row) + get_cwidth(word) > columns


@given(st.lists(WORDS, max_size=40), TEXTS, st.integers(8, 60))
def test_deltas_show_what_the_whole_text_would(deltas, prompt, columns):
    terminal = Emulated(columns)
    block = TextBlock(lambda: terminal.size, ("\x1b[2m", "\x1b[22m"))
    terminal.write(block.append(prompt, is_prompt=True))
    for delta in deltas:
        terminal.write(block.append(delta))
    assert terminal.rows == expected(prompt + "".join(deltas), columns)


@pytest.mark.slow
@settings(max_examples=25)
@given(st.lists(TEXTS, min_size=1, max_size=8), TEXTS, st.integers(8, 60))
def test_replacing_leaves_nothing_of_what_was_there(texts, prompt, columns):
    terminal = Emulated(columns)
    screen = Screen(terminal, terminal, lambda: terminal.size)
    screen.color = True
    screen.show(TextStarted(prompt))
    for text in texts:
        screen.show(TextReplaced(text))
        assert terminal.rows == expected(prompt + text, columns)
    screen.show(TextEnded())
    assert terminal.rows == expected(prompt + texts[-1], columns)


def test_the_prompt_is_dimmed_and_the_new_text_is_not():
    terminal = Emulated(12)
    block = TextBlock(lambda: terminal.size, ("<", ">"))
    written = block.append("the old king", is_prompt=True)
    written += block.append("dom") + block.append(" fell")
    assert written == "<the old >\n<king>dom \nfell"


def test_a_narrower_window_moves_no_word_that_is_shown():
    terminal = Emulated(40)
    size = terminal.size
    block = TextBlock(lambda: size)
    block.append("the king went home and saw", is_prompt=True)
    size = os.terminal_size((12, 24))
    # The terminal has left "aw" on its last row.
    assert block.append(" the garden") == " the \ngarden"


def test_without_cursor_movement_nothing_is_taken_back():
    terminal = Emulated(20)
    screen = Screen(terminal, terminal, lambda: terminal.size, can_move=False)
    outputs = TextStarted("the king"), TextReplaced(" was a"), TextReplaced(" is the")
    for output in (*outputs, TextEnded()):
        screen.show(output)
    assert terminal.written == "the king is the\n"


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\x9b", "\x00", "\ud800"])
def test_nothing_steers_the_terminal(character):
    assert on_terminal(f"a{character}b\t") == f"a{repr(character)[1:-1]}b    "
