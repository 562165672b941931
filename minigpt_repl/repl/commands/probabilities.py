"""The distribution of the next token: `:next`, and a sampler's rule worked on it,
`:explain`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from minigpt_repl.compare.pieces import visible, visible_all
from minigpt_repl.compare.spec import (
    Strategy,
    parse_strategies,
    read_whole,
    split_words,
)
from minigpt_repl.compare.view import bar
from minigpt_repl.engine import inspection
from minigpt_repl.engine.inspection import (
    kept_distribution,
    next_place,
    probabilities,
    rule_temperature,
    top_ids,
)
from minigpt_repl.engine.request import EngineInfo
from minigpt_repl.errors import UsageError
from minigpt_repl.models.text.marks import SPACE_MARK
from minigpt_repl.repl.commands.comparing import strategy_words
from minigpt_repl.repl.completion import sampler_words
from minigpt_repl.repl.context import Context, Steps, current_ids, prompt_ids_of
from minigpt_repl.repl.continuation import ending_in_a_line
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Notice, Say
from minigpt_repl.repl.tables import FAINT, NAME, STRONG, Sheet, make_table
from minigpt_repl.sampling.chain import stage_text
from minigpt_repl.sampling.parameters import Value, format_value
from minigpt_repl.sampling.registry import SamplerSpec, find_sampler
from minigpt_repl.settings import Settings
from minigpt_repl.suggest import quoted

if TYPE_CHECKING:
    import numpy as np

BAR_WIDTH = 16
CHOSEN_MARK = "◂"
SHOWN_TOKENS = 10
MOST_TOKENS = 100
SHOWN_CONTEXT = 60


def distribution_table(
    logits: "np.ndarray",
    strategies: Sequence[Strategy],
    info: EngineInfo,
    count: int,
    chosen: int | None = None,
    numbered: bool = False,
    where: inspection.Places | None = None,
) -> Table:
    """The most probable tokens, with a column for each strategy.

    Every column sums to 1: the rows shown, those left out, and the sum printed.
    The bar is as long as the token is probable, the best token's fills it.

    Args:
        logits: `(vocabulary,)`, from before the token.
        strategies: whose kept tokens are shown, renormalised.
        info: for the words.
        count: rows.
        chosen: an id that is marked, and shown even if it is less probable.
        numbered: whether the rows have digits to choose by.
        where: the place in a text, for rules that look at it.
    """
    model = inspection.probabilities(logits)
    best = inspection.top_ids(model, count)
    if chosen is not None and chosen not in best:
        best.append(chosen)
    shares = [
        kept_distribution(find_sampler(s.sampler), s.parameters, logits, where)
        for s in strategies
    ]
    table = Table(box=None, pad_edge=False, header_style=FAINT)
    table.add_column("#" if numbered else "", justify="right", no_wrap=True)
    table.add_column("token", no_wrap=True, overflow="ellipsis")
    table.add_column("model", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, width=BAR_WIDTH)
    for strategy in strategies:
        table.add_column(_heading(strategy), justify="right", overflow="fold")
    highest = float(model[best[0]])
    for place, (token_id, word) in enumerate(
        zip(best, visible_all(best, info), strict=True)
    ):
        is_chosen = token_id == chosen
        name = Text(word, style=STRONG if is_chosen else "")
        if is_chosen:
            name.append(f" {CHOSEN_MARK}")
        table.add_row(
            str(place) if numbered else "",
            name,
            _percent(float(model[token_id])),
            Text(bar(float(model[token_id]) / highest, BAR_WIDTH), style="cyan"),
            *(_share(float(share[token_id])) for share in shares),
        )
    _add_sums(table, best, [model, *shares])
    return table


def _add_sums(
    table: Table, best: Sequence[int], columns: Sequence["np.ndarray"]
) -> None:
    """What the rows leave out, and the sum of each whole column."""
    model, *shares = columns
    shown = list(best)
    rest = [
        _percent(max(0.0, float(column.sum() - column[shown].sum())))
        for column in columns
    ]
    others = int((model > 0).sum()) - len(best)
    if others > 0:
        table.add_row("", f"{others:,} more", rest[0], "", *rest[1:], style=FAINT)
    kept = [str(int((share > 0).sum())) for share in shares]
    sums = [f"{100 * float(column.sum()):.1f}%" for column in columns]
    table.add_row("", "sum", sums[0], "", *sums[1:], style=FAINT)
    possible = f"{int((model > 0).sum()):,}"
    table.add_row("", "tokens kept", possible, "", *kept, style=FAINT)


def _heading(strategy: Strategy) -> Text:
    stages = find_sampler(strategy.sampler).stages
    name, pairs = strategy.sampler, strategy.words.split()
    if stages:
        name = "chain"
        pairs = [stage_text(stage, strategy.parameters) for stage in stages]
    heading = Text(name, style=f"{NAME} not dim")
    for pair in pairs:
        pair = pair.replace("temperature=", "T=")  # a column is 9 wide
        heading.append(f"\n{pair}", style="not bold default dim")
    return heading


def _share(part: float) -> Text:
    return Text(_percent(part), style="" if part > 0 else FAINT)


def _percent(part: float) -> str:
    """A share; `-` for none, so that what a rule removed stands out."""
    if part <= 0:
        return "-"
    return f"{100 * part:.1f}%" if part >= 0.0005 else "<0.1%"


@command("explain", usage="[SAMPLER]", complete=sampler_words)
def explain(context: Context, arguments: str) -> Steps:
    """Tell a sampler's rule, worked on the model's own next word.

    The table shows the most probable tokens after the last prompt: the model's
    probability, that with the temperature applied, and what the rule makes of it.
    Without a name it is the sampler in use.
    """
    settings = context.session.settings
    spec = find_sampler(arguments) if arguments else settings.sampler
    values = settings.parameters(spec)
    yield Say(Text(spec.story))
    node = context.session.node
    ids = () if node is None else prompt_ids_of(context, node)
    scores = context.engine.logits(ids)[-1]  # (vocabulary,)
    where = "at the start"
    if node is not None:
        where = ending_in_a_line(node.prompt, SHOWN_CONTEXT)
    now = " ".join(f"{name}={format_value(value)}" for name, value in values.items())
    yield Notice(f"{spec.name} {now}".rstrip() + f", the next token after: {where}")
    info = context.engine.info
    place = next_place(ids, context.engine)
    if spec.stages:
        yield Say(stages_work_out(spec, values, scores, info, place))
    else:
        yield Say(_work_out(spec, values, scores, info))
    return context.session


def _work_out(
    spec: SamplerSpec,
    values: Mapping[str, Value],
    scores: "np.ndarray",
    info: EngineInfo,
) -> Sheet:
    """The rule on one distribution, from the model's scores `(vocabulary,)`."""
    model = probabilities(scores)
    tempered = probabilities(scores, rule_temperature(spec, values) or 1.0)
    left = kept_distribution(spec, values, scores)
    best = top_ids(model, SHOWN_TOKENS)
    has_temperature = "temperature" in values
    rows: list[tuple[Text | str, ...]] = []
    for token_id, word in zip(best, visible_all(best, info), strict=True):
        is_kept = left[token_id] > 0
        rows.append(
            (
                Text(word.removeprefix(SPACE_MARK), style=NAME if is_kept else ""),
                _percent(model[token_id]),
                _percent(tempered[token_id]) if has_temperature else "",
                Text(_percent(left[token_id]), style=STRONG),
            )
        )
    others = int((left > 0).sum()) - int((left[best] > 0).sum())
    if others:
        rest = Text(_percent(1 - left[best].sum()), style=STRONG)
        rows.append((Text(f"{others} more"), "", "", rest))
    headings = ("token", "model", "temperature" if has_temperature else "", "kept")
    return make_table(headings, rows, right="model temperature kept", whole=4)


