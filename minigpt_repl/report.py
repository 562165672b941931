"""Texts as JSON, for programs: what `--json` and `--jsonl` print.

`formats.Generation` and `formats.TokenLine` are the shapes; `WatchedEngine` lets a
`JsonWriter` see a text's events while it is made.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TextIO

from minigpt_repl import formats
from minigpt_repl.engine.inspection import bits
from minigpt_repl.engine.request import (
    Engine,
    Event,
    Finished,
    Generation,
    Request,
    RowEvents,
    Started,
    Token,
    TokenChosen,
)
from minigpt_repl.engine.texts import programs


def generation_to_json(generation: Generation) -> formats.Generation:
    """One finished text; `tokens` are the new ones only."""
    request = generation.request
    return formats.Generation(
        schema_version=1,
        prompt=request.prompt,
        text=generation.text,
        tokens=tuple(
            formats.Token(**_token_fields(token)) for token in generation.tokens
        ),
        sampler=formats.SamplerUse(request.sampler, dict(request.parameters)),
        seed=generation.seed,
        length=request.length,
        stop=request.stop,
        noise=request.noise,
        stop_reason=generation.stop_reason,
        cropped=generation.started.cropped,
        unknown_words=generation.started.unknown_words,
        timings=generation.timings,
        checkpoint_sha256=generation.checkpoint_sha256,
    )


class JsonWriter:
    """Writes each text as JSON when it is finished; texts come in their order.

    `with_tokens` each token has a line of its own, before that of its text. The last
    one's also carries what the end of the text makes certain, so that the deltas put
    together are the text.
    """

    def __init__(self, out: TextIO, with_tokens: bool = False) -> None:
        self._out = out
        self._with_tokens = with_tokens
        self._text_index = 0
        self._deltas: dict[int, list[str]] = {}

    def watch(self, row: int, event: Event) -> None:
        """Write what the event makes known of the text of a row."""
        match event:
            case Started():
                self._deltas[row] = []
            case TokenChosen():
                self._deltas[row].append(event.delta)
            case Finished(generation):
                if self._with_tokens:
                    self._write_tokens(generation, self._deltas[row])
                self._write(generation_to_json(generation))
                self._text_index += 1

    def _write_tokens(self, generation: Generation, deltas: list[str]) -> None:
        last, rest = len(generation.tokens) - 1, generation.text
        for index, token in enumerate(generation.tokens):
            # Beam search may tell its text at the end only.
            delta = deltas[index] if index < len(deltas) else ""
            delta = rest if index == last else delta
            rest = rest.removeprefix(delta)
            line = formats.TokenLine(
                schema_version=1,
                text_index=self._text_index,
                index=index,
                delta=delta,
                **_token_fields(token),
            )
            self._write(line)

    def _write(self, value: formats.Document) -> None:
        self._out.write(f"{formats.encode(value)}\n")
        self._out.flush()


class WatchedEngine:
    """An engine whose events someone else sees too.

    A sampler is warmed before its first text, so that the figures of the text tell
    of the text and not of a compile.

    Args:
        engine: does what is asked.
        watch: gets every event of every text, with the text's row, before the
            caller does. With it each token of a finished text carries its score,
            whether the caller asked or not.
        top: how many alternatives each score then tells.
    """

    def __init__(
        self,
        engine: Engine,
        watch: Callable[[int, Event], None] | None = None,
        top: int = 0,
    ) -> None:
        self._engine = engine
        self._watch, self._top = watch, top
        self._warmed: set[object] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    generate = Engine.generate

    def generate_rows(self, requests: Sequence[Request]) -> RowEvents:
        for request, rows, key in programs(requests):
            if key not in self._warmed:
                self.warm(request, rows)
                self._warmed.add(key)
        if self._watch is not None:
            requests = [
                replace(each, with_scores=True, top=self._top) for each in requests
            ]
        for row, event in self._engine.generate_rows(requests):
            if self._watch is not None:
                self._watch(row, event)
            yield row, event


def _token_fields(token: Token) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": token.id, "text": token.text}
    if (score := token.score) is None:
        return fields | {"logprob": None, "rank": None}
    fields |= {"logprob": score.logprob, "rank": score.rank}
    if score.top:
        fields["entropy_bits"] = bits(score.entropy)
        fields["top"] = tuple(
            formats.Alternative(token_id, text, min(share, 1.0))
            for token_id, text, share in score.top
        )
    return fields
