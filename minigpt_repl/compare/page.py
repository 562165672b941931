"""What there is to see as HTML: pages that need nothing else, fragments for notebooks.

No script, no font, no link. The templates are beside this file; colours are as in the
terminal, light or dark as the reader's system is, and nothing is told by colour alone.
Whatever a prompt or a text holds, it stays text, and its controls are visible.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minigpt_repl.compare.choice import Choice
from minigpt_repl.compare.comparison import Column, Comparison, library_versions
from minigpt_repl.compare.distribution import Distribution
from minigpt_repl.compare.page_parts import (
    Colors,
    colors_of,
    comparison_part,
    text_part,
)
from minigpt_repl.compare.pieces import OWN_TEXT, REASONS, is_own_text
from minigpt_repl.compare.spec import Strategy
from minigpt_repl.compare.view import LEVEL_NAMES, SAME, seed_label
from minigpt_repl.engine.batches import is_drawn
from minigpt_repl.engine.request import Engine, Generation
from minigpt_repl.glossary import ENTRIES
from minigpt_repl.shown import NO_PROMPT, percent, shown

TITLE = "Decoding strategies compared"
SESSION_TITLE = "Texts of a session"
LESSON_TITLE = "How a model chooses its words"
SHOWN_BEFORE = 80


def comparison_page(comparisons: Sequence[Comparison], engine: Engine) -> str:
    """A page with a part for each comparison; the engine tells the alternatives."""
    colors = colors_of([c.strategy for one in comparisons for c in one.columns])
    first = " ".join(comparisons[0].plan.prompt.split())[:60] if comparisons else ""
    return _render(
        "page.html.jinja",
        title=f"{TITLE}: {first}" if first else TITLE,
        heading=TITLE,
        comparisons=[comparison_part(one, engine, colors) for one in comparisons],
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
    colors = colors_of([column.strategy for column in told.columns])
    shown_chapters = []
    for chapter in chapters:
        column: Column = chapter["column"]
        shown_chapters.append(
            {
                **chapter,
                **text_part(column.generations[:1], 0, engine),
                "prompt": told.plan.prompt,
                "sampler": column.strategy.name,
                "parameters": column.strategy.words,
                "color": colors[column.strategy.label],
                "label": seed_label(told, column, 0),
            }
        )
    return _render(
        "lesson.html.jinja",
        title=f"{LESSON_TITLE}: {told.plan.prompt or NO_PROMPT}",
        chapters=shown_chapters,
        comparison={
            **comparison_part(told, engine, colors),
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
            if not is_own_text(branch.generations[0]):
                yield Strategy.of(branch.generations[0].request)
            yield from strategies(branch.children)

    colors = colors_of(list(strategies(roots)))
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
    strategy = Strategy.of(request)
    count = sum(len(generation.tokens) for generation in branch.generations)
    told = [f"seed {first.seed}", f"{count} tokens", REASONS[last.stop_reason]]
    if request.stop != "none":
        told.insert(1, f"stop {request.stop}")
    if not is_drawn(request.sampler, request.parameters):
        told[0] = SAME
    if is_own_text(first):
        told = told[1:-1]
    return {
        **text_part(branch.generations, 0, engine),
        "number": branch.number,
        "is_current": branch.is_current,
        "sampler": OWN_TEXT if is_own_text(first) else strategy.name,
        "parameters": "" if is_own_text(first) else strategy.words,
        "color": colors.get(strategy.label, ""),
        "label": " · ".join(told),
        "prompt": branch.prompt,
        "children": [_branch(child, engine, colors) for child in branch.children],
    }


def comparison_fragment(comparison: Comparison, engine: Engine) -> str:
    """A comparison for a notebook."""
    colors = colors_of([column.strategy for column in comparison.columns])
    part = comparison_part(comparison, engine, colors)
    return _render("fragment.html.jinja", comparison=part)


def text_fragment(generation: Generation, engine: Engine) -> str:
    """A text by the surprisal of its tokens, for a notebook."""
    label = Strategy.of(generation.request).label
    text = {
        **text_part([generation], 0, engine),
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
    environment.filters["percent"] = percent
    page = environment.get_template(template)
    fixed = {"level_names": LEVEL_NAMES, "glossary": ENTRIES, "no_prompt": NO_PROMPT}
    return page.render(fixed, **values).strip() + "\n"
