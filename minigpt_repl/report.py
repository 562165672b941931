"""Texts as JSON, for programs: what `--json` and `--jsonl` print.

`formats.Generation` and `formats.TokenLine` are the shapes. Knows no terminal and no
model.
"""

from typing import Any, TextIO, cast

import msgspec

from minigpt_repl import formats
from minigpt_repl.engine.request import (
    Event,
    Finished,
    Generation,
    Started,
    Token,
    TokenChosen,
)


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
        stop=cast(formats.StopRule, request.stop),
        stop_reason=generation.stop_reason,
        cropped=generation.started.cropped,
        unknown_words=generation.started.unknown_words,
        timings=msgspec.convert(
            generation.timings, formats.Timings, from_attributes=True
        ),
        checkpoint_sha256=generation.checkpoint_sha256,
    )


def token_event_to_json(event: TokenChosen, text_index: int) -> formats.TokenLine:
    """One token as it is chosen.

    Args:
        event: the event of the engine.
        text_index: 0 for the first text of `-n`, then counted up.
    """
    return formats.TokenLine(
        schema_version=1,
        text_index=text_index,
        index=event.index,
        delta=event.delta,
        **_token_fields(event.token),
    )


class JsonWriter:
    """Writes each text as JSON when it is finished; texts come in their order.

    Args:
        out: where to.
        with_tokens: whether each token has a line of its own, before that of its
            text. The last one's also carries what the end of the text makes
            certain, so that the deltas put together are the text.
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
        if not generation.tokens:
            return
        # Beam search may tell its text at the end only.
        before = len(generation.tokens) - 1
        deltas = [*deltas, *[""] * before][:before]
        deltas.append(generation.text.removeprefix("".join(deltas)))
        for index, (token, delta) in enumerate(
            zip(generation.tokens, deltas, strict=True)
        ):
            event = TokenChosen(index, token, delta)
            self._write(token_event_to_json(event, self._text_index))

    def _write(self, value: formats.Document) -> None:
        self._out.write(f"{formats.encode(value)}\n")
        self._out.flush()


def _token_fields(token: Token) -> dict[str, Any]:
    score = token.score
    return {
        "id": token.id,
        "text": token.text,
        "logprob": None if score is None else score.logprob,
        "rank": None if score is None else score.rank,
    }
