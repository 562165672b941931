"""Words and ids without TensorFlow."""

import pytest
from minigpt_repl.models.text.vocabulary import Vocabulary

from minigpt_repl.errors import CheckpointError

WORDS = ("[PAD]", "[UNK]", "[BOS]", "boy", "##s", "é", "##")


@pytest.fixture
def vocabulary():
    return Vocabulary(WORDS)


def test_words_and_ids_are_inverse(vocabulary):
    assert len(vocabulary) == len(WORDS)
    for id_, word in enumerate(WORDS):
        assert vocabulary.word(id_) == word
        assert vocabulary.id(word) == id_
        assert word in vocabulary
    assert vocabulary.words == WORDS


def test_a_word_that_is_not_there_has_no_id(vocabulary):
    assert vocabulary.id("girl") is None
    assert "girl" not in vocabulary


@pytest.mark.parametrize("id_", [7, 4999, -1])
def test_ids_without_a_word_are_shown_not_refused(vocabulary, id_):
    assert vocabulary.word(id_) == f"[#{id_}]"
    assert vocabulary.pieces([3, id_, 4]) == ("boy", f"[#{id_}]", "##s")
    assert not vocabulary.is_continuation(id_)


def test_reserved_ids(vocabulary):
    assert vocabulary.word(vocabulary.pad_id) == "[PAD]"
    assert vocabulary.word(vocabulary.unk_id) == "[UNK]"
    assert vocabulary.word(vocabulary.bos_id) == "[BOS]"
    assert vocabulary.special_ids == {0, 1, 2}


def test_continuations_are_pieces_with_characters(vocabulary):
    continuing = [w for w in WORDS if vocabulary.is_continuation(vocabulary.id(w))]
    assert continuing == ["##s"]


def test_read_gives_the_ids_that_keras_hub_gives(tmp_path):
    # U+2028 ends a line for str.splitlines, not for KerasHub.
    words = ("[PAD]", "[UNK]", "[BOS]", "a\u2028b", "é")
    path = tmp_path / "vocabulary.txt"
    path.write_text("\n".join(words) + "\n", encoding="utf-8")
    assert Vocabulary.read(path) == Vocabulary(words)


def test_read_names_a_file_that_is_missing(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.txt: No such file"):
        Vocabulary.read(tmp_path / "nowhere.txt")


def test_read_refuses_what_is_no_text(tmp_path):
    path = tmp_path / "vocabulary.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="not UTF-8"):
        Vocabulary.read(path)


@pytest.mark.parametrize("words", [(), ("a", "b", "c"), ("[UNK]", "[PAD]", "[BOS]")])
def test_reserved_words_out_of_place_are_refused(words):
    with pytest.raises(CheckpointError, match=r"begins with \[PAD\] \[UNK\] \[BOS\]"):
        Vocabulary(words)


def test_equal_words_make_equal_vocabularies(vocabulary):
    assert vocabulary == Vocabulary(list(WORDS))
    assert hash(vocabulary) == hash(Vocabulary(list(WORDS)))
    assert vocabulary != Vocabulary(WORDS[:4])
