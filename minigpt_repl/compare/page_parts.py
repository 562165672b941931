"""What the templates of a page show: texts token by token, figures, distributions.

Plain dictionaries, made from a comparison or a text and an engine, which tells what
else each token might have been.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from minigpt_repl.compare.choice import inspect
from minigpt_repl.compare.comparison import Comparison
from minigpt_repl.compare.figures_view import (
    NOT_QUALITY,
    SPREAD_FROM,
    comparison_facts,
    format_interval,
    in_words,
    spreads,
)
from minigpt_repl.compare.measures import Interval
from minigpt_repl.compare.pieces import display_pieces, listed, visible
from minigpt_repl.compare.spec import Strategy
from minigpt_repl.compare.view import (
    column_names,
    level,
    seed_label,
    shared_by_seed,
    split_words,
)
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import Engine, Generation
from minigpt_repl.glossary import find_entry
from minigpt_repl.shown import in_bits, percent

COLORS = 8
BAR_WIDTH = 126
SPARK_HEIGHT, SPARK_TOP_BITS = 40, 14.0
SHOWN_ALTERNATIVES = 5

Colors = dict[str, int]
"""The number of a colour for each strategy, by its label: one on a whole page."""


def colors_of(strategies: Sequence[Strategy]) -> Colors:
    """A colour for each strategy, in their order."""
    labels = dict.fromkeys(strategy.label for strategy in strategies)
    return {label: place % COLORS for place, label in enumerate(labels)}


def comparison_part(
    comparison: Comparison, engine: Engine, colors: Colors
) -> dict[str, Any]:
    """What the templates show of one comparison."""
    shared = shared_by_seed(
        [[made.text for made in column.different] for column in comparison.columns]
    )
    return {
        "prompt": comparison.plan.prompt,
        "is_interrupted": comparison.is_interrupted,
        "columns": [
            {
                "sampler": column.strategy.name,
                "parameters": column.strategy.words,
                "color": colors[column.strategy.label],
                "texts": [
                    {
                        **text_part([generation], shared[index], engine),
                        "label": seed_label(comparison, column, index),
                    }
                    for index, generation in enumerate(column.different)
                ],
            }
            for column in comparison.columns
        ],
        "measures": list(_measures(comparison, colors)),
        "has_dots": any(spreads(comparison)),
        "not_quality": NOT_QUALITY,
        "facts": comparison_facts(comparison),
    }


def text_part(
    generations: Sequence[Generation], shared: int, engine: Engine
) -> dict[str, Any]:
    """A text, which may have been made in steps; its first `shared` words are those
    of others too."""
    tokens = [t for made in generations for t in _tokens(made, shared, engine)]
    bits = [token["bits"] for token in tokens]
    mean = sum(bits) / len(bits) if bits else 0.0
    return {"prompt": "", "tokens": tokens, "mean_bits": f"{mean:.1f}"}


def _tokens(
    generation: Generation, shared: int, engine: Engine
) -> Iterator[dict[str, Any]]:
    """Every token: its surprisal as colour and height, what else there was as a tip."""
    common = len("".join(split_words(generation.text)[:shared]))
    end = 0
    is_marked = shared == 0
    instead = _alternatives(generation, engine)
    for place, piece in enumerate(display_pieces(generation, engine.info)):
        token = generation.tokens[place]
        end += len(piece)
        body = piece.lstrip()
        mark = ""
        if end <= common:
            mark = " same"
        elif not is_marked:
            mark = " split"
            is_marked = True
        bits, told = 0.0, f"token {place + 1}"
        if token.score is not None:
            bits = inspection.surprisal(token.score.logprob)
            share = percent(math.exp(token.score.logprob))
            told = f"{share}, rank {token.score.rank}, {in_bits(bits)}, {told}"
        height = min(bits, SPARK_TOP_BITS) / SPARK_TOP_BITS * SPARK_HEIGHT
        yield {
            "space": piece[: len(piece) - len(body)],
            "body": body,
            "mark": mark,
            "bits": bits,
            "level": level(bits),
            "height": max(1.0, height),
            "tip": f"{visible(token.id, engine.info)}: {told}{instead[place]}",
        }


def _alternatives(generation: Generation, engine: Engine) -> list[str]:
    """For each token the most probable ones at its place, in words.

    Nothing for a text of another model.
    """
    info = engine.info
    if generation.checkpoint_sha256 != info.checkpoint_sha256 or not generation.tokens:
        return [""] * len(generation.tokens)
    told = []
    for row in inspect(engine, generation.request.prompt, generation).rows:
        shares = inspection.probabilities(row)
        best = inspection.top_ids(shares, SHOWN_ALTERNATIVES)
        told.append(f"\nthe model: {listed(best, shares, info)}")
    return told


def _measures(comparison: Comparison, colors: Colors) -> Iterator[dict[str, Any]]:
    names = column_names(comparison)
    told = {spread.measure.key: spread for spread in spreads(comparison)}
    for measure in comparison.measures:
        intervals = [column.figure(measure) for column in comparison.columns]
        labels = [format_interval(measure, interval) for interval in intervals]
        pairs = list(zip(names, labels, strict=True))
        spread = told.get(measure.key)
        values = [()] * len(names) if spread is None else spread.values
        entry = find_entry(measure.heading)
        bars = zip(pairs, comparison.columns, _bars(intervals, values), strict=True)
        yield {
            "heading": measure.heading,
            "anchor": entry and entry.anchor,
            "help": measure.help,
            "note": "" if spread is None else in_words(spread, names),
            "spoken": ", ".join(f"{name} {label}" for name, label in pairs),
            "bars": [
                {
                    "name": name,
                    "label": label,
                    "color": colors[column.strategy.label],
                    **bar,
                }
                for (name, label), column, bar in bars
            ],
        }


def _bars(
    intervals: Sequence[Interval | None], values: Sequence[Sequence[float]]
) -> Iterator[dict[str, Any]]:
    """How long each bar is, from 0, and where its interval and its texts lie."""
    known = [i for i in intervals if i is not None and math.isfinite(i.mean)]
    ends = [i.mean + (i.half or 0.0) for i in known]
    top = max((*ends, *(value for each in values for value in each)), default=0.0)
    scale = BAR_WIDTH / (top or 1.0)
    for interval, each in zip(intervals, values, strict=True):
        if interval is None or interval not in known:
            yield {"length": None, "span": None, "dots": []}
            continue
        mean, half = interval.mean, interval.half
        span = (max(0.0, mean - half) * scale, (mean + half) * scale) if half else None
        dots = [value * scale for value in each] if len(each) >= SPREAD_FROM else []
        yield {"length": max(1.0, mean * scale), "span": span, "dots": dots}
