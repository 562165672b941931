"""The distribution of the next token: `:next`, and a sampler's rule worked on it,
`:explain`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.text import Text

from minigpt_repl.compare.distribution import next_distribution
from minigpt_repl.compare.pieces import visible, visible_all
from minigpt_repl.compare.spec import (
    Strategy,
    parse_strategies,
    read_whole,
    split_words,
)
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
from minigpt_repl.repl.tables import NAME, STRONG, Sheet, make_table
from minigpt_repl.sampling.parameters import Value, format_value
from minigpt_repl.sampling.registry import SamplerSpec, find_sampler
from minigpt_repl.settings import Settings
from minigpt_repl.shown import percent
from minigpt_repl.suggest import quoted

if TYPE_CHECKING:
    import numpy as np

SHOWN_TOKENS = 10
MOST_TOKENS = 100
SHOWN_CONTEXT = 60


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
    place = next_place(ids, info.context_length)
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
                percent(model[token_id]),
                percent(tempered[token_id]) if has_temperature else "",
                Text(percent(left[token_id]), style=STRONG),
            )
        )
    others = int((left > 0).sum()) - int((left[best] > 0).sum())
    if others:
        rest = Text(percent(1 - left[best].sum()), style=STRONG)
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
                percent(model[token_id]),
                *(Text(percent(left[token_id])) for left in after),
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
    place = next_place(ids, info.context_length)
    node = context.session.node
    where = "at the start"
    if node is not None:
        where = f"after: {ending_in_a_line(node.text, SHOWN_CONTEXT)}"
    yield Notice(f"the next token {where}")
    yield Say(next_distribution(logits, strategies, info, count, where=place))
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
