"""Beam search as a tree: step by step who survives, who is dropped and by how much.

KerasHub's search tells who survived. What else there was to choose from is worked out
here, from the model's scores behind each hypothesis, so it fits the blackboard only:
few beams, few steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.text import Text
from rich.tree import Tree

from minigpt_repl.compare.pieces import visible
from minigpt_repl.engine.inspection import probabilities, temperature_of
from minigpt_repl.engine.request import (
    Engine,
    EngineInfo,
    Event,
    HypothesesChanged,
    Hypothesis,
    Request,
    Started,
)
from minigpt_repl.repl.tables import FAINT, NAME, STRONG
from minigpt_repl.shown import in_nats, shown

SHOWN_DROPPED = 2
"""Of each step, those that nearly survived it."""


@dataclass(frozen=True)
class Extension:
    """A hypothesis with one more token.

    Attributes:
        token_ids: its new tokens.
        logprob: the sum of their log-probabilities.
        margin: how far it was below the last that survived; `None` if it did.
    """

    token_ids: tuple[int, ...]
    logprob: float
    margin: float | None = None


@dataclass
class BeamTree:
    """A search as it goes on.

    Attributes:
        request: what is searched for.
        engine: tells what else there was.
        parents: the hypotheses that the next step extends.
        ranked: all that there are, those that have ended too, best first.
        steps: the extensions of each step, survivors first, best first.
    """

    request: Request
    engine: Engine
    prompt_ids: tuple[int, ...] = ()
    parents: tuple[Hypothesis, ...] = (Hypothesis((), 0.0),)
    ranked: tuple[Hypothesis, ...] = ()
    steps: list[list[Extension]] = field(default_factory=list)

    def follow(self, event: Event) -> None:
        """Take an event of the search."""
        if isinstance(event, Started):
            self.prompt_ids = event.prompt_ids
        elif isinstance(event, HypothesesChanged):
            size = len(self.steps) + 1
            new = [one for one in event.survivors if len(one.token_ids) == size]
            kept = [Extension(one.token_ids, one.logprob) for one in new]
            last = min(one.logprob for one in new)
            dropped = self._dropped({one.token_ids for one in kept}, last)
            self.steps.append([*kept, *dropped])
            self.parents = tuple(one for one in new if not one.has_ended)
            self.ranked = event.survivors

    def _dropped(self, kept: set[tuple[int, ...]], last: float) -> list[Extension]:
        """The best extensions that did not survive a step."""
        import numpy as np

        temperature = temperature_of(self.request.parameters)
        found = []
        for parent in self.parents:
            ids = (*self.prompt_ids, *parent.token_ids)
            scores = self.engine.logits(ids)[-1]
            with np.errstate(divide="ignore"):
                totals = parent.logprob + np.log(probabilities(scores, temperature))
            for token_id in (-totals).argsort(kind="stable")[: len(kept) + 2]:
                tokens = (*parent.token_ids, int(token_id))
                if tokens not in kept and np.isfinite(totals[token_id]):
                    total = float(totals[token_id])
                    found.append(Extension(tokens, total, max(0.0, last - total)))
        return sorted(found, key=lambda one: -one.logprob)[:SHOWN_DROPPED]

    def drawn(self) -> Tree:
        """The tree so far; the best text of its last step is bold."""
        root = Tree(
            Text(shown(self.request.prompt) or "[BOS]", style="bold"), guide_style=FAINT
        )
        places: dict[tuple[int, ...], Tree] = {(): root}
        best = self.steps[-1][0].token_ids if self.steps else ()
        for number, step in enumerate(self.steps, start=1):
            is_last = number == len(self.steps)
            parents = {
                one.token_ids[:-1]
                for one in self.steps[number - 1 if is_last else number]
            }
            for one in sorted(step, key=lambda one: -one.logprob):
                label = self._label(one, best, is_last or one.token_ids in parents)
                places[one.token_ids] = places[one.token_ids[:-1]].add(label)
        return root

    @property
    def _ended(self) -> list[Hypothesis]:
        return [one for one in self.ranked if one.has_ended]

    def _label(self, one: Extension, best: Sequence[int], goes_on: bool) -> Text:
        word = visible(one.token_ids[-1], self.engine.info)
        is_best = tuple(best[: len(one.token_ids)]) == one.token_ids
        style = STRONG if is_best else FAINT if one.margin is not None else ""
        label = Text(f"{word} {in_nats(one.logprob)}", style=style)
        if one.margin is not None:
            label.append(f"  dropped, {in_nats(one.margin)} short", style=FAINT)
        elif any(one.token_ids == each.token_ids for each in self._ended):
            label.append("  has ended", style=f"not bold {FAINT}")
        elif not goes_on:
            label.append("  none of its extensions survives", style=f"not bold {FAINT}")
        return label


def ranking(tree: BeamTree, info: EngineInfo) -> Text:
    """All hypotheses that are left, best first, by their log-probability.

    Where some have ended also by their score, which takes their length into account.
    """
    lines = Text()
    has_scores = any(one.has_ended for one in tree.ranked)
    for place, one in enumerate(tree.ranked):
        pieces = info.text.parts(tree.request.prompt, tree.prompt_ids, one.token_ids)
        score = f"{in_nats(one.score):>7} " if has_scores else ""
        lines.append(f"{in_nats(one.logprob):>7} {score}", style="" if place else NAME)
        end = "" if one is tree.ranked[-1] else "\n"
        lines.append(shown(f"{''.join(pieces).strip()}{end}"), style="not bold default")
    return lines
