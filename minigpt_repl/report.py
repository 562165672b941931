"""A generation as JSON, for programs: what `--json` and `--jsonl` print.

The shapes are published as JSON Schemas in `minigpt_repl/schemas/`. A change that
could break a reader raises `SCHEMA_VERSION`. Knows no terminal and no model.
"""

import json
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, TextIO

from minigpt_repl.engine.request import (
    Event,
    Finished,
    Generation,
    Started,
    Token,
    TokenChosen,
)

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


class JsonWriter:
    """Writes each text as JSON while its events pass.

    Args:
        out: where to.
        with_tokens: whether each token has a line of its own. It is written when
            the next one is chosen: the last one's also carries what the end of the
            text makes certain, so that the deltas put together are the text.
    """

    def __init__(self, out: TextIO, with_tokens: bool = False) -> None:
        self._out = out
        self._with_tokens = with_tokens
        self._text_index = 0
        self._chosen: list[TokenChosen] = []

    def watch(self, event: Event) -> None:
        """Write what the event makes known."""
        match event:
            case Started():
                self._chosen = []
            case TokenChosen():
                if self._chosen:
                    self._write_token(self._chosen[-1])
                self._chosen.append(event)
            case Finished(generation):
                self._write_rest(generation)
                self._write(generation_to_json(generation))
                self._text_index += 1

    def _write_rest(self, generation: Generation) -> None:
        # Beam search chooses all its tokens at the end.
        written = max(0, len(self._chosen) - 1)
        told = "".join(event.delta for event in self._chosen[:written])
        late = list(enumerate(generation.tokens))[written:]
        for index, token in late:
            is_last = index == len(generation.tokens) - 1
            rest = generation.text.removeprefix(told) if is_last else ""
            self._write_token(TokenChosen(index, token, rest))

    def _write_token(self, event: TokenChosen) -> None:
        if self._with_tokens:
            self._write(token_event_to_json(event, self._text_index))

    def _write(self, value: Mapping[str, Any]) -> None:
        self._out.write(f"{dump_line(value)}\n")
        self._out.flush()


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
