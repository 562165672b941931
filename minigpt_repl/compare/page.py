"""What there is to see as HTML: pages that need nothing else, fragments for notebooks.

No script, no font, no link. The templates are beside this file; colours are as in the
terminal, light or dark as the reader's system is, and nothing is told by colour alone.
Whatever a prompt or a text holds, it stays text, and its controls are visible.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minigpt_repl.compare.choice import Choice, inspect
from minigpt_repl.compare.comparison import (
    Column,
    Comparison,
    figures,
    library_versions,
    shared_words,
)
from minigpt_repl.compare.distribution import Distribution
from minigpt_repl.compare.measures import Interval
from minigpt_repl.compare.pieces import display_pieces, visible, visible_all
from minigpt_repl.compare.spec import Strategy
from minigpt_repl.compare.spread import SPREAD_FROM, in_words, spreads
from minigpt_repl.compare.view import (
    LEVEL_NAMES,
    NOT_QUALITY,
    SAME,
    column_names,
    comparison_facts,
    format_interval,
    level,
    seed_label,
    split_words,
)
from minigpt_repl.engine import inspection
from minigpt_repl.engine.batches import is_drawn
from minigpt_repl.engine.request import Engine, Generation
from minigpt_repl.glossary import ENTRIES, find_entry
from minigpt_repl.shown import in_bits, percent, shown

TITLE = "Decoding strategies compared"
SESSION_TITLE = "Texts of a session"
LESSON_TITLE = "How a model chooses its words"
STOPS = {
    "length": "length reached",
    "stop": "ended",
    "context": "context full",
    "interrupted": "stopped",
    "picked": "picked by hand",
    "not_finite": "scores not finite",
}
COLORS = 8
BAR_WIDTH = 126
SPARK_HEIGHT, SPARK_TOP_BITS = 40, 14.0
SHOWN_ALTERNATIVES = 5
SHOWN_BEFORE = 80

Colors = dict[str, int]
"""The number of a colour for each strategy, by its label: one on a whole page."""


def comparison_page(comparisons: Sequence[Comparison], engine: Engine) -> str:
    """A page with a part for each comparison; the engine tells the alternatives."""
    colors = _colors([c.strategy for one in comparisons for c in one.columns])
    first = " ".join(comparisons[0].plan.prompt.split())[:60] if comparisons else ""
    return _render(
        "page.html.jinja",
        title=f"{TITLE}: {first}" if first else TITLE,
        comparisons=[_comparison(one, engine, colors) for one in comparisons],
    )


def lesson_page(
    chapters: Sequence[Mapping[str, Any]], told: Comparison, engine: Engine
) -> str:
    """A handout: chapters with a text each, then all figures.

    Args:
        chapters: of each its `column`, `claim`, `verdict` and `rule`, lines of text.
        told: the comparison that the columns are of.
        engine: tells what else each token might have been.
    """
    colors = _colors([column.strategy for column in told.columns])
    shown_chapters = []
    for chapter in chapters:
        column: Column = chapter["column"]
        shown_chapters.append(
            {
                **chapter,
                **_text(column.generations[0], 0, engine),
                "prompt": told.plan.prompt,
                "tokens": [
                    {**token, "mark": ""}
                    for token in _tokens(column.generations[0], 0, engine)
                ],
                "sampler": column.strategy.sampler,
                "parameters": column.strategy.words,
                "color": colors[column.strategy.label],
                "label": seed_label(told, column, 0),
            }
        )
    return _render(
        "lesson.html.jinja",
        title=f"{LESSON_TITLE}: {told.plan.prompt or '[BOS]'}",
        chapters=shown_chapters,
        comparison={
            **_comparison(told, engine, colors),
            "seed": told.plan.seed,
            "length": told.plan.length,
        },
    )


@dataclass
class Branch:
    """A text in the tree of a session, and those that go on from it.

    Attributes:
        number: of the text, or of the tokens that were stepped one by one.
        prompt: what is shown before it.
        generations: the text, or the steps.
        is_current: whether the session stands there.
        children: what goes on from its end.
    """

    number: str
    prompt: str
    generations: Sequence[Generation]
    is_current: bool
    children: list["Branch"] = field(default_factory=list)


def session_page(roots: Sequence[Branch], engine: Engine) -> str:
    """A page of a session's texts as a tree."""

    def strategies(branches: Sequence[Branch]) -> Iterator[Strategy]:
        for branch in branches:
            request = branch.generations[0].request
            yield Strategy(request.sampler, request.parameters)
            yield from strategies(branch.children)

    colors = _colors(list(strategies(roots)))
    used = [{"label": label, "color": color} for label, color in colors.items()]
    return _render(
        "session.html.jinja",
        title=SESSION_TITLE,
        branches=[_branch(root, engine, colors) for root in roots],
        strategies=used,
        facts={
            "checkpoint": engine.info.checkpoint_sha256,
            **library_versions(),
        },
    )


def _branch(branch: Branch, engine: Engine, colors: Colors) -> dict[str, Any]:
    first, last = branch.generations[0], branch.generations[-1]
    request = first.request
    strategy = Strategy(request.sampler, request.parameters)
    tokens = [t for one in branch.generations for t in _tokens(one, 0, engine)]
    bits = [token["bits"] for token in tokens]
    told = [f"seed {first.seed}", f"{len(tokens)} tokens", STOPS[last.stop_reason]]
    if request.stop != "none":
        told.insert(1, f"stop {request.stop}")
    if not is_drawn(request.sampler, request.parameters):
        told[0] = SAME
    return {
        "number": branch.number,
        "is_current": branch.is_current,
        "sampler": request.sampler,
        "parameters": strategy.words,
        "color": colors[strategy.label],
        "label": " · ".join(told),
        "prompt": branch.prompt,
        "tokens": [{**token, "mark": ""} for token in tokens],
        "mean_bits": f"{sum(bits) / len(bits):.1f}" if bits else "0",
        "children": [_branch(child, engine, colors) for child in branch.children],
    }


