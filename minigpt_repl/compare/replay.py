"""An exported comparison run again, token for token.

What is read is not trusted: every field that is used is checked, so that a
foreign or damaged file gives one line. Knows no terminal.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from minigpt_repl.compare.comparison import library_versions
from minigpt_repl.compare.spec import MOST_TEXTS, Plan, Strategy, text_seed
from minigpt_repl.engine.request import Engine, EngineInfo, Finished, Request
from minigpt_repl.errors import EngineError, MiniGPTError
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.suggest import quoted

VERSION = 1


class ReplayError(MiniGPTError):
    """A replay gave another token, or the file can't be replayed."""


@dataclass(frozen=True)
class RecordedText:
    """One text of a file: how it was made, and its tokens.

    Attributes:
        is_picked: whether a user picked its only token, so that no sampler would
            choose it again.
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
    """The comparisons of an export: one, or all texts of a session.

    Args:
        text: the file's content.
        name: of the file, for messages.

    Raises:
        ReplayError: if it is no export, a newer or a damaged one.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ReplayError(f"{name} is not an export: it is not JSON") from None
    kind = content.get("type") if isinstance(content, dict) else None
    if kind not in ("comparison", "session"):
        raise ReplayError(
            f"{name} is not a comparison: compare --json and :export FILE.json "
            "make them"
        )
    if content.get("schema_version") != VERSION:
        raise ReplayError(
            f"{name} is of version {quoted(content.get('schema_version'))}, "
            f"this program reads {VERSION}"
        )
    try:
        many = [content] if kind == "comparison" else content["comparisons"]
        return tuple(_recorded(one) for one in many)
    except _Damaged as damage:
        raise ReplayError(f"{name} is damaged: {damage}") from None
    except MiniGPTError as error:
        raise ReplayError(f"{name} is damaged: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReplayError(
            f"{name} is damaged: {type(error).__name__}: {error}"
        ) from None


def warnings(recorded: Recorded, info: EngineInfo) -> Iterator[str]:
    """Why a replay might differ: another model, other versions."""
    if recorded.checkpoint_sha256 != info.checkpoint_sha256:
        yield (
            f"the file was made by checkpoint {recorded.checkpoint_sha256[:12]}, "
            f"this one is {info.checkpoint_sha256[:12]}"
        )
    now = library_versions()
    for name, version in recorded.versions.items():
        if name != "minigpt-repl" and now.get(name, version) != version:
            yield f"the file was made with {name} {version}, this is {now[name]}"


def replay(engine: Engine, recorded: Recorded) -> Iterator[str]:
    """Run the texts again; yields a line for each that is the same.

    Raises:
        ReplayError: at the first token that differs.
        MiniGPTError: from the engine.
    """
    for one in recorded.texts:
        if one.is_picked:
            yield f"{one.label}: {quoted(one.words[0])} was picked by hand, not chosen"
            continue
        again = _run(engine, one.request)
        for place, (old, new) in enumerate(
            zip(one.token_ids, again.token_ids, strict=False), start=1
        ):
            if old != new:
                was, now = one.words[place - 1], again.tokens[place - 1].text
                raise ReplayError(
                    f"{one.label} seed {one.request.seed}: token {place} is "
                    f"{quoted(now)}, the file has {quoted(was)}"
                )
        if len(one.token_ids) != len(again.token_ids):
            raise ReplayError(
                f"{one.label} seed {one.request.seed}: {len(again.token_ids)} tokens, "
                f"the file has {len(one.token_ids)}"
            )
        yield f"{one.label} seed {one.request.seed}: {len(one.token_ids)} tokens agree"


def _run(engine: Engine, request: Request) -> Any:
    for event in engine.generate(request):
        if isinstance(event, Finished):
            if event.generation.stop_reason == "interrupted":
                raise KeyboardInterrupt
            return event.generation
    raise EngineError("the engine ended a text without finishing it; try again")


class _Damaged(Exception):
    """A field that is missing or not what it must be."""


def _recorded(content: Mapping[str, Any]) -> Recorded:
    ids = content["prompt_ids"]
    plan = Plan(
        prompt=_text(content, "prompt"),
        strategies=(),
        count=_whole(content, "count", 1, MOST_TEXTS),
        seed=_whole(content, "seed", 0, 2**31 - 1),
        length=_whole(content, "length", 1, 100_000),
        stop=_text(content, "stop"),
        prompt_ids=None if ids is None else _ids(ids),
    )
    texts = [text for item in content["strategies"] for text in _texts(item, plan)]
    versions = {str(name): str(v) for name, v in content["versions"].items()}
    return Recorded(_text(content, "checkpoint_sha256"), versions, tuple(texts))


def _texts(content: Mapping[str, Any], plan: Plan) -> Iterator[RecordedText]:
    spec = find_sampler(_text(content, "sampler"))
    strategy = Strategy(spec.name, spec.check(content["parameters"]))
    for index, item in enumerate(content["texts"]):
        request = plan.request(strategy, index)
        seed = text_seed(plan.seed or 0, index)
        if item["seed"] != seed:
            raise _Damaged(
                f"text {index + 1} of {strategy.label} has seed {item['seed']}, "
                f"by the seed of the comparison it is {seed}"
            )
        tokens = item["tokens"]
        is_picked = item["stop_reason"] == "picked"
        if is_picked and len(tokens) != 1:
            raise _Damaged(f"{len(tokens)} tokens were picked at once")
        if item["stop_reason"] == "interrupted":
            # It was stopped by hand; as many tokens are made again.
            request = replace(request, length=max(1, len(tokens)))
            if not tokens:
                continue
        yield RecordedText(
            label=strategy.label,
            request=replace(request, with_scores=False),
            token_ids=_ids([token["id"] for token in tokens]),
            words=tuple(str(token["text"]) for token in tokens),
            is_picked=is_picked,
        )


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content[name]
    if not isinstance(value, str):
        raise _Damaged(f"{name} is not text")
    return value


def _whole(content: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = content[name]
    if type(value) is not int or not low <= value <= high:
        raise _Damaged(f"{name} is {quoted(value)}")
    return value


def _ids(values: Any) -> tuple[int, ...]:
    for value in values:
        if type(value) is not int or not 0 <= value < 2**31:
            raise _Damaged(f"a token's id is {quoted(value)}")
    return tuple(values)
