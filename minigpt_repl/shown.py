"""Strings and numbers on their way out: the ones made harmless, the others alike.

Whatever comes from a model, a file or a user goes through `shown`, or in an error line
through `quoted`, before it is written to a terminal, a pipe or a page. A terminal is a
machine that obeys escape sequences, and text that runs from right to left can hide
what it says.
"""

import difflib
import re
from collections.abc import Iterable

HIDDEN = (
    "\x00-\x08\x0b-\x1f"  # C0, but for the tab and the end of a line
    "\x7f-\x9f"  # DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # the direction of text
    "\u2028\u2029"  # ends of lines that only some programs know
    "\ud800-\udfff"  # half a character: it can't be encoded
)
"""The characters, as in the brackets of a regular expression."""

NO_PROMPT = "(no prompt)"
"""Where a text that began with nothing is shown."""

_HIDDEN = re.compile(f"[{HIDDEN}]")


def shown(text: str) -> str:
    """The text with every such character written as Python would: `\\x1b`."""
    return _HIDDEN.sub(lambda found: repr(found[0])[1:-1], text)


def shown_line(text: str) -> str:
    """As `shown`, on one line: the tab and the end of a line are written too."""
    return shown(text.replace("\t", "\\t").replace("\n", "\\n"))


# Numbers: one format a quantity, wherever it is shown.

as_share = "{:.1%}".format
"""A part of a whole that was measured, and may have been nothing."""

in_bits = "{:.1f} bits".format
"""A surprisal or an entropy."""

as_perplexity = "{:,.1f}".format
"""2 to the power of the mean surprisal in bits."""

in_bits_a_byte = "{:.3f}".format
"""Of a text, or of a model on its held-out texts."""

as_mean = "{:,.1f}".format
"""What things that are counted come to on average."""

in_nats = "{:.2f}".format
"""A log-probability, or a logit."""

in_nats_of_change = "{:+.2f}".format
"""What was added to a logit, or taken off."""

as_similarity = "{:.3f}".format
"""A cosine similarity, or a part of a probability that is weighed against one."""

as_score = "{:+.3f}".format
"""What a candidate of a search comes to when all is weighed."""

in_tokens_per_second = "{:,.0f} tokens/s".format
"""New tokens a second."""

LEAST_SHARE = 0.0005


def percent(part: float) -> str:
    """A probability, or another part of a whole; `-` where there is nothing, so that
    what a rule removed stands out from what is only improbable."""
    if part <= 0:
        return "-"
    return as_share(part) if part >= LEAST_SHARE else "<0.1%"


def and_more(count: int) -> str:
    """What stands behind a list of which so many are left out."""
    return f" and {count:,} more" if count > 0 else ""


def in_seconds(number: float) -> str:
    """A time, in milliseconds where it is short, in hours where it is long."""
    if number >= 3600:
        return f"{number / 3600:,.1f} h"
    if number >= 100:
        return f"{number:,.0f} s"
    return f"{1000 * number:.0f} ms" if number < 1 else f"{number:.1f} s"


# What an error line says of a word that is wrong: the word, and the nearest match.

LONGEST_SHOWN = 60
MOST_NEAR = 3
LONGEST_PATH = 300


def did_you_mean(word: str, candidates: Iterable[str], mark: str = "") -> str:
    """A clause such as `; did you mean top_k?`, or nothing if none is near; a `mark`
    is put before a name, as the colon of a command."""
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


def defect(error: BaseException) -> str:
    """An error that we did not foresee, on one line: its kind and what it says."""
    line = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {shortened(line)}"


def shortened(text: str, most: int = 400) -> str:
    """A text whose middle is left out if it is long."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}...{text[-most // 2 :]}"
