"""`:next`: the distribution of the next token, and what each rule leaves of it."""

from minigpt_repl.compare.distribution import next_distribution
from minigpt_repl.compare.spec import (
    Strategy,
    parse_strategies,
    read_whole,
    split_words,
)
from minigpt_repl.engine.inspection import (
    next_place,
)
from minigpt_repl.errors import UsageError
from minigpt_repl.repl.commands.comparing import strategy_words
from minigpt_repl.repl.context import Context, Steps, current_ids
from minigpt_repl.repl.continuation import ending_in_a_line
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Notice, Say
from minigpt_repl.settings import Settings
from minigpt_repl.suggest import quoted

SHOWN_TOKENS = 10
MOST_TOKENS = 100
SHOWN_CONTEXT = 60


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
