"""What the samplers that look at whole texts weigh: `:beams`, `:candidates`, `:drafts`.

Each makes one text of the last prompt and shows what was decided on the way. A view
follows the engine's events and is drawn now and then.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from minigpt_repl.compare.pieces import FAINT, stats_line, visible
from minigpt_repl.compare.spec import read_wholes, split_prompt
from minigpt_repl.engine.inspection import next_logits, probabilities, temperature_of
from minigpt_repl.engine.request import (
    CandidatesWeighed,
    DraftVerified,
    Engine,
    Event,
    Generation,
    HypothesesChanged,
    Hypothesis,
    Request,
    Started,
    TokenChosen,
    finished,
)
from minigpt_repl.errors import UsageError, no_draft
from minigpt_repl.repl.commands.comparing import prompt_for
from minigpt_repl.repl.context import Context, Steps
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Live, Notice, Output, Pace, Say
from minigpt_repl.repl.tables import NAME, STRONG, FittingTable, Row
from minigpt_repl.sampling.registry import SamplerSpec, all_samplers, find_sampler
from minigpt_repl.shown import (
    NO_PROMPT,
    as_mean,
    as_score,
    as_share,
    as_similarity,
    in_nats,
    percent,
    quoted,
    shown,
)

BEAMS, STEPS = 3, 4
MOST_BEAMS, MOST_STEPS = 10, 12
NUMBERS = (
    "a number is the sum of ln p over the new tokens, 0 for certain; short: below the "
    "last that survived (:help log-probability)"
)
SHOWN_DROPPED = 2
"""Of each step of a group, those that nearly survived it."""
SHOWN_CHANGES = 20


@command("beams", usage="[BEAMS [STEPS]] [-- PROMPT]")
def beams(context: Context, arguments: str) -> Steps:
    """Draw beam search as a tree: at each step who survives and who is dropped.

    3 beams and 4 steps, or as many as you say. A number is a log-probability, the sum
    over the new tokens; of those that were dropped it tells how much they were short.
    With `:sampler diverse_beam` each group is a branch; what it took off follows.
    """
    words, prompt = split_prompt(arguments)
    count, steps, *more = read_wholes(words.split(), (BEAMS, STEPS))
    if more or not (1 <= count <= MOST_BEAMS and 1 <= steps <= MOST_STEPS):
        raise UsageError(
            f":beams takes 1..{MOST_BEAMS} beams, then 1..{MOST_STEPS} steps, and a "
            f"prompt after --; got {quoted(words)}"
        )
    request = _request(context, ":beams", "hypotheses", "", prompt)
    parameters = {**request.parameters, "num_beams": count}
    request = replace(request, parameters=parameters, length=steps)
    tree = BeamTree(request, context.engine)
    generation = yield from _watch(context, tree)
    yield Say("")
    yield Say(tree.ranking())
    yield Notice(NUMBERS)
    yield Notice(stats_line(generation))
    return context.session.add(request.prompt, generation)


@command("candidates", usage="[-- PROMPT]")
def candidates(context: Context, arguments: str) -> Steps:
    """Watch contrastive search: probability against similarity, for each candidate.

    With `:sampler contrastive_decoding` against the draft model's probability.
    After it, the tokens that were chosen in place of the most probable one.
    """
    request = _request(context, ":candidates", "candidates", *split_prompt(arguments))
    view = CandidatesView(request, context.engine)
    generation = yield from _watch(context, view)
    yield Say(view.changes())
    yield Notice(stats_line(generation))
    return context.session.add(request.prompt, generation)


@command("drafts", usage="[-- PROMPT]")
def drafts(context: Context, arguments: str) -> Steps:
    """Watch speculative decoding: which guesses of the draft model were accepted.

    With `:sampler speculative_sampling` or `prompt_lookup` the guesses of that.
    One line a round: `+` accepted, `-` rejected, `=` the model's own token.
    """
    request = _request(context, ":drafts", "drafts", *split_prompt(arguments))
    view = DraftsView(request, context.engine)
    generation = yield from _watch(context, view)
    yield Say(Text(shown(f"\n{request.prompt}{generation.text}")))
    yield Notice(view.rate(len(generation.tokens)))
    yield Notice(stats_line(generation))
    return context.session.add(request.prompt, generation)


def _request(
    context: Context, name: str, shows: str, words: str, prompt: str | None
) -> Request:
    """The last prompt, or the one that was typed, with the sampler in use if it shows
    this, else with the first one that does; no `words` may stand before the prompt."""
    if words:
        raise UsageError(f"{name} takes a prompt after --; got {quoted(words)}")
    spec = next(
        spec
        for spec in (context.session.settings.sampler, *all_samplers())
        if spec.search is not None and spec.search.shows == shows
    )
    if spec.needs_draft and not context.engine.info.has_draft:
        raise UsageError(no_draft(name))
    return search_request(context, spec, *prompt_for(context, prompt, name))


def search_request(
    context: Context, spec: SamplerSpec, prompt: str, prompt_ids: tuple[int, ...] | None
) -> Request:
    """A prompt with a search as it is set, which tells what it weighs."""
    settings = context.session.settings
    return replace(
        settings.request(prompt),
        sampler=spec.name,
        parameters=settings.parameters(spec),
        prompt_ids=prompt_ids,
        with_details=True,
    )


def _watch(context: Context, view: "SearchView") -> Generator[Output, Any, Generation]:
    """Run a search, shown live by a view of its events."""
    # A compile is no property of a search: it is done before a clock runs.
    context.engine.warm(view.request)
    pace = Pace(context.is_terminal)
    event: Event | None = None
    with closing(context.engine.generate(view.request)) as events:
        for event in events:
            view.follow(event)
            if view.steps and pace.is_due():
                yield Live(view.drawn())
    if view.steps:
        yield Live(view.drawn())
    return finished(event)


@dataclass
class SearchView:
    """What a search tells of its steps; each kind of search draws them its own way."""

    request: Request
    engine: Engine
    steps: list[Any] = field(default_factory=list)
    text: str = ""

    def follow(self, event: Event) -> None:
        """Take an event of the search."""
        if isinstance(event, TokenChosen):
            self.text += event.delta
        elif isinstance(event, CandidatesWeighed | DraftVerified):
            self.steps.append(event)

    def drawn(self) -> RenderableType:
        """What there is to see so far; there must have been a step."""
        raise NotImplementedError


@dataclass(frozen=True)
class Extension(Hypothesis):
    """A hypothesis with one more token, and how far it was below the last that
    survived; `None` if it did."""

    margin: float | None = None

    @property
    def parent(self) -> tuple[int, tuple[int, ...]]:
        """What it goes on from: its group and the tokens before its last."""
        return self.group, self.token_ids[:-1]


@dataclass
class BeamTree(SearchView):
    """A beam search as a tree: who survives, who is dropped and by how much.

    KerasHub's search tells who survived. What else there was to choose from is worked
    out here, from the model's scores behind each hypothesis, so it fits the blackboard
    only: few beams, few steps.

    Attributes:
        parents: the hypotheses that the next step extends.
        ranked: all that there are, those that have ended too, best first.
        steps: the extensions of each step, survivors first, best first.
    """

    steps: list[list[Extension]] = field(default_factory=list)
    prompt_ids: tuple[int, ...] = ()
    parents: tuple[Hypothesis, ...] = ()
    ranked: tuple[Hypothesis, ...] = ()

    @property
    def has_groups(self) -> bool:
        """Whether it is a search in groups."""
        return "num_groups" in self.request.parameters

    def follow(self, event: Event) -> None:
        """Take an event of the search."""
        if isinstance(event, Started):
            self.prompt_ids = event.prompt_ids
        elif isinstance(event, HypothesesChanged):
            size = len(self.steps) + 1
            new = [one for one in event.survivors if len(one.token_ids) == size]
            kept = [Extension(**vars(one)) for one in new]
            groups = sorted({one.group for one in new})
            dropped = [one for group in groups for one in self._dropped(kept, group)]
            self.steps.append([*kept, *dropped])
            self.parents = tuple(one for one in new if not one.has_ended)
            self.ranked = event.survivors

    def _dropped(self, kept: Sequence[Extension], group: int) -> list[Extension]:
        """The best extensions of a group that did not survive a step."""
        import numpy as np

        values = self.request.parameters
        own = [one for one in kept if one.group == group]
        survivors, last = {one.token_ids for one in own}, min(e.total for e in own)
        chosen = [one.token_ids[-1] for one in kept if one.group < group]
        found = []
        start = Hypothesis((), 0.0, group=group)
        for parent in self.parents if self.steps else (start,):
            if parent.group != group:
                continue
            scores = next_logits(self.engine, (*self.prompt_ids, *parent.token_ids))
            with np.errstate(divide="ignore"):
                own_logprobs = np.log(probabilities(scores, temperature_of(values)))
            logprobs = parent.logprob + own_logprobs
            times = np.bincount(np.array(chosen, int), minlength=len(logprobs))
            each_time = float(values.get("diversity_penalty") or 0.0)
            penalties = parent.penalty + each_time * times
            totals = logprobs - penalties
            best = (-totals).argsort(kind="stable")[: len(own) + SHOWN_DROPPED]
            found += [
                Extension(
                    (*parent.token_ids, token_id),
                    float(logprobs[token_id]),
                    group=group,
                    penalty=float(penalties[token_id]),
                    margin=max(0.0, last - float(totals[token_id])),
                )
                for token_id in best.tolist()
                if np.isfinite(totals[token_id])
            ]
        found = [one for one in found if one.token_ids not in survivors]
        return sorted(found, key=lambda one: -one.total)[:SHOWN_DROPPED]

    def drawn(self) -> Tree:
        """The tree so far; the best text of its last step is bold."""
        prompt = Text(shown(self.request.prompt) or NO_PROMPT, style="bold")
        root = Tree(prompt, guide_style=FAINT)
        groups = sorted({one.group for step in self.steps for one in step})
        places = {
            (n, ()): root.add(Text(f"group {n + 1}")) if self.has_groups else root
            for n in groups
        }
        for step, after in zip_longest(self.steps, self.steps[1:]):
            extended = None if after is None else {one.parent for one in after}
            for one in sorted(step, key=lambda one: -one.total):
                own = (one.group, one.token_ids)
                label = self._label(one, extended is None or own in extended)
                places[own] = places[one.parent].add(label)
        return root

    def _label(self, one: Extension, goes_on: bool) -> Text:
        best = self.steps[-1][0]
        is_best = best.token_ids[: len(one.token_ids)] == one.token_ids
        is_best = is_best and best.group == one.group
        style = STRONG if is_best else FAINT if one.margin is not None else ""
        word = visible(one.token_ids[-1], self.engine.info)
        label = Text(f"{word} {in_nats(one.logprob)}", style=style)
        if one.penalty:
            label.append(f" -{in_nats(one.penalty)}", style="not bold yellow")
        if one.margin is not None:
            label.append(f"  dropped, {in_nats(one.margin)} short", style=FAINT)
        elif one.has_ended:
            label.append("  has ended", style=f"not bold {FAINT}")
        elif not goes_on:
            label.append("  none of its extensions survives", style=f"not bold {FAINT}")
        return label

    def ranking(self) -> Text:
        """All hypotheses that are left, best first, by their log-probability.

        Where some have ended also by their score, which takes their length into
        account, or where there are groups, which took something off; then each has its
        group.
        """
        text, lines = self.engine.info.text, []
        has_scores = self.has_groups or any(one.has_ended for one in self.ranked)
        for place, one in enumerate(self.ranked):
            pieces = text.parts(self.request.prompt, self.prompt_ids, one.token_ids)
            score = f"{in_nats(one.score):>7} " if has_scores else ""
            group = f"group {one.group + 1} " if self.has_groups else ""
            figures = f"{in_nats(one.logprob):>7} {score}{group}"
            words = shown("".join(pieces).strip())
            lines.append(Text.assemble((figures, "" if place else NAME), words))
        return Text("\n").join(lines)


@dataclass
class CandidatesView(SearchView):
    """Candidates of contrastive search as a table."""

    steps: list[CandidatesWeighed] = field(default_factory=list)

    @property
    def against(self) -> str:
        """What a probability is weighed against."""
        search = find_sampler(self.request.sampler).search
        return search.against if search else ""

    def drawn(self) -> RenderableType:
        """The text so far and the candidates of its last step."""
        whole = Text(shown(self.request.prompt), style="bold")
        whole.append(shown(self.text), style="not bold")
        return Group(whole, Text(""), self.table())

    def table(self) -> FittingTable:
        """The candidates of the last step, best score first: with the two parts of
        contrastive search's score, or with what the draft model gives them."""
        step = self.steps[-1]
        is_similarity = self.against == "similarity"
        headings = [f"token {step.index + 1}", "probability", "draft q", "ln(p/q)"]
        if is_similarity:
            headings[2:] = ["similarity", "(1-alpha)*p", "-alpha*similarity", "score"]
        alpha = float(self.request.parameters.get("alpha") or 0)
        greedy = max(step.rows, key=lambda row: row[1])[0]
        rows: list[Row] = []
        for place, row in enumerate(step.rows):
            token_id, probability, weight, score = row
            word, *cells = self._cells(row, "" if place else NAME)
            if not place:
                word.append(" chosen", style="not bold default")
            elif token_id == greedy:
                word.append(" the most probable", style=FAINT)
            if is_similarity:
                cells += map(as_score, ((1 - alpha) * probability, -alpha * weight))
            rows.append((word, *cells, Text(as_score(score), "" if place else STRONG)))
        return FittingTable(headings, rows, right=" ".join(headings[1:]))

    def changes(self) -> RenderableType:
        """The tokens that the penalty put in place of the most probable one."""
        rows: list[Row] = []
        for step in self.steps:
            chosen, best = step.rows[0], max(step.rows, key=lambda row: row[1])
            if chosen[0] != best[0]:
                cells = (*self._cells(chosen, NAME), *self._cells(best))
                rows.append((str(step.index + 1), *cells))
        title = Text(
            f"\nthe penalty changed {len(rows)} of {len(self.steps)} tokens", STRONG
        )
        if not rows:
            return title
        left = len(rows) - SHOWN_CHANGES
        more = [Text(f"and {left} more")] if left > 0 else []
        own = ("p", self.against)
        headings = ("token", "chosen", *own, "in place of", *(f"{n} " for n in own))
        right = "token p similarity draft"
        return Group(title, FittingTable(headings, rows[:SHOWN_CHANGES], right), *more)

    def _cells(
        self, row: tuple[int, float, float, float], style: str = ""
    ) -> tuple[Text, str, str]:
        """A candidate's word, its probability, and what that is weighed against."""
        token_id, probability, weight, _ = row
        write = percent if self.against == "draft" else as_similarity
        word = Text(visible(token_id, self.engine.info), style)
        return word, percent(probability), write(weight)


