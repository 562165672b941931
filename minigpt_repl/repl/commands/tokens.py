"""Commands that look into one text: `:next`, `:why`, `:heat`."""

import math
from collections.abc import Iterator

from minigpt_repl.compare.pieces import visible, words_of
from minigpt_repl.compare.spec import Strategy, parse_strategies, read_whole
from minigpt_repl.compare.view import HeatView
from minigpt_repl.engine import inspection
from minigpt_repl.errors import UsageError
from minigpt_repl.repl.command import Desk, Steps, command
from minigpt_repl.repl.commands.compare import strategy_words
from minigpt_repl.repl.continuation import ending_in_a_line
from minigpt_repl.repl.distribution import distribution_table
from minigpt_repl.repl.inspected import Inspected, current_ids, inspect_text
from minigpt_repl.repl.outputs import Notice, Say
from minigpt_repl.repl.tables import facts_table
from minigpt_repl.sampling.registry import all_samplers, find_sampler
from minigpt_repl.settings import Settings
from minigpt_repl.suggest import quoted

SHOWN_TOKENS = 10
MOST_TOKENS = 100
SHOWN_REMOVED = 5
SHOWN_CONTEXT = 60


@command("next", usage="[N] [SPEC ...]", complete=strategy_words)
def next_token(desk: Desk, arguments: str) -> Steps:
    """Show the model's distribution of the next token after the text.

    A bar for each of the N most probable tokens (10), then a column for each
    sampler: which tokens its rule keeps, temperature (T) applied, renormalised.
    `·king` begins a word, `##ing` goes on with one. Name strategies, such as
    `:next 20 top_k:k=5 top_p:p=0.5`, to see those.
    """
    words = arguments.split()
    count = SHOWN_TOKENS
    if words and words[0].strip("+-0123456789") == "":
        count = _read_count(words.pop(0))
    settings = desk.session.settings
    strategies = parse_strategies(words, settings) or _drawing(settings)
    logits = desk.engine.logits(current_ids(desk))[-1]  # (vocabulary,)
    node = desk.session.node
    where = "at the start"
    if node is not None:
        where = f"after: {ending_in_a_line(node.text, SHOWN_CONTEXT)}"
    yield Notice(f"the next token {where}")
    yield Say(distribution_table(logits, strategies, desk.engine.info, count))
    return desk.session


def token_words(desk: Desk, typed: str) -> Iterator[str]:
    """For `:why`: the tokens of the last text."""
    node = desk.session.node
    tokens = () if node is None else node.generation.tokens
    yield from dict.fromkeys(token.text for token in tokens)


@command("why", usage="[N | WORD]", complete=token_words)
def why(desk: Desk, arguments: str) -> Steps:
    """Tell why a token of the last text was chosen.

    N counts the new tokens from 1, from the end if negative; a word means the
    first token of that spelling. Without either it is the most surprising one.
    """
    text = inspect_text(desk, ":why")
    place = _place(text, arguments)
    made = text.generation
    token = made.tokens[place]
    model = inspection.probabilities(text.rows[place])
    found = inspection.verdict(model, token.id)
    before = text.node.prompt + "".join(text.pieces[:place])
    facts = [
        ("token", f"{visible(token.text)}, {place + 1} of {len(made.tokens)}"),
        ("after", ending_in_a_line(before, SHOWN_CONTEXT)),
        ("probability", f"{_percent(found.probability)}, rank {found.rank}"),
        ("surprisal", f"{found.surprisal:.2f} bits"),
        (
            "entropy",
            f"{found.entropy:.2f} nats: as unsure as among "
            f"{math.exp(found.entropy):.0f} equal tokens",
        ),
        *_rule_facts(desk, text, place),
        *_smallest_facts(text, place),
    ]
    yield Say(facts_table(facts))
    strategy = Strategy(made.request.sampler, made.request.parameters)
    yield Say("")
    yield Say(
        distribution_table(
            text.rows[place],
            (strategy,),
            desk.engine.info,
            max(SHOWN_REMOVED, min(found.rank, SHOWN_TOKENS)),
            chosen=token.id,
        )
    )
    return desk.session


@command("heat")
def heat(desk: Desk, arguments: str) -> Steps:
    """Show the last text by surprisal: how little the model expected each token.

    Without colour every token is followed by its surprisal in bits, as a digit.
    """
    text = inspect_text(desk, ":heat")
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
        f"{visible(text.generation.tokens[worst].text)} (:why {worst + 1}), "
        f"{bits[worst]:.1f} bits"
    )
    return desk.session


def _drawing(settings: Settings) -> tuple[Strategy, ...]:
    """The samplers that choose from one distribution, and the one in use."""
    return tuple(
        Strategy(spec.name, settings.parameters(spec))
        for spec in all_samplers()
        if not spec.is_whole_sequence or spec.name == settings.sampler.name
    )


def _read_count(word: str) -> int:
    count = read_whole(word)
    if count is None or not 1 <= count <= MOST_TOKENS:
        raise UsageError(
            f":next takes a whole number 1..{MOST_TOKENS}; got {quoted(word)}"
        )
    return count


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
        if token.text.lower() == wanted and not wanted.isdigit():
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


def _rule_facts(desk: Desk, text: Inspected, place: int) -> list[tuple[str, str]]:
    """What the sampler's rule removed at this token."""
    request = text.generation.request
    spec = find_sampler(request.sampler)
    row = text.rows[place]
    kept = inspection.kept_mask(spec, request.parameters, row)
    temperature = inspection.temperature_of(request.parameters)
    tempered = inspection.probabilities(row, temperature or 1.0)
    possible = int((tempered > 0).sum())
    label = Strategy(request.sampler, request.parameters).label
    kept_mass = _percent(float(tempered[kept].sum()))
    facts = [
        ("rule", f"{label} kept {int(kept.sum())} of {possible} tokens, {kept_mass}")
    ]
    best = inspection.top_ids(tempered * ~kept, SHOWN_REMOVED)
    if best:
        words = words_of(best, desk.engine.info)
        shown = "  ".join(
            f"{visible(word)} {_percent(float(tempered[i]))}"
            for word, i in zip(words, best, strict=True)
        )
        more = possible - int(kept.sum()) - len(best)
        facts.append(("removed", shown + (f"  and {more:,} more" if more else "")))
    return facts


def _smallest_facts(text: Inspected, place: int) -> list[tuple[str, str]]:
    """The smallest k and p that would have admitted the token."""
    request = text.generation.request
    token_id = text.generation.token_ids[place]
    found = inspection.verdict(inspection.probabilities(text.rows[place]), token_id)
    smallest_p = _smallest(found)
    temperature = inspection.temperature_of(request.parameters)
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
