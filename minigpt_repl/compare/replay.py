"""An exported comparison run again, token for token."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from minigpt_repl import formats
from minigpt_repl.compare.comparison import library_versions
from minigpt_repl.compare.spec import Strategy, text_seed
from minigpt_repl.engine.request import (
    Engine,
    EngineInfo,
    Generation,
    Request,
    finished,
)
from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.shown import plain, quoted


class ReplayError(MiniGPTError):
    """A replay gave another token than the file has."""


@dataclass(frozen=True)
class RecordedText:
    """One text of a file: how it was made, and its tokens.

    If it `is_picked`, a user chose its last token or all of them, and no sampler would
    choose them again.
    """

    label: str
    request: Request
    token_ids: tuple[int, ...]
    words: tuple[str, ...]
    is_picked: bool


@dataclass(frozen=True)
class Recorded:
    """A comparison as it stands in a file."""

    checkpoint_sha256: str
    versions: Mapping[str, str]
    texts: tuple[RecordedText, ...]


def read_recorded(text: str, name: str) -> tuple[Recorded, ...]:
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
        return tuple(
            Recorded(one.checkpoint_sha256, one.versions, tuple(_texts(one)))
            for one in many
        )
    except UsageError as error:
        raise formats.FormatError(f"{name} is damaged: {error}") from None


def warnings(recorded: Recorded, info: EngineInfo) -> Iterator[str]:
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


def replay(engine: Engine, recorded: Recorded) -> Iterator[str]:
    """Run the texts again; yields a line for each that is the same.

    Raises:
        ReplayError: at the first token that differs, and for a random text of a
            version whose random numbers were others.
        MiniGPTError: from the engine.
    """
    made_by = recorded.versions.get("minigpt-repl", "")
    for one in recorded.texts:
        name = f"{one.label} seed {one.request.seed}"
        if made_by.startswith("0.1.") and find_sampler(one.request.sampler).is_random:
            raise ReplayError(
                f"{name}: the file was made by minigpt-repl {plain(made_by)}, which "
                "drew other tokens from the same seeds: install that version to "
                "replay it"
            )
        if one.is_picked:
            words = quoted(" ".join(one.words))
            yield f"{one.label}: {words} was picked by hand, not chosen"
            continue
        again = _run(engine, one.request)
        pairs = enumerate(zip(one.token_ids, again.token_ids, strict=False))
        for place, (old, new) in pairs:
            if old != new:
                now, was = quoted(again.tokens[place].text), quoted(one.words[place])
                raise ReplayError(
                    f"{name}: token {place + 1} is {now}, the file has {was}"
                )
        if len(one.token_ids) != len(again.token_ids):
            raise ReplayError(
                f"{name}: {len(again.token_ids)} tokens, the file has "
                f"{len(one.token_ids)}"
            )
        yield f"{name}: {len(one.token_ids)} tokens agree"


def _run(engine: Engine, request: Request) -> Generation:
    *_, last = engine.generate(request)
    made = finished(last)
    if made.stop_reason == "interrupted":
        raise KeyboardInterrupt
    return made


def _texts(content: formats.Comparison) -> Iterator[RecordedText]:
    for item in content.strategies:
        spec = find_sampler(item.sampler)
        strategy = Strategy(spec.name, spec.check(item.parameters))
        for index, text in enumerate(item.texts):
            seed = text_seed(content.seed, index)
            if text.seed != seed:
                raise UsageError(
                    f"text {index + 1} of {strategy.label} has seed {text.seed}, "
                    f"by the seed of the comparison it is {seed}"
                )
            length = content.length
            if text.stop_reason == "interrupted":
                length = len(text.tokens)  # as many tokens are made again
            if length == 0:
                continue
            request = Request(
                prompt=content.prompt,
                sampler=strategy.sampler,
                parameters=strategy.parameters,
                length=length,
                seed=seed,
                stop=content.stop,
                prompt_ids=content.prompt_ids,
                noise=content.noise,
            )
            yield RecordedText(
                label=strategy.label,
                request=request,
                token_ids=tuple(token.id for token in text.tokens),
                words=tuple(token.text for token in text.tokens),
                is_picked=text.stop_reason == "picked",
            )
