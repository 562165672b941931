"""Why a token was chosen: the model's figures, what the rule removed and what it left;
and which rule parted texts of a comparison that were drawn by the same noise.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minigpt_repl.compare.comparison import Comparison
from minigpt_repl.compare.distribution import Distribution, next_distribution
from minigpt_repl.compare.pieces import display_pieces, is_own_text, listed, visible
from minigpt_repl.compare.spec import Strategy, read_whole
from minigpt_repl.compare.view import column_names
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import Engine, EngineInfo, Generation
from minigpt_repl.errors import UsageError
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import SamplerSpec, find_sampler
from minigpt_repl.shown import in_bits, percent, plain, quoted

if TYPE_CHECKING:
    import numpy as np

SHOWN_TOKENS = 10
SHOWN_REMOVED = 5
Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ScoredText:
    """A text and what the model thought at each of its new tokens.

    Attributes:
        rows: logits `(tokens, vocabulary)`, each from before its token.
        pieces: display form of each token, with the space before it.
        where: what a chain's rules knew at each of them.
    """

    prompt: str
    generation: Generation
    rows: "np.ndarray"
    pieces: tuple[str, ...]
    where: inspection.TokenContexts
    info: EngineInfo

    @property
    def bits(self) -> list[float]:
        """Surprisal of each token."""
        return [self.verdict(place).surprisal for place in range(len(self.rows))]

    def verdict(self, place: int, temperature: float = 1.0) -> inspection.Verdict:
        """What the model says of token `place`, at a temperature."""
        shares = inspection.probabilities(self.rows[place], temperature)
        return inspection.verdict(shares, self.generation.tokens[place].id)


def token_logits(engine: Engine, generation: Generation) -> "np.ndarray":
    """Logits `(tokens, vocabulary)` of a text, each from before its token."""
    logits = engine.logits(generation.whole_ids)
    return inspection.text_logits(logits, len(generation.tokens))


def inspect(engine: Engine, prompt: str, generation: Generation) -> ScoredText:
    """A text with the model's scores, by one call of the engine that made it."""
    rows = token_logits(engine, generation)
    where = inspection.generation_places(generation, engine)
    request = generation.request
    spec = find_sampler(request.sampler)
    return ScoredText(
        prompt=prompt,
        generation=generation,
        rows=rows,
        pieces=tuple(display_pieces(generation, engine.info)),
        where=inspection.replayed(spec, request.parameters, rows, where),
        info=engine.info,
    )


@dataclass(frozen=True)
class Choice:
    """Why one token was chosen, from which distribution, after which text."""

    name: str
    before: str
    facts: Facts
    distribution: Distribution


def why_chosen(text: ScoredText, place: int) -> Choice:
    """Why token `place` of a text, from 0, was chosen."""
    token = text.generation.tokens[place]
    found = text.verdict(place)
    is_own = is_own_text(text.generation)  # no rule chose it
    return Choice(
        name=f"{visible(token.id, text.info)}, {place + 1} of {len(text.pieces)}",
        before=text.prompt + "".join(text.pieces[:place]),
        facts=(
            ("probability", f"{percent(found.probability)}, rank {found.rank}"),
            ("surprisal", in_bits(found.surprisal)),
            (
                "entropy",
                f"{in_bits(inspection.bits(found.entropy))}: as unsure as among "
                f"{inspection.perplexity(found.entropy):,.0f} equal tokens",
            ),
            *_prompt_facts(text, place),
            *(() if is_own else _rule_facts(text, place)),
            *_smallest_facts(text, place),
        ),
        distribution=next_distribution(
            text.rows[place],
            () if is_own else (Strategy.of(text.generation.request),),
            text.info,
            max(SHOWN_REMOVED, min(found.rank, SHOWN_TOKENS)),
            chosen=(token.id,),
            where=text.where.at(place),
        ),
    )


def find_place(text: ScoredText, typed: str) -> int:
    """Index of the token that is meant: a number from 1, from the end if negative, a
    word, or nothing for the most surprising one.

    Raises:
        UsageError: if there is no such token.
    """
    tokens = text.generation.tokens
    if not typed:
        bits = text.bits
        return max(range(len(bits)), key=bits.__getitem__)
    wanted = typed.lower()
    for place, token in enumerate(tokens):
        word = token.text.removeprefix("Ġ").lower()
        if word == wanted and not wanted.isdigit():
            return place
    number = read_whole(typed)
    if number is None:
        raise UsageError(
            f"no token of the last text is {quoted(typed)}; :why takes a word "
            f"of it or a number 1..{len(tokens)}"
        )
    place = number - 1 if number > 0 else len(tokens) + number
    if number == 0 or not 0 <= place < len(tokens):
        raise UsageError(
            f"the last text has tokens 1..{len(tokens)}; got {quoted(typed)}"
        )
    return place


