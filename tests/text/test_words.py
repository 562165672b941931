"""Words and ids without TensorFlow."""

import pytest

from minigpt_repl.models.text.wordpiece import WordPieceText

WORDS = ("[PAD]", "[UNK]", "[BOS]", "boy", "##s", "é", "##", ".", "said")


@pytest.fixture
def text():
    return WordPieceText(WORDS)


def ids(*words):
    return [WORDS.index(word) for word in words]


def test_each_id_has_its_word(text):
    assert tuple(map(text.piece, range(len(WORDS)))) == text.pieces == WORDS


@pytest.mark.parametrize("token_id", [len(WORDS), 4999, -1])
def test_ids_without_a_word_are_shown_not_refused(text, token_id):
    assert text.piece(token_id) == f"[#{token_id}]"
    assert text.raw_text([3, token_id]) == f"boy [#{token_id}]"


def test_raw_text_is_the_pieces_as_they_come(text):
    ids = [8, 3, 4, 4, 7]  # said boy ##s ##s .
    deltas = [text.raw_delta(each, n == 0) for n, each in enumerate(ids)]
    assert deltas == [" said", " boy", "s", "s", " ."]
    assert text.raw_text(ids) == "said boyss ."
    # A text may begin within a word.
    assert text.raw_text([4, 3]) == text.raw_delta(4, True)[1:] + " boy" == "s boy"
    assert text.raw_text([]) == ""


def test_reserved_ids(text):
    assert text.piece(text.pad_id) == "[PAD]"
    assert text.piece(text.unknown_id) == "[UNK]"
    assert text.piece(text.start_id) == "[BOS]"
    assert text.special_ids == {0, 1, 2}


def test_behind_a_space_comes_no_piece_that_goes_on_with_a_word(text):
    beginnings = frozenset(ids("boy", "é", "##", ".", "said"))
    for prompt in ("boy ", "the boy\n"):
        assert text.healing(prompt) == ("", beginnings)
    for prompt in ("the boy", "", "  "):
        assert text.healing(prompt) == ("", None)


def test_words_that_can_not_be_spelled_are_named_once_in_order(text):
    def encode(word):
        return [WORDS.index(word) if word in WORDS else text.unknown_id]

    assert text.unknown_words("girl boy, girl", encode) == ("girl", ",")


def test_a_decoder_goes_on_behind_the_prompt(text):
    decoder = text.decoder("A boy", ids("boy"))
    made = [decoder.push(token_id) for token_id in ids("##s", "said", ".")]
    assert "".join((*made, decoder.flush())) == "s said."


def test_the_end_of_a_sentence_is_found_behind_a_prompt(text):
    decoder = text.decoder("boy", ids("boy"))
    said, stop = ids("said", ".")
    assert not decoder.ends_sentence(said)
    decoder.push(said)
    assert decoder.ends_sentence(stop)
