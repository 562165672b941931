"""Figures of a text, and what many texts tell: an interval, what is not told apart.

Pure functions over token ids and numbers; `None` stands for a figure that a text is too
short to have.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, count
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from minigpt_repl.engine.inspection import bits
from minigpt_repl.engine.request import Generation, TokenScore
from minigpt_repl.shown import as_perplexity, as_share

if TYPE_CHECKING:
    import numpy as np

REPEATED_NGRAM = 4
LEVEL = 0.05
PERMUTATIONS = 2000


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


def repeated_ngram_rate(token_ids: Sequence[int]) -> float | None:
    """1 - distinct-4: the part of the 4-grams that had occurred before.

    `seq-rep-n` of Welleck et al. 2020, "Neural Text Generation with Unlikelihood
    Training", arXiv:1908.04319, section 6.

    Returns `None` if the text is shorter than that.
    """
    distinct = distinct_n(token_ids, REPEATED_NGRAM)
    return None if distinct is None else 1.0 - distinct


def longest_repeated_run(token_ids: Sequence[int]) -> int:
    """Length of the longest run of tokens that occurs at least twice.

    The two may overlap: `a a a` has the run `a a`. 0 if no token occurs twice.
    """
    # By the place where it starts, a name for the run there; only runs that occur
    # again can be parts of longer ones that do.
    runs = dict.fromkeys(range(len(token_ids)), 0)
    length = 0
    while True:
        longer = {
            start: (name, token_ids[start + length])
            for start, name in runs.items()
            if start + length < len(token_ids)
        }
        times = Counter(longer.values())
        names = {run: name for name, run in enumerate(times)}
        runs = {start: names[run] for start, run in longer.items() if times[run] > 1}
        if not runs:
            return length
        length += 1


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
class Measure:
    """One figure of a text."""

    key: str  # its name in files
    heading: str  # its name in a table
    write: Callable[[float], str]  # a figure as it is written everywhere
    help: str  # what it says
    of: Callable[[Generation], float | None]  # `None` if a text does not have it
    # Texts that were made together have it in common, and no replay repeats it.
    is_of_machine: bool = False


def _distinct(n: int) -> Measure:
    return Measure(
        f"distinct_{n}",
        f"distinct-{n}",
        as_share,
        f"different {n}-grams by all {n}-grams; 100% if none occurs twice",
        lambda made: distinct_n(made.token_ids, n),
    )


def _of_scores(
    mean: Callable[[list[float]], float | None], figure: Callable[[TokenScore], float]
) -> Callable[[Generation], float | None]:
    """A figure of a text, from one of each token that has a score."""

    def of(made: Generation) -> float | None:
        figures = [figure(token.score) for token in made.tokens if token.score]
        return mean(figures) if figures else None

    return of


as_number = "{:,.0f}".format

MEASURES = (
    *map(_distinct, (1, 2, 3)),
    Measure(
        "repeated_4",
        "repeated",
        as_share,
        "4-grams that had occurred before in the text",
        lambda made: repeated_ngram_rate(made.token_ids),
    ),
    Measure(
        "longest_run",
        "run",
        as_number,
        "tokens of the longest run that occurs twice",
        lambda made: float(longest_repeated_run(made.token_ids)),
    ),
    Measure(
        "perplexity",
        "perplexity",
        as_perplexity,
        "of the text under the model at temperature 1",
        _of_scores(perplexity, lambda score: score.logprob),
    ),
    Measure(
        "entropy_bits",
        "entropy",
        "{:.1f}".format,
        "mean of the model's entropy at each token, in bits",
        _of_scores(lambda nats: bits(fmean(nats)), lambda score: score.entropy),
    ),
    Measure(
        "kept_mass",
        "kept",
        as_share,
        "probability that the sampler's rule left to choose from, on average",
        _of_scores(fmean, lambda score: score.kept_mass),
    ),
    Measure(
        "tokens_per_s",
        "tokens/s",
        as_number,
        "new tokens by decoding time",
        lambda made: made.tokens_per_second or None,
        is_of_machine=True,
    ),
    Measure(
        "first_token_ms",
        "first ms",
        as_number,
        "milliseconds to the first token",
        lambda made: 1000 * made.timings.first_token_s if made.tokens else None,
        is_of_machine=True,
    ),
)
"""What a comparison tells of each text, in the order of its table."""

ROWS = Measure(
    "rows",
    "rows",
    as_number,
    "texts that were made together; the speed is that of all of them",
    lambda made: float(made.timings.rows),
    is_of_machine=True,
)
"""Told where texts were made together."""


@dataclass(frozen=True)
class Interval:
    """A mean, and how far the 95% interval reaches to both sides of it."""

    mean: float
    half: float | None  # `None` of one value only, and where one is not finite


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Mean and Student's interval: m +- t(0.975, n - 1) s / sqrt(n).

    Student 1908, "The Probable Error of a Mean". It holds for a mean of
    independent values that are not too far from normal; with few texts it is wide.

    Returns `None` without values.
    """
    count = len(values)
    if not values:
        return None
    if count < 2 or not all(map(math.isfinite, values)):
        return Interval(fmean(values), None)
    half = student_t(count - 1) * stdev(values) / math.sqrt(count)
    return Interval(fmean(values), half)


