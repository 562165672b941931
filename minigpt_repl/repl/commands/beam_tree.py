"""Beam search as a tree: step by step who survives, who is dropped and by how much.

KerasHub's search tells who survived. What else there was to choose from is worked out
here, from the model's scores behind each hypothesis, so it fits the blackboard only:
few beams, few steps.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

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
"""Of each step of a group, those that nearly survived it."""

Place = tuple[int, tuple[int, ...]]
"""A node of the tree: its group and its tokens."""


@dataclass(frozen=True)
class Extension:
    """A hypothesis with one more token.

    Attributes:
        token_ids: its new tokens.
        logprob: the sum of their log-probabilities.
        group: of diverse beam search, from 0.
        penalty: what the group took off, in all.
        margin: how far it was below the last that survived; `None` if it did.
        total: what it survives by.
    """

    token_ids: tuple[int, ...]
    logprob: float
    group: int = 0
    penalty: float = 0.0
    margin: float | None = None

    @property
    def total(self) -> float:
        return self.logprob - self.penalty


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
    parents: tuple[Hypothesis, ...] = ()
    ranked: tuple[Hypothesis, ...] = ()
    steps: list[list[Extension]] = field(default_factory=list)

    def follow(self, event: Event) -> None:
        """Take an event of the search."""
        if isinstance(event, Started):
            self.prompt_ids = event.prompt_ids
        elif isinstance(event, HypothesesChanged):
            size = len(self.steps) + 1
            new = [one for one in event.survivors if len(one.token_ids) == size]
            kept = [
                Extension(one.token_ids, one.logprob, one.group, one.penalty)
                for one in new
            ]
            groups = sorted({one.group for one in new})
            dropped = [one for group in groups for one in self._dropped(kept, group)]
            self.steps.append([*kept, *dropped])
            self.parents = tuple(one for one in new if not one.has_ended)
            self.ranked = event.survivors

    def _dropped(self, kept: Sequence[Extension], group: int) -> list[Extension]:
        """The best extensions of a group that did not survive a step."""
        import numpy as np

        values = self.request.parameters
        each_time = float(values.get("diversity_penalty") or 0.0)
        own = [one for one in kept if one.group == group]
        survivors, last = {one.token_ids for one in own}, min(e.total for e in own)
        chosen = Counter(one.token_ids[-1] for one in kept if one.group < group)
        found = []
        start = Hypothesis((), 0.0, group=group)
        for parent in self.parents if self.steps else (start,):
            if parent.group != group:
                continue
            scores = self.engine.logits((*self.prompt_ids, *parent.token_ids))[-1]
            with np.errstate(divide="ignore"):
                logprobs = np.log(probabilities(scores, temperature_of(values)))
            logprobs, penalties = logprobs + parent.logprob, np.zeros_like(logprobs)
            for token_id, count in chosen.items():
                penalties[token_id] = count * each_time
            penalties += parent.penalty
            best = (penalties - logprobs).argsort(kind="stable")
            for token_id in best[: len(own) + SHOWN_DROPPED].tolist():
                tokens = (*parent.token_ids, token_id)
                if tokens not in survivors and np.isfinite(logprobs[token_id]):
                    figures = float(logprobs[token_id]), float(penalties[token_id])
                    one = Extension(tokens, figures[0], group, figures[1])
                    found.append(replace(one, margin=max(0.0, last - one.total)))
        return sorted(found, key=lambda one: -one.total)[:SHOWN_DROPPED]

    def drawn(self) -> Tree:
        """The tree so far; the best text of its last step is bold."""
        root = Tree(
            Text(shown(self.request.prompt) or "[BOS]", style="bold"), guide_style=FAINT
        )
        places: dict[Place, Tree] = {(0, ()): root}
        if "num_groups" in self.request.parameters:
            groups = sorted({one.group for step in self.steps for one in step})
            places = {(n, ()): root.add(Text(f"group {n + 1}")) for n in groups}
        for number, step in enumerate(self.steps, start=1):
            best, is_last = self.steps[-1][0], number == len(self.steps)
            after = self.steps[number - 1 if is_last else number]
            parents = {(one.group, one.token_ids[:-1]) for one in after}
            for one in sorted(step, key=lambda one: -one.total):
                own = (one.group, one.token_ids)
                label = self._label(one, best, is_last or own in parents)
                places[own] = places[one.group, one.token_ids[:-1]].add(label)
        return root

    @property
    def _ended(self) -> set[Place]:
        return {(one.group, one.token_ids) for one in self.ranked if one.has_ended}

    def _label(self, one: Extension, best: Extension, goes_on: bool) -> Text:
        word = visible(one.token_ids[-1], self.engine.info)
        is_best = best.token_ids[: len(one.token_ids)] == one.token_ids
        is_best = is_best and best.group == one.group
        style = STRONG if is_best else FAINT if one.margin is not None else ""
        label = Text(f"{word} {in_nats(one.logprob)}", style=style)
        if one.penalty:
            label.append(f" -{in_nats(one.penalty)}", style="not bold yellow")
        if one.margin is not None:
            label.append(f"  dropped, {in_nats(one.margin)} short", style=FAINT)
        elif (one.group, one.token_ids) in self._ended:
            label.append("  has ended", style=f"not bold {FAINT}")
        elif not goes_on:
            label.append("  none of its extensions survives", style=f"not bold {FAINT}")
        return label


def ranking(tree: BeamTree, info: EngineInfo) -> Text:
    """All hypotheses that are left, best first, by their log-probability.

    Where some have ended also by their score, which takes their length into account,
    or where there are groups, which took something off; then each has its group.
    """
    lines = Text()
    has_groups = "num_groups" in tree.request.parameters
    has_scores = has_groups or any(one.has_ended for one in tree.ranked)
    for place, one in enumerate(tree.ranked):
        pieces = info.text.parts(tree.request.prompt, tree.prompt_ids, one.token_ids)
        score = f"{in_nats(one.score):>7} " if has_scores else ""
        group = f"group {one.group + 1} " if has_groups else ""
        figures = f"{in_nats(one.logprob):>7} {score}{group}"
        lines.append(figures, style="" if place else NAME)
        end = "" if one is tree.ranked[-1] else "\n"
        lines.append(shown(f"{''.join(pieces).strip()}{end}"), style="not bold default")
    return lines
