"""Token ids on disk are those of the tokenizer, whole and never stale."""

import signal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import python

from minigpt_repl.paths import cache_home
from minigpt_repl.training import dataset
from minigpt_repl.training.dataset import prepared_tokens
from minigpt_repl.training.documents import Lines
from minigpt_repl.training.vocabulary import Vocabulary

LINES = (
    "the cat sat on the mat.",
    "",
    'The dog RAN,  "barking" 한글\tzzz',
    "x" * 120 + " the",
)


pytestmark = pytest.mark.usefixtures("empty_cache")


def of(words):
    return Vocabulary(tuple(words), None, True)


def direct(lines, words, lowercase=True):
    """The ids of each line, by the tokenizer itself."""
    from minigpt_repl.models.causal_lm import MiniGPTTokenizer

    return MiniGPTTokenizer(list(words), lowercase=lowercase).tokenize(list(lines))


def as_lists(tokenized):
    ends = np.cumsum(tokenized.lengths)
    assert len(tokenized.ids) == tokenized.lengths.sum()
    return [row.tolist() for row in np.split(tokenized.ids, ends)[:-1]]


@pytest.mark.parametrize("lowercase", [True, False], ids=["folded", "cased"])
def test_each_line_has_the_tokenizers_ids(tiny_words, lowercase):
    made = prepared_tokens(Lines(LINES), Vocabulary(tiny_words, None, lowercase))
    expected = [list(row) for row in direct(LINES, tiny_words, lowercase)]
    assert as_lists(made) == expected
    assert expected[0] and not expected[1]


def test_bytes_are_counted_in_utf8():
    assert Lines(("abc", "é", "한글")).size == 3 + 2 + 6


def test_lines_that_span_blocks_keep_their_order(tiny_words, monkeypatch):
    monkeypatch.setattr(dataset, "_LINES_AT_ONCE", 3)
    monkeypatch.setattr(dataset, "_CHUNKS_AT_ONCE", 2)
    lines = [f"the {'cat ' * (n % 4)}ran {chr(97 + n % 26)}" for n in range(20)] + [""]
    made = prepared_tokens(Lines(tuple(lines)), of(tiny_words))
    assert as_lists(made) == [list(row) for row in direct(lines, tiny_words)]


@settings(max_examples=20, deadline=None)
@given(lines=st.lists(st.text(max_size=50), max_size=5))
def test_random_text_has_the_tokenizers_ids(tiny_words, lines):
    made = prepared_tokens(Lines(tuple(lines)), of(tiny_words))
    expected = [list(row) for row in direct(lines, tiny_words)] if lines else []
    assert as_lists(made) == expected


def test_ids_are_small(tiny_words):
    made = prepared_tokens(Lines(LINES), of(tiny_words))
    assert made.ids.dtype == np.uint16


def test_a_large_vocabulary_has_wide_ids(tiny_words):
    words = [*tiny_words, *(f"w{number}" for number in range(70_000)), "last"]
    made = prepared_tokens(Lines(("the last",)), of(words))
    assert made.ids.dtype == np.uint32
    assert as_lists(made) == [[words.index("the"), len(words) - 1]]


def test_no_lines_give_no_tokens(tiny_words):
    made = prepared_tokens(Lines(()), of(tiny_words))
    assert len(made) == 0
    assert made.ids.tolist() == []


def test_tokens_are_made_once(tiny_words, monkeypatch):
    first = prepared_tokens(Lines(LINES), of(tiny_words))
    monkeypatch.setattr(dataset, "_ids_of", None)
    again = prepared_tokens(Lines(LINES), of(tiny_words))
    assert as_lists(again) == as_lists(first)


def test_another_vocabulary_text_or_case_is_not_taken_for_this_one(tiny_words):
    prepared_tokens(Lines(LINES), of(tiny_words))
    fewer = tuple(word for word in tiny_words if word != "cat")
    for lines, words, lowercase in [
        (LINES, fewer, True),
        (LINES[:2], tiny_words, True),
        (LINES, tiny_words, False),
    ]:
        made = prepared_tokens(Lines(lines), Vocabulary(tuple(words), None, lowercase))
        expected = [list(row) for row in direct(lines, words, lowercase)]
        assert as_lists(made) == expected


@pytest.mark.parametrize("damage", ["cut", "emptied", "of another kind", "changed"])
def test_a_damaged_file_is_made_again(tiny_words, damage):
    prepared_tokens(Lines(LINES), of(tiny_words))
    (path,) = cache_home().iterdir()
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 4] ^= 255
    contents = {"cut": whole[:-1], "emptied": b"", "of another kind": b"{}"}
    path.write_bytes(contents.get(damage, whole))
    made = prepared_tokens(Lines(LINES), of(tiny_words))
    assert as_lists(made) == [list(row) for row in direct(LINES, tiny_words)]
    again = prepared_tokens(Lines(LINES), of(tiny_words))
    assert as_lists(again) == as_lists(made)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_killed_run_leaves_nothing_that_is_taken_for_whole(tiny_words, moment):
    """The process dies before the file is written, or before it is renamed."""
    code = f"""
        import os, signal
        from minigpt_repl.training.documents import Lines
        from minigpt_repl.training.dataset import prepared_tokens
        from minigpt_repl.training.vocabulary import Vocabulary
        import numpy as np

        save = np.savez

        def die(*arguments, **arrays):
            if {moment!r} == "after":
                save(*arguments, **arrays)
            os.kill(os.getpid(), signal.SIGKILL)

        np.savez = die
        words = Vocabulary({tiny_words!r}, None, True)
        prepared_tokens(Lines({LINES!r}), words)
    """
    ended = python(code)
    assert ended.returncode == -signal.SIGKILL
    made = prepared_tokens(Lines(LINES), of(tiny_words))
    assert as_lists(made) == [list(row) for row in direct(LINES, tiny_words)]
    assert len(list(cache_home().iterdir())) == 1


class TestBytePairs:
    """Texts as they were written, each with the end that its document has."""

    TEXTS = ("the cat\n sat", "  on [BOS] the mat \n\n", "ㅋㅋㅋ", "")

    @pytest.fixture(scope="class")
    def vocabulary(self):
        from minigpt_repl.models.causal_lm import learn_byte_pairs

        pieces, merges = learn_byte_pairs(self.TEXTS * 9, 280)
        return Vocabulary(tuple(pieces), tuple(merges), document="line")

    def test_ids_are_the_tokenizers_and_an_end_follows(self, vocabulary):
        made = prepared_tokens(Lines(self.TEXTS, (True, False, True, True)), vocabulary)
        tokenizer = vocabulary.tokenizer()
        expected = [list(row) for row in tokenizer.tokenize(list(self.TEXTS))]
        for place in (0, 2, 3):
            expected[place].append(2)
        assert as_lists(made) == expected
        assert 2 not in expected[1]  # the text says [BOS], and that is a text

    @settings(max_examples=50, deadline=None)
    @given(text=st.text(alphabet="ab \n1,.\u4e00\r\t", max_size=60))
    def test_a_text_in_parts_has_the_same_ids(self, vocabulary, text):
        tokenizer = vocabulary.tokenizer()
        whole = tokenizer.tokenize(text).tolist()
        before, dataset._PART = dataset._PART, 3
        try:
            parts = dataset._parts(text)
        finally:
            dataset._PART = before
        assert "".join(parts) == text
        assert [
            id for part in parts for id in tokenizer.tokenize(part).tolist()
        ] == whole