def _prompt_facts(text: ScoredText, place: int) -> Facts:
    """What the white space at the end of the prompt made of the first token."""
    request = text.generation.request
    taken, first_ids = text.info.text.healing(request.prompt)
    if place or request.prompt_ids is not None or first_ids is None:
        return ()
    if not taken:
        return (("prompt's end", "white space: no piece could go on with its word"),)
    words = f"{taken!r} was taken back, the token had to begin with it: "
    return (("prompt's end", f"{words}{len(first_ids):,} do"),)


def _rule_facts(text: ScoredText, place: int) -> Facts:
    """What the sampler's rule removed at this token."""
    request = text.generation.request
    spec = find_sampler(request.sampler)
    row = text.rows[place]
    if spec.stages:
        return _stage_facts(text, place)
    kept = inspection.kept_mask(spec, request.parameters, row)
    temperature = inspection.temperature_of(request.parameters)
    tempered = inspection.probabilities(row, temperature or 1.0)
    possible = int((tempered > 0).sum())
    kept_mass = percent(float(tempered[kept].sum()))
    rule = (
        f"{Strategy.of(request).label} kept {int(kept.sum()):,} of {possible:,} "
        f"tokens, {kept_mass}"
    )
    removed = _removed(text.info, tempered, kept)
    return (("rule", rule), ("removed", removed)) if removed else (("rule", rule),)


def _stage_facts(text: ScoredText, place: int) -> Facts:
    """What each stage of a chain removed at this token, a line each."""
    request = text.generation.request
    spec = find_sampler(request.sampler)
    before = inspection.probabilities(text.rows[place])
    after = inspection.chain_left(
        spec, request.parameters, text.rows[place], text.where.at(place)
    )
    facts = []
    for stage, behind in zip(spec.stages, after, strict=True):
        left = inspection.probabilities(behind.logits)
        kept = left > 0
        line = f"leaves {int(kept.sum()):,} of {int((before > 0).sum()):,} tokens"
        removed = _removed(text.info, before, kept)
        if behind.is_rescued.any():
            line = "would leave nothing: the most probable token is kept"
        facts.append((stage.name, f"{line}; removes {removed}" if removed else line))
        before = left
    return tuple(facts)


def _removed(info: EngineInfo, shares: "np.ndarray", kept: "np.ndarray") -> str:
    """The most probable tokens that were not kept, in words."""
    gone = shares * ~kept
    best: Sequence[int] = inspection.top_ids(gone, SHOWN_REMOVED)
    more = int((gone > 0).sum()) - len(best)
    return listed(best, shares, info) + (f"  and {more:,} more" if more else "")


def _smallest_facts(text: ScoredText, place: int) -> Facts:
    """The smallest k and p that would have admitted the token."""
    request = text.generation.request
    found = text.verdict(place)
    smallest_p = _smallest(found)
    spec = find_sampler(request.sampler)
    temperature = inspection.rule_temperature(spec, request.parameters)
    if temperature not in (0.0, 1.0):
        other = _smallest(text.verdict(place, temperature))
        smallest_p += f" ({other} at temperature {temperature:g})"
    return (("smallest k", str(found.rank)), ("smallest p", smallest_p))


def _smallest(found: inspection.Verdict) -> str:
    return "any" if found.rank == 1 else f"{found.smallest_p:.4f}"


def divergences(engine: Engine, comparison: Comparison) -> Iterator[str]:
    """A line for each strategy but the first: where it parts from it, and why.

    Each strategy's first text is held against the first strategy's. Up to the token
    where they part both saw the same distribution and the same noise: there their
    rules differ.
    """
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
        why = _why_parted(engine, (one, other), place)
        yield f"{who} part at token {place + 1}, {words[0]} | {words[1]}: {why}"


def _why_parted(
    engine: Engine, texts: tuple[Generation, Generation], place: int
) -> str:
    """Which rule let two texts take different tokens at a place."""
    for sampler in (each.request.sampler for each in texts):
        if find_sampler(sampler).search is not None:
            return f"{sampler} does not choose by this noise"
    rows = token_logits(engine, texts[0])
    where = inspection.generation_places(texts[0], engine)
    shaping = []
    for one, other in (texts, texts[::-1]):
        spec = find_sampler(one.request.sampler)
        values = one.request.parameters
        here = inspection.replayed(spec, values, rows, where).at(place)
        token_id = other.token_ids[place]
        remover = _remover(spec, values, rows[place], here, token_id)
        if remover:
            word = visible(token_id, engine.info)
            return f"{remover} of {Strategy.of(one.request).label} removed {word}"
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
    here: inspection.TokenContexts,
    token_id: int,
) -> str | None:
    """The rule that removes a token, if one does."""
    if not spec.stages:
        kept = inspection.kept_mask(spec, values, logits)
        return None if kept[token_id] else spec.name
    left = inspection.chain_left(spec, values, logits, here)
    for stage, after in zip(spec.stages, left, strict=True):
        if after.logits[token_id] == float("-inf"):
            return stage.name
    return None
