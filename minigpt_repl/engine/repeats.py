"""Texts that are asked for together: which of them are made, and which are copies.

Where chance plays no part the seed makes no difference: such a text is made once,
however many seeds it is asked for. Knows requests and events, no model and no
sampler's class.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from minigpt_repl.engine.request import Event, Finished, Request, RowEvent, Started
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import find_sampler


def is_drawn(sampler: str, parameters: Mapping[str, Value]) -> bool:
    """Whether chance plays a part in the texts of a sampler: the seed matters."""
    spec = find_sampler(sampler)
    is_greedy = parameters.get("temperature") == 0 and not spec.stages
    return spec.is_random and not is_greedy


def made_once(
    requests: Sequence[Request],
    generate: Callable[[Sequence[Request]], Iterator[RowEvent]],
) -> Iterator[RowEvent]:
    """Events of all requests, of which those that give the same text are made once.

    Args:
        requests: the texts that are wanted.
        generate: makes texts, as `Engine.generate_rows`.
    """
    same: dict[object, list[int]] = {}
    for number, request in enumerate(requests):
        is_alone = is_drawn(request.sampler, request.parameters)
        key = number if is_alone else repr(replace(request, seed=None))
        same.setdefault(key, []).append(number)
    wanted = list(same.values())
    for row, event in generate([requests[first] for first, *_ in wanted]):
        for number in wanted[row]:
            yield number, _as_asked(event, requests[number])


def programs(
    requests: Sequence[Request],
) -> Iterator[tuple[Request, int, tuple[object, ...]]]:
    """The programs that make texts: one of the requests of each, how many texts it
    makes together, and what it is known by."""
    together: dict[tuple[object, ...], list[Request]] = {}
    for request in requests:
        spec = find_sampler(request.sampler)
        fixed = (p.name for p in spec.parameters if not p.is_live)
        shape = (spec.name, *(request.parameters.get(name) for name in fixed))
        together.setdefault(shape, []).append(request)
    for key, same in together.items():
        drawn = [one for one in same if is_drawn(one.sampler, one.parameters)]
        rows = max(1, len(drawn))
        yield same[0], rows, (*key, rows)


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
