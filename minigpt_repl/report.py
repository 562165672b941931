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
