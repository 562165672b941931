"""Display text in parts, while the tokens come."""

import pickle

import pytest
from displayed import display_text
from hypothesis import given
from hypothesis import strategies as st

from minigpt_repl.engine.texts import RevisedText
from minigpt_repl.models.text.wordpiece import TextStream

# Words, pieces and marks of which every rule has something to decide.
_TEXT = (
    "the boy said i a s t m don o clock em tis boys goin mr mrs monday he no yes "
    "##s ##y ##t ##. ## 1 12 000 250 J R . . . , , ! ? ; : - - ' ' ' \" \" \" ( ) "
    "[ ] & c £ $ % “ ” ‘ ’ « » „ — … 今 日 は 、 。 「 」 나는 é ß [UNK] [PAD] [#4950]"
)

TOKENS = st.lists(
    st.sampled_from(_TEXT.split()) | st.text(min_size=1, max_size=3), max_size=30
)


def streamed(stream: TextStream, words: list[str]) -> str:
    return "".join([stream.push(word) for word in words]) + stream.flush()


@given(words=TOKENS, lowercase=st.booleans())
def test_the_parts_are_the_display_text_of_the_whole(words, lowercase):
    assert streamed(TextStream(lowercase), words) == display_text(words, lowercase)


@given(words=TOKENS, lowercase=st.booleans())
def test_what_was_shown_never_changes_and_one_token_is_held_back(words, lowercase):
    stream = TextStream(lowercase)
    shown = ""
    for count, word in enumerate(words, start=1):
        shown += stream.push(word)
        assert display_text(words[:count], lowercase).startswith(shown)
        # All but the last token is out, whatever comes.
        least = "".join(display_text(words[: count - 1], lowercase).split())
        assert len("".join(shown.split())) >= len(least)


@given(prompt=TOKENS, words=TOKENS, lowercase=st.booleans())
def test_a_continuation_is_the_rest_of_the_whole(prompt, words, lowercase):
    whole = display_text([*prompt, *words], lowercase)
    stream = TextStream(lowercase, "x", prompt)
    continuation = streamed(stream, words)
    if prompt:
        assert whole.endswith(continuation)
    shown = "".join(display_text(prompt, lowercase).split())
    assert shown.lower() + "".join(continuation.split()).lower() == (
        "".join(whole.split()).lower()
    )


@given(prompt=TOKENS, versions=st.lists(TOKENS), lowercase=st.booleans())
def test_a_revised_text_is_the_text_of_its_words(prompt, versions, lowercase):
    def new_stream():
        return TextStream(lowercase, " ".join(prompt), prompt)

    revised = RevisedText(new_stream)
    for words in versions:
        for count in range(len(words) + 1):  # most grow by a word
            expected = streamed(new_stream(), words[:count])
            assert revised.of(tuple(words[:count])) == expected


@pytest.mark.parametrize(
    ("tokens", "parts"),
    [
        ("the boy sat", ["The", " boy", " sat", ""]),
        ("bo ##y . he", ["Bo", "y", ".", " He", ""]),
        ("i ' m so", ["", "I", "'m", " so", ""]),
        ("do i ##t", ["Do", "", " it", ""]),
        ('said , " yes', ["Said", ",", "", ' "Yes', ""]),
    ],
)
def test_nothing_is_held_back_without_need(tokens, parts):
    stream = TextStream()
    assert [*map(stream.push, tokens.split()), stream.flush()] == parts


@pytest.mark.parametrize(
    ("prompt", "tokens", "continuation", "expected"),
    [
        ("The Little Bo", "the little bo", "##y ran", "The Little Boy ran"),
        ("The boy", "the boy", "ran .", "The boy ran."),
        ("The boy ", "the boy", "ran .", "The boy ran."),
        ("The boy", "the boy", ", too", "The boy, too"),
        ("He ran.", "he ran .", "he fell", "He ran. He fell"),
        ('He said, "', 'he said , "', 'come . " he', 'He said, "Come." He'),
        ('He said, "come', 'he said , " come', 'in . " he', 'He said, "come in." He'),
        ("I don'", "i don '", "t know", "I don't know"),
        ("MR", "mr", ". gray", "MR. Gray"),
        ("", "", "the boy", "The boy"),
    ],
)
def test_a_continuation_fits_behind_the_prompt(prompt, tokens, continuation, expected):
    stream = TextStream(True, prompt, tokens.split())
    assert prompt + streamed(stream, continuation.split()) == expected


def test_the_end_of_a_prompt_is_never_shown_again():
    stream = TextStream(True, "he said '", ["he", "said", "'"])
    assert stream.flush() == ""


@pytest.mark.parametrize("word", ["今", "##a", "-", "'", "the"])
def test_no_state_grows_with_the_text(word):
    """So the time for a token stays the same, however long the text."""

    def size(tokens: int) -> int:
        stream = TextStream()
        for _ in range(tokens):
            stream.push(word)
        return len(pickle.dumps(stream))

    assert size(5000) == size(100)
