"""Texts and comparisons as HTML, for files and notebooks, and as Markdown.

A page needs nothing else: no script, no font, no link. The templates are beside this
file; colours are as in the terminal, light or dark as the reader's system is, and
nothing is told by colour alone. Whatever a prompt or a text holds, it stays text, and
its controls are visible.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from minigpt_repl.compare.comparison import Comparison, library_versions
from minigpt_repl.compare.comparison_view import (
    NOT_QUALITY,
    SPREAD_FROM,
    Spread,
    format_interval,
    shared_by_seed,
    spreads,
)
from minigpt_repl.compare.measures import Measure
from minigpt_repl.compare.pieces import (
    LEVEL_NAMES,
    OWN_TEXT,
    REASONS,
    SAME,
    display_pieces,
    level,
    listed,
    spaced_words,
    visible,
)
from minigpt_repl.compare.spec import Strategy
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import Engine, Generation
from minigpt_repl.engine.texts import is_drawn
from minigpt_repl.glossary import ENTRIES, find_entry
from minigpt_repl.shown import NO_PROMPT, in_bits, percent, shown

TITLE = "Decoding strategies compared"
SESSION_TITLE = "Texts of a session"
LESSON_TITLE = "How a model chooses its words"
COLORS = 8
BAR_WIDTH = 126
SPARK_HEIGHT, SPARK_TOP_BITS = 40, 14.0
SHOWN_ALTERNATIVES = 5


def comparison_page(comparisons: Sequence[Comparison], engine: Engine) -> str:
    """A page with a part for each comparison; the engine tells the alternatives."""
    first = " ".join(comparisons[0].prompt.split())[:60] if comparisons else ""
    return _render(
        "page.html.jinja",
        engine,
        title=f"{TITLE}: {first}" if first else TITLE,
        heading=TITLE,
        comparisons=comparisons,
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
    title = f"{LESSON_TITLE}: {told.prompt or NO_PROMPT}"
    return _render(
        "lesson.html.jinja", engine, title=title, chapters=chapters, told=told
    )


@dataclass
class Branch:
    """A text in the tree of a session, and those that go on from it."""

    number: str  # of the text, or of the tokens that were stepped one by one
    prompt: str  # what is shown before it
    generations: Sequence[Generation]  # the text, or the steps
    is_current: bool  # whether the session stands there
    children: list["Branch"] = field(default_factory=list)

    @property
    def strategy(self) -> Strategy | None:
        """What made it; `None` for a text of the user's own."""
        first = self.generations[0]
        return None if first.is_own_text else Strategy.of(first.request)

    @property
    def label(self) -> str:
        """Seed, stop rule, length and end, as far as it has them."""
        first, request = self.generations[0], self.generations[0].request
        has_chance = is_drawn(request.sampler, request.parameters)
        told = [f"seed {first.seed}" if has_chance else SAME]
        if request.stop != "none":
            told.append(f"stop {request.stop}")
        told.append(f"{sum(len(made.tokens) for made in self.generations)} tokens")
        if self.strategy is None:
            return " · ".join(told[1:])
        return " · ".join([*told, REASONS[self.generations[-1].stop_reason]])


def session_page(roots: Sequence[Branch], engine: Engine) -> str:
    """A page of a session's texts as a tree."""
    facts = {"checkpoint": engine.info.checkpoint_sha256, **library_versions()}
    return _render(
        "session.html.jinja", engine, title=SESSION_TITLE, branches=roots, facts=facts
    )


def fragment(engine: Engine | None = None, **what: Any) -> str:
    """A part of a page, for a notebook.

    Args:
        engine: tells what else each token might have been.
        what: what it shows, by its name: a `comparison`, a `generation` by the
            surprisal of its tokens, a `distribution` or a `choice`.
    """
    return _render("fragment.html.jinja", engine, **what)


def comparisons_markdown(comparisons: Sequence[Comparison]) -> str:
    """A Markdown document with a part for each comparison: quotations and one table."""
    return _render("comparison.md.jinja", title=TITLE, comparisons=comparisons)


