"""Display text in parts, while the tokens come.

Holds back at most one token: a mark or word whose form depends on what follows
(a quote, an apostrophe, `i`, which may become `into`). Everything else is shown
at once. Constant time for each token.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy

from minigpt_repl.models.text.display import Typesetter


class TextStream:
    """Turns tokens into the parts of their display text.

    The parts put together are `display_text` of all tokens.

    Args:
        lowercase: whether capitals have to be decided (see `display_text`).
    """

    def __init__(self, lowercase: bool = True) -> None:
        self._typesetter = Typesetter(lowercase)
        self._held: str | None = None
        self._held_is_shown = False
        self._drop_space = False

    @classmethod
    def after(
        cls, prompt: str, prompt_words: Sequence[str], lowercase: bool = True
    ) -> "TextStream":
        """Returns a stream that continues a prompt.

        It begins in the state that the prompt leaves (an open quotation, the
        start of a sentence), and its first part can be put right behind the
        prompt: with a space, unless the prompt ends in one or the first token
        belongs to the prompt's last word.

        Args:
            prompt: the prompt as the user typed it.
            prompt_words: its tokens.
            lowercase: as for the class.
        """
        stream = cls(lowercase)
        for word in prompt_words:
            stream.push(word)
        stream._held_is_shown = True
        stream._drop_space = not prompt or prompt[-1].isspace()
        return stream

    def push(self, word: str) -> str:
        """Takes the next token; returns the text that is certain now, often `""`
        after a token that has to be held back."""
        text = self._release(word)
        if self._typesetter.needs_next(word):
            self._held, self._held_is_shown = word, False
            return text
        return text + self._written(word, None)

    def flush(self) -> str:
        """Ends the text; returns what was held back."""
        return self._release(None)

    def _release(self, following: str | None) -> str:
        if self._held is None:
            return ""
        word, self._held = self._held, None
        if self._held_is_shown:  # the prompt's last token
            self._typesetter.write(word, following)
            return ""
        return self._written(word, following)

    def _written(self, word: str, following: str | None) -> str:
        text = self._typesetter.write(word, following)
        if self._drop_space:
            self._drop_space = False
            return text.removeprefix(" ")
        return text


class RevisedText:
    """Display text of words that are revised: most often by one more word.

    Args:
        new_stream: makes the stream that the text begins with.
    """

    def __init__(self, new_stream: Callable[[], TextStream]) -> None:
        self._new_stream = new_stream
        self._stream = new_stream()
        self._words: tuple[str, ...] = ()
        self._text = ""

    def of(self, words: Sequence[str]) -> str:
        """Returns the text of `words`; constant time for each that is new."""
        words = tuple(words)
        if words[: len(self._words)] != self._words:
            self._stream, self._words, self._text = self._new_stream(), (), ""
        for word in words[len(self._words) :]:
            self._text += self._stream.push(word)
        self._words = words
        return self._text + deepcopy(self._stream).flush()
