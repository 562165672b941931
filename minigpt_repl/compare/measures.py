"""Figures of a text: how much it repeats itself, how probable it is.

Pure functions over token ids and log-probabilities; `None` stands for a figure
that a text is too short to have. Knows no model, no sampler and no terminal, and
needs neither numpy nor scipy: a text has some hundred tokens.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from minigpt_repl.engine.request import Generation

REPEATED_NGRAM = 4
CONFIDENCE = 0.95


def distinct_n(token_ids: Sequence[int], n: int) -> float | None:
    """Different n-grams by all n-grams: 1 if none occurs twice.

    Li et al. 2016, "A Diversity-Promoting Objective Function for Neural
    Conversation Models", arXiv:1510.03055, section 5.2.

    Returns `None` if the text is shorter than `n` tokens.
    """
    count = len(token_ids) - n + 1
    if count < 1:
        return None
    grams = {tuple(token_ids[start : start + n]) for start in range(count)}
    return len(grams) / count


def repeated_ngram_rate(
    token_ids: Sequence[int], n: int = REPEATED_NGRAM
) -> float | None:
    """1 - distinct-n: the part of the n-grams that had occurred before.

    `seq-rep-n` of Welleck et al. 2020, "Neural Text Generation with Unlikelihood
    Training", arXiv:1908.04319, section 6.

    Returns `None` if the text is shorter than `n` tokens.
    """
    distinct = distinct_n(token_ids, n)
    return None if distinct is None else 1.0 - distinct


def longest_repeated_run(token_ids: Sequence[int]) -> int:
    """Length of the longest run of tokens that occurs at least twice.

    The two may overlap: `a a a` has the run `a a`. 0 if no token occurs twice.
    By prefix doubling (Karp, Miller and Rosenberg 1972, "Rapid identification of
    repeated patterns in strings, trees and arrays"): runs of 2**j tokens are
    named by pairs of names of runs half as long. O(n log n).
    """
    names = _named(token_ids)
    levels = []  # levels[j][i] names the run of 2**j tokens at i
    while _has_repeats(names):
        levels.append(names)
        half = 1 << (len(levels) - 1)
        names = _named(list(zip(names, names[half:], strict=False)))
    if not levels:
        return 0
    names, length = levels[-1], 1 << (len(levels) - 1)
    for j in reversed(range(len(levels) - 1)):
        longer = _named(list(zip(names, levels[j][length:], strict=False)))
        if _has_repeats(longer):
            names, length = longer, length + (1 << j)
    return length


def perplexity(logprobs: Sequence[float]) -> float | None:
    """exp(-mean log p): as unsure as among so many equally probable tokens.

    Jelinek et al. 1977, "Perplexity - a measure of the difficulty of speech
    recognition tasks". `logprobs` are natural logarithms under the model at
    temperature 1; the prompt's tokens are not among them.

    Returns `None` for an empty text, infinity beyond what a float holds.
    """
    if not logprobs:
        return None
    try:
        return math.exp(-fmean(logprobs))
    except OverflowError:
        return math.inf


@dataclass(frozen=True)
class Interval:
    """A mean, and how far the 95% interval reaches to both sides of it.

    `half` is `None` where there is one value only.
    """

    mean: float
    half: float | None


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Mean and Student's interval: m +- t(0.975, n - 1) s / sqrt(n).

    Student 1908, "The Probable Error of a Mean". It holds for a mean of
    independent values that are not too far from normal; with few texts it is wide.

    Returns `None` without values.
    """
    if not values:
        return None
    mean = fmean(values)
    if len(values) == 1:
        return Interval(mean, None)
    return Interval(
        mean, student_t(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    )


_STUDENT_T = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060)
"""The two-sided 95% points for 1 to 8 degrees of freedom, from any table."""


def student_t(degrees: int) -> float:
    """Two-sided 95% point of Student's t, right to four decimals.

    Above the table by its expansion around the normal distribution's point:
    Abramowitz and Stegun 1964, "Handbook of Mathematical Functions", 26.7.5.
    """
    if degrees <= len(_STUDENT_T):
        return _STUDENT_T[degrees - 1]
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(sum(term / degrees**power for power, term in enumerate(terms)))


@dataclass(frozen=True)
class Measure:
    """One figure of a text.

    Attributes:
        key: its name in files.
        heading: its name in a table.
        format: how it is written, as for `format()`.
        help: what it says.
        of: the figure of a text; `None` if the text does not have it.
    """

    key: str
    heading: str
    format: str
    help: str
    of: Callable[[Generation], float | None]


def logprobs_of(generation: Generation) -> list[float]:
    """Log-probability of each token that has a score."""
    return [token.score.logprob for token in generation.tokens if token.score]


def _mean_entropy(generation: Generation) -> float | None:
    scores = [token.score.entropy for token in generation.tokens if token.score]
    return fmean(scores) if scores else None


def _mean_kept_mass(generation: Generation) -> float | None:
    scores = [token.score.kept_mass for token in generation.tokens if token.score]
    return fmean(scores) if scores else None


def _tokens_per_second(generation: Generation) -> float | None:
    return generation.tokens_per_second or None


def _first_token_ms(generation: Generation) -> float | None:
    return 1000 * generation.timings.first_token_s if generation.tokens else None


MEASURES = (
    *(
        Measure(
            f"distinct_{n}",
            f"distinct-{n}",
            ".2f",
            f"different {n}-grams by all {n}-grams; 1 if none occurs twice",
            lambda generation, n=n: distinct_n(generation.token_ids, n),  # type: ignore[misc]
        )
        for n in (1, 2, 3)
    ),
    Measure(
        "repeated_4",
        "repeated",
        ".0%",
        "4-grams that had occurred before in the text",
        lambda generation: repeated_ngram_rate(generation.token_ids),
    ),
    Measure(
        "longest_run",
        "run",
        ".0f",
        "tokens of the longest run that occurs twice",
        lambda generation: float(longest_repeated_run(generation.token_ids)),
    ),
    Measure(
        "perplexity",
        "perplexity",
        ".1f",
        "of the text under the model at temperature 1",
        lambda generation: perplexity(logprobs_of(generation)),
    ),
    Measure(
        "entropy",
        "entropy",
        ".2f",
        "mean of the model's entropy at each token, in nats",
        _mean_entropy,
    ),
    Measure(
        "kept_mass",
        "kept",
        ".0%",
        "probability that the sampler's rule left to choose from, on average",
        _mean_kept_mass,
    ),
    Measure(
        "tokens_per_s",
        "tokens/s",
        ".0f",
        "new tokens by decoding time",
        _tokens_per_second,
    ),
    Measure(
        "first_token_ms",
        "first ms",
        ".0f",
        "milliseconds to the first token",
        _first_token_ms,
    ),
)
"""What a comparison tells of each text, in the order of its table."""

TIMINGS = ("tokens_per_s", "first_token_ms")
"""Measures of the machine rather than of the text: no replay repeats them."""


def _named(items: Sequence[object]) -> list[int]:
    """A number for each item, the same for equal ones."""
    names: dict[object, int] = {}
    return [names.setdefault(item, len(names)) for item in items]


def _has_repeats(names: Sequence[int]) -> bool:
    return len(set(names)) < len(names)
