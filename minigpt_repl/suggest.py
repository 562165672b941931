"""The nearest match for a word that does not exist."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """A clause such as `; did you mean top_k?`, or nothing if none is near."""
    near = difflib.get_close_matches(word.lower(), list(candidates), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
