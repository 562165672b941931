"""What the samplers that look at whole texts weigh: `:beams`, `:candidates`, `:drafts`.

Each makes one text of the last prompt and shows what was decided on the way. A view
follows the engine's events and is drawn now and then.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from minigpt_repl.compare.pieces import stats_line, visible, visible_all
from minigpt_repl.compare.spec import read_wholes, split_prompt
from minigpt_repl.engine.request import (
    CandidatesWeighed,
    DraftVerified,
    EngineInfo,
    Event,
    Generation,
    Request,
    TokenChosen,
    finished,
)
from minigpt_repl.errors import UsageError, no_draft
from minigpt_repl.repl.commands.comparing import prompt_for
from minigpt_repl.repl.commands.token_trees import BeamTree, ranking
from minigpt_repl.repl.context import Context, Steps
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Live, Notice, Output, Pace, Say
from minigpt_repl.repl.tables import NAME, STRONG, FittingTable, Row
from minigpt_repl.sampling.registry import SamplerSpec, all_samplers, find_sampler
from minigpt_repl.shown import (
    as_mean,
    as_score,
    as_share,
    as_similarity,
    percent,
    quoted,
    shown,
)

BEAMS, BEAM_STEPS = 3, 4
MOST_BEAMS, MOST_STEPS = 10, 12
NUMBERS = (
    "a number is the sum of ln p over the new tokens, 0 for certain; short: below the "
    "last that survived (:help log-probability)"
)


@command("beams", usage="[BEAMS [STEPS]] [-- PROMPT]")
def beams(context: Context, arguments: str) -> Steps:
    """Draw beam search as a tree: at each step who survives and who is dropped.

    3 beams and 4 steps, or as many as you say. A number is a log-probability, the sum
    over the new tokens; of those that were dropped it tells how much they were short.
    With `:sampler diverse_beam` each group is a branch; what it took off follows.
    """
    words, prompt = split_prompt(arguments)
    count, steps = _read_sizes(words.split())
    spec = _spec(context, "hypotheses")
    request = search_request(context, spec, *prompt_for(context, prompt, ":beams"))
    parameters = {**request.parameters, "num_beams": count}
    request = replace(request, parameters=parameters, length=steps)
    tree = BeamTree(request, context.engine)
    generation = yield from _watch(context, request, tree)
    yield Say("")
    yield Say(ranking(tree, context.engine.info))
    yield Notice(NUMBERS)
    return (yield from _finish(context, request, generation))


def _read_sizes(words: Sequence[str]) -> tuple[int, int]:
    count, steps = read_wholes(words, (BEAMS, BEAM_STEPS))[:2]
    if len(words) > 2 or not (1 <= count <= MOST_BEAMS and 1 <= steps <= MOST_STEPS):
        raise UsageError(
            f":beams takes 1..{MOST_BEAMS} beams, then 1..{MOST_STEPS} steps, and a "
            f"prompt after --; got {quoted(' '.join(words))}"
        )
    return count, steps


@command("candidates", usage="[-- PROMPT]")
def candidates(context: Context, arguments: str) -> Steps:
    """Watch contrastive search: probability against similarity, for each candidate.

    With `:sampler contrastive_decoding` against the draft model's probability.
    After it, the tokens that were chosen in place of the most probable one.
    """
    request, info = _typed(context, "candidates", arguments), context.engine.info
    view = CandidatesView(request, info)
    generation = yield from _watch(context, request, view)
    yield Say(view.changes())
    return (yield from _finish(context, request, generation))


@command("drafts", usage="[-- PROMPT]")
def drafts(context: Context, arguments: str) -> Steps:
    """Watch speculative decoding: which guesses of the draft model were accepted.

    With `:sampler speculative_sampling` or `prompt_lookup` the guesses of that.
    One line a round: `+` accepted, `-` rejected, `=` the model's own token.
    """
    request, info = _typed(context, "drafts", arguments), context.engine.info
    view = DraftsView(info)
    generation = yield from _watch(context, request, view)
    yield Say(Text(shown(f"\n{request.prompt}{generation.text}")))
    yield Notice(view.rate(len(generation.tokens)))
    return (yield from _finish(context, request, generation))


def _spec(context: Context, shows: str) -> SamplerSpec:
    """The sampler in use if it shows this, else the first one that does."""
    return next(
        spec
        for spec in (context.session.settings.sampler, *all_samplers())
        if spec.search is not None and spec.search.shows == shows
    )


def _typed(context: Context, shows: str, arguments: str) -> Request:
    """The last prompt, or the one that was typed, with a sampler that shows this."""
    words, prompt = split_prompt(arguments)
    if words:
        raise UsageError(f":{shows} takes a prompt after --; got {quoted(words)}")
    spec = _spec(context, shows)
    if spec.needs_draft and not context.engine.info.has_draft:
        raise UsageError(no_draft(f":{shows}"))
    return search_request(context, spec, *prompt_for(context, prompt, f":{shows}"))


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


def _watch(
    context: Context, request: Request, view: "View"
) -> Generator[Output, Any, Generation]:
    """Run a request, shown live by a view of its events."""
    # A compile is no property of a search: it is done before a clock runs.
    context.engine.warm(request)
    pace = Pace(context.is_terminal)
    event: Event | None = None
    with closing(context.engine.generate(request)) as events:
        for event in events:
            view.follow(event)
            if view.steps and pace.is_due():
                yield Live(view.drawn())
    if view.steps:
        yield Live(view.drawn())
    return finished(event)


def _finish(context: Context, request: Request, generation: Generation) -> Steps:
    yield Notice(stats_line(generation))
    return context.session.add(request.prompt, generation)


SHOWN_CHANGES = 20


@dataclass
class CandidatesView:
    """Candidates of contrastive search as a table."""

    request: Request
    info: EngineInfo
    text: str = ""
    steps: list[CandidatesWeighed] = field(default_factory=list)

    def follow(self, event: Event) -> None:
        """Take an event of the search."""
        if isinstance(event, TokenChosen):
            self.text += event.delta
        elif isinstance(event, CandidatesWeighed):
            self.steps.append(event)

    def drawn(self) -> RenderableType:
        """The text so far and the candidates of its last step."""
        step = self.steps[-1]
        whole = Text(shown(self.request.prompt), style="bold")
        whole.append(shown(self.text), style="not bold")
        rows = []
        for place, row in enumerate(step.rows):
            style = "" if place else STRONG
            rows.append((*self._cells(row, style), Text(as_score(row[3]), style)))
        against = self._against
        headings = (f"token {step.index + 1}", "probability", against, "score")
        table = FittingTable(headings, rows, right="probability similarity draft score")
        return Group(whole, Text(""), table)

    def changes(self) -> RenderableType:
        """The tokens that the penalty put in place of the most probable one."""
        rows = []
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
        against = self._against
        headings = ("token", "chosen", "p", against, "in place of", "p ", f"{against} ")
        right = "token p similarity draft"
        return Group(title, FittingTable(headings, rows[:SHOWN_CHANGES], right), *more)

    @property
    def _against(self) -> str:
        search = find_sampler(self.request.sampler).search
        return search.against if search else ""

    def _cells(self, row: tuple[int, float, float, float], style: str = "") -> Row:
        """A candidate's word, its probability, and what that is weighed against."""
        token_id, probability, weight, _ = row
        write = percent if self._against == "draft" else as_similarity
        word = Text(visible(token_id, self.info), style)
        return word, percent(probability), write(weight)


@dataclass
class DraftsView:
    """Rounds of speculative decoding, a line each."""

    info: EngineInfo
    steps: list[DraftVerified] = field(default_factory=list)

    def follow(self, event: Event) -> None:
        """Take an event of the text."""
        if isinstance(event, DraftVerified):
            self.steps.append(event)

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
        for place, word in enumerate(visible_all(one.drafted, self.info)):
            is_accepted = place < one.accepted
            sign, color = ("+", "green") if is_accepted else ("-", "red")
            line.append(f" {sign}{word}", style=f"not dim {color}")
        own = visible(one.next_id, self.info)
        line.append(f" ={own}", style="not dim bold")
        return line


View = BeamTree | CandidatesView | DraftsView
