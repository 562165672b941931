"""What the user types of a comparison: `greedy top_k:k=10 n=5 -- PROMPT`.

Pure: text and settings in, frozen values out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from minigpt_repl.engine.request import SEEDS, Request
from minigpt_repl.errors import UsageError
from minigpt_repl.sampling import chain
from minigpt_repl.sampling.parameters import Value, format_values
from minigpt_repl.sampling.registry import all_samplers, find_sampler
from minigpt_repl.settings import Settings
from minigpt_repl.shown import quoted

MOST_TEXTS = 100
MOST_STRATEGIES = 32
PROMPT_MARK = "--"


@dataclass(frozen=True)
class Strategy:
    """A sampler and a value for each of its parameters."""

    sampler: str
    parameters: Mapping[str, Value]

    @staticmethod
    def of(request: Request) -> "Strategy":
        """By which a text was asked for."""
        return Strategy(request.sampler, request.parameters)

    @staticmethod
    def in_use(settings: Settings) -> "Strategy":
        """The sampler in use, as it is set."""
        return Strategy(settings.sampler.name, settings.parameters())

    @property
    def label(self) -> str:
        """As the user would type it: `top_k:k=10,temperature=1`."""
        return find_sampler(self.sampler).text(self.parameters)

    @property
    def name(self) -> str:
        """What it is called: a sampler's name, or a whole chain."""
        return self.label if find_sampler(self.sampler).stages else self.sampler

    @property
    def words(self) -> str:
        """Its parameters in words, `k=10 temperature=1`; a chain's name has them."""
        if find_sampler(self.sampler).stages:
            return ""
        return format_values(self.parameters)


def text_seed(seed: int, index: int) -> int:
    """Seed of text `index`, from 0: counted up, within what a seed can be."""
    return (seed + index) % SEEDS


def parse_typed(
    arguments: str, settings: Settings
) -> tuple[tuple[Strategy, ...], int, str | None]:
    """Read `[SPEC ...] [n=5] [-- PROMPT]`: strategies, texts of each, the prompt.

    A strategy's parameters that are not named have the values of the settings.
    No strategies are returned if none is named.

    Raises:
        UsageError: for a word that is none of these, or a value not allowed.
    """
    words, prompt = split_prompt(arguments)
    names = []
    count = 1
    for word in map(chain.unquoted, split_words(words)):
        if word.startswith("n="):
            count = parse_count(word.removeprefix("n="))
        elif "=" in word and ":" not in word and not is_sampler(word):
            raise UsageError(
                f"{quoted(word)} belongs to no sampler: write SAMPLER:{word.lower()}"
            )
        else:
            names.append(word)
    return parse_strategies(names, settings), count, prompt


def split_prompt(arguments: str) -> tuple[str, str | None]:
    """What stands before ` -- `, and the prompt after it; `None` without one."""
    words, mark, prompt = f" {arguments} ".partition(f" {PROMPT_MARK} ")
    return words.strip(), prompt.strip() if mark else None


def split_words(text: str) -> list[str]:
    """The words of a line; a chain is one word, with spaces around `+` or without."""
    return chain.words("+".join(map(str.strip, chain.split(text, "+"))))


def is_sampler(word: str) -> bool:
    """Whether a word begins with the name of a sampler or of a rule."""
    try:
        find_sampler(word.partition("=")[0].partition("+")[0])
    except UsageError:
        return False
    return True


def parse_strategies(words: Sequence[str], settings: Settings) -> tuple[Strategy, ...]:
    """Strategies such as `greedy` and `top_k:k=10,temperature=0.8`.

    Raises:
        UsageError: if one can't be, is named twice, or there are too many.
    """
    chosen = [settings.set({"sampler": word})[0] for word in words]
    strategies = tuple(map(Strategy.in_use, chosen))
    for index, strategy in enumerate(strategies):
        if strategy in strategies[:index]:
            raise UsageError(f"{strategy.label} is named twice")
    if len(strategies) > MOST_STRATEGIES:
        raise UsageError(
            f"at most {MOST_STRATEGIES} strategies at once; got {len(strategies)}"
        )
    return strategies


def all_strategies(settings: Settings, has_draft: bool) -> tuple[Strategy, ...]:
    """Every sampler with its present parameters.

    Those that need a draft model are left out where there is none.
    """
    return tuple(
        Strategy(spec.name, settings.parameters(spec))
        for spec in all_samplers()
        if has_draft or not spec.needs_draft
    )


def read_whole(text: str) -> int | None:
    """The whole number that was typed, or `None` if it is none."""
    try:
        return int(text)
    except ValueError:  # also for more digits than Python reads
        return None


def read_wholes(words: Sequence[str], defaults: Sequence[int]) -> list[int]:
    """Whole numbers that were typed, 0 for what is none, then the other defaults."""
    typed = [read_whole(word) or 0 for word in words]
    return [*typed, *defaults[len(typed) :]]


def read_count(text: str, most: int, wants: str, why: str = "") -> int:
    """A whole number from 1 to `most` that was typed.

    Raises:
        UsageError: if it is none; begins with what wants it, such as ":next takes",
            and may tell what it counts.
    """
    count = read_whole(text)
    if count is None or not 1 <= count <= most:
        raise UsageError(f"{wants} a whole number 1..{most}{why}; got {quoted(text)}")
    return count


def parse_count(text: str) -> int:
    """How many texts a strategy; raises as `read_count`."""
    return read_count(text, MOST_TEXTS, "n must be")


def parse_sweep(
    words: Sequence[str], name: str, settings: Settings
) -> tuple[Strategy, ...]:
    """The sampler in use at each value of one of its parameters: at `1 5 10` or
    `1,5,10`, or at `0.2..1.4/5` for five evenly spaced ones.

    Raises:
        UsageError: if one is not allowed, or there are none or too many.
    """
    parameter, base = settings.parameter(name), Strategy.in_use(settings)
    texts = [text for word in words for text in _range_texts(word, parameter.kind)]
    values = dict.fromkeys(parameter.parse(text, settings.limits) for text in texts)
    if not 1 <= len(values) <= MOST_STRATEGIES:
        raise UsageError(f"1..{MOST_STRATEGIES} values; got {len(values)}")
    return tuple(
        replace(base, parameters={**base.parameters, name: value}) for value in values
    )


def _range_texts(word: str, kind: type) -> list[str]:
    """The value that was typed, those of a list, or those of a range."""
    if kind is str:
        return [word]
    if ".." not in word:
        return [each for each in word.split(",") if each]
    span, slash, steps = word.partition("/")
    low, _, high = span.partition("..")
    try:
        first, step = float(low), float(high) - float(low)
        count = int(steps) if slash else 5
        if not math.isfinite(step) or not 2 <= count <= MOST_STRATEGIES:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"a range is FIRST..LAST/COUNT, such as 0.2..1.4/5, with a count of "
            f"2..{MOST_STRATEGIES}; got {quoted(word)}"
        ) from None
    values = [first + step * i / (count - 1) for i in range(count)]
    return [str(round(v)) if kind is int else f"{v:.6g}" for v in values]
