"""`:diff`: what other samplers would have made of the last text, step by step."""

from rich.console import RenderableType
from rich.text import Text

from minigpt_repl.compare.pieces import words_of
from minigpt_repl.compare.spec import Strategy
from minigpt_repl.engine import inspection
from minigpt_repl.repl.command import Desk, Steps, command
from minigpt_repl.repl.inspected import Inspected, inspect_text
from minigpt_repl.repl.outputs import Notice, Say
from minigpt_repl.repl.sheet import NAME, make_table
from minigpt_repl.sampling.registry import all_samplers, find_sampler

SHOWN_PLACES = 10
OUTSIDE_MARK = "†"


@command("diff")
def diff(desk: Desk, arguments: str) -> Steps:
    """Show where other samplers would have chosen otherwise in the last text.

    Each saw the same distribution at each step. `word{other}` marks a place where
    greedy would have taken the other token; `†` behind it, that the rule of at least
    one other sampler would not have allowed the word.
    """
    text = inspect_text(desk, ":diff")
    settings = desk.session.settings
    strategies = [
        Strategy(spec.name, settings.parameters(spec)) for spec in all_samplers()
    ]
    allowed = {strategy.sampler: _allowed(strategy, text) for strategy in strategies}
    ids = text.generation.token_ids
    best = [int(row.argmax()) for row in text.rows]
    greedy_words = words_of(best, desk.engine.info)
    rules = [name for name in allowed if name not in ("greedy", "speculative")]
    shown = Text(text.node.prompt, style="dim")
    for place, piece in enumerate(text.pieces):
        is_same = best[place] == ids[place]
        shown.append(piece, style="not dim" if is_same else "not dim bold")
        if not is_same:
            shown.append(f"{{{greedy_words[place]}}}", style="not dim cyan")
        if not all(allowed[name][place] for name in rules):
            shown.append(OUTSIDE_MARK, style="not dim bold red")
    yield Say(shown)
    yield Notice(
        f"{{word}}: what greedy would have taken; {OUTSIDE_MARK}: outside some rule"
    )
    yield Say("")
    yield Say(_agreement(strategies, allowed, len(ids)))
    return desk.session


def _allowed(strategy: Strategy, text: Inspected) -> list[bool]:
    """Whether a sampler's rule keeps each token of a text."""
    spec = find_sampler(strategy.sampler)
    ids = text.generation.token_ids
    return [
        bool(inspection.kept_mask(spec, strategy.parameters, row)[token_id])
        for row, token_id in zip(text.rows, ids, strict=True)
    ]


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
