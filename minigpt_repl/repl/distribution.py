"""The distribution of one token as a table: the model's, then each rule's share.

Draws what it is given; asks no engine.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from minigpt_repl.compare.pieces import visible, words_of
from minigpt_repl.compare.spec import Strategy
from minigpt_repl.compare.view import bar
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import EngineInfo
from minigpt_repl.repl.sheet import FAINT, NAME, STRONG
from minigpt_repl.sampling.registry import find_sampler

if TYPE_CHECKING:
    import numpy as np

BAR_WIDTH = 16
CHOSEN_MARK = "◂"


def distribution_table(
    logits: "np.ndarray",
    strategies: Sequence[Strategy],
    info: EngineInfo,
    count: int,
    chosen: int | None = None,
    numbered: bool = False,
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
    """
    model = inspection.probabilities(logits)
    best = inspection.top_ids(model, count)
    if chosen is not None and chosen not in best:
        best.append(chosen)
    shares = [
        inspection.kept_distribution(find_sampler(s.sampler), s.parameters, logits)
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
        zip(best, words_of(best, info), strict=True)
    ):
        is_chosen = token_id == chosen
        name = Text(visible(word), style=STRONG if is_chosen else "")
        if is_chosen:
            name.append(f" {CHOSEN_MARK}")
        table.add_row(
            str(place) if numbered else "",
            name,
            _percent(float(model[token_id])),
            Text(bar(float(model[token_id]) / highest, BAR_WIDTH), style="cyan"),
            *(_percent(float(share[token_id])) for share in shares),
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
    heading = Text(strategy.sampler, style=f"{NAME} not dim")
    for pair in strategy.words.split():
        pair = pair.replace("temperature=", "T=")  # a column is 9 wide
        heading.append(f"\n{pair}", style="not bold default dim")
    return heading


def _percent(part: float) -> Text:
    """A share; `-` for none, so that what a rule removed stands out."""
    if part <= 0:
        return Text("-", style=FAINT)
    return Text(f"{100 * part:.1f}%" if part >= 0.0005 else "<0.1%")
