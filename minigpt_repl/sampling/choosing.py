"""Choosing: the rules that say how a token is chosen, at the end of a chain.

What a rule is, says `stage`.
"""

import math
from typing import Any

from minigpt_repl.sampling.parameters import Parameter
from minigpt_repl.sampling.stage import (
    MINUS_INFINITY,
    best,
    number,
    probabilities,
    share,
    stage,
)


@stage(
    "truncation",
    "the most probable token alone",
    "greedy search",
    "worked by hand",
    is_last=True,
    is_random=False,
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
    is_last=True,
)
def random(ns: Any, shares: Any) -> Any:
    """All of them.

    At the end of a chain it draws from what is left.
    That is what a chain does anyway.
    It may be written to say so.

    Use it to say that a chain draws. Not for more: it changes nothing.
    """
    return shares > 0


def _surprise_kept(
    ns: Any, learned: Any, before: Any, behind: Any, tau: Any, eta: Any
) -> Any:
    """How far the bound has moved from 2 tau: by eta times the error, each time."""
    surprise = -ns.log(ns.maximum(behind, 1e-38)) / math.log(2)
    return learned - number(ns, eta) * (surprise - number(ns, tau))


@stage(
    "truncation",
    "tokens up to a surprise, which follows the text to keep it at tau bits",
    'Basu et al. 2020, "Mirostat", arXiv:2007.14966; version 2',
    "llama.cpp",
    Parameter("tau", float, 5.0, "bits of surprise that are aimed at", 0, 100),
    share("eta", 0.1, "how fast the bound follows"),
    is_last=True,
    learns=_surprise_kept,
    can_empty=True,
)
def mirostat(ns: Any, shares: Any, tau: Any, eta: Any, learned: Any) -> Any:
    """-log2 probability <= mu; then mu - eta * (surprise of the token - tau).

    Mirostat keeps the tokens whose surprise is at most mu bits, and draws.
    mu begins at 2 tau and sinks when the token surprised more than tau, so that the
    text is neither dull nor confused for long.
    It is version 2, as in llama.cpp: the surprise is that among the tokens kept.

    Use it alone, for long texts of an even kind. Not behind other truncation: it then
    aims at what is no longer there.
    """
    surprise = -ns.log(ns.where(shares > 0, shares, 1.0)) / math.log(2)
    return surprise <= 2 * number(ns, tau) + learned


def _average_kept(
    ns: Any, learned: Any, before: Any, behind: Any, target: Any, decay: Any
) -> Any:
    """How far the average probability of the tokens chosen is above the target."""
    target, decay = number(ns, target), number(ns, decay)
    return decay * learned + (1 - decay) * (before - target)


@stage(
    "shape",
    "tokens of about a probability, which follows the text to keep it at target",
    "MrJackSpade and ddh0 2025, llama.cpp #17927: Adaptive-P",
    "llama.cpp",
    share("target", 0.5, "probability that is aimed at"),
    Parameter("decay", float, 0.9, "how slowly the average forgets", 0, 0.99),
    is_last=True,
    learns=_average_kept,
)
def adaptive_p(ns: Any, logits: Any, target: Any, decay: Any, learned: Any) -> Any:
    """5 - 10 d^2 / (1 + d), with d = |probability - aim| / 0.3.

    Adaptive-p makes those tokens likely whose probability is near an aim, and draws.
    The aim is the target, less what the average of the tokens chosen is above it: so
    a text that was too sure becomes daring, and the other way round.
    It wants a min_p before it, since what is improbable stays possible.

    Use it against a text of nothing but likely words. Not where the likely word is the
    right one.
    """
    aim = ns.minimum(ns.maximum(number(ns, target) - learned, 0.0), 1.0)
    distance = abs(probabilities(ns, logits) - aim) / 0.3
    near = 5.0 - 10.0 * distance**2 / (1.0 + distance)
    return ns.where(logits > MINUS_INFINITY, near, MINUS_INFINITY)
