"""Texts that are asked for together: which are copies, which are made together.

Where chance plays no part the seed makes no difference: such a text is made once,
however many seeds it is asked for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from minigpt_repl.engine.request import Event, Finished, Request, RowEvent, Started
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import choose_sampler

MOST_ROWS = 64
"""Texts that are made together at most."""


def is_drawn(sampler: str, parameters: Mapping[str, Value]) -> bool:
    """Whether chance plays a part in the texts of a sampler: the seed matters."""
    return choose_sampler(sampler, parameters)[0].is_random


def made_once(
    requests: Sequence[Request],
    generate: Callable[[Sequence[Request]], Iterator[RowEvent]],
) -> Iterator[RowEvent]:
    """Events of all requests, of which those that give the same text are made once.

    Args:
        requests: the texts that are wanted.
        generate: makes texts, as `Engine.generate_rows`.
    """
    wanted = _copies(requests)
    for row, event in generate([requests[first] for first, *_ in wanted]):
        for number in wanted[row]:
            yield number, _as_asked(event, requests[number])


def batches(requests: Sequence[Request]) -> Iterator[list[int]]:
    """Numbers of the requests whose texts are rows of one batch, batch after batch.

    They follow each other, and have one prompt and one sampler; a search is alone.
    """
    for _, alike in groupby(
        range(len(requests)), lambda number: _batch_key(number, requests[number])
    ):
        numbers = list(alike)
        for first in range(0, len(numbers), MOST_ROWS):
            yield numbers[first : first + MOST_ROWS]


def programs(
    requests: Sequence[Request],
) -> Iterator[tuple[Request, int, tuple[object, ...]]]:
    """The programs that make texts: one of the requests of each, how many texts it
    makes together, and what it is known by."""
    wanted = [requests[first] for first, *_ in _copies(requests)]
    for numbers in batches(wanted):
        one, rows = wanted[numbers[0]], len(numbers)
        spec, values = choose_sampler(one.sampler, one.parameters)
        yield one, rows, (spec.name, *spec.shape(values), rows, one.noise)


def _copies(requests: Sequence[Request]) -> list[list[int]]:
    """The numbers of all requests, those together that are for one text."""
    same: dict[object, list[int]] = {}
    for number, request in enumerate(requests):
        is_alone = is_drawn(request.sampler, request.parameters)
        key = number if is_alone else repr(replace(request, seed=None))
        same.setdefault(key, []).append(number)
    return list(same.values())


def _batch_key(number: int, request: Request) -> tuple[object, ...]:
    """Equal for texts that can be rows of one batch."""
    spec, values = choose_sampler(request.sampler, request.parameters)
    prompt = request.prompt, request.prompt_ids
    same: tuple[object, ...] = (spec.name, *prompt, request.noise)
    if spec.takes_rows:
        return same
    return (*same, *values.items(), number if spec.search else None)


def _as_asked(event: Event, request: Request) -> Event:
    """An event of a text, with the seed that it was asked for."""
    if request.seed is None:
        return event
    if isinstance(event, Started):
        return replace(event, seed=request.seed)
    if isinstance(event, Finished):
        made = event.generation
        started = replace(made.started, seed=request.seed)
        asked = replace(made.request, seed=request.seed)
        return Finished(replace(made, request=asked, started=started))
    return event
