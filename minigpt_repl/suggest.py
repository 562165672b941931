"""What an error line says of a word that is wrong: the word, and the nearest match."""

import difflib
from collections.abc import Iterable

LONGEST_SHOWN = 60
MOST_NEAR = 3
LONGEST_PATH = 300


def did_you_mean(word: str, candidates: Iterable[str], mark: str = "") -> str:
    """A clause such as `; did you mean top_k?`, or nothing if none is near.

    Args:
        word: what was typed.
        candidates: the names that there are.
        mark: put before a name, as the colon of a command.
    """
    near = [f"{mark}{name}" for name in nearest(word, candidates)]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def nearest(word: str, candidates: Iterable[str]) -> list[str]:
    """The names that begin with a word if they are few, else the one most like it."""
    names, word = list(candidates), word.lower()
    if not word or len(word) > LONGEST_SHOWN:
        return []
    beginning = [name for name in names if name.lower().startswith(word)]
    if 1 <= len(beginning) <= MOST_NEAR:
        return beginning
    return difflib.get_close_matches(word, names, n=1, cutoff=0.6)


def quoted(word: object) -> str:
    """What the user typed, in quotes: on one line, cut if long, no control
    character, so that any input can be told in an error."""
    try:
        text = repr(word if not isinstance(word, str) else word[: LONGEST_SHOWN + 1])
    except ValueError:  # more digits than Python writes
        text = "'a number of thousands of digits'"
    if len(text) > LONGEST_SHOWN + 2:
        text = f"{text[:LONGEST_SHOWN]}...{text[-1]}"
    return text


def plain(word: str) -> str:
    """As `quoted`, without the quotes."""
    return quoted(word)[1:-1]


def shown_path(path: object) -> str:
    """The whole name of a file, on one line and without control characters: cut
    short it would be of no use, unless it is longer than any name can be."""
    name = "".join(c if c.isprintable() else "?" for c in str(path))
    return shortened(name, LONGEST_PATH)


def shortened(text: str, most: int = 400) -> str:
    """A text whose middle is left out if it is long."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}...{text[-most // 2 :]}"
