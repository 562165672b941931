"""A comparison as a file: which format, what is in it, how it is written.

The JSON form is for `minigpt-repl replay` and for programs;
`schemas/comparison.schema.json` describes it. Knows no terminal and no engine.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minigpt_repl.compare.comparison import Column, Comparison, library_versions
from minigpt_repl.compare.html import comparisons_to_html
from minigpt_repl.compare.markdown import comparisons_to_markdown
from minigpt_repl.compare.measures import MEASURES
from minigpt_repl.compare.spec import Plan, Strategy
from minigpt_repl.engine.request import EngineInfo, Generation
from minigpt_repl.errors import UsageError
from minigpt_repl.files import read_user_file, write_user_file
from minigpt_repl.report import dump_line
from minigpt_repl.suggest import quoted

SCHEMA_VERSION = 1
MARK = "minigpt-repl"
SUFFIXES = (".md", ".html", ".json")


def export(comparisons: Sequence[Comparison], path: Path, info: EngineInfo) -> None:
    """Write comparisons to a file, in the format that its name ends in.

    A file that is there already is replaced only if an export made it.

    Raises:
        UsageError: for another ending, or a file that is something else.
        MiniGPTError: if it can't be written.
    """
    text = render(comparisons, check_suffix(path), info)
    if path.is_file() and MARK not in read_user_file(path):
        raise UsageError(
            f"{path.name} is there and is not an export; choose another name"
        )
    write_user_file(path, text)


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


def render(comparisons: Sequence[Comparison], suffix: str, info: EngineInfo) -> str:
    """The text of an export in one of the formats of `SUFFIXES`."""
    if suffix == ".html":
        return comparisons_to_html(comparisons, info)
    if suffix == ".md":
        return comparisons_to_markdown(comparisons)
    values = [comparison_to_json(comparison) for comparison in comparisons]
    content = values[0] if len(values) == 1 else _session_to_json(values)
    return json.dumps(json.loads(dump_line(content)), indent=1, ensure_ascii=False)


def comparison_to_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as `schemas/comparison.schema.json` describes it."""
    plan = comparison.plan
    return {
        "type": "comparison",
        "schema_version": SCHEMA_VERSION,
        "made_by": MARK,
        "prompt": plan.prompt,
        "prompt_ids": None if plan.prompt_ids is None else list(plan.prompt_ids),
        "seed": plan.seed,
        "count": plan.count,
        "length": plan.length,
        "stop": plan.stop,
        "varied": comparison.varied,
        "is_interrupted": comparison.is_interrupted,
        "checkpoint_sha256": comparison.checkpoint_sha256,
        "versions": comparison.versions,
        "strategies": [_column(column) for column in comparison.columns],
    }


def comparison_of(prompt: str, generation: Generation, directory: str) -> Comparison:
    """One text of a session as a comparison of a single strategy."""
    request = generation.request
    strategy = Strategy(request.sampler, request.parameters)
    plan = Plan(
        prompt=prompt,
        strategies=(strategy,),
        seed=generation.seed,
        length=request.length,
        stop=request.stop,
        prompt_ids=request.prompt_ids,
    )
    return Comparison(
        plan=plan,
        columns=(Column(strategy, (generation,)),),
        checkpoint=directory,
        checkpoint_sha256=generation.checkpoint_sha256,
        versions=library_versions(),
        is_interrupted=generation.stop_reason == "interrupted",
    )


def _session_to_json(comparisons: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": "session",
        "schema_version": SCHEMA_VERSION,
        "made_by": MARK,
        "comparisons": comparisons,
    }


def _column(column: Column) -> dict[str, Any]:
    measures: dict[str, Any] = {}
    for measure in MEASURES:
        interval = column.figure(measure)
        measures[measure.key] = (
            None
            if interval is None
            else {"mean": interval.mean, "half_interval": interval.half}
        )
    return {
        "sampler": column.strategy.sampler,
        "parameters": dict(column.strategy.parameters),
        "measures": measures,
        "texts": [_text(generation) for generation in column.generations],
    }


def _text(generation: Generation) -> dict[str, Any]:
    timings = generation.timings
    return {
        "seed": generation.seed,
        "text": generation.text,
        "stop_reason": generation.stop_reason,
        "cropped": generation.started.cropped,
        "tokens": [
            {
                "id": token.id,
                "text": token.text,
                "logprob": token.score and token.score.logprob,
                "rank": token.score and token.score.rank,
                "entropy": token.score and token.score.entropy,
                "kept_mass": token.score and token.score.kept_mass,
            }
            for token in generation.tokens
        ],
        "timings": {
            "first_token_s": timings.first_token_s,
            "decode_s": timings.decode_s,
        },
    }
