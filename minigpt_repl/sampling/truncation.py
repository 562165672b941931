"""Truncation: rules that say which tokens stay, by their probabilities.

What a rule is, says `stage`.
"""

import math
from typing import Any

from minigpt_repl.sampling import rules
from minigpt_repl.sampling.parameters import Parameter
from minigpt_repl.sampling.stage import (
    MINUS_INFINITY,
    best,
    entropy,
    share,
    stage,
)


@stage(
    "the k most probable tokens",
    'Fan et al. 2018, "Hierarchical Neural Story Generation", arXiv:1805.04833, 5.4',
    Parameter("k", int, 40, "tokens kept", minimum=1, maximum="vocabulary"),
)
def top_k(ns: Any, shares: Any, k: Any) -> Any:
    """rank <= k.

    Top-k keeps the k most probable tokens, of equal ones those with the lowest ids.
    It cuts off the tail that makes random sampling wander.
    llama.cpp keeps exactly k as here, transformers all that equal the last one.

    Use it as a plain cut of the tail. Not where the model is now sure, now unsure:
    k is the same for both.
    """
    return rules.kept(ns, shares, (rules.at_most(ns, k),))


@stage(
    "the fewest tokens that together reach probability p",
    'Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", '
    "arXiv:1904.09751, 3.1",
    share("p", 0.9, "probability kept", exclusive_minimum=True),
)
def top_p(ns: Any, shares: Any, p: Any) -> Any:
    """Sum of the more probable ones <= p.

    Top-p keeps the fewest tokens whose probabilities add up to p.
    It keeps few tokens where the model is sure and many where it is not.
    The token that crosses p stays, as everywhere.

    Use it for stories and talk, with a temperature near 1. Not behind a high
    temperature: the flattened tail then comes in.
    """
    return rules.kept(ns, shares, ((shares, _all_at_one(ns, p)),))


@stage(
    "the tokens at least p times as probable as the best",
    'Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling", arXiv:2407.01082',
    share("p", 0.05, "smallest part of the best token's probability"),
)
def min_p(ns: Any, shares: Any, p: Any) -> Any:
    """probability >= p * highest.

    Min-p keeps the tokens that are at least p times as probable as the best one.
    Where the model is sure it keeps few, and at high temperatures it still cuts
    off what makes no sense.
    It needs no sorting and no sum.

    Use it for stories, with a temperature of 1 and above as well. Not for statistics
    of what the model believes.
    """
    return shares >= p * ns.max(shares, axis=-1, keepdims=True)


@stage(
    "the tokens whose surprise is nearest to the expected",
    'Meister et al. 2023, "Locally Typical Sampling", arXiv:2202.00666',
    share("p", 0.9, "probability kept", exclusive_minimum=True),
)
def typical_p(ns: Any, shares: Any, p: Any) -> Any:
    """The nearest by |-ln p - entropy|, until they sum to p.

    Typical sampling keeps the tokens whose surprisal is nearest to the entropy,
    until their probabilities add up to p.
    Where the model is unsure it may remove the most probable token.
    The token that crosses p stays, as in transformers and llama.cpp.

    Use it where text is to be as surprising as people's. Not where the model is
    mostly sure: it then does what top-p does.
    """
    surprisal = -ns.log(ns.where(shares > 0, shares, 1.0))
    distance = abs(surprisal - entropy(ns, shares))
    order = ns.where(shares > 0, 1 / (1 + distance), 0.0)
    return rules.kept(ns, order, ((shares, _all_at_one(ns, p)),))


@stage(
    "the tokens of at least probability epsilon",
    'Hewitt et al. 2022, "Truncation Sampling as Language Model Desmoothing", '
    "arXiv:2210.15191, 4.1",
    share("epsilon", 0.0003, "smallest probability kept"),
    can_empty=True,
)
def epsilon_cutoff(ns: Any, shares: Any, epsilon: Any) -> Any:
    """probability >= epsilon.

    Epsilon sampling keeps the tokens whose probability is at least epsilon.
    It is the simplest cut of the tail.
    Where the model is unsure, good tokens may fall below it too.

    Use it to remove what is nonsense for certain and nothing else. Not as the only
    rule at a high temperature.
    """
    return shares >= epsilon


@stage(
    "as epsilon_cutoff, with a lower bar where the model is unsure",
    'Hewitt et al. 2022, "Truncation Sampling as Language Model Desmoothing", '
    "arXiv:2210.15191, 4.2",
    share("epsilon", 0.0003, "smallest probability kept where the model is sure"),
    can_empty=True,
)
def eta_cutoff(ns: Any, shares: Any, epsilon: Any) -> Any:
    """probability >= min(epsilon, sqrt(epsilon) * exp(-entropy)).

    Eta sampling keeps the tokens whose probability is at least epsilon, or less
    where the entropy is high.
    So it does not remove good tokens where many are possible.
    Both bars are those of the paper and of transformers.

    Use it in place of epsilon_cutoff where the model is often unsure. Not where a
    plain bar is to be explained.
    """
    bar = epsilon**0.5 * ns.exp(-entropy(ns, shares))
    return shares >= ns.minimum(epsilon, bar)


