"""Choosing: the rules that say how a token is chosen, at the end of a chain.

What a rule is, says `stage`.
"""

from typing import Any

from minigpt_repl.sampling.stage import best, stage


@stage(
    "truncation",
    "the most probable token alone",
    "greedy search",
    "worked by hand",
)
def greedy(ns: Any, shares: Any) -> Any:
    """The highest probability.

    At the end of a chain it takes the most probable token that is left.
    The seed then does not matter.
    Without it a chain draws.

    Use it at the end of a chain of penalties, for a text without chance. Not to see
    what else was possible.
    """
    return best(ns, shares)


@stage(
    "truncation",
    "any token, as often as the chain says",
    "ancestral sampling",
    "worked by hand",
)
def random(ns: Any, shares: Any) -> Any:
    """All of them.

    At the end of a chain it draws from what is left.
    That is what a chain does anyway.
    It may be written to say so.

    Use it to say that a chain draws. Not for more: it changes nothing.
    """
    return shares > 0
