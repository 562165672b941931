"""What there is to see as HTML: pages that need nothing else, fragments for notebooks;
and a comparison as Markdown.

No script, no font, no link. The templates are beside this file; colours are as in the
terminal, light or dark as the reader's system is, and nothing is told by colour alone.
Whatever a prompt or a text holds, it stays text, and its controls are visible.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minigpt_repl.compare.choice import Choice, Distribution, token_logits
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
    OWN_TEXT,
    REASONS,
    display_pieces,
    is_own_text,
    listed,
    visible,
)
from minigpt_repl.compare.spec import Strategy
from minigpt_repl.compare.view import LEVEL_NAMES, SAME, level, split_words
from minigpt_repl.engine import inspection
from minigpt_repl.engine.batches import is_drawn
from minigpt_repl.engine.request import Engine, Generation
from minigpt_repl.glossary import ENTRIES, find_entry
from minigpt_repl.shown import NO_PROMPT, in_bits, percent, shown

TITLE = "Decoding strategies compared"
SESSION_TITLE = "Texts of a session"
LESSON_TITLE = "How a model chooses its words"
SHOWN_BEFORE = 80
COLORS = 8
BAR_WIDTH = 126
SPARK_HEIGHT, SPARK_TOP_BITS = 40, 14.0
SHOWN_ALTERNATIVES = 5

Colors = dict[str, int]
"""The number of a colour for each strategy, by its label: one on a whole page."""


def comparison_page(comparisons: Sequence[Comparison], engine: Engine) -> str:
    """A page with a part for each comparison; the engine tells the alternatives."""
    colors = _colors_of([c.strategy for one in comparisons for c in one.columns])
    first = " ".join(comparisons[0].plan.prompt.split())[:60] if comparisons else ""
    return _render(
        "page.html.jinja",
        title=f"{TITLE}: {first}" if first else TITLE,
        heading=TITLE,
        colors=colors,
        comparisons=[_comparison(one, engine) for one in comparisons],
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
    shown_chapters = [
        {
            **chapter,
            **_text(chapter["column"].generations[:1], 0, engine),
            "prompt": told.plan.prompt,
            "label": told.seed_label(chapter["column"], 0),
        }
        for chapter in chapters
    ]
    return _render(
        "lesson.html.jinja",
        title=f"{LESSON_TITLE}: {told.plan.prompt or NO_PROMPT}",
        colors=_colors_of([column.strategy for column in told.columns]),
        chapters=shown_chapters,
        comparison=_comparison(told, engine),
        plan=told.plan.first,
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
    colors: Colors = {}
    return _render(
        "session.html.jinja",
        title=SESSION_TITLE,
        branches=[_branch(root, engine, colors) for root in roots],
        colors=colors,
        facts={"checkpoint": engine.info.checkpoint_sha256, **library_versions()},
    )


def _branch(branch: Branch, engine: Engine, colors: Colors) -> dict[str, Any]:
    """A text of the tree; its strategy gets a colour if it has none yet."""
    first, last = branch.generations[0], branch.generations[-1]
    request = first.request
    strategy = Strategy.of(request)
    is_own = is_own_text(first)
    if not is_own:
        colors.setdefault(strategy.label, len(colors) % COLORS)
    count = sum(len(generation.tokens) for generation in branch.generations)
    told = [f"seed {first.seed}", f"{count} tokens", REASONS[last.stop_reason]]
    if request.stop != "none":
        told.insert(1, f"stop {request.stop}")
    if not is_drawn(request.sampler, request.parameters):
        told[0] = SAME
    if is_own:
        told = told[1:-1]
    return {
        **_text(branch.generations, 0, engine),
        "number": branch.number,
        "is_current": branch.is_current,
        "sampler": OWN_TEXT if is_own else strategy.name,
        "parameters": "" if is_own else strategy.words,
        "color": "" if is_own else colors[strategy.label],
        "label": " · ".join(told),
        "prompt": branch.prompt,
        "children": [_branch(child, engine, colors) for child in branch.children],
    }


def comparison_fragment(comparison: Comparison, engine: Engine) -> str:
    """A comparison for a notebook."""
    colors = _colors_of([column.strategy for column in comparison.columns])
    part = _comparison(comparison, engine)
    return _render("fragment.html.jinja", colors=colors, comparison=part)


def text_fragment(generation: Generation, engine: Engine) -> str:
    """A text by the surprisal of its tokens, for a notebook."""
    label = Strategy.of(generation.request).label
    text = {
        **_text([generation], 0, engine),
        "prompt": generation.request.prompt,
        "label": f"{label} · seed {generation.seed}",
    }
    return _render("fragment.html.jinja", text=text)


def distribution_fragment(distribution: Distribution) -> str:
    """A distribution for a notebook."""
    return _render("fragment.html.jinja", distribution=distribution)


def choice_fragment(choice: Choice) -> str:
    """Why a token was chosen, for a notebook."""
    after = choice.before[-SHOWN_BEFORE:]
    facts = (("token", choice.name), ("after", f"…{after}"), *choice.facts)
    return _render("fragment.html.jinja", facts=facts, distribution=choice.distribution)


def _colors_of(strategies: Sequence[Strategy]) -> Colors:
    """A colour for each strategy, in their order."""
    labels = dict.fromkeys(strategy.label for strategy in strategies)
    return {label: place % COLORS for place, label in enumerate(labels)}


def _comparison(comparison: Comparison, engine: Engine) -> dict[str, Any]:
    """What the templates show of one comparison."""
    shared = shared_by_seed(
        [[made.text for made in column.different] for column in comparison.columns]
    )
    return {
        "prompt": comparison.plan.prompt,
        "is_interrupted": comparison.is_interrupted,
        "columns": [
            {
                "strategy": column.strategy,
                "texts": [
                    {
                        **_text([generation], shared[index], engine),
                        "label": comparison.seed_label(column, index),
                    }
                    for index, generation in enumerate(column.different)
                ],
            }
            for column in comparison.columns
        ],
        "measures": list(_measures(comparison)),
        "has_dots": any(spreads(comparison)),
        "not_quality": NOT_QUALITY,
        "facts": comparison.facts,
    }


def _text(
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
    for row in token_logits(engine, generation):
        shares = inspection.probabilities(row)
        best = inspection.top_ids(shares, SHOWN_ALTERNATIVES)
        told.append(f"\nthe model: {listed(best, shares, info)}")
    return told


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


def comparisons_markdown(comparisons: Sequence[Comparison]) -> str:
    """A Markdown document with a part for each comparison: quotations and one table."""
    return _render(
        "comparison.md.jinja",
        title=TITLE,
        comparisons=comparisons,
        not_quality=NOT_QUALITY,
        figure=format_interval,
    )


_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$])")
_STARTS_BLOCK = re.compile(r"^(\s*\d*)([-+=]|(?<=\d)[.)](?=\s|$))", re.MULTILINE)


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, controls visible."""
    escaped = _SPECIAL.sub(r"\\\1", shown(text))
    return _STARTS_BLOCK.sub(r"\1\\\2", escaped).replace("://", ":\\//")


def _render(template: str, **values: Any) -> str:
    """A template's text, to which whatever is put into it stays text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    is_html = template.endswith(".html.jinja")
    harmless = shown if is_html else escape_markdown

    def visibly(value: Any) -> Any:
        is_text = isinstance(value, str) and not isinstance(value, Markup)
        return harmless(value) if is_text else value

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=is_html,
        finalize=visibly,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["percent"] = percent
    page = environment.get_template(template)
    fixed = {"level_names": LEVEL_NAMES, "glossary": ENTRIES, "no_prompt": NO_PROMPT}
    return page.render(fixed, **values).strip() + "\n"