@stage(
    "the tokens within n standard deviations of the best logit",
    'Tang et al. 2024, "Top-nsigma: Not All Logits Are You Need", arXiv:2411.07641',
    Parameter("n", float, 1.0, "standard deviations", minimum=0, maximum=100),
)
def top_n_sigma(ns: Any, logits: Any, n: Any) -> Any:
    """logit >= highest - n * standard deviation of the logits.

    Top-n-sigma keeps the tokens whose logit is within n standard deviations of
    the highest one.
    What it keeps does not depend on the temperature.
    Only tokens that are still there count for the deviation, as in llama.cpp.

    Use it with high temperatures, which it does not mind. Not where the number of
    tokens left must be small: it may be large.
    """
    is_there = logits > MINUS_INFINITY
    count = ns.sum(ns.where(is_there, 1.0, 0.0), axis=-1, keepdims=True)
    highest = ns.max(logits, axis=-1, keepdims=True)
    below = ns.where(is_there, highest - logits, 0.0)
    mean = ns.sum(below, axis=-1, keepdims=True) / count
    squares = ns.where(is_there, (below - mean) ** 2, 0.0)
    deviation = (ns.sum(squares, axis=-1, keepdims=True) / count) ** 0.5
    is_near = below <= n * deviation
    return ns.where(is_there & is_near, logits, MINUS_INFINITY)


@stage(
    "the tokens above a bar that rises with the best one's square",
    "BlinkDL, RWKV-LM, 2022: the top-a of its chat",
    share("a", 0.2, "the bar where the best token is certain"),
)
def top_a(ns: Any, shares: Any, a: Any) -> Any:
    """probability >= a * highest^2.

    Top-a keeps the tokens whose probability is at least a times the square of
    the highest.
    Where the model is sure it removes nearly all others, where it is not nearly none.
    It is the forerunner of min-p.

    Use it where min-p is not at hand. Not for new work: min-p is easier to reason
    about.
    """
    return shares >= a * ns.max(shares, axis=-1, keepdims=True) ** 2


@stage(
    "now and then, none of the likely tokens but the least likely of them",
    "p-e-w 2024, text-generation-webui #6335: Exclude Top Choices",
    share("probability", 0.5, "how often it acts"),
    share("threshold", 0.1, "from which probability a token is a likely one"),
)
def xtc(ns: Any, shares: Any, probability: Any, threshold: Any, chance: Any) -> Any:
    """All but the least probable of those with probability >= threshold are removed.

    XTC acts on a part of the tokens, drawn at random: of all tokens that are likely
    it then keeps the least likely one only.
    So a sensible but not the usual way is taken.
    Where fewer than two tokens are likely, or the threshold is above 0.5, it does
    nothing.

    Use it behind a truncation, for stories that are to take unusual turns. Not for
    facts and code, where the likely word is the right one.
    """
    is_likely = (shares >= threshold) & (shares > 0)
    removed = is_likely & ns.logical_not(_last(ns, shares, is_likely))
    is_acting = (threshold <= 0.5) & (chance < probability)
    return ns.logical_not(removed & is_acting)


@stage(
    "the best tokens, until they hold a part of the entropy",
    'Potraghloo et al. 2025, "Top-H Decoding", arXiv:2509.02510',
    share("h", 0.4, "part of the entropy kept", exclusive_minimum=True),
    can_empty=True,
)
def top_h(ns: Any, shares: Any, h: Any) -> Any:
    """Sum of -p ln p of a token and the more probable ones <= h * entropy.

    Top-h keeps the most probable tokens as long as their part of the entropy is at
    most h.
    Where the model is sure it keeps few, and it grows with the entropy.
    As in transformers it looks at the 100 most probable tokens only.

    Use it at high temperatures, where it stays coherent. Not with a flat
    distribution over more than 100 tokens that all are wanted.
    """
    first = rules.kept(ns, shares, (rules.at_most(ns, 100),))
    shares = ns.where(first, shares, 0.0)
    shares = shares / ns.sum(shares, axis=-1, keepdims=True)
    terms = -shares * ns.log(ns.where(shares > 0, shares, 1.0))
    bound = h * ns.sum(terms, axis=-1, keepdims=True)
    kept = rules.kept(ns, shares, ((terms, bound),))
    total = ns.sum(ns.where(kept, terms, 0.0), axis=-1, keepdims=True)
    # The token that crosses the bound is not kept: the last one, of the lowest.
    is_last = _last(ns, shares, kept)
    return kept & ((total <= bound * (1 + 1e-6)) | ns.logical_not(is_last))


@stage(
    "the most probable token alone",
    "greedy search",
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
    "any token, as often as the chain says",
    "ancestral sampling",
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
    return learned - eta * (surprise - tau)


@stage(
    "tokens up to a surprise, which follows the text to keep it at tau bits",
    'Basu et al. 2020, "Mirostat", arXiv:2007.14966; version 2',
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
    return surprise <= 2 * tau + learned


def _all_at_one(ns: Any, p: Any) -> Any:
    # At 1 everything is kept, however the sum is rounded.
    return ns.where(p >= 1, 2.0, p)


def _last(ns: Any, shares: Any, mask: Any) -> Any:
    """bool: of the tokens in a mask the least probable one, the last of equal ones."""
    lowest = ns.min(ns.where(mask, shares, 2.0), axis=-1, keepdims=True)
    ids = ns.arange(shares.shape[-1])
    candidates = ns.where(mask & (shares == lowest), ids, -1)
    return ids == ns.max(candidates, axis=-1, keepdims=True)
