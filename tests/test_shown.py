"""No string of others can steer a terminal or hide what it says."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt_repl.shown import and_more, defect, shown, shown_line

any_text = st.text(st.characters(exclude_categories=()))
BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@given(any_text)
def test_nothing_is_left_that_a_terminal_obeys(text):
    for character in shown(text):
        assert character in "\t\n" or unicodedata.category(character) not in (
            "Cc",
            "Cs",
            "Zl",
            "Zp",
        )
        assert unicodedata.bidirectional(character) not in BIDI
    shown(text).encode()


@given(any_text)
def test_once_is_enough(text):
    assert shown(shown(text)) == shown(text)


@given(st.text(st.characters(exclude_categories=("C", "Z"))))
def test_what_can_be_seen_stays_as_it_is(text):
    assert shown(f" {text}\n\t") == f" {text}\n\t"


@given(any_text, any_text)
def test_texts_one_after_the_other_are_shown_as_one(first, second):
    assert shown(first) + shown(second) == shown(first + second)


@given(any_text)
def test_a_line_stays_one(text):
    assert len(shown_line(text).splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b]52;c;aGk=\x07", r"\x1b]52;c;aGk=\x07"),
        ("\x1b[2J\b\r", r"\x1b[2J\x08\r"),
        ("\x9b2J\x7f", r"\x9b2J\x7f"),
        ("a\u202eb\u2066c\u200f", r"a\u202eb\u2066c\u200f"),
        ("\ud800", r"\ud800"),
        ("강아지 “café” 🐕", "강아지 “café” 🐕"),
        ("a\u200db\xad", "a\u200db\xad"),
    ],
)
def test_what_is_written_for_it(text, expected):
    assert shown(text) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [(-2, ""), (0, ""), (1, " and 1 more"), (1234, " and 1,234 more")],
)
def test_what_a_list_leaves_out_is_counted(count, expected):
    assert and_more(count) == expected


@pytest.mark.parametrize("said", ["", " \n"])
def test_a_defect_is_one_line(said):
    assert defect(KeyError(7)) == "KeyError: 7"
    assert defect(ValueError("\nno shape\nat all")) == "ValueError: no shape at all"
    assert defect(ValueError(said)) == "ValueError: no message"
