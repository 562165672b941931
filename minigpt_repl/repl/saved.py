"""A session as JSON, and back: texts, seeds and settings.

Written with a version. What is read is not trusted: every field is checked, so
that a damaged or foreign file gives one line and never half a session.
"""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, cast, get_args

from minigpt_repl.engine.request import (
    Generation,
    Request,
    Started,
    StopReason,
    Timings,
    Token,
    TokenScore,
)
from minigpt_repl.errors import MiniGPTError
from minigpt_repl.models.text.normalize import normalize_text
from minigpt_repl.repl.session import Node, Session
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.settings import Settings
from minigpt_repl.suggest import quoted

KIND = "minigpt-repl session"
VERSION = 1
OF_THE_TERMINAL = ("color", "keys")
"""Settings that belong to the user's terminal and not to a session."""


def dump_session(session: Session) -> str:
    """The text of a saved session. The last comparison is not part of it."""
    settings = session.settings
    content = {
        "kind": KIND,
        "version": VERSION,
        "settings": {
            key: settings.shown(key)
            for key in settings.names()
            if key not in OF_THE_TERMINAL
        },
        "current": session.current,
        "turns": [asdict(node) for node in session.nodes],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def is_saved_session(text: str) -> bool:
    """Whether a file's content is a saved session, of any version."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("kind") == KIND


def parse_session(text: str, name: str, settings: Settings) -> Session:
    """The session that a file holds.

    Args:
        text: the file's content.
        name: of the file, for messages.
        settings: of the present session; what the file does not say stays.

    Raises:
        MiniGPTError: if it is no saved session, a newer or a damaged one.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise MiniGPTError(f"{name} is not a saved session: it is not JSON") from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise MiniGPTError(f"{name} is not a saved session: :save makes them")
    version = content.get("version")
    if type(version) is int and version > VERSION:
        raise MiniGPTError(
            f"{name} is of version {version}, this program reads up to {VERSION}: "
            "install a newer minigpt-repl"
        )
    try:
        if version != VERSION:
            raise _Damaged(f"version is {quoted(version)}")
        return _read_session(content, settings)
    except _Damaged as damage:
        raise MiniGPTError(f"{name} is damaged: {damage}") from None


class _Damaged(Exception):
    """A field that is missing or not what it must be."""


def _read_session(content: Mapping[str, Any], settings: Settings) -> Session:
    nodes: list[Node] = []
    for index, turn in enumerate(_list(content, "turns")):
        try:
            nodes.append(_read_node(_checked(turn, dict, "a turn"), nodes))
        except _Damaged as damage:
            raise _Damaged(f"turn {index + 1}: {damage}") from None
    current = _optional(content, "current", int)
    if current not in (None, *(node.id for node in nodes)):
        raise _Damaged(f"there is no turn {current}")
    after = _read_settings(_field(content, "settings", dict), settings)
    return Session(after, tuple(nodes), current)


def _read_settings(values: Mapping[str, Any], settings: Settings) -> Settings:
    """The present settings, with what the file says in the layer of `:set`."""
    terminal = settings.layers.get("set", {})
    layer = {key: terminal[key] for key in OF_THE_TERMINAL if key in terminal}
    unset = settings.reset()
    for key, value in values.items():
        try:
            if key == "sampler":
                value = find_sampler(_checked(value, str, "sampler")).name
            elif settings.key(key) != key or key in OF_THE_TERMINAL:
                raise _Damaged(f"a setting {quoted(key)}")
            else:
                value = settings.parameter(key).check(value, settings.limits)
        except MiniGPTError as error:
            raise _Damaged(str(error)) from None
        if value != unset.shown(key):
            layer[key] = value
    return Settings({**settings.layers, "set": layer}, settings.limits)


def _read_node(turn: Mapping[str, Any], earlier: list[Node]) -> Node:
    known = [node.id for node in earlier]
    node_id = _count(turn, "id", minimum=1 + max(known, default=0))
    parent = _optional(turn, "parent", int)
    if parent not in (None, *known):
        raise _Damaged(f"its parent {parent} does not come before it")
    generation = _read_generation(_field(turn, "generation", dict))
    return Node(node_id, parent, _text(turn, "prompt"), generation)


def _read_generation(data: Mapping[str, Any]) -> Generation:
    timings = _field(data, "timings", dict)
    names = ("load_s", "first_token_s", "decode_s")
    reason = _text(data, "stop_reason")
    if reason not in get_args(StopReason):
        raise _Damaged(f"stop_reason is {quoted(reason)}")
    accepted = None
    if data.get("accepted") is not None:
        accepted = _numbers(data, "accepted")
        if len(accepted) != 2:
            raise _Damaged("accepted is not a pair")
    return Generation(
        request=_read_request(_field(data, "request", dict)),
        started=_read_started(_field(data, "started", dict)),
        tokens=tuple(
            _read_token(_checked(token, dict, "a token"))
            for token in _list(data, "tokens")
        ),
        text=_text(data, "text"),
        raw_text=_text(data, "raw_text"),
        stop_reason=cast(StopReason, reason),
        timings=Timings(*(_number(timings, name) for name in names)),
        reprimed=_numbers(data, "reprimed"),
        accepted=None if accepted is None else (accepted[0], accepted[1]),
        checkpoint_sha256=_text(data, "checkpoint_sha256"),
    )


def _read_request(data: Mapping[str, Any]) -> Request:
    seed = _count(data, "seed")
    try:
        spec = find_sampler(_text(data, "sampler"))
        parameters = spec.check(_field(data, "parameters", dict))
    except MiniGPTError as error:
        raise _Damaged(str(error)) from None
    has_ids = data.get("prompt_ids") is not None
    return Request(
        prompt=_text(data, "prompt"),
        sampler=spec.name,
        parameters=parameters,
        length=_count(data, "length", minimum=1),
        seed=seed,
        stop=_text(data, "stop"),
        prompt_ids=_numbers(data, "prompt_ids") if has_ids else None,
        with_scores=_field(data, "with_scores", bool),
        with_details=_field(data, "with_details", bool),
    )


def _read_started(data: Mapping[str, Any]) -> Started:
    words = tuple(
        normalize_text(_checked(word, str, "a word"))
        for word in _list(data, "unknown_words")
    )
    ids = _numbers(data, "prompt_ids")
    return Started(ids, _count(data, "seed"), _count(data, "cropped"), words)


def _read_token(data: Mapping[str, Any]) -> Token:
    score = None
    if data.get("score") is not None:
        given = _field(data, "score", dict)
        score = TokenScore(
            logprob=_number(given, "logprob"),
            rank=_count(given, "rank"),
            entropy=_number(given, "entropy"),
            kept_mass=_number(given, "kept_mass"),
        )
    return Token(_count(data, "id"), _text(data, "text"), score)


def _field(data: Mapping[str, Any], name: str, kind: type) -> Any:
    return _checked(data.get(name), kind, name)


def _checked(value: Any, kind: type, name: str) -> Any:
    if type(value) is not kind:
        raise _Damaged(f"{name} is missing or not {_KINDS[kind]}")
    return value


_KINDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a number",
    bool: "true or false",
}


def _optional(data: Mapping[str, Any], name: str, kind: type) -> Any:
    return None if data.get(name) is None else _field(data, name, kind)


def _list(data: Mapping[str, Any], name: str) -> list[Any]:
    return list(_field(data, name, list))


def _text(data: Mapping[str, Any], name: str) -> str:
    # Normalised, so that a file can't send control characters to a terminal.
    return normalize_text(_field(data, name, str))


def _count(data: Mapping[str, Any], name: str, minimum: int = 0) -> int:
    value: int = _field(data, name, int)
    if not minimum <= value < 2**31:
        raise _Damaged(f"{name} is {quoted(value)}")
    return value


def _numbers(data: Mapping[str, Any], name: str) -> tuple[int, ...]:
    return tuple(_count({name: value}, name) for value in _list(data, name))


def _number(data: Mapping[str, Any], name: str) -> float:
    value = data.get(name)
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        with suppress(OverflowError):
            return float(value)
    raise _Damaged(f"{name} is missing or not a number")