def stages_work_out(
    spec: SamplerSpec,
    values: Mapping[str, Value],
    scores: "np.ndarray",
    info: EngineInfo,
    place: inspection.Places,
) -> Sheet:
    """The stages of a chain on one distribution, a column each."""
    model = probabilities(scores)
    after = inspection.chain_distributions(spec, values, scores, place)
    rows: list[tuple[Text | str, ...]] = []
    for token_id in top_ids(model, SHOWN_TOKENS):
        is_kept = after[-1][token_id] > 0
        rows.append(
            (
                Text(visible(token_id, info), style=NAME if is_kept else ""),
                _percent(model[token_id]),
                *(Text(_percent(left[token_id])) for left in after),
            )
        )
    counts = [f"{int((left > 0).sum()):,}" for left in (model, *after)]
    rows.append(("tokens left", *counts))
    headings = ("token", "model", *(stage.name for stage in spec.stages))
    return make_table(headings, rows, right=" ".join(headings[1:]), whole=2)


@command("next", usage="[N] [SPEC ...]", complete=strategy_words)
def next_token(context: Context, arguments: str) -> Steps:
    """Show the model's distribution of the next token after the text.

    A bar for each of the N most probable tokens (10), then a column for each
    sampler: which tokens its rule keeps, temperature (T) applied, renormalised.
    `·king` begins a word, `##ing` goes on with one. Name strategies, such as
    `:next 20 top_k:k=5 top_p:p=0.5`, to see those.
    """
    words = split_words(arguments)
    count = SHOWN_TOKENS
    if words and words[0].strip("+-0123456789") == "":
        count = _read_count(words.pop(0))
    settings = context.session.settings
    strategies = parse_strategies(words, settings) or _drawing(settings)
    ids, info = current_ids(context), context.engine.info
    logits = context.engine.logits(ids)[-1]  # (vocabulary,)
    place = next_place(ids, context.engine)
    node = context.session.node
    where = "at the start"
    if node is not None:
        where = f"after: {ending_in_a_line(node.text, SHOWN_CONTEXT)}"
    yield Notice(f"the next token {where}")
    yield Say(distribution_table(logits, strategies, info, count, where=place))
    return context.session


def _drawing(settings: Settings) -> tuple[Strategy, ...]:
    """The samplers that choose from one distribution, and the one in use."""
    return tuple(
        Strategy(spec.name, settings.parameters(spec))
        for spec in settings.samplers()
        if spec.search is None or spec.name == settings.sampler.name
    )


def _read_count(word: str) -> int:
    count = read_whole(word)
    if count is None or not 1 <= count <= MOST_TOKENS:
        raise UsageError(
            f":next takes a whole number 1..{MOST_TOKENS}; got {quoted(word)}"
        )
    return count