def comparison_fragment(comparison: Comparison, engine: Engine) -> str:
    """A comparison for a notebook."""
    colors = _colors([column.strategy for column in comparison.columns])
    return _fragment(comparison=_comparison(comparison, engine, colors))


def text_fragment(generation: Generation, engine: Engine) -> str:
    """A text by the surprisal of its tokens, for a notebook."""
    request = generation.request
    label = Strategy(request.sampler, request.parameters).label
    return _fragment(
        text={
            **_text(generation, 0, engine),
            "prompt": request.prompt,
            "label": f"{label} · seed {generation.seed}",
        }
    )


def distribution_fragment(distribution: Distribution) -> str:
    """A distribution for a notebook."""
    return _fragment(distribution=_distribution(distribution))


def choice_fragment(choice: Choice) -> str:
    """Why a token was chosen, for a notebook."""
    after = choice.before[-SHOWN_BEFORE:]
    facts = (("token", choice.name), ("after", f"…{after}"), *choice.facts)
    return _fragment(facts=facts, distribution=_distribution(choice.distribution))


def _fragment(**what: Any) -> str:
    kinds = dict.fromkeys(("comparison", "text", "facts", "distribution"))
    return _render("fragment.html.jinja", **{**kinds, **what})


def _render(template: str, **values: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def visibly(value: Any) -> Any:
        is_text = isinstance(value, str) and not isinstance(value, Markup)
        return shown(value) if is_text else value

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=visibly,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    page = environment.get_template(template)
    return (
        page.render(level_names=LEVEL_NAMES, glossary=ENTRIES, **values).strip() + "\n"
    )


def _colors(strategies: Sequence[Strategy]) -> Colors:
    labels = dict.fromkeys(strategy.label for strategy in strategies)
    return {label: place % COLORS for place, label in enumerate(labels)}


def _comparison(
    comparison: Comparison, engine: Engine, colors: Colors
) -> dict[str, Any]:
    """What the templates show of one comparison."""
    shared = [
        shared_words([split_words(c.different[i].text) for c in having])
        for i in range(comparison.plan.count)
        if (having := [c for c in comparison.columns if len(c.different) > i])
    ]
    return {
        "prompt": comparison.plan.prompt,
        "is_interrupted": comparison.is_interrupted,
        "columns": [
            {
                "sampler": column.strategy.sampler,
                "parameters": column.strategy.words,
                "color": colors[column.strategy.label],
                "texts": [
                    {
                        **_text(generation, shared[index], engine),
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


def _text(generation: Generation, shared: int, engine: Engine) -> dict[str, Any]:
    tokens = list(_tokens(generation, shared, engine))
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
        name = visible(generation.tokens[place].id, engine.info)
        yield {
            "space": piece[: len(piece) - len(body)],
            "body": body,
            "mark": mark,
            "bits": bits,
            "level": level(bits),
            "height": max(1.0, height),
            "tip": f"{name}: {_told(generation, place)}{instead[place]}",
        }


def _bits(generation: Generation, place: int) -> float:
    score = generation.tokens[place].score
    return 0.0 if score is None else inspection.surprisal(score.logprob)


def _told(generation: Generation, place: int) -> str:
    """A token's figures in words."""
    score = generation.tokens[place].score
    if score is None:
        return f"token {place + 1}"
    return (
        f"{percent(math.exp(score.logprob))}, rank {score.rank}, "
        f"{in_bits(_bits(generation, place))}, token {place + 1}"
    )


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
        words = visible_all(best, info)
        told.append(
            "\nthe model: "
            + "  ".join(
                f"{word} {percent(float(shares[i]))}"
                for word, i in zip(words, best, strict=True)
            )
        )
    return told


def _measures(comparison: Comparison, colors: Colors) -> Iterator[dict[str, Any]]:
    names = column_names(comparison)
    measures = comparison.measures
    told = {spread.measure.key: spread for spread in spreads(comparison)}
    columns = [dict(figures(column, measures)) for column in comparison.columns]
    for measure in measures:
        intervals = [column[measure] for column in columns]
        labels = [format_interval(measure, interval) for interval in intervals]
        pairs = list(zip(names, labels, strict=True))
        spread = told.get(measure.key)
        values = [()] * len(names) if spread is None else spread.values
        bars = zip(pairs, comparison.columns, _bars(intervals, values), strict=True)
        yield {
            "heading": measure.heading,
            "anchor": _anchor(measure.heading),
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


def _anchor(word: str) -> str | None:
    """Where a page explains a word."""
    entry = find_entry(word)
    return None if entry is None else entry.anchor


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


def _distribution(distribution: Distribution) -> dict[str, Any]:
    highest = distribution.candidates[0].shares[0]
    sums: list[tuple[str, list[str]]] = [
        ("sum", [percent(each) for each in distribution.sums]),
        ("tokens kept", [f"{count:,}" for count in distribution.kept]),
    ]
    if distribution.others > 0:
        rest = [percent(each) for each in distribution.rest]
        sums.insert(0, (f"{distribution.others:,} more", rest))
    return {
        "columns": [
            {"lines": lines, "color": place % COLORS}
            for place, lines in enumerate(distribution.headings)
        ],
        "rows": [
            {
                "word": one.word,
                "cells": [percent(share) for share in one.shares],
                "width": f"{100 * one.shares[0] / highest:.1f}",
                "chosen": one.is_chosen,
                "removed": one.is_removed,
            }
            for one in distribution.candidates
        ],
        "sums": sums,
    }
