"""The part of a text's display form that each of its tokens made.

Knows words and how they are set; no model and no terminal.
"""

from collections.abc import Sequence

from minigpt_repl.engine.request import EngineInfo, Generation
from minigpt_repl.models.text.display import Typesetter
from minigpt_repl.shown import shown_line

SPACE_MARK = "·"
"""Stands for a space in front of a token where it has to be seen."""


def words_of(token_ids: Sequence[int], info: EngineInfo) -> list[str]:
    """Word pieces of ids, as in the vocabulary."""
    words = info.words
    return [words[i] if i < len(words) else f"[id {i}]" for i in token_ids]


def display_pieces(generation: Generation, info: EngineInfo) -> list[str]:
    """What each new token added to the display form, with the space before it.

    Put together they are the text, to be put right after the prompt.
    """
    before = words_of(generation.started.prompt_ids, info)
    new = [token.text for token in generation.tokens]
    return pieces_after(generation.request.prompt, before, new, info.lowercase)


def pieces_after(
    prompt: str, before: Sequence[str], new: Sequence[str], lowercase: bool
) -> list[str]:
    """What each of the `new` words adds to a text that starts with a prompt.

    Args:
        prompt: as the user typed it.
        before: the words that it was split into, as the model saw them.
        new: the words after them.
        lowercase: whether the vocabulary is in lower case.
    """
    typesetter = Typesetter(lowercase)
    words = [*before, *new]
    parts = list(map(typesetter.write, words, [*words[1:], None]))[len(before) :]
    if parts and (not prompt or prompt[-1].isspace()):
        parts[0] = parts[0].removeprefix(" ")
    return parts


def visible(word: str) -> str:
    """A word piece with what it does to the space before it made visible.

    `·king` begins a word; `##ing` goes on with one, as in the vocabulary; a mark
    is itself, because its neighbours decide on its space. So are its controls.
    """
    is_word = word[:1].isalnum()
    return shown_line(f"{SPACE_MARK}{word}" if is_word else word)
