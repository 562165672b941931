"""Token ids on disk are those of the tokenizer, whole and never stale."""

import signal
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import python

from minigpt_repl.training import prepared_text
from minigpt_repl.training.corpus import Lines
from minigpt_repl.training.prepared_text import (
    Vocabulary,
    prepared_tokens,
    read_tokens,
    write_tokens,
)
from minigpt_repl.training.progress import SILENT
from minigpt_repl.training.resume import StageCache

LINES = (
    "the cat sat on the mat.",
    "",
    'The dog RAN,  "barking" 한글\tzzz',
    "x" * 120 + " the",
)


def of(words):
    return Vocabulary(tuple(words), None, True)


def direct(lines, words, lowercase=True):
    """The ids of each line, by the tokenizer itself."""
    from minigpt_repl.models.causal_lm import MiniGPTTokenizer

    return MiniGPTTokenizer(list(words), lowercase=lowercase).tokenize(list(lines))


def as_lists(tokenized):
    spans = pairwise(tokenized.offsets)
    return [tokenized.ids[start:end].tolist() for start, end in spans]


@pytest.mark.parametrize("lowercase", [True, False], ids=["folded", "cased"])
def test_each_line_has_the_tokenizers_ids(tmp_path, tiny_words, lowercase):
    made = prepared_tokens(
        Lines(LINES),
        Vocabulary(tiny_words, None, lowercase),
        cache=StageCache(tmp_path),
    )
    expected = [list(row) for row in direct(LINES, tiny_words, lowercase)]
    assert as_lists(made) == expected
    assert expected[0] and not expected[1]


def test_bytes_are_counted_in_utf8(tmp_path, tiny_words):
    made = prepared_tokens(
        Lines(("abc", "é", "한글")), of(tiny_words), cache=StageCache(tmp_path)
    )
    assert made.line_bytes.tolist() == [3, 2, 6]


def test_lines_that_span_blocks_keep_their_order(tmp_path, tiny_words, monkeypatch):
    monkeypatch.setattr(prepared_text, "_LINES_AT_ONCE", 3)
    monkeypatch.setattr(prepared_text, "_CHUNKS_AT_ONCE", 2)
    lines = [f"the {'cat ' * (n % 4)}ran {chr(97 + n % 26)}" for n in range(20)] + [""]
    made = prepared_tokens(
        Lines(tuple(lines)), of(tiny_words), cache=StageCache(tmp_path)
    )
    assert as_lists(made) == [list(row) for row in direct(lines, tiny_words)]


@settings(max_examples=20, deadline=None)
@given(lines=st.lists(st.text(max_size=50), max_size=5))
def test_random_text_has_the_tokenizers_ids(tmp_path_factory, tiny_words, lines):
    folder = tmp_path_factory.mktemp("tokens")
    write_tokens(folder, Lines(tuple(lines)), of(tiny_words), SILENT)
    expected = [list(row) for row in direct(lines, tiny_words)] if lines else []
    assert as_lists(read_tokens(folder)) == expected


def test_ids_are_small_and_stay_on_disk(tmp_path, tiny_words):
    made = prepared_tokens(Lines(LINES), of(tiny_words), cache=StageCache(tmp_path))
    assert made.ids.dtype == np.uint16
    assert isinstance(made.ids, np.memmap)


def test_a_large_vocabulary_has_wide_ids(tmp_path, tiny_words):
    words = [*tiny_words, *(f"w{number}" for number in range(70_000)), "last"]
    made = prepared_tokens(Lines(("the last",)), of(words), cache=StageCache(tmp_path))
    assert made.ids.dtype == np.uint32
    assert as_lists(made) == [[words.index("the"), len(words) - 1]]


def test_no_lines_give_no_tokens(tmp_path, tiny_words):
    made = prepared_tokens(Lines(()), of(tiny_words), cache=StageCache(tmp_path))
    assert len(made) == 0
    assert made.offsets.tolist() == [0]