def _tokens(
    engine: Engine, generation: Generation, shared: int = 0
) -> Iterator[dict[str, Any]]:
    """Every token: its surprisal as colour and height, and as a tip its figures and, of
    the engine's own model, what else there was.

    The first `shared` words of the text are those of others too.
    """
    info, tokens = engine.info, generation.tokens
    is_own = generation.checkpoint_sha256 == info.checkpoint_sha256
    rows = inspection.token_logits(engine, generation) if is_own and tokens else None
    common = len("".join(spaced_words(generation.text)[:shared]))
    end, is_marked = 0, shared == 0
    for place, piece in enumerate(display_pieces(generation, info)):
        token, body, mark = tokens[place], piece.lstrip(), ""
        end += len(piece)
        if end <= common:
            mark = " same"
        elif not is_marked:
            mark = " split"
            is_marked = True
        bits, tip = 0.0, f"token {place + 1}"
        if token.score is not None:
            bits = inspection.surprisal(token.score.logprob)
            share = percent(math.exp(token.score.logprob))
            tip = f"{share}, rank {token.score.rank}, {in_bits(bits)}, {tip}"
        if rows is not None:
            shares = inspection.probabilities(rows[place])
            best = inspection.top_ids(shares, SHOWN_ALTERNATIVES)
            tip += f"\nthe model: {listed(best, shares, info)}"
        height = min(bits, SPARK_TOP_BITS) / SPARK_TOP_BITS * SPARK_HEIGHT
        yield {
            "space": piece[: len(piece) - len(body)],
            "body": body,
            "mark": mark,
            "bits": bits,
            "level": level(bits),
            "height": max(1.0, height),
            "tip": f"{visible(token.id, info)}: {tip}",
        }


def _measures(comparison: Comparison) -> Iterator[dict[str, Any]]:
    told = {spread.measure.key: spread for spread in spreads(comparison)}
    for measure in comparison.measures:
        spread, entry = told.get(measure.key), find_entry(measure.heading)
        yield {
            "heading": measure.heading,
            "anchor": entry and entry.anchor,
            "help": measure.help,
            "note": spread.in_words(comparison.names) if spread else "",
            "bars": list(_bars(comparison, measure, spread)),
            "has_dots": spread is not None,
        }


def _bars(
    comparison: Comparison, measure: Measure, spread: Spread | None
) -> Iterator[dict[str, Any]]:
    """For each strategy how long its bar is, from 0, and where its interval and its
    texts lie; no bar where there is no figure, or none that ends."""
    columns = comparison.columns
    figures = [column.figure(measure) for column in columns]
    known = [each for each in figures if each and math.isfinite(each.mean)]
    ends = [each.mean + (each.half or 0.0) for each in known]
    values = spread.values if spread else [()] * len(columns)
    top = max((*ends, *(value for each in values for value in each)), default=0.0)
    scale = BAR_WIDTH / (top or 1.0)
    every = zip(comparison.names, columns, figures, values, strict=True)
    for name, column, figure, own in every:
        length, span = None, None
        if figure and figure in known:
            length = max(1.0, figure.mean * scale)
            if half := figure.half:
                low = max(0.0, figure.mean - half)
                span = low * scale, (figure.mean + half) * scale
        yield {
            "name": name,
            "strategy": column.strategy,
            "label": format_interval(measure, figure),
            "length": length,
            "span": span,
            "dots": [value * scale for value in own] if len(own) >= SPREAD_FROM else [],
        }


_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$])")
_STARTS_BLOCK = re.compile(r"^(\s*\d*)([-+=]|(?<=\d)[.)](?=\s|$))", re.MULTILINE)


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, controls visible."""
    escaped = _SPECIAL.sub(r"\\\1", shown(text))
    return _STARTS_BLOCK.sub(r"\1\\\2", escaped).replace("://", ":\\//")


def _render(template: str, engine: Engine | None = None, **values: Any) -> str:
    """A template's text, in which whatever is put into it stays text.

    The templates ask for what is to be computed: the `tokens` of a text, the
    `measures` of a comparison, the `color` of a strategy, one on a whole page.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    is_html = template.endswith(".html.jinja")
    harmless = shown if is_html else escape_markdown
    colors: dict[str, int] = {}

    def visibly(value: Any) -> Any:
        is_text = isinstance(value, str) and not isinstance(value, Markup)
        return harmless(value) if is_text else value

    def color(strategy: Strategy) -> int:
        return colors.setdefault(strategy.label, len(colors) % COLORS)

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=is_html,
        finalize=visibly,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["percent"] = percent
    if engine is not None:
        environment.globals["tokens"] = partial(_tokens, engine)
    environment.globals.update(
        color=color,
        colors=colors,
        measures=_measures,
        shared_words=shared_by_seed,
        figure=format_interval,
        level_names=LEVEL_NAMES,
        glossary=ENTRIES,
        no_prompt=NO_PROMPT,
        not_quality=NOT_QUALITY,
        own_text=OWN_TEXT,
        strategy_of=Strategy.of,
    )
    return environment.get_template(template).render(values).strip() + "\n"
