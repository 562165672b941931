"""A comparison as a file: which format, what is in it, how it is written.

The JSON form, `formats.Comparison`, is for `minigpt-repl replay` and for programs; the
Markdown is quotations and a table of figures; `page` makes the HTML.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

import msgspec

from minigpt_repl import formats
from minigpt_repl.compare.comparison import Column, Comparison, library_versions
from minigpt_repl.compare.figures_view import (
    NOT_QUALITY,
    comparison_facts,
    format_interval,
)
from minigpt_repl.compare.measures import MEASURES, Interval
from minigpt_repl.compare.page import TITLE, comparison_page
from minigpt_repl.compare.spec import Strategy, plan_of
from minigpt_repl.compare.view import column_names, seed_label
from minigpt_repl.engine.request import Engine, Generation, Token
from minigpt_repl.errors import UsageError
from minigpt_repl.files import read_user_file, write_user_file
from minigpt_repl.shown import NO_PROMPT, quoted, shown

MARK: Final = "minigpt-repl"
GENERATOR = f'<meta name="generator" content="{MARK}">'
SUFFIXES = (".md", ".html", ".json")


def export(comparisons: Sequence[Comparison], path: Path, engine: Engine) -> None:
    """Write comparisons to a file, in the format that its name ends in.

    A file that is there already is replaced only if an export made it.

    Raises:
        UsageError: for another ending, or a file that is something else.
        MiniGPTError: if it can't be written.
    """
    write_page(path, render(comparisons, check_suffix(path), engine))


def write_page(path: Path, text: str) -> None:
    """Write the text of an export; it replaces an export only.

    Raises:
        UsageError: if a file is there that is something else.
        MiniGPTError: if it can't be written.
    """
    if path.is_file() and not _is_export(read_user_file(path), path.suffix.lower()):
        raise UsageError(
            f"{path.name} is there and is not an export; choose another name"
        )
    write_user_file(path, text)


def _is_export(text: str, suffix: str) -> bool:
    """Whether a file says that an export made it, in the way of its format."""
    if suffix == ".json":
        kinds = formats.Comparison, formats.SessionExport
        return any(formats.is_one(text, kind) for kind in kinds)
    return text.startswith(f"# {TITLE}\n") if suffix == ".md" else GENERATOR in text


def check_suffix(path: Path) -> str:
    """The ending of an export's name.

    Raises:
        UsageError: for one that is no format.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"an export's name ends in {', '.join(SUFFIXES)}; got {quoted(path.name)}"
        )
    return suffix


def render(comparisons: Sequence[Comparison], suffix: str, engine: Engine) -> str:
    """The text of an export in one of the formats of `SUFFIXES`."""
    if suffix == ".html":
        return comparison_page(comparisons, engine)
    if suffix == ".md":
        return to_markdown(comparisons)
    many = tuple(map(comparison_to_json, comparisons))
    if len(many) == 1:
        return formats.encode(many[0], indent=True)
    session = formats.SessionExport(schema_version=1, made_by=MARK, comparisons=many)
    return formats.encode(session, indent=True)


def comparison_to_json(comparison: Comparison) -> formats.Comparison:
    """A comparison in the shape of its file."""
    plan = comparison.plan
    return formats.Comparison(
        schema_version=1,
        made_by=MARK,
        prompt=plan.prompt,
        prompt_ids=plan.prompt_ids,
        seed=plan.seed or 0,
        count=plan.count,
        length=plan.length,
        stop=cast(formats.StopRule, plan.stop),
        noise=cast(formats.NoiseKind, plan.noise),
        varied=comparison.varied,
        is_interrupted=comparison.is_interrupted,
        checkpoint_sha256=comparison.checkpoint_sha256,
        versions=comparison.versions,
        strategies=tuple(map(_column, comparison.columns)),
    )


def comparison_of(prompt: str, generation: Generation) -> Comparison:
    """One text of a session as a comparison of a single strategy."""
    request = generation.request
    strategy = Strategy.of(request)
    return Comparison(
        plan=plan_of(replace(request, prompt=prompt), [strategy]),
        columns=(Column(strategy, (generation,)),),
        checkpoint_sha256=generation.checkpoint_sha256,
        versions=library_versions(),
        is_interrupted=generation.stop_reason == "interrupted",
    )


def _column(column: Column) -> formats.ComparedStrategy:
    return formats.ComparedStrategy(
        sampler=column.strategy.sampler,
        parameters=dict(column.strategy.parameters),
        measures={m.key: _interval(column.figure(m)) for m in MEASURES},
        texts=tuple(map(_text, column.different)),
        same_for_every_seed=not column.is_drawn,
    )


def _interval(found: Interval | None) -> formats.Interval | None:
    return None if found is None else formats.Interval(found.mean, found.half)


def _text(generation: Generation) -> formats.ComparedText:
    timings = generation.timings
    return formats.ComparedText(
        seed=generation.seed,
        text=generation.text,
        stop_reason=generation.stop_reason,
        cropped=generation.started.cropped,
        tokens=tuple(map(_token, generation.tokens)),
        timings=msgspec.convert(timings, formats.TextTimings, from_attributes=True),
    )


def _token(token: Token) -> formats.ScoredToken:
    score = token.score
    if score is None:
        return formats.ScoredToken(token.id, token.text, None, None, None, None)
    return formats.ScoredToken(
        id=token.id,
        text=token.text,
        logprob=score.logprob,
        rank=score.rank,
        entropy=score.entropy,
        kept_mass=score.kept_mass,
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
    yield f"## {escape(' '.join(prompt.split())) or NO_PROMPT}"
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
    for measure in comparison.measures:
        found = [column.figure(measure) for column in comparison.columns]
        cells = [format_interval(measure, each) for each in found]
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