def test_tokens_are_made_once(tmp_path, tiny_words, monkeypatch):
    cache = StageCache(tmp_path)
    first = prepared_tokens(Lines(LINES), of(tiny_words), cache=cache)
    monkeypatch.setattr(prepared_text, "write_tokens", None)
    again = prepared_tokens(Lines(LINES), of(tiny_words), cache=cache)
    assert as_lists(again) == as_lists(first)


def test_another_vocabulary_text_or_case_is_not_taken_for_this_one(
    tmp_path, tiny_words
):
    cache = StageCache(tmp_path)
    prepared_tokens(Lines(LINES), of(tiny_words), cache=cache)
    fewer = tuple(word for word in tiny_words if word != "cat")
    for lines, words, lowercase in [
        (LINES, fewer, True),
        (LINES[:2], tiny_words, True),
        (LINES, tiny_words, False),
    ]:
        made = prepared_tokens(
            Lines(lines), Vocabulary(tuple(words), None, lowercase), cache=cache
        )
        expected = [list(row) for row in direct(lines, words, lowercase)]
        assert as_lists(made) == expected


@pytest.mark.parametrize("name", ["ids.npy", "offsets.npy", "line_bytes.npy"])
@pytest.mark.parametrize("damage", ["removed", "cut", "of another text"])
def test_damaged_files_are_made_again(tmp_path, tiny_words, name, damage):
    cache = StageCache(tmp_path)
    prepared_tokens(Lines(LINES), of(tiny_words), cache=cache)
    (folder,) = tmp_path.iterdir()
    if damage == "removed":
        (folder / name).unlink()
    elif damage == "cut":
        (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    else:
        np.save(folder / name, np.arange(3))
    made = prepared_tokens(Lines(LINES), of(tiny_words), cache=cache)
    assert as_lists(made) == [list(row) for row in direct(LINES, tiny_words)]
    assert made.line_bytes[0] == len(LINES[0])


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0, 1, 2, 3])
def test_a_killed_run_leaves_nothing_that_is_taken_for_whole(
    tmp_path, tiny_words, moment
):
    """The process dies before one of the three files, or before the rename."""
    code = f"""
        import os, signal
        from pathlib import Path
        from minigpt_repl import files
        from minigpt_repl.training import prepared_text
        from minigpt_repl.training.corpus import Lines
        from minigpt_repl.training.resume import StageCache

        save, saved = prepared_text.np.save, []

        def save_some(path, array):
            if len(saved) == {moment}:
                die()
            save(path, array)
            saved.append(path)

        def die(*arguments):
            os.kill(os.getpid(), signal.SIGKILL)

        prepared_text.np.save = save_some
        files.replace_directory = die
        words = prepared_text.Vocabulary({tiny_words!r}, None, True)
        cache = StageCache(Path({str(tmp_path)!r}))
        prepared_text.prepared_tokens(Lines({LINES!r}), words, cache=cache)
    """
    ended = python(code)
    assert ended.returncode == -signal.SIGKILL
    made = prepared_tokens(Lines(LINES), of(tiny_words), cache=StageCache(tmp_path))
    assert as_lists(made) == [list(row) for row in direct(LINES, tiny_words)]
    assert len(list(tmp_path.iterdir())) == 1


class TestBytePairs:
    """Texts as they were written, each with the end that its document has."""

    TEXTS = ("the cat\n sat", "  on [BOS] the mat \n\n", "ㅋㅋㅋ", "")

    @pytest.fixture(scope="class")
    def vocabulary(self):
        from minigpt_repl.models.causal_lm import learn_byte_pairs

        pieces, merges = learn_byte_pairs(self.TEXTS * 9, 280)
        return Vocabulary(tuple(pieces), tuple(merges), document="line")

    def test_ids_are_the_tokenizers_and_an_end_follows(self, tmp_path, vocabulary):
        made = prepared_tokens(
            Lines(self.TEXTS, (True, False, True, True)),
            vocabulary,
            cache=StageCache(tmp_path),
        )
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
        before, prepared_text._PART = prepared_text._PART, 3
        try:
            parts = prepared_text._parts(text)
        finally:
            prepared_text._PART = before
        assert "".join(parts) == text
        assert [
            id for part in parts for id in tokenizer.tokenize(part).tolist()
        ] == whole
