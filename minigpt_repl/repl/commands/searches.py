"""What the samplers that look at whole texts weigh: `:beams`, `:candidates`, `:drafts`.

Each makes one text of the last prompt and shows what was decided on the way. A view
is fed the engine's events in their order and gives what to draw.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, cast

from rich.console import Group, RenderableType
from rich.text import Text

from minigpt_repl.compare.comparison import shared_words
from minigpt_repl.compare.pieces import visible, visible_all
from minigpt_repl.compare.spec import split_prompt
from minigpt_repl.compare.view import marked_text, split_words
from minigpt_repl.engine.request import (
    CandidatesWeighed,
    DraftVerified,
    EngineInfo,
    Event,
    Generation,
    HypothesesChanged,
    Hypothesis,
    Request,
    Started,
    TokenChosen,
    finished,
)
from minigpt_repl.errors import UsageError
from minigpt_repl.repl.commands.comparing import prompt_for
from minigpt_repl.repl.context import Context, Steps
from minigpt_repl.repl.continuation import stats_line
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Live, Notice, Output, Pace, Say
from minigpt_repl.repl.tables import NAME, STRONG, make_table
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.shown import shown
from minigpt_repl.suggest import quoted

Draw = Callable[[Event], RenderableType | None]


@command("beams", usage="[-- PROMPT]")
def beams(context: Context, arguments: str) -> Steps:
    """Watch beam search: the surviving hypotheses, then the best that were dropped.

    Each has its log-probability, the sum over its new tokens. Where a stop rule is set
    it also tells which have ended, and the score that the best has the highest of.
    """
    request, info = _request(context, "beams", arguments), context.engine.info
    view = BeamsView(request.prompt, info)
    generation = yield from _watch(context, request, view.draw)
    if dropped := view.closest():
        yield Say(Text("\ndropped by the smallest margins"))
        yield Say(view.dropped(dropped))
    return (yield from _finish(context, request, generation))


@command("candidates", usage="[-- PROMPT]")
def candidates(context: Context, arguments: str) -> Steps:
    """Watch contrastive search: probability against likeness, for each candidate.

    With `:sampler contrastive_decoding` against the draft model's probability.
    After it, the tokens that were chosen in place of the most probable one.
    """
    request, info = _request(context, "candidates", arguments), context.engine.info
    view = CandidatesView(request, info)
    generation = yield from _watch(context, request, view.draw)
    yield Say(view.changes())
    return (yield from _finish(context, request, generation))


@command("drafts", usage="[-- PROMPT]")
def drafts(context: Context, arguments: str) -> Steps:
    """Watch speculative decoding: which guesses of the draft model were accepted.

    With `:sampler speculative_sampling` or `prompt_lookup` the guesses of that.
    One line a round: `+` accepted, `-` rejected, `=` the model's own token.
    """
    request, info = _request(context, "drafts", arguments), context.engine.info
    view = DraftsView(info)
    generation = yield from _watch(context, request, view.draw)
    yield Say(Text(shown(f"\n{request.prompt}{generation.text}")))
    yield Notice(view.rate(len(generation.tokens)))
    return (yield from _finish(context, request, generation))


def _request(context: Context, view: str, arguments: str) -> Request:
    """The last prompt, or the one that was typed, with a sampler of a view.

    That is the one in use, if the view shows it.
    """
    settings = context.session.settings
    words, typed = split_prompt(arguments)
    if words:
        raise UsageError(f":{view} takes a prompt after --; got {quoted(words)}")
    spec, (shows, usual) = settings.sampler, _VIEWS[view]
    if spec.search is None or spec.search.shows != shows:
        spec = find_sampler(usual)
    if spec.needs_draft and not context.engine.info.has_draft:
        raise UsageError(f":{view} needs a draft model, and the checkpoint has none")
    prompt, ids = prompt_for(context, typed, f":{view}")
    return replace(
        settings.request(prompt),
        sampler=spec.name,
        parameters=settings.parameters(spec),
        prompt_ids=ids,
        with_details=True,
    )


_VIEWS = {
    "beams": ("hypotheses", "beam"),
    "candidates": ("candidates", "contrastive"),
    "drafts": ("drafts", "speculative"),
}
"""What each of these commands shows, and the sampler that it shows if none is set."""


def _watch(
    context: Context, request: Request, draw: Draw
) -> Generator[Output, Any, Generation]:
    """Run a request; what `draw` makes of its events is shown live."""
    pace = Pace(context.is_terminal)
    drawn: RenderableType | None = None
    event: Event | None = None
    events = cast("Generator[Event, None, None]", context.engine.generate(request))
    with closing(events):
        for event in events:
            drawn = draw(event) or drawn
            if drawn is not None and pace.is_due():
                yield Live(drawn)
    if drawn is not None:
        yield Live(drawn)
    return finished(event)


def _finish(context: Context, request: Request, generation: Generation) -> Steps:
    yield Notice(stats_line(generation))
    return context.session.add(request.prompt, generation)


SHOWN_PRUNED = 10
SHOWN_TAIL = 12
"""Tokens of a hypothesis that was dropped: its end, where it lost."""
SHOWN_CHANGES = 20


@dataclass
class BeamsView:
    """Hypotheses of beam search as a table."""

    prompt: str
    info: EngineInfo
    before: tuple[int, ...] = ()
    pruned: list[tuple[float, Hypothesis]] = field(default_factory=list)

    def draw(self, event: Event) -> RenderableType | None:
        if isinstance(event, Started):
            self.before = event.prompt_ids
        if not isinstance(event, HypothesesChanged):
            return None
        least = min((one.logprob for one in event.survivors), default=0.0)
        self.pruned += ((least - one.logprob, one) for one in event.pruned)
        return Drawn(lambda: self.survivors(event.survivors))

    def closest(self) -> list[Hypothesis]:
        """Those that nearly survived the step at which they were dropped."""
        nearest = sorted(self.pruned, key=lambda pair: pair[0])[:SHOWN_PRUNED]
        return [hypothesis for _, hypothesis in nearest]

    def survivors(self, hypotheses: Sequence[Hypothesis]) -> RenderableType:
        """The hypotheses, best first; what they have in common is dimmed."""
        texts = ["".join(self._pieces(one)) for one in hypotheses]
        shared = shared_words([split_words(text) for text in texts])
        marked = [marked_text(text.strip(), shared) for text in texts]
        return self._table(hypotheses, marked)

    def dropped(self, hypotheses: Sequence[Hypothesis]) -> RenderableType:
        """Hypotheses that did not survive, by their last tokens."""
        ends = []
        for one in hypotheses:
            pieces = self._pieces(one)
            dots = "... " if len(pieces) > SHOWN_TAIL else ""
            ends.append(Text(shown(dots + "".join(pieces[-SHOWN_TAIL:]).strip())))
        return self._table(hypotheses, ends)

    def _pieces(self, hypothesis: Hypothesis) -> list[str]:
        return self.info.text.parts(self.prompt, self.before, hypothesis.token_ids)

    def _table(
        self, hypotheses: Sequence[Hypothesis], texts: Sequence[Text]
    ) -> RenderableType:
        headings: tuple[str, ...] = ("logp", "score", "tokens", "ended", "hypothesis")
        rows: list[tuple[Text | str, ...]] = [
            (
                Text(f"{one.logprob:.2f}", style="" if place else NAME),
                f"{one.score:.3f}",
                str(len(one.token_ids)),
                "yes" if one.has_ended else "",
                text,
            )
            for place, (one, text) in enumerate(zip(hypotheses, texts, strict=True))
        ]
        if not any(one.has_ended for one in hypotheses):  # of one length, ranked alike
            headings = ("logp", "tokens", "hypothesis")
            rows = [(row[0], row[2], row[4]) for row in rows]
        return make_table(headings, rows, right="logp score tokens")


@dataclass(frozen=True)
class Drawn:
    """A table that is made when it is drawn: most frames never are."""

    make: Callable[[], RenderableType]

    def __rich__(self) -> RenderableType:
        return self.make()


@dataclass
class CandidatesView:
    """Candidates of contrastive search as a table."""

    request: Request
    info: EngineInfo
    text: str = ""
    steps: list[CandidatesWeighed] = field(default_factory=list)

    def draw(self, event: Event) -> RenderableType | None:
        if isinstance(event, TokenChosen):
            self.text += event.delta
        if isinstance(event, CandidatesWeighed):
            self.steps.append(event)
        if not self.steps:
            return None
        step, text = self.steps[-1], self.text
        return Drawn(lambda: Group(*self._frame(step, text)))

    def _frame(self, step: CandidatesWeighed, text: str) -> Sequence[RenderableType]:
        whole = Text(shown(self.request.prompt), style="bold")
        whole.append(shown(text), style="not bold")
        rows = [
            (
                Text(self._word(row[0]), style=STRONG if not place else ""),
                f"{row[1]:.3f}",
                f"{row[2]:.3f}",
                Text(f"{row[3]:+.3f}", style=STRONG if not place else ""),
            )
            for place, row in enumerate(step.rows)
        ]
        against = self._against
        headings = (f"token {step.index + 1}", "probability", against, "score")
        table = make_table(headings, rows, right="probability likeness draft score")
        return (whole, Text(""), table)

    def changes(self) -> RenderableType:
        """The tokens that the penalty put in place of the most probable one."""
        rows = []
        for step in self.steps:
            chosen, best = step.rows[0], max(step.rows, key=lambda row: row[1])
            if chosen[0] != best[0]:
                rows.append(
                    (
                        str(step.index + 1),
                        Text(self._word(chosen[0]), style=NAME),
                        f"{chosen[1]:.3f}",
                        f"{chosen[2]:.3f}",
                        self._word(best[0]),
                        f"{best[1]:.3f}",
                        f"{best[2]:.3f}",
                    )
                )
        title = Text(
            f"\nthe penalty changed {len(rows)} of {len(self.steps)} tokens", STRONG
        )
        if not rows:
            return title
        left = len(rows) - SHOWN_CHANGES
        more = [Text(f"and {left} more")] if left > 0 else []
        against = self._against
        headings = ("token", "chosen", "p", against, "in place of", "p ", f"{against} ")
        right = "token p likeness draft"
        return Group(title, make_table(headings, rows[:SHOWN_CHANGES], right), *more)

    @property
    def _against(self) -> str:
        search = find_sampler(self.request.sampler).search
        return search.against if search else ""

    def _word(self, token_id: int) -> str:
        return visible(token_id, self.info)


@dataclass
class DraftsView:
    """Rounds of speculative decoding, a line each."""

    info: EngineInfo
    rounds: list[DraftVerified] = field(default_factory=list)

    def draw(self, event: Event) -> RenderableType | None:
        if isinstance(event, DraftVerified):
            self.rounds.append(event)
        rounds = tuple(self.rounds)
        return Drawn(lambda: Text("\n").join(map(self._line, rounds)))

    def rate(self, made: int) -> str:
        """The acceptance rate in words."""
        drafted = sum(len(one.drafted) for one in self.rounds)
        accepted = sum(one.accepted for one in self.rounds)
        if not drafted:
            return "nothing was drafted"
        return (
            f"accepted {accepted} of {drafted} drafted tokens "
            f"({100 * accepted / drafted:.0f}%); {made / len(self.rounds):.1f} tokens "
            f"for each pass of the model"
        )

    def _line(self, one: DraftVerified) -> Text:
        line = Text(f"{one.index + 1:>4} ", style="dim")
        for place, word in enumerate(visible_all(one.drafted, self.info)):
            if place < one.accepted:
                line.append(f" +{word}", style="not dim green")
            else:
                line.append(f" -{word}", style="not dim red")
        own = visible(one.next_id, self.info)
        line.append(f" ={own}", style="not dim bold")
        return line
