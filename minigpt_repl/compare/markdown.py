"""A comparison as Markdown: headings, quotations and one table.

Whatever a prompt or a text holds, it stays text.
"""

import re
from collections.abc import Iterator, Sequence

from minigpt_repl.compare.comparison import Comparison, figures
from minigpt_repl.compare.measures import MEASURES
from minigpt_repl.compare.view import NOT_QUALITY, column_names, format_interval

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$])")
_STARTS_BLOCK = re.compile(r"^(\s*)([-+=]|\d+[.)])", re.MULTILINE)


def comparisons_to_markdown(comparisons: Sequence[Comparison]) -> str:
    """A document with a part for each comparison."""
    parts = ["# Decoding strategies compared"]
    for comparison in comparisons:
        parts += _part(comparison)
    parts.append("Made by minigpt-repl.")
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    escaped = _SPECIAL.sub(r"\\\1", text)
    return _STARTS_BLOCK.sub(r"\1\\\2", escaped).replace("://", ":\\//")


def _part(comparison: Comparison) -> Iterator[str]:
    yield f"## {_one_line(comparison.plan.prompt) or 'From the start'}"
    for column in comparison.columns:
        yield f"### {escape(column.strategy.label)}"
        for generation in column.generations:
            if comparison.plan.count > 1:
                yield f"Seed {generation.seed}:"
            yield _quote(comparison.plan.prompt + generation.text)
    yield "### Measures"
    yield _table(comparison)
    yield NOT_QUALITY
    yield _facts(comparison)


def _quote(text: str) -> str:
    return "\n".join(f"> {line}" for line in escape(text).split("\n"))


def _table(comparison: Comparison) -> str:
    rows = [
        ["measure", *map(escape, column_names(comparison))],
        ["---", *("---:" for _ in comparison.columns)],
    ]
    columns = [dict(figures(column)) for column in comparison.columns]
    for measure in MEASURES:
        cells = [format_interval(measure, column[measure]) for column in columns]
        rows.append([measure.heading, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _facts(comparison: Comparison) -> str:
    plan = comparison.plan
    versions = ", ".join(f"{name} {v}" for name, v in comparison.versions.items())
    facts = {
        "seed": str(plan.seed),
        "texts a strategy": str(plan.count),
        "length": f"{plan.length} tokens",
        "stop": plan.stop,
        "checkpoint": comparison.checkpoint_sha256,
        "versions": versions,
    }
    if comparison.is_interrupted:
        facts["interrupted"] = "stopped before all texts were made"
    return "\n".join(f"- {name}: {escape(value)}" for name, value in facts.items())


def _one_line(text: str) -> str:
    return escape(" ".join(text.split()))
