"""Words that a rule names, as the token ids that it gets.

`ban="king, old man"` holds text; what the rule sees are the tokens that the model
would write it with. Of `dry`'s breakers it is a mark on every token with one in it, and
the tokens of those that are several. What the arrays are, say
`minigpt_repl.sampling.history`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minigpt_repl.errors import UsageError
from minigpt_repl.models.text.codec import TextCodec
from minigpt_repl.sampling.history import BREAKER_TOKENS
from minigpt_repl.sampling.parameters import Parameter, Value
from minigpt_repl.sampling.registry import SamplerSpec
from minigpt_repl.shown import quoted

if TYPE_CHECKING:
    import numpy as np

MOST_SPELLINGS = 128
MOST_TOKENS = 8
"""Most tokens of one word."""
MOST_BREAKERS = 16
"""Ways to write those that are several tokens."""


@dataclass(frozen=True)
class Wording:
    """The words of one model.

    Attributes:
        text: what token ids stand for.
        encode: from text to token ids.
    """

    text: TextCodec
    encode: Callable[[str], Sequence[int]]
    _made: dict[object, "np.ndarray"] = field(default_factory=dict, compare=False)

    def values(
        self, spec: SamplerSpec, values: Mapping[str, Value], size: int
    ) -> dict[str, Any]:
        """A sampler's parameters, with an array in place of each that holds words.

        Args:
            spec: the sampler.
            values: as the user typed them.
            size: ids of the model's logits.

        Raises:
            UsageError: for what can't be read, what the model has no tokens for, or a
                rule that this model can't have.
        """
        for stage in spec.stages:
            if "end_id" in stage.needs and self.text.end_id is None:
                raise UsageError(
                    f"{stage.name}: this model did not learn where a document ends"
                )
        words = [parameter for parameter in spec.parameters if parameter.tokens]
        arrays = {p.name: self.array(p, values[p.name], size)[None] for p in words}
        return {**values, **arrays}

    def array(self, parameter: Parameter, value: Value, size: int) -> "np.ndarray":
        """The words of a parameter: float `(MOST_SPELLINGS, 1 + MOST_TOKENS)`, or of
        breakers as `dry` wants them."""
        key = (parameter.name, value, size)
        if key not in self._made:
            typed = "" if value is None else str(value)
            if parameter.tokens == "breakers":
                self._made[key] = self._breakers(typed, size)
            else:
                self._made[key] = self._pushes(parameter, typed)
        return self._made[key]

    def _breakers(self, typed: str, size: int) -> "np.ndarray":
        import numpy as np

        breakers = [each.replace(r"\n", "\n") for each in typed.split()]
        mask = np.zeros(size, np.float32)
        for token_id in range(len(self.text.pieces)):
            written = self.text.written(token_id)
            mask[token_id] = any(breaker in written for breaker in breakers)
        ways = [
            tuple(self.encode(f"{s}{each}")) for each in breakers for s in ("", " ")
        ]
        several = [ids for ids in dict.fromkeys(ways) if len(ids) > 1]
        # What no text can have breaks none.
        several = [ids for ids in several if self.text.unknown_id not in ids]
        longest = max(map(len, several), default=0)
        if len(several) > MOST_BREAKERS or longest > BREAKER_TOKENS:
            raise UsageError(
                f"breakers: at most {MOST_BREAKERS} ways to write those of several "
                f"tokens, of {BREAKER_TOKENS} tokens each"
            )
        sequences = np.full((MOST_BREAKERS, BREAKER_TOKENS), -1, np.float32)
        for row, ids in zip(sequences, several, strict=False):
            row[BREAKER_TOKENS - len(ids) :] = ids
        return np.concatenate([mask, sequences.reshape(-1)])

    def _pushes(self, parameter: Parameter, typed: str) -> "np.ndarray":
        import numpy as np

        result = np.full((MOST_SPELLINGS, 1 + MOST_TOKENS), -1, np.float32)
        ways = list(self._ways(parameter, typed))
        if len(ways) > MOST_SPELLINGS:
            raise UsageError(
                f"{parameter.name}: at most {MOST_SPELLINGS} ways to write words; "
                f"{quoted(typed)} has {len(ways)}"
            )
        for row, (ids, amount) in zip(result, ways, strict=False):
            row[0] = amount
            row[1 + MOST_TOKENS - len(ids) :] = ids
        return result

    def _ways(
        self, parameter: Parameter, typed: str
    ) -> Iterator[tuple[tuple[int, ...], float]]:
        """Each way to write each word, as token ids, and what it is pushed by."""
        for item in filter(None, map(str.strip, typed.split(","))):
            word, amount = item, -1.0
            if parameter.tokens == "pushes":
                word, _, number = item.rpartition(":")
                try:
                    amount = float(number)
                except ValueError:
                    amount = math.nan
                if not word.strip() or not math.isfinite(amount):
                    raise UsageError(
                        f"{parameter.name} is WORD:AMOUNT, WORD:AMOUNT ...; "
                        f"got {quoted(item)}"
                    )
            for ids in self.spellings(parameter.name, word.strip()):
                yield ids, amount

    def spellings(self, asked_by: str, word: str) -> set[tuple[int, ...]]:
        """The ways to write a word, as token ids; `#12` is the token 12.

        Raises:
            UsageError: if there is none, or it is too long; names who asked.
        """
        size = len(self.text.pieces)
        number = word.removeprefix("#")
        if number != word and number.isascii() and number.isdigit():
            token_id = int(number[:10])
            if token_id >= size:
                raise UsageError(
                    f"{asked_by}: there is no token {quoted(word)}: the model "
                    f"has #0..#{size - 1}"
                )
            return {(token_id,)}
        if word in self.text.pieces and len(word) > 1:
            return {(self.text.pieces.index(word),)}  # such as ##ing
        # Behind another word as well, where a token may begin with the space.
        ways = {tuple(self.encode(word)), tuple(self.encode(f" {word}"))} - {()}
        if not ways or any(self.text.unknown_id in ids for ids in ways):
            raise UsageError(f"{asked_by}: the model has no tokens for {quoted(word)}")
        if max(map(len, ways)) > MOST_TOKENS:
            raise UsageError(
                f"{asked_by}: {quoted(word)} takes more than {MOST_TOKENS} tokens"
            )
        return ways
