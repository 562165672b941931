"""`:tour`: the story of the decoding strategies, told on the loaded model.

Every claim is checked by a measure of the text that was just made, and corrected
where this model disagrees.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rich.text import Text

from minigpt_repl.compare.comparison import Column, Comparison, run_plan
from minigpt_repl.compare.measures import MEASURES
from minigpt_repl.compare.spec import Plan, Strategy, make_plan
from minigpt_repl.compare.view import NOT_QUALITY, FiguresView
from minigpt_repl.models.text.normalize import as_typed
from minigpt_repl.repl.context import Context, Steps
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Ask, ClearScreen, Live, Notice, Output, Pace, Say
from minigpt_repl.repl.session import Session
from minigpt_repl.repl.tables import NAME
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.shown import shown

Figures = Mapping[str, Mapping[str, float]]
"""By sampler, then by the key of a measure."""

LOOPING = 0.2
"""Repeated 4-grams from which on a reader sees that a text repeats itself."""


@dataclass(frozen=True)
class Stop:
    """One screen of the tour.

    Attributes:
        sampler: what makes the text.
        claim: what the story says of it.
        holds: whether the figures of the texts so far bear it out.
        shown: the measures, in words, with `{names}` of figures.
        otherwise: what is said if they do not.
    """

    sampler: str
    claim: str
    holds: Callable[[Figures], bool]
    shown: str
    otherwise: str


def _repeats(figures: Figures, sampler: str) -> float:
    return figures[sampler].get("repeated_4", 0.0)


def _surprise(figures: Figures, sampler: str) -> float:
    return figures[sampler].get("perplexity", 1.0)


STOPS = (
    Stop(
        "greedy",
        "Greedy search takes the most probable token, every time. "
        "It soon repeats itself.",
        lambda figures: _repeats(figures, "greedy") >= LOOPING,
        "{repeated:.0%} of its 4-grams had been there before; the longest run that "
        "comes twice has {run:.0f} tokens.",
        "Not this time: the text ended before it came round again. A longer one "
        "(:set length) mostly does.",
    ),
    Stop(
        "beam",
        "Beam search looks for the most probable whole text. "
        "That repeats itself just as well.",
        lambda figures: _repeats(figures, "beam") >= LOOPING,
        "{repeated:.0%} repeated 4-grams, perplexity {perplexity:.1f}; greedy had "
        "{greedy_perplexity:.1f}.",
        "Not this time; :beams shows what it weighed.",
    ),
    Stop(
        "random",
        "Random sampling draws from the whole distribution. "
        "It does not repeat itself, it wanders off.",
        lambda figures: (
            _repeats(figures, "random") < LOOPING
            and _surprise(figures, "random") > 2 * _surprise(figures, "greedy")
        ),
        "Perplexity {perplexity:.1f} against {greedy_perplexity:.1f} of greedy, "
        "{repeated:.0%} repeated 4-grams.",
        "On this prompt it stayed closer to the probable than usual.",
    ),
    Stop(
        "top_k",
        "Top-k draws from the k most probable tokens only. "
        "It wanders less, and repeats itself less than greedy.",
        lambda figures: _mends(figures, "top_k"),
        "Perplexity {perplexity:.1f} against {random_perplexity:.1f} of random, "
        "{repeated:.0%} repeated 4-grams against {greedy_repeated:.0%} of greedy.",
        "On this prompt it is no better on one of the two; :compare n=5 tells more "
        "than one text can.",
    ),
    Stop(
        "top_p",
        "Top-p draws from the fewest tokens that reach probability p: "
        "few where the model is sure, many where it is not.",
        lambda figures: _mends(figures, "top_p"),
        "It left {kept_mass:.0%} of the probability to choose from; perplexity "
        "{perplexity:.1f}, {repeated:.0%} repeated 4-grams.",
        "On this prompt it is no better than random or than greedy; "
        ":sweep p 0.3..0.95/5 shows where it turns.",
    ),
    Stop(
        "contrastive",
        "Contrastive search takes a probable token that is unlike what is there. "
        "The penalty on likeness breaks the loops without any chance.",
        lambda figures: _repeats(figures, "contrastive") < _repeats(figures, "greedy"),
        "{repeated:.0%} repeated 4-grams against {greedy_repeated:.0%} of greedy.",
        "Greedy repeated itself no more than this, so there was nothing to mend; "
        ":set alpha makes the penalty stronger.",
    ),
)


def _mends(figures: Figures, sampler: str) -> bool:
    return _repeats(figures, sampler) < max(
        LOOPING, _repeats(figures, "greedy")
    ) and _surprise(figures, sampler) < _surprise(figures, "random")


@command("tour", usage="[PROMPT]")
def tour(context: Context, arguments: str) -> Steps:
    """See what each strategy is good and bad at, on the loaded model.

    Six texts of one prompt, one screen each; Enter goes on, `q` leaves. Each claim
    is checked by a measure of the text just made. The texts are then the last
    comparison, for `:export`.
    """
    session = context.session
    prompt = as_typed(arguments).strip() or _first_prompt(session)
    settings = session.settings
    strategies = [
        Strategy(stop.sampler, settings.parameters(find_sampler(stop.sampler)))
        for stop in STOPS
    ]
    plan = make_plan(settings, strategies, prompt)
    told: Comparison | None = None
    for place, stop in enumerate(STOPS):
        if place and context.is_terminal:
            answer = yield Ask("Enter goes on, q leaves: ")
            if answer is None or answer.strip().lower() in ("q", ":q", "quit"):
                break
        one = yield from _tell(context, plan, place, told)
        told = one if told is None else _joined(told, one)
        plan = replace(plan, seed=told.plan.seed)
        if one.is_interrupted:
            break
        yield from _judge(stop, told)
    if told is None:
        return session
    yield Say("")
    yield Say(FiguresView(told))
    yield Notice(NOT_QUALITY)
    return replace(session, comparison=told)


def _first_prompt(session: Session) -> str:
    """What the current text began with; nothing before the first text."""
    prompts = [node.prompt for node in session.path()]
    return prompts[-1] if prompts else ""


def _tell(
    context: Context, plan: Plan, place: int, told: Comparison | None
) -> Generator[Output, Any, Comparison]:
    """One screen: the claim, then the text while it is made."""
    stop = STOPS[place]
    strategy = plan.strategies[place]
    if context.is_terminal:
        yield ClearScreen()
    title = Text(f"{place + 1} of {len(STOPS)}: {strategy.sampler}", style=NAME)
    title.append(f" {strategy.words}", style="not bold default dim")
    yield Say(title)
    yield Say(Text(f"{stop.claim}\n"))
    pace = Pace(context.is_terminal)
    steps = run_plan(context.engine, replace(plan, strategies=(strategy,)))
    try:
        while True:
            try:
                comparison = next(steps)
            except StopIteration as end:
                whole: Comparison = end.value
                break
            if pace.is_due():
                yield Live(_text(comparison))
    finally:
        steps.close()
    yield Live(_text(whole))
    return whole


def _text(comparison: Comparison) -> Text:
    (column,) = comparison.columns
    text = Text(shown(comparison.plan.prompt), style="dim")
    made = column.texts[-1] if column.texts else ""
    return text.append(shown(made), style="not dim")


def _judge(stop: Stop, told: Comparison) -> Generator[Output, Any, None]:
    figures = {column.strategy.sampler: _figures(column) for column in told.columns}
    own = figures[stop.sampler]
    if not own:
        return
    words = stop.shown.format(
        repeated=own["repeated_4"],
        run=own["longest_run"],
        perplexity=own["perplexity"],
        kept_mass=own["kept_mass"],
        greedy_perplexity=_surprise(figures, "greedy"),
        greedy_repeated=_repeats(figures, "greedy"),
        random_perplexity=_surprise(figures, "random") if "random" in figures else 0.0,
    )
    holds = stop.holds(figures)
    verdict = Text("\nSo it is: " if holds else "\nNot here: ", style="bold")
    verdict.append(words, style="not bold")
    yield Say(verdict)
    if not holds:
        yield Say(Text(stop.otherwise))


def _figures(column: Column) -> dict[str, float]:
    found = {measure.key: column.figure(measure) for measure in MEASURES}
    means = {key: interval.mean for key, interval in found.items() if interval}
    return {"repeated_4": 0.0, "kept_mass": 0.0, **means} if means else {}


def _joined(told: Comparison, one: Comparison) -> Comparison:
    plan = replace(told.plan, strategies=(*told.plan.strategies, *one.plan.strategies))
    return replace(
        told,
        plan=plan,
        columns=(*told.columns, *one.columns),
        is_interrupted=one.is_interrupted,
    )
