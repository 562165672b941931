"""White space at the end of a prompt ends its word, for WordPiece too."""

from minigpt_repl.models.text.wordpiece import WordPieceText

TEXT = WordPieceText(("[PAD]", "[UNK]", "[BOS]", "cat", "##holic", "."))


def test_no_piece_goes_on_with_a_word_that_was_ended():
    assert TEXT.healing("the cat ") == ("", {3, 5})
    assert TEXT.healing("the cat\n") == ("", {3, 5})
    for prompt in ("the cat", "", "  "):
        assert TEXT.healing(prompt) == ("", None)