_STUDENT_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262,
    2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101,
    2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052,
    2.048, 2.045, 2.042, 2.040, 2.037, 2.035, 2.032, 2.030, 2.028,
    2.026, 2.024, 2.023, 2.021, 2.020, 2.018, 2.017, 2.015, 2.014,
    2.013, 2.012, 2.011, 2.010, 2.009, 2.008, 2.007, 2.006, 2.005,
    2.004, 2.003, 2.002, 2.002, 2.001, 2.000, 2.000, 1.999, 1.998,
    1.998, 1.997, 1.997, 1.996, 1.995, 1.995, 1.994, 1.994, 1.993,
    1.993, 1.993, 1.992, 1.992, 1.991, 1.991, 1.990, 1.990, 1.990,
    1.989, 1.989, 1.989, 1.988, 1.988, 1.988, 1.987, 1.987, 1.987,
    1.986, 1.986, 1.986, 1.986, 1.985, 1.985, 1.985, 1.984, 1.984,
)  # fmt: skip
"""The two-sided 95% points for 1 to 99 degrees of freedom, as in any table."""


def student_t(degrees: int) -> float:
    """Two-sided 95% point of Student's t; beyond the table it hardly changes."""
    return _STUDENT_T[min(degrees, len(_STUDENT_T)) - 1]


def texts_needed(strategies: int) -> int:
    """Texts of each of two or more strategies, below which none can be told apart.

    Values that do not even overlap come out so in 2 of the ways to deal them.
    """
    pairs = math.comb(strategies, 2)
    return next(n for n in count(1) if 2 / math.comb(2 * n, n) <= LEVEL / pairs)


def not_told_apart(samples: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pairs of samples whose means may differ by chance alone.

    Pitman 1937, "Significance Tests Which May be Applied to Samples from any
    Populations": the difference of the means against those of the same values dealt
    out at random. Holm 1979, "A Simple Sequentially Rejective Multiple Test
    Procedure", for all pairs together, at 5%.
    """
    import numpy as np

    dealt = np.random.default_rng(0)
    chances = {
        (i, j): _chance(np.array(samples[i]), np.array(samples[j]), dealt)
        for i, j in combinations(range(len(samples)), 2)
    }
    order = sorted(chances, key=chances.__getitem__)
    for place, pair in enumerate(order):
        if chances[pair] > LEVEL / (len(order) - place):
            return sorted(order[place:])
    return []


def _chance(
    one: "np.ndarray", other: "np.ndarray", dealt: "np.random.Generator"
) -> float:
    """How often the means of values dealt at random differ as much."""
    import numpy as np

    every = np.concatenate([one, other])
    shuffled = dealt.permuted(np.tile(every, (PERMUTATIONS, 1)), axis=1)
    means = shuffled[:, : len(one)].mean(axis=1), shuffled[:, len(one) :].mean(axis=1)
    seen = abs(one.mean() - other.mean())
    as_far = (abs(means[0] - means[1]) >= seen - 1e-12).sum()
    return float((as_far + 1) / (PERMUTATIONS + 1))
