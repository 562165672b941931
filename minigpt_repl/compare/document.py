"""A comparison for people to read: a page of HTML, a document of Markdown.

The page needs nothing else: no script, no font, no link. Its template is
`page.html.jinja`; colours are as in the terminal, light or dark as the reader's system
is. Whatever a prompt or a text holds, it stays text, and its controls are visible.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from minigpt_repl.compare.comparison import Column, Comparison, figures, shared_words
from minigpt_repl.compare.measures import Interval
from minigpt_repl.compare.pieces import display_pieces
from minigpt_repl.compare.view import (
    LEVEL_NAMES,
    NOT_QUALITY,
    column_names,
    format_interval,
    level,
    seed_label,
    split_words,
)
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import EngineInfo, Generation
from minigpt_repl.shown import shown

TITLE = "Decoding strategies compared"
TEMPLATE = "page.html.jinja"
BAR_WIDTH = 150
SPARK_HEIGHT, SPARK_TOP_BITS = 40, 14.0


def to_html(comparisons: Sequence[Comparison], info: EngineInfo) -> str:
    """A page with a part for each comparison.

    Args:
        comparisons: what to show.
        info: for the words of their tokens.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: shown(value) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    first = " ".join(comparisons[0].plan.prompt.split())[:60] if comparisons else ""
    return environment.get_template(TEMPLATE).render(
        title=f"{TITLE}: {first}" if first else TITLE,
        level_names=LEVEL_NAMES,
        not_quality=NOT_QUALITY,
        parts=[_part(comparison, info) for comparison in comparisons],
    )


def to_markdown(comparisons: Sequence[Comparison]) -> str:
    """A document with a part for each comparison: quotations and one table."""
    parts = [f"# {TITLE}"]
    for comparison in comparisons:
        parts += _markdown(comparison)
    parts.append("Made by minigpt-repl.")
    return "\n\n".join(parts) + "\n"


_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$])")
_STARTS_BLOCK = re.compile(r"^(\s*\d*)([-+=]|(?<=\d)[.)](?=\s|$))", re.MULTILINE)


def escape(text: str) -> str:
    """Text that Markdown shows as it is, controls visible."""
    escaped = _SPECIAL.sub(r"\\\1", shown(text))
    return _STARTS_BLOCK.sub(r"\1\\\2", escaped).replace("://", ":\\//")


def _markdown(comparison: Comparison) -> Iterator[str]:
    prompt = comparison.plan.prompt
    yield f"## {escape(' '.join(prompt.split())) or 'From the start'}"
    for column in comparison.columns:
        yield f"### {escape(column.strategy.label)}"
        for index, generation in enumerate(column.different):
            if comparison.plan.count > 1:
                yield f"{seed_label(comparison, column, index).capitalize()}:"
            lines = escape(prompt + generation.text).split("\n")
            yield "\n".join(f"> {line}" for line in lines)
    yield "### Measures"
    rows = [
        ["measure", *map(escape, column_names(comparison))],
        ["---", *("---:" for _ in comparison.columns)],
    ]
    measures = comparison.measures
    columns = [dict(figures(column, measures)) for column in comparison.columns]
    for measure in measures:
        cells = [format_interval(measure, column[measure]) for column in columns]
        rows.append([measure.heading, *cells])
    yield "\n".join(f"| {' | '.join(row)} |" for row in rows)
    yield NOT_QUALITY
    facts = [f"- {name}: {escape(value)}" for name, value in _facts(comparison).items()]
    if comparison.is_interrupted:
        facts.append("- interrupted: stopped before all texts were made")
    yield "\n".join(facts)


def _facts(comparison: Comparison) -> dict[str, str]:
    plan = comparison.plan
    return {
        "seed": str(plan.seed),
        "texts a strategy": str(plan.count),
        "length": f"{plan.length} tokens",
        "stop": plan.stop,
        "checkpoint": comparison.checkpoint_sha256,
        **comparison.versions,
    }


