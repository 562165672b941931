"""Commands that look into the last text: `:why`, `:heat`, `:diff`."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from minigpt_repl.compare.pieces import visible, visible_all
from minigpt_repl.compare.spec import Strategy, read_whole
from minigpt_repl.compare.view import HeatView
from minigpt_repl.engine import inspection
from minigpt_repl.errors import UsageError
from minigpt_repl.models.text.marks import SPACE_MARK
from minigpt_repl.repl.commands.probabilities import distribution_table
from minigpt_repl.repl.context import (
    Context,
    Inspected,
    Steps,
    inspect_text,
)
from minigpt_repl.repl.continuation import ending_in_a_line
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Notice, Say
from minigpt_repl.repl.tables import NAME, facts_table, make_table
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.shown import shown
from minigpt_repl.suggest import quoted

if TYPE_CHECKING:
    import numpy as np

SHOWN_TOKENS = 10
SHOWN_REMOVED = 5
SHOWN_CONTEXT = 60


def token_words(context: Context, typed: str) -> Iterator[str]:
    """For `:why`: the tokens of the last text."""
    node = context.session.node
    tokens = () if node is None else node.generation.tokens
    yield from dict.fromkeys(token.text.removeprefix("Ġ") for token in tokens)


@command("why", usage="[N | WORD]", complete=token_words)
def why(context: Context, arguments: str) -> Steps:
    """Tell why a token of the last text was chosen.

    N counts the new tokens from 1, from the end if negative; a word means the
    first token of that spelling. Without either it is the most surprising one.
    """
    text = inspect_text(context, ":why")
    place = _place(text, arguments)
    made = text.generation
    token = made.tokens[place]
    name = visible(token.id, context.engine.info)
    model = inspection.probabilities(text.rows[place])
    found = inspection.verdict(model, token.id)
    before = text.node.prompt + "".join(text.pieces[:place])
    facts = [
        ("token", f"{name}, {place + 1} of {len(made.tokens)}"),
        ("after", ending_in_a_line(before, SHOWN_CONTEXT)),
        ("probability", f"{_percent(found.probability)}, rank {found.rank}"),
        ("surprisal", f"{found.surprisal:.2f} bits"),
        (
            "entropy",
            f"{found.entropy:.2f} nats: as unsure as among "
            f"{math.exp(found.entropy):.0f} equal tokens",
        ),
        *_prompt_facts(context, text, place),
        *_rule_facts(context, text, place),
        *_smallest_facts(text, place),
    ]
    yield Say(facts_table(facts))
    strategy = Strategy(made.request.sampler, made.request.parameters)
    yield Say("")
    yield Say(
        distribution_table(
            text.rows[place],
            (strategy,),
            context.engine.info,
            max(SHOWN_REMOVED, min(found.rank, SHOWN_TOKENS)),
            chosen=token.id,
            where=text.where.at(place),
        )
    )
    return context.session


@command("heat")
def heat(context: Context, arguments: str) -> Steps:
    """Show the last text by surprisal: how little the model expected each token.

    Without colour every token is followed by its surprisal in bits, as a digit.
    """
    text = inspect_text(context, ":heat")
    ids = text.generation.token_ids
    bits = [
        inspection.verdict(inspection.probabilities(row), token_id).surprisal
        for row, token_id in zip(text.rows, ids, strict=True)
    ]
    yield Say(HeatView(text.node.prompt, text.pieces, bits))
    mean = sum(bits) / len(bits)
    worst = max(range(len(bits)), key=bits.__getitem__)
    yield Notice(
        f"{mean:.2f} bits a token; most surprising: "
        f"{visible(ids[worst], context.engine.info)} (:why {worst + 1}), "
        f"{bits[worst]:.1f} bits"
    )
    return context.session


def _place(text: Inspected, arguments: str) -> int:
    """Index of the token that is meant."""
    tokens = text.generation.tokens
    if not arguments:
        ranks = [
            inspection.verdict(inspection.probabilities(row), token.id).probability
            for row, token in zip(text.rows, tokens, strict=True)
        ]
        return min(range(len(ranks)), key=ranks.__getitem__)
    wanted = arguments.lower()
    for place, token in enumerate(tokens):
        word = token.text.removeprefix("Ġ").lower()
        if word == wanted and not wanted.isdigit():
            return place
    number = read_whole(arguments)
    if number is None:
        raise UsageError(
            f"no token of the last text is {quoted(arguments)}; :why takes a word "
            f"of it or a number 1..{len(tokens)}"
        )
    place = number - 1 if number > 0 else len(tokens) + number
    if number == 0 or not 0 <= place < len(tokens):
        raise UsageError(
            f"the last text has tokens 1..{len(tokens)}; got {quoted(arguments)}"
        )
    return place


def _prompt_facts(
    context: Context, inspected: Inspected, place: int
) -> list[tuple[str, str]]:
    """What the white space at the end of the prompt made of the first token."""
    request = inspected.generation.request
    text, spec = context.engine.info.text, find_sampler(request.sampler)
    taken, first_ids = inspection.healing(
        text, request.prompt, spec, request.parameters
    )
    if place or request.prompt_ids is not None or first_ids is None:
        return []
    if not taken:
        return [("prompt's end", "white space: no piece could go on with its word")]
    return [
        (
            "prompt's end",
            f"{taken!r} was taken back, the token had to begin with it: "
            f"{len(first_ids):,} do",
        )
    ]


def _rule_facts(context: Context, text: Inspected, place: int) -> list[tuple[str, str]]:
    """What the sampler's rule removed at this token."""
    request = text.generation.request
    spec = find_sampler(request.sampler)
    row = text.rows[place]
    if spec.stages:
        return _stage_facts(context, text, place)
    kept = inspection.kept_mask(spec, request.parameters, row)
    temperature = inspection.temperature_of(request.parameters)
    tempered = inspection.probabilities(row, temperature or 1.0)
    possible = int((tempered > 0).sum())
    label = Strategy(request.sampler, request.parameters).label
    kept_mass = _percent(float(tempered[kept].sum()))
    facts = [
        ("rule", f"{label} kept {int(kept.sum())} of {possible} tokens, {kept_mass}")
    ]
    removed = _removed(context, tempered, kept)
    return [*facts, ("removed", removed)] if removed else facts


