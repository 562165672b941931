"""The display form of a whole text, which a `TextStream` must equal."""

from minigpt_repl.models.text.wordpiece import Typesetter


def display_text(words, lowercase=True):
    following = [*words[1:], None]
    return "".join(map(Typesetter(lowercase).write, words, following))
