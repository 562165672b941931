"""A comparison as a file: how it is written, and run again, token for token.

The JSON form, `formats.Comparison`, is for `minigpt-repl replay` and for programs;
`page` makes the HTML and the Markdown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from minigpt_repl import formats
from minigpt_repl.compare.comparison import (
    Column,
    Comparison,
    first_difference,
    library_versions,
)
from minigpt_repl.compare.measures import MEASURES
from minigpt_repl.compare.page import TITLE, comparison_page, comparisons_markdown
from minigpt_repl.compare.spec import Strategy, text_seed
from minigpt_repl.engine.request import (
    Engine,
    EngineInfo,
    Generation,
    Request,
    finished,
)
from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.files import read_user_file
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.shown import plain, quoted

MARK: Final = "minigpt-repl"
GENERATOR = f'<meta name="generator" content="{MARK}">'
SUFFIXES = (".md", ".html", ".json")


def check_place(path: Path, suffix: str) -> None:
    """Before an export of a format of `SUFFIXES` is made: another one is replaced.

    Raises:
        UsageError: if the file that is there is something else.
    """
    if path.is_file() and not _is_export(read_user_file(path), suffix):
        raise UsageError(
            f"{path.name} is there and is not an export; choose another name"
        )


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
        return comparisons_markdown(comparisons)
    many = tuple(map(comparison_to_json, comparisons))
    if len(many) == 1:
        return formats.encode(many[0], indent=True)
    session = formats.SessionExport(schema_version=1, made_by=MARK, comparisons=many)
    return formats.encode(session, indent=True)


def comparison_of(prompt: str, generation: Generation) -> Comparison:
    """One text of a session as a comparison of a single strategy."""
    request = replace(generation.request, prompt=prompt)
    strategy = Strategy.of(request)
    return Comparison(
        first=request,
        columns=(Column(strategy, (generation,)),),
        checkpoint_sha256=generation.checkpoint_sha256,
        versions=library_versions(),
        is_interrupted=generation.stop_reason == "interrupted",
    )


def comparison_to_json(comparison: Comparison) -> formats.Comparison:
    """A comparison in the shape of its file."""
    first = comparison.first
    return formats.Comparison(
        schema_version=1,
        made_by=MARK,
        prompt=first.prompt,
        prompt_ids=first.prompt_ids,
        seed=first.seed or 0,
        count=comparison.count,
        length=first.length,
        stop=first.stop,
        noise=first.noise,
        varied=comparison.varied,
        is_interrupted=comparison.is_interrupted,
        checkpoint_sha256=comparison.checkpoint_sha256,
        versions=comparison.versions,
        strategies=tuple(map(_column, comparison.columns)),
    )


def _column(column: Column) -> formats.ComparedStrategy:
    figures = {measure.key: column.figure(measure) for measure in MEASURES}
    return formats.ComparedStrategy(
        sampler=column.strategy.sampler,
        parameters=dict(column.strategy.parameters),
        measures={
            key: formats.Interval(found.mean, found.half) if found else None
            for key, found in figures.items()
        },
        texts=tuple(map(_text, column.different)),
        same_for_every_seed=not column.is_drawn,
    )


def _text(generation: Generation) -> formats.ComparedText:
    tokens = []
    for token in generation.tokens:
        figures: tuple[Any, ...] = (None, None, None, None)
        if score := token.score:
            figures = score.logprob, score.rank, score.entropy, score.kept_mass
        tokens.append(formats.ScoredToken(token.id, token.text, *figures))
    return formats.ComparedText(
        seed=generation.seed,
        text=generation.text,
        stop_reason=generation.stop_reason,
        cropped=generation.started.cropped,
        tokens=tuple(tokens),
        timings=msgspec.convert(
            generation.timings, formats.TextTimings, from_attributes=True
        ),
    )


class ReplayError(MiniGPTError):
    """A replay gave another token than the file has."""


def read_recorded(text: str, name: str) -> tuple[formats.Comparison, ...]:
    """The comparisons in an export's text: one, or all texts of a session.

    Raises:
        MiniGPTError: if it is no export, a newer or a damaged one.
    """
    content = formats.decode(text, name, formats.Comparison, formats.SessionExport)
    if isinstance(content, formats.SessionExport):
        many = content.comparisons
    else:
        assert isinstance(content, formats.Comparison)
        many = (content,)
    try:
        for one in many:
            list(recorded_texts(one))
    except UsageError as error:
        raise formats.FormatError(f"{name} is damaged: {error}") from None
    return many


def recorded_texts(
    recorded: formats.Comparison,
) -> Iterator[tuple[Request, formats.ComparedText]]:
    """The texts of a file, each with the request that makes it again.

    Raises:
        UsageError: for a sampler, a value or a seed that can't be.
    """
    for item in recorded.strategies:
        spec = find_sampler(item.sampler)
        strategy = Strategy(spec.name, spec.check(item.parameters))
        for index, text in enumerate(item.texts):
            seed = text_seed(recorded.seed, index)
            if text.seed != seed:
                raise UsageError(
                    f"text {index + 1} of {strategy.label} has seed {text.seed}, "
                    f"by the seed of the comparison it is {seed}"
                )
            is_cut = text.stop_reason == "interrupted"
            # Of one that was stopped as many tokens are made again.
            length = len(text.tokens) if is_cut else recorded.length
            request = Request(
                prompt=recorded.prompt,
                sampler=strategy.sampler,
                parameters=strategy.parameters,
                length=length,
                seed=seed,
                stop=recorded.stop,
                prompt_ids=recorded.prompt_ids,
                noise=recorded.noise,
            )
            if length:
                yield request, text


def warnings(recorded: formats.Comparison, info: EngineInfo) -> Iterator[str]:
    """Why a replay might differ: another model, other versions."""
    if recorded.checkpoint_sha256 != info.checkpoint_sha256:
        yield (
            f"the file was made by checkpoint {recorded.checkpoint_sha256[:12]}, "
            f"this one is {info.checkpoint_sha256[:12]}"
        )
    now = library_versions()
    for name, version in recorded.versions.items():
        if now.get(name, version) != version:
            yield f"the file was made with {name} {plain(version)}, this is {now[name]}"


def replay(engine: Engine, recorded: formats.Comparison) -> Iterator[str]:
    """Run the texts again; yields a line for each that is the same.

    Raises:
        ReplayError: at the first token that differs, and for a random text of a
            version whose random numbers were others.
        MiniGPTError: from the engine.
    """
    made_by = recorded.versions.get("minigpt-repl", "")
    for request, text in recorded_texts(recorded):
        label = Strategy.of(request).label
        name = f"{label} seed {request.seed}"
        if made_by.startswith("0.1.") and find_sampler(request.sampler).is_random:
            raise ReplayError(
                f"{name}: the file was made by minigpt-repl {plain(made_by)}, which "
                "drew other tokens from the same seeds: install that version to "
                "replay it"
            )
        # A user chose its last token or all of them: no sampler would again.
        if text.stop_reason == "picked":
            words = quoted(" ".join(token.text for token in text.tokens))
            yield f"{label}: {words} was picked by hand, not chosen"
            continue
        *_, last = engine.generate(request)
        again = finished(last)
        if again.stop_reason == "interrupted":
            raise KeyboardInterrupt
        ids = [token.id for token in text.tokens]
        place = first_difference(ids, again.token_ids)
        if place is not None:
            now, was = quoted(again.tokens[place].text), quoted(text.tokens[place].text)
            raise ReplayError(f"{name}: token {place + 1} is {now}, the file has {was}")
        if len(ids) != len(again.tokens):
            raise ReplayError(
                f"{name}: {len(again.tokens)} tokens, the file has {len(ids)}"
            )
        yield f"{name}: {len(ids)} tokens agree"