def _stage_facts(
    context: Context, text: Inspected, place: int
) -> list[tuple[str, str]]:
    """What each stage of a chain removed at this token, a line each."""
    request = text.generation.request
    spec = find_sampler(request.sampler)
    before = inspection.probabilities(text.rows[place])
    after = inspection.chain_distributions(
        spec, request.parameters, text.rows[place], text.where.at(place)
    )
    facts = []
    for stage, left in zip(spec.stages, after, strict=True):
        kept = left > 0
        line = f"leaves {int(kept.sum()):,} of {int((before > 0).sum()):,} tokens"
        removed = _removed(context, before, kept)
        facts.append((stage.name, f"{line}; removes {removed}" if removed else line))
        before = left
    return facts


def _removed(context: Context, shares: "np.ndarray", kept: "np.ndarray") -> str:
    """The most probable tokens that were not kept, in words."""
    gone = shares * ~kept
    best = inspection.top_ids(gone, SHOWN_REMOVED)
    words = visible_all(best, context.engine.info)
    listed = "  ".join(
        f"{word} {_percent(float(shares[i]))}"
        for word, i in zip(words, best, strict=True)
    )
    more = int((gone > 0).sum()) - len(best)
    return listed + (f"  and {more:,} more" if more else "")


def _smallest_facts(text: Inspected, place: int) -> list[tuple[str, str]]:
    """The smallest k and p that would have admitted the token."""
    request = text.generation.request
    token_id = text.generation.token_ids[place]
    found = inspection.verdict(inspection.probabilities(text.rows[place]), token_id)
    smallest_p = _smallest(found)
    spec = find_sampler(request.sampler)
    temperature = inspection.rule_temperature(spec, request.parameters)
    if temperature not in (0.0, 1.0):
        tempered = inspection.probabilities(text.rows[place], temperature)
        other = _smallest(inspection.verdict(tempered, token_id))
        smallest_p += f" ({other} at temperature {temperature:g})"
    return [("smallest k", str(found.rank)), ("smallest p", smallest_p)]


def _smallest(found: inspection.Verdict) -> str:
    return "any" if found.rank == 1 else f"{found.smallest_p:.4f}"


def _percent(part: float) -> str:
    percent = 100 * part
    if 0 < percent < 0.01:
        return f"{percent:.1e}%"
    return f"{percent:.2f}%" if percent < 1 else f"{percent:.1f}%"


SHOWN_PLACES = 10
OUTSIDE_MARK = "†"


@command("diff")
def diff(context: Context, arguments: str) -> Steps:
    """Show where other samplers would have chosen otherwise in the last text.

    Each saw the same distribution at each step. `word{other}` marks a place where
    greedy would have taken the other token; `†` behind it, that the rule of at least
    one other sampler would not have allowed the word.
    """
    text = inspect_text(context, ":diff")
    settings = context.session.settings
    strategies = [
        Strategy(spec.name, settings.parameters(spec)) for spec in settings.samplers()
    ]
    allowed = {strategy.sampler: _allowed(strategy, text) for strategy in strategies}
    ids = text.generation.token_ids
    best = [int(row.argmax()) for row in text.rows]
    greedy_words = visible_all(best, context.engine.info)
    rules = [name for name in allowed if name not in ("greedy", "speculative")]
    line = Text(shown(text.node.prompt), style="dim")
    for place, piece in enumerate(text.pieces):
        is_same = best[place] == ids[place]
        line.append(shown(piece), style="not dim" if is_same else "not dim bold")
        if not is_same:
            greedy = greedy_words[place].removeprefix(SPACE_MARK)
            line.append(f"{{{greedy}}}", style="not dim cyan")
        if not all(allowed[name][place] for name in rules):
            line.append(OUTSIDE_MARK, style="not dim bold red")
    yield Say(line)
    yield Notice(
        f"{{word}}: what greedy would have taken; {OUTSIDE_MARK}: outside some rule"
    )
    yield Say("")
    yield Say(_agreement(strategies, allowed, len(ids)))
    return context.session


def _allowed(strategy: Strategy, text: Inspected) -> list[bool]:
    """Whether a sampler's rule keeps each token of a text."""
    spec = find_sampler(strategy.sampler)
    ids = text.generation.token_ids
    kept = inspection.kept_mask(spec, strategy.parameters, text.rows, text.where)
    return [bool(row[token_id]) for row, token_id in zip(kept, ids, strict=True)]


def _agreement(
    strategies: list[Strategy], allowed: dict[str, list[bool]], count: int
) -> RenderableType:
    rows = []
    for strategy in strategies:
        outside = [i + 1 for i, ok in enumerate(allowed[strategy.sampler]) if not ok]
        places = " ".join(map(str, outside[:SHOWN_PLACES]))
        more = f" and {len(outside) - SHOWN_PLACES} more"
        rows.append(
            (
                Text(strategy.sampler, style=NAME),
                f"{count - len(outside)} of {count}",
                places + (more if len(outside) > SHOWN_PLACES else ""),
            )
        )
    return make_table(("its rule", "allows", "but not token"), rows, right="allows")