def _part(comparison: Comparison, info: EngineInfo) -> dict[str, Any]:
    """What the template shows of one comparison."""
    shared = [
        shared_words([split_words(c.different[i].text) for c in having])
        for i in range(comparison.plan.count)
        if (having := [c for c in comparison.columns if len(c.different) > i])
    ]
    return {
        "prompt": comparison.plan.prompt,
        "is_interrupted": comparison.is_interrupted,
        "has_seeds": comparison.plan.count > 1,
        "columns": [
            {
                "sampler": column.strategy.sampler,
                "parameters": column.strategy.words,
                "texts": list(_texts(comparison, column, shared, info)),
            }
            for column in comparison.columns
        ],
        "measures": list(_measures(comparison)),
        "facts": _facts(comparison),
    }


def _texts(
    comparison: Comparison, column: Column, shared: Sequence[int], info: EngineInfo
) -> Iterator[dict[str, Any]]:
    for index, generation in enumerate(column.different):
        tokens = list(_tokens(generation, shared[index], info))
        bits = [token["bits"] for token in tokens]
        mean = sum(bits) / len(bits) if bits else 0.0
        yield {
            "label": seed_label(comparison, column, index),
            "tokens": tokens,
            "mean_bits": f"{mean:.1f}",
        }


def _tokens(
    generation: Generation, shared: int, info: EngineInfo
) -> Iterator[dict[str, Any]]:
    """Every token: its surprisal as colour and height, its figures as a tooltip."""
    common = len("".join(split_words(generation.text)[:shared]))
    end = 0
    is_marked = shared == 0
    for place, piece in enumerate(display_pieces(generation, info)):
        end += len(piece)
        body = piece.lstrip()
        mark = ""
        if end <= common:
            mark = " same"
        elif not is_marked:
            mark = " split"
            is_marked = True
        bits = _bits(generation, place)
        height = min(bits, SPARK_TOP_BITS) / SPARK_TOP_BITS * SPARK_HEIGHT
        yield {
            "space": piece[: len(piece) - len(body)],
            "body": body,
            "mark": mark,
            "bits": bits,
            "level": level(bits),
            "height": max(1.0, height),
            "title": _tooltip(generation, place, bits),
        }


def _bits(generation: Generation, place: int) -> float:
    score = generation.tokens[place].score
    return 0.0 if score is None else inspection.surprisal(score.logprob)


def _tooltip(generation: Generation, place: int, bits: float) -> str:
    score = generation.tokens[place].score
    if score is None:
        return f"token {place + 1}"
    return (
        f"token {place + 1}: {bits:.1f} bits, rank {score.rank}, "
        f"entropy {score.entropy:.1f} nats"
    )


def _measures(comparison: Comparison) -> Iterator[dict[str, Any]]:
    names = column_names(comparison)
    measures = comparison.measures
    columns = [dict(figures(column, measures)) for column in comparison.columns]
    for measure in measures:
        intervals = [column[measure] for column in columns]
        labels = [format_interval(measure, interval) for interval in intervals]
        pairs = list(zip(names, labels, strict=True))
        yield {
            "heading": measure.heading,
            "help": measure.help,
            "spoken": ", ".join(f"{name} {label}" for name, label in pairs),
            "bars": [
                {"name": name, "label": label, **bar}
                for (name, label), bar in zip(pairs, _bars(intervals), strict=True)
            ],
        }


def _bars(intervals: Sequence[Interval | None]) -> Iterator[dict[str, Any]]:
    """How long each bar is, from 0, and where the line of its interval lies."""
    known = [i for i in intervals if i is not None and math.isfinite(i.mean)]
    top = max((i.mean + (i.half or 0.0) for i in known), default=0.0) or 1.0
    scale = BAR_WIDTH / top
    for interval in intervals:
        if interval is None or interval not in known:
            yield {"length": None, "span": None}
            continue
        mean, half = interval.mean, interval.half
        span = (max(0.0, mean - half) * scale, (mean + half) * scale) if half else None
        yield {"length": max(1.0, mean * scale), "span": span}
