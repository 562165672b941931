"""A text has one spelling before the vocabulary or the model sees it."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt_repl.models.text.codec import normalize_text

UNICODE_SPACES = [
    chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Zs"
]


@pytest.mark.parametrize("space", UNICODE_SPACES, ids=lambda c: f"U+{ord(c):04X}")
def test_every_unicode_space_becomes_a_plain_space(space):
    assert normalize_text(f"one{space}two") == "one two"


def test_decomposed_letters_are_composed():
    assert normalize_text("cafe\u0301") == "caf\u00e9"
    hangul = "한글"
    decomposed = unicodedata.normalize("NFD", hangul)
    assert decomposed != hangul
    assert normalize_text(decomposed) == hangul


@pytest.mark.parametrize(
    "invisible", ["\ufeff", "\u200b", "\u200d", "\u2060", "\u00ad"]
)
def test_what_cannot_be_seen_is_dropped(invisible):
    assert normalize_text(f"a{invisible}b") == "ab"


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x85", "\u2028", "\u2029"])
def test_odd_line_separators_keep_words_apart(separator):
    assert normalize_text(f"a{separator}b") == "a b"


def test_newline_and_tab_stay_and_line_ends_are_newlines():
    assert normalize_text("a\tb\nc\r\nd\re") == "a\tb\nc\nd\ne"


def test_a_mark_after_a_dropped_character_joins_its_letter():
    assert normalize_text("e\u200b\u0301") == "\u00e9"


def test_a_spacing_acute_is_an_apostrophe():
    assert normalize_text("don\u00b4t") == "don't"
    # U+1FFD is canonically the same character.
    assert normalize_text("don\u1ffdt") == "don't"


def test_undecodable_bytes_can_be_encoded_afterwards():
    typed = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert normalize_text(typed) == "caf\ufffd"


def test_plain_text_and_letters_of_any_script_are_left_alone():
    text = 'He said: "No!" — Ångström, Καλημέρα, добрый, 漢字かな, عربى'
    assert normalize_text(text) == text


@given(st.text(st.characters(codec=None), max_size=40))
def test_normal_text_is_stable_and_encodable(text):
    once = normalize_text(text)
    assert normalize_text(once) == once
    once.encode("utf-8")


@given(st.characters(codec="utf-8"))
def test_case_folding_a_word_never_makes_a_space(character):
    """Else a space would end up inside the vocabulary, and be lost on saving."""
    for word in normalize_text(character).split():
        folded = unicodedata.normalize("NFKC", word).casefold()
        assert not any(c.isspace() for c in unicodedata.normalize("NFKC", folded))
