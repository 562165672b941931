"""Trees of tokens: a beam search, and the likeliest continuations of a text.

Of a beam search a tree tells step by step who survives, who is dropped and by how much.
KerasHub's search tells who survived. What else there was to choose from is worked out
here, from the model's scores behind each hypothesis, so it fits the blackboard only:
few beams, few steps.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rich.text import Text
from rich.tree import Tree

from minigpt_repl.compare.pieces import FAINT, visible
from minigpt_repl.compare.spec import read_wholes
from minigpt_repl.engine.inspection import (
    next_logits,
    probabilities,
    temperature_of,
    top_ids,
)
from minigpt_repl.engine.request import (
    Engine,
    EngineInfo,
    Event,
    HypothesesChanged,
    Hypothesis,
    Request,
    Started,
)
from minigpt_repl.errors import UsageError
from minigpt_repl.repl.context import Context, current_ids
from minigpt_repl.repl.tables import NAME, STRONG
from minigpt_repl.shown import NO_PROMPT, in_nats, percent, quoted, shown

SHOWN_DROPPED = 2
"""Of each step of a group, those that nearly survived it."""

MOST_DEPTH = 8
MOST_CHILDREN = 10
MOST_GROWN = 150
"""Tokens of a tree that grows by itself; each costs a pass of the model."""
GUIDE_WIDTH = 4
LABEL_WIDTH = 30

Place = tuple[int, tuple[int, ...]]
"""A node of the tree: its group and its tokens."""


@dataclass(frozen=True)
class Extension(Hypothesis):
    """A hypothesis with one more token, and how far it was below the last that
    survived; `None` if it did."""

    margin: float | None = None


@dataclass
class BeamTree:
    """A search as it goes on; the engine tells what else there was.

    Attributes:
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
                Extension(
                    one.token_ids, one.logprob, group=one.group, penalty=one.penalty
                )
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
            ids = (*self.prompt_ids, *parent.token_ids)
            scores = next_logits(self.engine, ids)
            with np.errstate(divide="ignore"):
                logprobs = np.log(probabilities(scores, temperature_of(values)))
            logprobs, penalties = logprobs + parent.logprob, np.zeros_like(logprobs)
            for token_id, count in chosen.items():
                penalties[token_id] = count * each_time
            penalties += parent.penalty
            best = (penalties - logprobs).argsort(kind="stable")
            for token_id in best[: len(own) + SHOWN_DROPPED].tolist():
                tokens = (*parent.token_ids, token_id)
                logprob, penalty = float(logprobs[token_id]), float(penalties[token_id])
                if tokens not in survivors and np.isfinite(logprob):
                    one = Extension(tokens, logprob, group=group, penalty=penalty)
                    found.append(replace(one, margin=max(0.0, last - one.total)))
        return sorted(found, key=lambda one: -one.total)[:SHOWN_DROPPED]

    def drawn(self) -> Tree:
        """The tree so far; the best text of its last step is bold."""
        root = Tree(
            Text(shown(self.request.prompt) or NO_PROMPT, style="bold"),
            guide_style=FAINT,
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

    def _label(self, one: Extension, best: Extension, goes_on: bool) -> Text:
        word = visible(one.token_ids[-1], self.engine.info)
        ended = {(each.group, each.token_ids) for each in self.ranked if each.has_ended}
        is_best = best.token_ids[: len(one.token_ids)] == one.token_ids
        is_best = is_best and best.group == one.group
        style = STRONG if is_best else FAINT if one.margin is not None else ""
        label = Text(f"{word} {in_nats(one.logprob)}", style=style)
        if one.penalty:
            label.append(f" -{in_nats(one.penalty)}", style="not bold yellow")
        if one.margin is not None:
            label.append(f"  dropped, {in_nats(one.margin)} short", style=FAINT)
        elif (one.group, one.token_ids) in ended:
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


def grown_tree(context: Context, arguments: str) -> Tree:
    """The likeliest continuations of the current text, under the model alone, for
    `--auto [DEPTH] [CHILDREN]`."""
    depth, children = _read_growth(arguments, context.width)
    root = Tree("", hide_root=True, guide_style=FAINT)

    def grow(under: Tree, ids: tuple[int, ...], share: float, left: int) -> None:
        shares = probabilities(next_logits(context.engine, ids))
        for token_id in top_ids(shares, children):
            word, own = visible(token_id, context.engine.info), float(shares[token_id])
            label = Text(word, style=NAME, no_wrap=True, overflow="ellipsis")
            label.append(f" {percent(own)}", style="not bold default")
            if left < depth:
                whole = percent(share * own)
                label.append(f", {whole} together", style="not bold default dim")
            branch = under.add(label)
            if left > 1:
                grow(branch, (*ids, token_id), share * own, left - 1)

    grow(root, current_ids(context), 1.0, depth)
    return root


def _read_growth(arguments: str, width: int) -> tuple[int, int]:
    """Depth and children of a tree that grows by itself."""
    words = arguments.split()[1:]
    depth, children = read_wholes(words, (3, 3))[:2]
    most = min(MOST_DEPTH, (width - LABEL_WIDTH) // GUIDE_WIDTH)
    if len(words) > 2 or not 1 <= depth <= most or not 1 <= children <= MOST_CHILDREN:
        raise UsageError(
            f":tree --auto takes a depth 1..{most} and children 1..{MOST_CHILDREN}; "
            f"got {quoted(arguments)}"
        )
    if sum(children**level for level in range(1, depth + 1)) > MOST_GROWN:
        raise UsageError(
            f":tree --auto draws at most {MOST_GROWN} tokens; {depth} deep with "
            f"{children} children are more"
        )
    return depth, children
