"""Texts being made: which are made together, what each has become, when it ends.

Where chance plays no part the seed makes no difference: such a text is made once,
however many seeds it is asked for. Texts of one prompt and sampler are rows of a batch.
And what of a text fits into a model's context: the end of a prompt, and the windows in
which a long text is made.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import groupby

from minigpt_repl.engine.request import (
    DraftVerified,
    Event,
    Finished,
    Generation,
    Hypothesis,
    Request,
    RowEvent,
    Started,
    Token,
    TokenChosen,
)
from minigpt_repl.formats import StopReason, Timings
from minigpt_repl.models.text.codec import Decoder, TextCodec
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import choose_sampler, find_sampler

MOST_ROWS = 64
"""Texts that are made together at most."""

REPRIMED_TOKENS = 64
"""Tokens kept when a full context is begun anew."""


def is_drawn(sampler: str, parameters: Mapping[str, Value]) -> bool:
    """Whether chance plays a part in the texts of a sampler: the seed matters."""
    return choose_sampler(sampler, parameters)[0].is_random


def batches(requests: Sequence[Request]) -> Iterator[list[list[int]]]:
    """The rows of which texts are made together, batch after batch: for each row the
    numbers of the requests that it is for.

    Rows of a batch are for requests that follow each other, of one prompt and one
    sampler; a search is alone.
    """

    def key(row: list[int]) -> tuple[object, ...]:
        request = requests[row[0]]
        spec, values = choose_sampler(request.sampler, request.parameters)
        same = spec.name, request.prompt, request.prompt_ids, request.noise
        if spec.takes_rows:
            return same
        return (*same, *values.items(), row[0] if spec.search else None)

    for _, alike in groupby(_rows(requests), key):
        rows = list(alike)
        for first in range(0, len(rows), MOST_ROWS):
            yield rows[first : first + MOST_ROWS]


def _rows(requests: Sequence[Request]) -> list[list[int]]:
    """The numbers of all requests, those together that are for one text."""
    same: dict[object, list[int]] = {}
    for number, request in enumerate(requests):
        is_alone = is_drawn(request.sampler, request.parameters)
        key = number if is_alone else repr(replace(request, seed=None))
        same.setdefault(key, []).append(number)
    return list(same.values())


def programs(
    requests: Sequence[Request],
) -> Iterator[tuple[Request, int, tuple[object, ...]]]:
    """The programs that make texts: one of the requests of each, how many texts it
    makes together, and what it is known by."""
    for rows in batches(requests):
        one = requests[rows[0][0]]
        spec, values = choose_sampler(one.sampler, one.parameters)
        yield one, len(rows), (spec.name, *spec.shape(values), len(rows), one.noise)


def for_requests(
    events: Iterable[RowEvent], rows: Sequence[list[int]], requests: Sequence[Request]
) -> Iterator[RowEvent]:
    """Events of rows as events of the requests that the rows are for."""
    for row, event in events:
        for number in rows[row]:
            yield number, _with_seed(event, requests[number].seed)


def _with_seed(event: Event, seed: int | None) -> Event:
    """An event of a text, with the seed that it was asked for."""
    if seed is None:
        return event
    if isinstance(event, Started):
        return replace(event, seed=seed)
    if isinstance(event, Finished):
        made = event.generation
        started = replace(made.started, seed=seed)
        request = replace(made.request, seed=seed)
        return Finished(replace(made, request=request, started=started))
    return event


class Text:
    """The text of one request.

    Args:
        request: with its seed filled in.
        started: what became of the prompt.
        prompt_ids: all tokens of the prompt, before it was cropped.
        text: what token ids stand for.
        first_ids: what the first new token is one of, if not any.
    """

    def __init__(
        self,
        request: Request,
        started: Started,
        prompt_ids: tuple[int, ...],
        text: TextCodec,
        first_ids: frozenset[int] | None = None,
    ) -> None:
        self.request, self.started, self.first_ids = request, started, first_ids
        self.seen = started.prompt_ids  # what the model reads
        self.token_ids: list[int] = []  # the new ones
        self.stop_reason: StopReason | None = None  # why it has ended
        # Numbers of the tokens at which the context was begun anew.
        self.reprimed: list[int] = []
        # Drafted tokens that were accepted, and all that were drafted.
        self.accepted: tuple[int, int] | None = None
        # How often each stage of a chain would have left nothing.
        self.rescued: Counter[str] = Counter()
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
        heeds_sentences = self._heeds_sentences(len(self.token_ids) + 1)
        is_end = heeds_sentences and self._decoder.ends_sentence(token_id)
        if is_end or self._is_end_of_document(token_id):
            self.stop_reason = "stop"
        elif self.room == 1:
            self.stop_reason = "length"
        return self._add(token_id, is_last or self.stop_reason is not None)

    def count_rescued(self, number: int) -> None:
        """Note the stage, from 1, that would have left nothing; 0 for none."""
        if number:
            stages = find_sampler(self.request.sampler).stages
            self.rescued[stages[number - 1].name] += 1

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
        self.accepted = accepted + verified.accepted, drafted + len(verified.drafted)

    def _add(self, token_id: int, is_last: bool) -> TokenChosen:
        index = len(self.token_ids)
        self.token_ids.append(token_id)
        self.seen = (*self.seen, token_id)
        delta = self._decoder.push(token_id)
        if is_last:
            delta += self._decoder.flush()
        self._shown += delta
        raw_delta = self._text.raw_delta(token_id, is_first=index == 0)
        return TokenChosen(index, self._token(token_id), delta, raw_delta)

    def _token(self, token_id: int) -> Token:
        return Token(token_id, self._text.piece(token_id))

    def _heeds_sentences(self, count: int) -> bool:
        """Whether a text of so many new tokens may end with a sentence."""
        return self.request.stop == "sentence" and 2 * count >= self.request.length

    def _is_end_of_document(self, token_id: int) -> bool:
        return self.request.stop == "end" and token_id == self._text.end_id

    def ends_with(self, token_ids: Sequence[int]) -> bool:
        """Whether the stop rule holds for other new tokens than it has."""
        *before, last = token_ids
        if not self._heeds_sentences(len(token_ids)):
            return self._is_end_of_document(last)
        decoder = self.new_decoder()
        for token_id in before:
            decoder.push(token_id)
        return decoder.ends_sentence(last)

    def generation(self, timings: Timings, checkpoint_sha256: str) -> Generation:
        """The finished text, without scores."""
        self._shown += self._decoder.flush()
        return Generation(
            request=self.request,
            started=self.started,
            tokens=tuple(map(self._token, self.token_ids)),
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