@dataclass
class DraftsView(SearchView):
    """Rounds of speculative decoding, a line each."""

    steps: list[DraftVerified] = field(default_factory=list)

    def drawn(self) -> Text:
        """The rounds so far."""
        return Text("\n").join(map(self._line, self.steps))

    def rate(self, made: int) -> str:
        """The acceptance rate in words."""
        drafted = sum(len(one.drafted) for one in self.steps)
        accepted = sum(one.accepted for one in self.steps)
        if not drafted:
            return "nothing was drafted"
        return (
            f"accepted {accepted} of {drafted} drafted tokens "
            f"({as_share(accepted / drafted)}); {as_mean(made / len(self.steps))} "
            f"tokens for each pass of the model"
        )

    def _line(self, one: DraftVerified) -> Text:
        line = Text(f"{one.index + 1:>4} ", style="dim")
        for place, drafted in enumerate(one.drafted):
            is_accepted = place < one.accepted
            sign, color = ("+", "green") if is_accepted else ("-", "red")
            word = visible(drafted, self.engine.info)
            line.append(f" {sign}{word}", style=f"not dim {color}")
        own = visible(one.next_id, self.engine.info)
        line.append(f" ={own}", style="not dim bold")
        return line


VIEWS: dict[str, type[SearchView]] = {
    "hypotheses": BeamTree,
    "candidates": CandidatesView,
    "drafts": DraftsView,
}
"""By what a search shows."""
