"""Rows of a batch, from their prompts to their last tokens.

Drives a compiled loop: how many tokens a call makes, what becomes of each, and when a
full context is begun anew. How a token is chosen, the loop knows.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from minigpt_repl.engine.decode import MOST_TOKENS, NOT_FINITE, DecodeLoop
from minigpt_repl.engine.request import RowEvent
from minigpt_repl.engine.texts import Text, reprimed
from minigpt_repl.models.language_model import LanguageModel

CALL_S = 0.02
"""Seconds that a call may take: so long a stop waits, and so often a text grows."""

Made = TypeVar("Made")


def timed_call(
    loop: Any, function: Callable[..., Made], count: int, *arguments: Any
) -> Made:
    """Call a function of a loop that makes `count` tokens; from the time that it takes
    the loop learns how many take `CALL_S`: its `pace`."""
    clock = time.perf_counter()
    made = function(count, *arguments)
    token_s = (time.perf_counter() - clock) / count
    if count > 1 or loop.pace == 1:  # a call has a cost of its own
        loop.pace = max(1, min(MOST_TOKENS, round(CALL_S / token_s)))
    return made


def prompt_window(model: LanguageModel, token_ids: tuple[int, ...]) -> np.ndarray:
    """A prompt as the model reads it, int32 `(1, context)`: start, tokens, padding."""
    row = np.full((1, model.context_length), model.text.pad_id, np.int32)
    row[0, 0] = model.text.start_id
    row[0, 1 : len(token_ids) + 1] = token_ids
    return row


@dataclass
class Decoding:
    """Texts of one prompt and sampler that grow together, token by token."""

    model: LanguageModel
    loop: DecodeLoop
    sampler: str
    values: Sequence[Mapping[str, Any]]  # its parameters for each text
    texts: Sequence[Text]
    is_stopped: Callable[[], bool]  # whether the texts are to end now

    def events(self, beside: ThreadPoolExecutor) -> Iterator[RowEvent]:
        """What happens to each text until all have ended.

        Args:
            beside: makes the next tokens while the last ones are given out.
        """
        texts, size = self.texts, self.model.context_length
        self._begin([texts[0].seen], texts[0].first_ids)
        index, made, count = len(texts[0].seen) + 1, 0, 1
        call: Future[tuple[np.ndarray, np.ndarray]] | None = None
        try:
            while going := [n for n, t in enumerate(texts) if t.stop_reason is None]:
                room = max(texts[row].room for row in going)
                if call is None:
                    if index >= size:
                        self._begin_anew(going)
                        index = len(texts[0].seen) + 1
                    # The first token is not to wait for others.
                    count = min(self.loop.pace if made else 1, room, size - index)
                    call = self._submit(beside, count, made)
                token_ids, rescued = call.result()
                made, index, room = made + count, index + count, room - count
                call = None
                count = min(self.loop.pace, room, size - index)
                if count > 0 and not self.is_stopped():
                    call = self._submit(beside, count, made)
                yield from self._push(going, token_ids, rescued)
        finally:
            if call is not None:
                call.exception()  # the next text begins when the loop is free

    def _submit(
        self, beside: ThreadPoolExecutor, count: int, made: int
    ) -> "Future[tuple[np.ndarray, np.ndarray]]":
        return beside.submit(timed_call, self.loop, self.loop.decode, count, made)

    def _begin(
        self,
        prompts: Sequence[tuple[int, ...]],
        first_ids: frozenset[int] | None = None,
    ) -> None:
        seeds = [text.started.seed for text in self.texts]
        windows = [prompt_window(self.model, prompt) for prompt in prompts]
        length = len(prompts[0]) + 1
        self.loop.begin(
            self.sampler, self.values, seeds, np.concatenate(windows), length, first_ids
        )

    def _push(
        self, going: Sequence[int], token_ids: np.ndarray, rescued: np.ndarray
    ) -> Iterator[RowEvent]:
        """Give out the tokens of a call, int `(count, rows)`; see `DecodeLoop`."""
        for chosen, stages in zip(token_ids.tolist(), rescued.tolist(), strict=True):
            for row in going:
                text = self.texts[row]
                if text.stop_reason is not None:
                    continue
                if self.is_stopped():
                    text.stop_reason = "interrupted"
                elif chosen[row] == NOT_FINITE:
                    text.stop_reason = "not_finite"
                else:
                    text.count_rescued(stages[row])
                    yield row, text.push(chosen[row])

    def _begin_anew(self, going: Sequence[int]) -> None:
        """Begin a full context anew with the last tokens of each row."""
        size = self.model.context_length
        for row, text in enumerate(self.texts):
            # What has ended goes on unseen, with tokens of any kind.
            seen = text.seen if row in going else self.texts[going[0]].seen
            text.seen = reprimed(seen, size)
        for row in going:
            self.texts[row].reprimed.append(len(self.texts[row].token_ids))
        self._begin([text.seen for text in self.texts])
