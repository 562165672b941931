"""How little a model expected each token of a text that it did not make."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import (
    Engine,
    Generation,
    Request,
    Started,
    Timings,
    Token,
)
from minigpt_repl.errors import UsageError
from minigpt_repl.shown import as_perplexity, in_bits, in_bits_a_byte

AT_ONCE = 1024
"""Tokens whose logits are asked for together."""

BEFORE = 64
"""Tokens in front of them that the model sees, beside those of its context."""


@dataclass(frozen=True)
class Scored:
    """A text under the model.

    Attributes:
        token_ids: its tokens.
        bits: the surprisal of each; infinite for what the vocabulary can't spell.
        size: bytes of the text in UTF-8.
    """

    token_ids: tuple[int, ...]
    bits: tuple[float, ...]
    size: int

    @property
    def summary(self) -> str:
        """Tokens, perplexity and bits a byte in one line."""
        known = [bits for bits in self.bits if math.isfinite(bits)]
        unknown = len(self.bits) - len(known)
        left_out = f"; {unknown:,} unknown to the model, left out" if unknown else ""
        if not known:
            return f"{len(self.bits):,} tokens{left_out}"
        mean = sum(known) / len(known)
        line = (
            f"{len(self.bits):,} tokens, {in_bits(mean)} a token, "
            f"perplexity {as_perplexity(2**mean)}"
        )
        if not unknown:
            line += f", {in_bits_a_byte(sum(known) / self.size)} bits a byte"
        return f"{line}{left_out}"


def score(engine: Engine, text: str) -> Scored:
    """The surprisal of each token of a text, from its start.

    Raises:
        UsageError: if there is nothing in it.
    """
    ids = engine.encode(text)
    if not ids:
        raise UsageError("there is no text to score")
    return Scored(ids, tuple(_bits(engine, ids)), len(text.encode("utf-8")))


def _bits(engine: Engine, ids: Sequence[int]) -> Iterator[float]:
    for start in range(0, len(ids), AT_ONCE):
        before = min(start, BEFORE)
        part = ids[start : start + AT_ONCE]
        rows = engine.logits((*ids[start - before : start], *part))
        for row, token_id in zip(
            inspection.text_logits(rows, len(part)), part, strict=True
        ):
            model = inspection.probabilities(row)
            yield inspection.verdict(model, token_id).surprisal


def as_generation(scored: Scored, text: str, engine: Engine) -> Generation:
    """A text that was scored, as if the model had chosen it by itself."""
    info = engine.info
    return Generation(
        request=Request("", "random", {"temperature": 1.0}, len(scored.token_ids), 0),
        started=Started((), 0),
        tokens=tuple(Token(id, info.text.piece(id)) for id in scored.token_ids),
        text=text,
        raw_text=info.text.raw_text(scored.token_ids),
        stop_reason="picked",
        timings=Timings(0.0, 0.0, 0.0),
        checkpoint_sha256=info.checkpoint_sha256,
    )
