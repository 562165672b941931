"""Where the texts of a comparison part that were drawn by one luck, and by which rule.

Each strategy's first text is held against the first strategy's. Up to the token where
they part both saw the same distribution and the same noise: there their rules differ.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from minigpt_repl.compare.comparison import Comparison
from minigpt_repl.compare.pieces import visible
from minigpt_repl.compare.spec import Strategy
from minigpt_repl.compare.view import column_names
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import Engine, Generation
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import SamplerSpec, find_sampler
from minigpt_repl.shown import plain

if TYPE_CHECKING:
    import numpy as np


def partings(engine: Engine, comparison: Comparison) -> Iterator[str]:
    """A line for each strategy but the first: where it parts from it, and why."""
    names = column_names(comparison)
    columns = comparison.columns
    for name, column in list(zip(names, columns, strict=True))[1:]:
        if not (column.generations and columns[0].generations):
            continue
        one, other = columns[0].generations[0], column.generations[0]
        pairs = zip(one.token_ids, other.token_ids, strict=False)
        place = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
        who = f"{plain(names[0])} and {plain(name)}"
        if place is None:
            yield f"{who} do not part"
            continue
        words = [visible(made.token_ids[place], engine.info) for made in (one, other)]
        why = _why(engine, (one, other), place)
        yield f"{who} part at token {place + 1}, {words[0]} | {words[1]}: {why}"


def _why(engine: Engine, texts: tuple[Generation, Generation], place: int) -> str:
    """Which rule let two texts take different tokens at a place."""
    searches = [
        each.request.sampler
        for each in texts
        if find_sampler(each.request.sampler).search is not None
    ]
    if searches:
        return f"{searches[0]} does not choose by this noise"
    ids = (*texts[0].started.prompt_ids, *texts[0].token_ids)
    rows = inspection.text_logits(engine.logits(ids), len(texts[0].tokens))
    where = inspection.generation_places(texts[0], engine)
    shaping = []
    for one, other in (texts, texts[::-1]):
        spec = find_sampler(one.request.sampler)
        values = one.request.parameters
        here = inspection.replayed(spec, values, rows, where).at(place)
        token_id = other.token_ids[place]
        remover = _remover(spec, values, rows[place], here, token_id)
        if remover:
            label = Strategy(one.request.sampler, values).label
            word = visible(token_id, engine.info)
            return f"{remover} of {label} removed {word}"
        names = [s.name for s in spec.stages if s.kind != "truncation"]
        # A temperature of 1, or none, changes nothing.
        is_tempered = values.get("temperature", 1) != 1
        names = names if spec.stages else ["temperature"]
        shaping += [name for name in names if name != "temperature" or is_tempered]
    rules = ", ".join(dict.fromkeys(shaping)) or "their samplers"
    return f"neither removed the other's, {rules} gave other probabilities"


def _remover(
    spec: SamplerSpec,
    values: Mapping[str, Value],
    logits: "np.ndarray",
    here: inspection.Places,
    token_id: int,
) -> str | None:
    """The rule that removes a token, if one does."""
    if not spec.stages:
        kept = inspection.kept_mask(spec, values, logits)
        return None if kept[token_id] else spec.name
    left = inspection.chain_logits(spec, values, logits, here)
    for stage, after in zip(spec.stages, left, strict=True):
        if after[token_id] == float("-inf"):
            return stage.name
    return None
