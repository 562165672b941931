"""Commands that look into the last text and beyond its end: `:why`, `:heat`, `:diff`,
`:next`.
"""

from collections.abc import Iterator

from rich.text import Text

from minigpt_repl.compare.choice import find_place, next_distribution, why_chosen
from minigpt_repl.compare.pieces import HeatView, next_token_place, visible, visible_all
from minigpt_repl.compare.spec import (
    Strategy,
    parse_strategies,
    read_count,
    split_words,
)
from minigpt_repl.engine import inspection
from minigpt_repl.models.text.spacing import SPACE_MARK
from minigpt_repl.repl.commands.comparing import strategy_words
from minigpt_repl.repl.context import Context, Outputs, current_ids, inspect_text
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Notice, Say
from minigpt_repl.repl.tables import NAME, FittingTable, facts_table
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.sampling.rules import best as best_alone
from minigpt_repl.shown import and_more, in_bits, shown

SHOWN_TOKENS = 10
MOST_TOKENS = 100


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


SHOWN_PLACES = 10
OUTSIDE_MARK = "†"


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
    greedy_words = visible_all(best, context.engine.info)
    line = Text(shown(text.prompt), style="dim")
    for place, piece in enumerate(text.pieces):
        if best[place] == ids[place]:
            line.append(shown(piece), style="not dim")
        else:
            greedy = greedy_words[place].removeprefix(SPACE_MARK)
            line.append(shown(piece), style="not dim bold")
            line.append(f"{{{greedy}}}", style="not dim cyan")
        if not all(allowed[name][place] for name in rules):
            line.append(OUTSIDE_MARK, style="not dim bold red")
    yield Say(line)
    yield Notice(
        f"{{word}}: what greedy would have taken; {OUTSIDE_MARK}: outside some rule"
    )
    yield Say("")
    yield Say(_agreement(allowed))


def _agreement(allowed: dict[str, list[bool]]) -> FittingTable:
    """Of each sampler how many tokens its rule allows, and which it does not."""
    rows = []
    for sampler, is_allowed in allowed.items():
        outside = [str(i) for i, ok in enumerate(is_allowed, start=1) if not ok]
        rows.append(
            (
                Text(sampler, style=NAME),
                f"{sum(is_allowed)} of {len(is_allowed)}",
                " ".join(outside[:SHOWN_PLACES])
                + and_more(len(outside) - SHOWN_PLACES),
            )
        )
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
    yield Say(next_distribution(logits, strategies, info, count, where=place))
