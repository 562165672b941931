"""Commands that look into the last text and beyond its end: `:why`, `:heat`, `:diff`,
`:next`, `:explain`.

What `:explain` shows depends on what a rule weighs: the cut of a truncation, the
penalties of a history rule, the columns of a chain, the steps of a search.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.text import Text

from minigpt_repl.compare.choice import (
    SHOWN_TOKENS,
    Distribution,
    find_place,
    next_distribution,
    rulings,
    stage_columns,
    strategy_columns,
    why_chosen,
)
from minigpt_repl.compare.pieces import (
    FAINT,
    HeatView,
    next_token_place,
    visible,
)
from minigpt_repl.compare.spec import (
    Strategy,
    parse_strategies,
    read_count,
    split_words,
)
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import EngineInfo
from minigpt_repl.errors import UsageError, no_draft
from minigpt_repl.models.text.spacing import SPACE_MARK
from minigpt_repl.repl.commands.comparing import strategy_words
from minigpt_repl.repl.commands.searches import (
    VIEWS,
    CandidatesView,
    DraftsView,
    search_request,
)
from minigpt_repl.repl.commands.setting import read_assignments
from minigpt_repl.repl.completion import sampler_words
from minigpt_repl.repl.context import (
    Context,
    Outputs,
    current_ids,
    inspect_text,
    prompt_ids_of,
)
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Notice, Output, Say
from minigpt_repl.repl.tables import NAME, STRONG, FittingTable, Row, facts_table
from minigpt_repl.sampling.parameters import Value, format_values
from minigpt_repl.sampling.registry import SamplerSpec, find_sampler, read_sampler
from minigpt_repl.sampling.rules import best as best_alone
from minigpt_repl.shown import (
    and_more,
    in_bits,
    in_nats,
    in_nats_of_change,
    percent,
    plain,
    shown,
)

if TYPE_CHECKING:
    import numpy as np

MOST_TOKENS = 100
SHOWN_REMOVED = 3
SHOWN_PLACES = 10
OUTSIDE_MARK = "†"
EXPLAINED = {"hypotheses": 2, "candidates": 1, "drafts": 12}
"""Tokens that a search makes to be explained, by what it shows."""


def token_words(context: Context, typed: str) -> Iterator[str]:
    """For `:why`: the tokens of the last text."""
    node = context.session.node
    tokens = () if node is None else node.generation.tokens
    yield from dict.fromkeys(token.text.removeprefix("Ġ") for token in tokens)


@command("why", usage="[N | WORD]", complete=token_words)
def why(context: Context, arguments: str) -> Outputs:
    """Tell why a token of the last text was chosen.

    N counts the new tokens from 1, from the end if negative; a word means the
    first token of that spelling. Without either it is the most surprising one.
    """
    text = inspect_text(context, ":why")
    choice = why_chosen(text, find_place(text, arguments))
    yield Say(facts_table(choice.facts))
    yield Say("")
    yield Say(choice.distribution)


@command("heat")
def heat(context: Context, arguments: str) -> Outputs:
    """Show the last text by surprisal: how little the model expected each token.

    Without colour every token is followed by its surprisal in bits, as a digit.
    """
    text = inspect_text(context, ":heat")
    ids, bits = text.generation.token_ids, text.bits
    yield Say(HeatView(text.prompt, text.pieces, bits))
    mean = sum(bits) / len(bits)
    worst = max(range(len(bits)), key=bits.__getitem__)
    yield Notice(
        f"{in_bits(mean)} a token; most surprising: "
        f"{visible(ids[worst], context.engine.info)} (:why {worst + 1}), "
        f"{in_bits(bits[worst])}"
    )


@command("diff")
def diff(context: Context, arguments: str) -> Outputs:
    """Show where other samplers would have chosen otherwise in the last text.

    Each saw the same distribution at each step. `word{other}` marks a place where
    greedy would have taken the other token; `†` behind it, that the rule of at least
    one other sampler would not have allowed the word.
    """
    text = inspect_text(context, ":diff")
    settings = context.session.settings
    ids = text.generation.token_ids
    allowed = {}  # by sampler: of each token, whether its rule keeps it
    for spec in settings.samplers():
        values = settings.parameters(spec)
        kept = inspection.kept_mask(spec, values, text.rows, text.where)
        allowed[spec.name] = [bool(row[i]) for row, i in zip(kept, ids, strict=True)]
    rules = [name for name in allowed if find_sampler(name).rule is not best_alone]
    best = [int(row.argmax()) for row in text.rows]
    line = Text(shown(text.prompt), style="dim")
    for place, piece in enumerate(text.pieces):
        is_best = best[place] == ids[place]
        line.append(shown(piece), style="not dim" if is_best else "not dim bold")
        if not is_best:
            greedy = visible(best[place], context.engine.info)
            greedy = greedy.removeprefix(SPACE_MARK)
            line.append(f"{{{greedy}}}", style="not dim cyan")
        if not all(allowed[name][place] for name in rules):
            line.append(OUTSIDE_MARK, style="not dim bold red")
    yield Say(line)
    yield Notice(
        f"{{word}}: what greedy would have taken; {OUTSIDE_MARK}: outside some rule"
    )
    yield Say("")
    yield Say(_agreement(allowed))


def _agreement(allowed: Mapping[str, Sequence[bool]]) -> FittingTable:
    """Of each sampler how many tokens its rule allows, and which it does not."""
    rows: list[Row] = []
    for sampler, is_allowed in allowed.items():
        outside = [str(i) for i, ok in enumerate(is_allowed, start=1) if not ok]
        count = f"{sum(is_allowed)} of {len(is_allowed)}"
        places = " ".join(outside[:SHOWN_PLACES])
        more = and_more(len(outside) - SHOWN_PLACES)
        rows.append((Text(sampler, style=NAME), count, places + more))
    return FittingTable(("its rule", "allows", "but not token"), rows, right="allows")


@command("next", usage="[N] [SPEC ...]", complete=strategy_words)
def next_token(context: Context, arguments: str) -> Outputs:
    """Show the model's distribution of the next token after the text.

    A bar for each of the N most probable tokens (10), then a column for each
    sampler: which tokens its rule keeps, temperature (T) applied, renormalised.
    `·king` begins a word, `##ing` goes on with one. Name strategies, such as
    `:next 20 top_k:k=5 top_p:p=0.5`, to see those.
    """
    words = split_words(arguments)
    count = SHOWN_TOKENS
    if words and words[0].strip("+-0123456789") == "":
        count = read_count(words.pop(0), MOST_TOKENS, ":next takes")
    settings = context.session.settings
    strategies = parse_strategies(words, settings) or [
        Strategy(spec.name, settings.parameters(spec))
        for spec in settings.samplers()
        if spec.search is None or spec.name == settings.sampler.name
    ]
    ids, info = current_ids(context), context.engine.info
    logits = inspection.next_logits(context.engine, ids)
    place = inspection.next_place(ids, context.engine)
    node = context.session.node
    yield Notice(next_token_place("" if node is None else node.text))
    columns = strategy_columns(strategies, logits, place)
    yield Say(next_distribution(logits, columns, info, count))


@command("explain", usage="[SAMPLER]", complete=sampler_words)
def explain(context: Context, arguments: str) -> Outputs:
    """Tell a sampler's rule, and work it on the model's own next token.

    A sampler or a rule of a chain, with values if you like: `:explain top_p:p=0.5`.
    Without a name it is the sampler in use. The next token is that after the last
    prompt; for rules that look at the text so far, that after the last text.
    """
    settings = context.session.settings
    spec, values = settings.sampler, settings.parameters()
    if arguments:
        spec, typed = _read_explained(arguments)
        values = settings.parameters(spec)
        for name, text in typed.items():
            parameter = spec.parameter(name)
            values[parameter.name] = parameter.parse(text, settings.limits)
    # A stage's story has its formula.
    formula = [] if spec.stages else [f"{spec.formula} ({spec.origin})."]
    yield Say(Text("\n".join(filter(None, [spec.story, *formula, spec.use]))))
    node = context.session.node
    prompt, ids = "", current_ids(context)
    if node is not None:
        is_whole = spec.needs_history or node.generation.is_own_text
        prompt = node.text if is_whole else node.prompt
        ids = ids if is_whole else prompt_ids_of(context, node)
    named = spec.text(values)
    if not spec.stages:
        named = f"{spec.name} {format_values(values, shows_off=True)}".rstrip()
    yield Notice(f"{named}, {next_token_place(prompt)}")
    if spec.search is not None:
        yield from _search(context, spec, values, prompt, ids)
    else:
        yield Say(_rule(context, spec, values, ids))


def _read_explained(typed: str) -> tuple[SamplerSpec, dict[str, str]]:
    """A sampler and values that were typed: `top_p:p=0.5`, or as `:sampler` takes
    them, `top_p p=0.5`."""
    name, _, pairs = typed.partition(" ")
    if not pairs or set("=:+") & set(name) or pairs.lstrip().startswith("+"):
        return read_sampler(typed)
    usage = f":explain {plain(name)}:NAME=VALUE,..."
    return read_sampler(name)[0], read_assignments(pairs, usage)


def _rule(
    context: Context,
    spec: SamplerSpec,
    values: Mapping[str, Value],
    ids: tuple[int, ...],
) -> FittingTable | Distribution:
    """What a rule makes of the distribution behind some tokens."""
    engine, info = context.engine, context.engine.info
    scores = inspection.next_logits(engine, ids)
    place = inspection.next_place(ids, engine)
    if len(spec.stages) > 1:
        made = rulings(Strategy(spec.name, values), scores, place)
        return next_distribution(scores, stage_columns(made), info)
    if spec.needs_history:
        (after,) = inspection.chain_left(spec, values, scores, place)
        seen = place.seen[0].tolist()
        return penalties_table(scores, after.logits, seen, info)
    left = inspection.kept_distribution(spec, values, scores, place)
    temperature = inspection.rule_temperature(spec, values) or 1.0
    return cut_table(scores, temperature, left, info)


def _search(
    context: Context,
    spec: SamplerSpec,
    values: Mapping[str, Value],
    prompt: str,
    ids: tuple[int, ...],
) -> Iterator[Output]:
    """What a search weighs at the next token, by making a few."""
    assert spec.search is not None
    if spec.needs_draft and not context.engine.info.has_draft:
        raise UsageError(no_draft(spec.name))
    request = replace(
        search_request(context, spec, prompt, ids),
        parameters=dict(values),
        length=EXPLAINED[spec.search.shows],
        stop="none",
    )
    view = VIEWS[spec.search.shows](request, context.engine)
    for event in context.engine.generate(request):
        view.follow(event)
    if view.steps:
        yield Say(view.table() if isinstance(view, CandidatesView) else view.drawn())
    if isinstance(view, DraftsView):
        yield Notice(view.rate(sum(one.accepted + 1 for one in view.steps)))


def cut_table(
    logits: "np.ndarray", temperature: float, left: "np.ndarray", info: EngineInfo
) -> FittingTable:
    """The most probable tokens, with the cut marked if a rule makes one.

    Args:
        logits: the model's, `(vocabulary,)`.
        temperature: that of what the rule saw.
        left: the probabilities that it left, renormalised, `(vocabulary,)`.
        info: of the model.
    """
    model = inspection.probabilities(logits)
    seen = inspection.probabilities(logits, temperature)
    shares = {"model": model} if temperature == 1 else {"model": model, "T": seen}
    order = inspection.top_ids(seen, len(seen))
    sums = dict(zip(order, seen[order].cumsum(), strict=True))

    def row(i: int) -> Row:
        is_kept = left[i] > 0
        return (
            Text(visible(i, info), style=NAME if is_kept else FAINT),
            *(percent(each[i]) for each in shares.values()),
            percent(sums[i]),
            Text(percent(left[i]), style=STRONG if is_kept else FAINT),
        )

    def more(ids: list[int], word: str = "") -> list[Row]:
        if not ids:
            return []
        name = Text(f"{len(ids):,} more {word}".rstrip(), style=FAINT)
        parts = (percent(each[ids].sum()) for each in shares.values())
        return [(name, *parts, "", Text(percent(left[ids].sum()), style=FAINT))]

    kept = [i for i in order if left[i] > 0]
    removed = order[len(kept) :]
    if removed and order[: len(kept)] == kept:
        first, last = kept, []
        if len(kept) > SHOWN_TOKENS:
            first, last = kept[: SHOWN_TOKENS - 3], kept[-2:]
        share = percent(seen[kept].sum())
        cut = f"── cut: {len(kept):,} of {len(order):,} tokens, {share} ──"
        rows = [
            *map(row, first),
            *more(kept[len(first) : len(kept) - len(last)], "kept"),
            *map(row, last),
            (Text(cut, style=STRONG),),
            *map(row, removed[:SHOWN_REMOVED]),
            *more(removed[SHOWN_REMOVED:], "removed"),
        ]
    else:
        rows = [*map(row, order[:SHOWN_TOKENS]), *more(order[SHOWN_TOKENS:])]
    if not removed:
        rows.append((Text("nothing is removed", style=FAINT),))
    headings = ("token", *shares, "sum", "left")
    return FittingTable(headings, rows, right=" ".join(headings[1:]))


def penalties_table(
    before: "np.ndarray", after: "np.ndarray", seen: Sequence[int], info: EngineInfo
) -> FittingTable:
    """What a history rule takes off the logits of tokens that were there.

    `before` are the logits `(vocabulary,)`, `after` the same behind the rule, and
    `seen` are the tokens so far.
    """
    shares, left = inspection.probabilities(before), inspection.probabilities(after)
    order = inspection.top_ids(shares, len(shares))
    changed = [i for i in order if before[i] != after[i]]
    best = [i for i in order[:SHOWN_TOKENS] if i not in changed]
    told = {*changed[: SHOWN_TOKENS - SHOWN_REMOVED], *best[:SHOWN_REMOVED]}
    rows: list[Row] = []
    for i in [each for each in order if each in told]:
        change = "removed" if left[i] == 0 else in_nats_of_change(after[i] - before[i])
        rows.append(
            (
                Text(visible(i, info), style=NAME if i in changed else ""),
                str(seen.count(i) or "-"),
                in_nats(before[i]),
                change if i in changed else "",
                percent(shares[i]),
                Text(percent(left[i]), style=STRONG),
            )
        )
    if lost := [i for i in changed if i not in told]:
        cells = [percent(each[lost].sum()) for each in (shares, left)]
        rows.append((Text(f"{len(lost)} more changed", FAINT), "", "", "", *cells))
    if not changed:
        rows.append((Text("it changes nothing here", style=FAINT),))
    headings = ("token", "seen", "logit", "penalty", "model", "left")
    return FittingTable(headings, rows, right=" ".join(headings[1:]))
