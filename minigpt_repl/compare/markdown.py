"""A comparison as a document of Markdown: quotations and a table of figures."""

import re
from collections.abc import Iterator, Sequence

from minigpt_repl.compare.comparison import Comparison, figures
from minigpt_repl.compare.view import (
    NOT_QUALITY,
    column_names,
    comparison_facts,
    format_interval,
    seed_label,
)
from minigpt_repl.shown import shown

TITLE = "Decoding strategies compared"


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
    facts = [
        f"- {name}: {escape(value)}"
        for name, value in comparison_facts(comparison).items()
    ]
    if comparison.is_interrupted:
        facts.append("- interrupted: stopped before all texts were made")
    yield "\n".join(facts)
