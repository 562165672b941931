"""One text being made: its tokens, its readable form, and when it ends.

And what of it fits into a model's context: the end of a prompt, and the windows in
which a long text is made.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace

from minigpt_repl.engine.request import (
    DraftVerified,
    Generation,
    Hypothesis,
    Request,
    Started,
    Timings,
    Token,
    TokenChosen,
)
from minigpt_repl.formats import StopReason
from minigpt_repl.models.text.codec import Decoder, TextCodec
from minigpt_repl.sampling.registry import find_sampler

REPRIMED_TOKENS = 64
"""Tokens kept when a full context is begun anew."""


class Text:
    """The text of one request.

    Args:
        request: with its seed filled in.
        started: what became of the prompt.
        prompt_ids: all tokens of the prompt, before it was cropped.
        text: what token ids stand for.
        first_ids: what the first new token is one of, if not any.

    Attributes:
        seen: the tokens that the model reads, without the start token.
        token_ids: the new tokens.
        stop_reason: why it has ended; `None` while it goes on.
        reprimed: numbers of the tokens at which the context was begun anew.
        accepted: drafted tokens that were accepted, and all that were drafted.
        rescued: how often each stage of a chain would have left nothing.
    """

    def __init__(
        self,
        request: Request,
        started: Started,
        prompt_ids: tuple[int, ...],
        text: TextCodec,
        first_ids: frozenset[int] | None = None,
    ) -> None:
        self.first_ids = first_ids
        self.request, self.started = request, started
        self.seen = started.prompt_ids
        self.token_ids: list[int] = []
        self.stop_reason: StopReason | None = None
        self.reprimed: list[int] = []
        self.accepted: tuple[int, int] | None = None
        self.rescued: Counter[str] = Counter()
        self._stages = find_sampler(request.sampler).stages
        self._prompt_ids, self._text = prompt_ids, text
        self._shown = ""
        self._decoder = self.new_decoder()

    @property
    def room(self) -> int:
        """New tokens that it may still get."""
        return self.request.length - len(self.token_ids)

    def new_decoder(self) -> Decoder:
        """A decoder whose text is put right behind the prompt."""
        return self._text.decoder(self.request.prompt, self._prompt_ids)

    def push(self, token_id: int, is_last: bool = False) -> TokenChosen:
        """Take a new token; the text ends with it if it is full or a stop rule holds.

        Args:
            token_id: the token.
            is_last: whether none can follow.
        """
        is_late = 2 * (len(self.token_ids) + 1) >= self.request.length
        is_end = self.request.stop == "sentence" and is_late
        is_end = is_end and self._decoder.ends_sentence(token_id)
        if is_end or self._is_end_of_document(token_id):
            self.stop_reason = "stop"
        elif self.room == 1:
            self.stop_reason = "length"
        return self._add(token_id, is_last or self.stop_reason is not None)

    def count_rescued(self, number: int) -> None:
        """Note the stage, from 1, that would have left nothing; 0 for none."""
        if number:
            self.rescued[self._stages[number - 1].name] += 1

    def settle(self, survivors: Sequence[Hypothesis]) -> Iterator[TokenChosen]:
        """End a search: the tokens of the best hypothesis, if it kept several."""
        ids = survivors[0].token_ids if survivors else ()
        for place, token_id in enumerate(ids):
            yield self._add(token_id, place == len(ids) - 1)
        if self.stop_reason is None:
            self.stop_reason = "length" if self.room == 0 else "context"

    def count_drafts(self, verified: DraftVerified) -> None:
        """Add a round of speculative decoding to `accepted`."""
        accepted, drafted = self.accepted or (0, 0)
        self.accepted = (
            accepted + verified.accepted,
            drafted + len(verified.drafted),
        )

    def _add(self, token_id: int, is_last: bool) -> TokenChosen:
        self.token_ids.append(token_id)
        self.seen = (*self.seen, token_id)
        delta = self._decoder.push(token_id)
        if is_last:
            delta += self._decoder.flush()
        self._shown += delta
        token = Token(token_id, self._text.piece(token_id))
        index = len(self.token_ids) - 1
        raw_delta = self._text.raw_delta(token_id, is_first=index == 0)
        return TokenChosen(index, token, delta, raw_delta)

    def _is_end_of_document(self, token_id: int) -> bool:
        return self.request.stop == "end" and token_id == self._text.end_id

    def ends_with(self, token_ids: Sequence[int]) -> bool:
        """Whether the stop rule holds for other new tokens than it has."""
        if token_ids and self._is_end_of_document(token_ids[-1]):
            return True
        if self.request.stop != "sentence" or 2 * len(token_ids) < self.request.length:
            return False
        decoder, (*before, last) = self.new_decoder(), token_ids
        for token_id in before:
            decoder.push(token_id)
        return decoder.ends_sentence(last)

    def generation(self, timings: Timings, checkpoint_sha256: str) -> Generation:
        """The finished text, without scores."""
        self._shown += self._decoder.flush()
        tokens = tuple(Token(each, self._text.piece(each)) for each in self.token_ids)
        return Generation(
            request=replace(self.request, seed=self.started.seed),
            started=self.started,
            tokens=tokens,
            text=self._shown,
            raw_text=self._text.raw_text(self.token_ids),
            stop_reason=self.stop_reason or "length",
            timings=timings,
            reprimed=tuple(self.reprimed),
            accepted=self.accepted,
            rescued=tuple(self.rescued.items()),
            checkpoint_sha256=checkpoint_sha256,
        )


class RevisedText:
    """Readable form of tokens that are revised: most often by one more token.

    Args:
        new_decoder: makes the decoder that the text begins with.
    """

    def __init__(self, new_decoder: Callable[[], Decoder]) -> None:
        self._new_decoder = new_decoder
        self._decoder = new_decoder()
        self._token_ids: tuple[int, ...] = ()
        self._text = ""

    def of(self, token_ids: tuple[int, ...]) -> str:
        """The text of `token_ids`; constant time for each that is new."""
        known = len(self._token_ids)
        if token_ids[:known] != self._token_ids:
            self._decoder, self._text, known = self._new_decoder(), "", 0
        for token_id in token_ids[known:]:
            self._text += self._decoder.push(token_id)
        self._token_ids = token_ids
        # What is held back is shown without ending the text.
        return self._text + deepcopy(self._decoder).flush()


def crop(token_ids: tuple[int, ...], context: int, new: int) -> tuple[int, ...]:
    """The end of a prompt, so that `new` tokens fit behind it.

    Args:
        token_ids: the prompt's tokens, without the start token.
        context: positions of the model.
        new: tokens that are to follow; the start token is kept in any case.
    """
    room = max(1, context - new) - 1  # one for the start token
    return token_ids[max(0, len(token_ids) - room) :]


def reprimed(token_ids: tuple[int, ...], context: int) -> tuple[int, ...]:
    """The tokens with which a full context is begun anew."""
    return token_ids[len(token_ids) - _kept(context) :]


def _kept(context: int) -> int:
    # Behind the start token and these there must be room for one token more.
    return min(REPRIMED_TOKENS, context // 2, context - 2)


def spans(count: int, context: int) -> list[tuple[int, int, int]]:
    """In which windows a text of `count` tokens is generated.

    Returns:
        For each window `(start, first, last)`: it begins with token `start`, and
        scores of the tokens `first` to `last` (exclusive) are taken from it.
        Together they cover tokens 0 to `count` (inclusive: the one to follow).
    """
    kept = _kept(context)
    result = [(0, 0, min(count + 1, context - 1))]
    while result[-1][2] <= count:
        first = result[-1][2]
        start = first - kept
        result.append((start, first, min(count + 1, start + context - 1)))
    return result
