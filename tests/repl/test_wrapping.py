"""Text that grows and changes on a terminal, seen on an emulated one."""

import os
import re
from itertools import pairwise

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth

from minigpt_repl.repl.wrapping import TextBlock, on_terminal, wrap

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
    block = TextBlock(terminal.write, lambda: terminal.size, ("\x1b[2m", "\x1b[22m"))
    block.start(prompt)
    for delta in deltas:
        block.append(delta)
    assert terminal.rows == expected(prompt + "".join(deltas), columns)


@pytest.mark.slow
@settings(max_examples=25)
@given(st.lists(st.tuples(TEXTS, WORDS), max_size=8), TEXTS, st.integers(8, 60))
def test_replacing_leaves_nothing_of_what_was_there(changes, prompt, columns):
    terminal = Emulated(columns)
    block = TextBlock(terminal.write, lambda: terminal.size, ("\x1b[2m", "\x1b[22m"))
    block.start(prompt)
    for text, delta in changes:
        block.replace(text)
        assert terminal.rows == expected(prompt + text, columns)
        block.append(delta)
        assert terminal.rows == expected(prompt + text + delta, columns)


def test_the_prompt_is_dimmed_and_the_new_text_is_not():
    terminal = Emulated(12)
    block = TextBlock(terminal.write, lambda: terminal.size, ("<", ">"))
    block.start("the old king")
    block.append("dom")
    block.append(" fell")
    assert terminal.written == "<the old >\n<king>dom \nfell"


def test_a_narrower_window_moves_no_word_that_is_shown():
    terminal = Emulated(40)
    size = terminal.size
    block = TextBlock(terminal.write, lambda: size)
    block.start("the king went home and saw")
    size = os.terminal_size((12, 24))
    before = terminal.written
    block.append(" the garden")
    added = terminal.written.removeprefix(before)
    assert added == " the \ngarden"  # the terminal has left "aw" on its last row


def test_without_cursor_movement_nothing_is_taken_back():
    terminal = Emulated(20)
    block = TextBlock(terminal.write, lambda: terminal.size, can_move=False)
    block.start("the king")
    block.replace(" was a")
    block.replace(" is the")
    block.end()
    assert terminal.written == "the king is the\n"


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\x9b", "\x00", "\ud800"])
def test_nothing_steers_the_terminal(character):
    assert on_terminal(f"a{character}b\t") == f"a{repr(character)[1:-1]}b    "
