"""A generation as JSON, for programs: what `--json` and `--jsonl` print.

The shapes are published as JSON Schemas in `minigpt_repl/schemas/`. A change that
could break a reader raises `SCHEMA_VERSION`. Knows no terminal and no model.
"""

import json
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from minigpt_repl.decoding.request import Generation, Token, TokenChosen

SCHEMA_VERSION = 1


def generation_to_json(generation: Generation) -> dict[str, Any]:
    """One finished text; `schemas/generation.json` describes the object.

    `tokens` are the new ones only. Times are in seconds.
    """
    request, timings = generation.request, generation.timings
    return {
        "type": "generation",
        "schema_version": SCHEMA_VERSION,
        "prompt": request.prompt,
        "text": generation.text,
        "tokens": [_token(token) for token in generation.tokens],
        "sampler": {"name": request.sampler, "parameters": dict(request.parameters)},
        "seed": generation.seed,
        "length": request.length,
        "stop": request.stop,
        "stop_reason": generation.stop_reason,
        "cropped": generation.started.cropped,
        "unknown_words": list(generation.started.unknown_words),
        "timings": {
            "load_s": timings.load_s,
            "first_token_s": timings.first_token_s,
            "decode_s": timings.decode_s,
        },
        "checkpoint_sha256": generation.checkpoint_sha256,
    }


def token_event_to_json(event: TokenChosen, text_index: int) -> dict[str, Any]:
    """One token as it is chosen; `schemas/token.json` describes the object.

    Args:
        event: the event of the engine.
        text_index: 0 for the first text of `-n`, then counted up.
    """
    return {
        "type": "token",
        "schema_version": SCHEMA_VERSION,
        "text_index": text_index,
        "index": event.index,
        **_token(event.token),
        "delta": event.delta,
    }


def dump_line(value: Mapping[str, Any]) -> str:
    """A JSON value on one line, valid for every reader (no NaN, no infinity)."""
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)


def load_schema(name: str) -> dict[str, Any]:
    """A published JSON Schema: `generation` or `token`."""
    text = files("minigpt_repl.schemas").joinpath(f"{name}.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _token(token: Token) -> dict[str, Any]:
    score = token.score
    return {
        "id": token.id,
        "text": token.text,
        "logprob": None if score is None else score.logprob,
        "rank": None if score is None else score.rank,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
