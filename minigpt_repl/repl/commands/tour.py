"""`:tour`: the story of the decoding strategies, told on the loaded model."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.text import Text

from minigpt_repl.compare.comparison import (
    Column,
    Comparison,
    make_plan,
    run_plan,
)
from minigpt_repl.compare.comparison_view import NOT_QUALITY, FiguresView
from minigpt_repl.compare.measures import MEASURES
from minigpt_repl.compare.spec import PROMPT_MARK, Strategy, split_prompt
from minigpt_repl.errors import UsageError, no_draft
from minigpt_repl.files import user_path, write_user_file
from minigpt_repl.repl.completion import sampler_words
from minigpt_repl.repl.context import Context, Steps
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Ask, ClearScreen, Live, Notice, Output, Pace, Say
from minigpt_repl.repl.tables import NAME
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.shown import (
    as_perplexity,
    as_share,
    did_you_mean,
    plain,
    quoted,
    shown,
    shown_path,
)

Figures = Mapping[str, Mapping[str, float]]
"""By sampler, then by the name that `ChapterSpec.shown` has for it."""

LOOPING = 0.2
"""Repeated 4-grams from which on a reader sees that a text repeats itself."""

PROMPTS = ("the little boy", "the old king", "once upon a time", "the door", "")
"""Tried in this order; the last one is the start of a text."""

EXPORT = "--export"


@dataclass(frozen=True)
class ChapterSpec:
    """One chapter of the tour.

    Attributes:
        sampler: what makes the text.
        claim: what the story says of it.
        holds: whether the figures of the texts bear it out.
        shown: the measures, in words, with `{names}` of figures; those of other
            samplers have theirs before it: `{greedy_repeated}`.
        otherwise: what is said if they do not.
    """

    sampler: str
    claim: str
    holds: Callable[[Figures], bool]
    shown: str
    otherwise: str


@dataclass(frozen=True)
class Chapter:
    """A chapter as it came out on this model.

    Attributes:
        spec: what was claimed.
        holds: whether it is so here.
        verdict: the measures in words, and what to do if it is not so.
        column: the text.
    """

    spec: ChapterSpec
    holds: bool
    verdict: str
    column: Column


def _improves_on_greedy(figures: Figures, sampler: str) -> bool:
    own, greedy, random = figures[sampler], figures["greedy"], figures["random"]
    repeats_less = own["repeated"] < greedy["repeated"]
    return repeats_less and own["perplexity"] < random["perplexity"]


CHAPTERS = (
    ChapterSpec(
        "greedy",
        "Greedy search takes the most probable token, every time. "
        "It soon repeats itself.",
        lambda figures: figures["greedy"]["repeated"] >= LOOPING,
        "{repeated} of its 4-grams had been there before; the longest run that "
        "comes twice has {run} tokens.",
        "The text ended before it came round again. A longer one (:set length) mostly "
        "does.",
    ),
    ChapterSpec(
        "beam",
        "Beam search looks for the most probable whole text. "
        "That repeats itself just as well.",
        lambda figures: figures["beam"]["repeated"] >= LOOPING,
        "{repeated} repeated 4-grams, perplexity {perplexity}; greedy had "
        "{greedy_perplexity}. A search of few beams may drop what would have become "
        "more probable.",
        ":beams shows what it weighed.",
    ),
    ChapterSpec(
        "random",
        "Random sampling draws from the whole distribution. "
        "It does not repeat itself, it wanders off.",
        lambda figures: (
            figures["random"]["repeated"] < LOOPING
            and figures["random"]["perplexity"] > 2 * figures["greedy"]["perplexity"]
        ),
        "Perplexity {perplexity} against {greedy_perplexity} of greedy, "
        "{repeated} repeated 4-grams.",
        "It stayed closer to the probable than usual.",
    ),
    ChapterSpec(
        "top_k",
        "Top-k draws from the k most probable tokens only. "
        "It wanders less, and repeats itself less than greedy.",
        lambda figures: _improves_on_greedy(figures, "top_k"),
        "Perplexity {perplexity} against {random_perplexity} of random, "
        "{repeated} repeated 4-grams against {greedy_repeated} of greedy.",
        "It is no better on one of the two; :compare n=5 tells more than one text can.",
    ),
    ChapterSpec(
        "top_p",
        "Top-p draws from the fewest tokens that reach probability p: "
        "few where the model is sure, many where it is not.",
        lambda figures: _improves_on_greedy(figures, "top_p"),
        "It left {kept_mass} of the probability to choose from; perplexity "
        "{perplexity}, {repeated} repeated 4-grams.",
        "It is no better than random or than greedy; :sweep p 0.3..0.95/5 shows where "
        "it turns.",
    ),
    ChapterSpec(
        "contrastive",
        "Contrastive search takes a probable token that is unlike what is there. "
        "The penalty on similarity breaks the loops without any chance.",
        lambda figures: (
            figures["contrastive"]["repeated"] < figures["greedy"]["repeated"]
        ),
        "{repeated} repeated 4-grams against {greedy_repeated} of greedy.",
        "Greedy repeated itself no more than this, so there was nothing to "
        "improve; :set alpha makes the penalty stronger.",
    ),
    ChapterSpec(
        "speculative",
        "Speculative decoding has a small model guess ahead and the model check. "
        "The text is that of greedy, in fewer passes of the model.",
        lambda figures: (
            figures["speculative"]["is_greedy"] == 1
            and figures["speculative"]["accepted"] > 0
        ),
        "{accepted} of {drafted} guesses were accepted: {tokens} tokens in "
        "{passes} passes.",
        "No guess was right, or the text differs; :drafts shows each.",
    ),
)


@command(
    "tour",
    usage="[--export FILE.html] [SAMPLER] [PROMPT]",
    complete=sampler_words,
)
def tour(context: Context, arguments: str) -> Steps:
    """See what each strategy is good and bad at, on the loaded model.

    A text and a screen for each; Enter goes on, `q` leaves. Each claim is checked by
    a measure of the text. Without a prompt a few are tried until one bears out every
    claim. `:tour top_k` is one chapter, `:tour --export lesson.html` a handout. The
    texts stay in the session, see `:tree` and `:goto`, and are the last comparison.
    """
    from minigpt_repl.compare.export import check_place

    path, wanted, prompt = _read(arguments)
    if path is not None:
        check_place(path, ".html")
    told, chapters = yield from _choose(context, prompt)
    if wanted:
        chapters = [each for each in chapters if each.spec.sampler == wanted]
    if path is not None:
        from minigpt_repl.compare.page import lesson_page

        write_user_file(path, lesson_page(_handout(chapters), told, context.engine))
        yield Notice(f"wrote the lesson to {shown_path(path)}")
    if not chapters:
        return context.session
    session, columns = context.session, []
    for place, chapter in enumerate(chapters):
        if path is None and place and context.is_terminal:
            if not (yield from _goes_on()):
                break
            yield ClearScreen()
        session = session.add(told.prompt, chapter.column.generations[0])
        columns.append(chapter.column)
        if path is None:
            yield from _tell(told, chapter, f"{place + 1} of {len(chapters)}")
    told = replace(told, columns=tuple(columns))
    yield Say("")
    yield Say(FiguresView(told))
    yield Notice(NOT_QUALITY)
    last, count = session.nodes[-1].id, len(columns)
    texts = f"text {last}" if count == 1 else f"texts {last - count + 1}..{last}"
    yield Notice(f"{texts} of the session: :goto goes to any, :tree shows them")
    return replace(session, comparison=told)


def _goes_on() -> Generator[Output, Any, bool]:
    """Whether the next chapter is wanted; a command has to wait until the end."""
    while True:
        answer = yield Ask("Enter goes on, q leaves: ")
        if answer is None or answer.strip().lower() in ("q", ":q", "quit", ":quit"):
            return False
        if not answer.strip():
            return True
        yield Notice(f"{quoted(answer.strip())} has to wait until the tour is left")


def _read(arguments: str) -> tuple[Path | None, str | None, str | None]:
    """The file, the sampler and the prompt that were typed."""
    path = None
    words = arguments.strip()
    if words.split(maxsplit=1)[:1] == [EXPORT]:
        name, _, words = words.removeprefix(EXPORT).strip().partition(" ")
        path = user_path(name, f":tour {EXPORT} FILE.html")
        if path.suffix.lower() != ".html":
            raise UsageError(f"a handout's name ends in .html; got {quoted(name)}")
    before, prompt = split_prompt(words)
    names = [spec.sampler for spec in CHAPTERS]
    if len(before.split()) == 1:
        try:
            name = find_sampler(before).name
        except UsageError:
            if prompt is not None:
                raise
            if near := did_you_mean(before, names):
                raise UsageError(
                    f"no sampler {quoted(before)}{near} A prompt of one word is "
                    f":tour {PROMPT_MARK} {plain(before)}"
                ) from None
        else:
            if name not in names:
                raise UsageError(
                    f"no chapter of {name}: there are {', '.join(names)}; "
                    f":explain {name} works it"
                )
            return path, name, prompt
    if prompt is None and before:
        prompt = before
    elif before:
        raise UsageError(f":tour takes one sampler before --; got {quoted(before)}")
    return path, None, prompt


def _choose(
    context: Context, prompt: str | None
) -> Generator[Output, Any, tuple[Comparison, list[Chapter]]]:
    """The texts of the tour, on the first prompt that bears out every claim, or on
    the one that bears out the most."""
    settings = context.session.settings
    has_draft = context.engine.info.has_draft
    samplers = [find_sampler(spec.sampler) for spec in CHAPTERS]
    if not has_draft:
        yield Notice(f"left out: {no_draft('speculative')}")
        samplers = [sampler for sampler in samplers if not sampler.needs_draft]
    names = [sampler.name for sampler in samplers]
    specs = [spec for spec in CHAPTERS if spec.sampler in names]
    strategies = [Strategy(each.name, settings.parameters(each)) for each in samplers]
    results: list[tuple[Comparison, list[Chapter]]] = []
    for each in PROMPTS if prompt is None else (prompt,):
        plan = make_plan(settings, strategies, each)
        pace, label = Pace(context.is_terminal), f"making texts of {_named(each)}: "
        steps = run_plan(context.engine, plan, is_due=pace.is_due)
        with closing(steps):
            for told in steps:
                if told.is_growing:
                    begun = [c.strategy.sampler for c in told.columns if c.texts]
                    yield Live(Text(label + ", ".join(begun), style="dim"))
        chapters = _judged(specs, told)
        results.append((told, chapters))
        if told.is_interrupted or _count(chapters) == len(specs):
            break
    told, chapters = max(results, key=lambda result: _count(result[1]))
    if prompt is None:
        yield Notice(
            f"the prompt is {_named(told.prompt)}: {_count(chapters)} of "
            f"{len(specs)} claims hold on it "
            f"({len(results)} of {len(PROMPTS)} prompts tried)"
        )
    return told, chapters


def _named(prompt: str) -> str:
    return quoted(prompt) if prompt else "the start of a text"


def _count(chapters: Sequence[Chapter]) -> int:
    return sum(chapter.holds for chapter in chapters)


def _judged(specs: Sequence[ChapterSpec], told: Comparison) -> list[Chapter]:
    """The chapters of which there is a text, each with its verdict."""
    columns = [column for column in told.columns if column.generations]
    figures = {column.strategy.sampler: _figures(column, columns) for column in columns}
    chapters = []
    others = {
        f"{sampler}_{name}": number
        for sampler, own in figures.items()
        for name, number in own.items()
    }
    for spec, column in zip(specs, columns, strict=False):
        numbers = {**others, **figures[spec.sampler]}
        words = spec.shown.format_map(
            {name: _written(name, number) for name, number in numbers.items()}
        )
        holds = spec.holds(figures)
        verdict = (
            f"So it is: {words}" if holds else f"Not here: {words} {spec.otherwise}"
        )
        chapters.append(Chapter(spec, holds, verdict, column))
    return chapters


def _written(name: str, number: float) -> str:
    """A measure as it is shown everywhere, by what its name ends in."""
    if name.endswith("perplexity"):
        return as_perplexity(number)
    if name.endswith(("repeated", "kept_mass")):
        return as_share(number)
    return f"{number:.0f}"


def _figures(column: Column, columns: Sequence[Column]) -> dict[str, float]:
    means = {
        measure.key: interval.mean
        for measure in MEASURES
        if (interval := column.figure(measure))
    }
    made = column.generations[0]
    accepted, drafted = made.accepted or (0, 0)
    return {
        "repeated": means.get("repeated_4", 0.0),
        "run": means.get("longest_run", 0.0),
        "kept_mass": means.get("kept_mass", 0.0),
        "perplexity": means.get("perplexity", 1.0),
        "is_greedy": float(made.token_ids == columns[0].generations[0].token_ids),
        "accepted": accepted,
        "drafted": drafted,
        "tokens": len(made.tokens),
        "passes": len(made.tokens) - accepted,
    }


def _tell(
    told: Comparison, chapter: Chapter, number: str
) -> Generator[Output, Any, None]:
    """One screen: the claim, the text, the verdict."""
    strategy = chapter.column.strategy
    title = Text(f"{number}: {strategy.sampler}", style=NAME)
    words = filter(None, (strategy.words, told.seed_label(chapter.column, 0)))
    told_of = "".join(f" · {each}" for each in words)
    yield Say(title.append(told_of, style="not bold default dim"))
    yield Say(Text(f"{chapter.spec.claim}\n"))
    text = Text(shown(told.prompt), style="dim")
    yield Say(text.append(shown(chapter.column.texts[0]), style="not dim"))
    yield Say(Text(f"\n{chapter.verdict}"))


def _handout(chapters: Sequence[Chapter]) -> list[dict[str, Any]]:
    """What the page of a lesson has of each chapter."""
    return [
        {
            "column": chapter.column,
            "claim": chapter.spec.claim,
            "verdict": chapter.verdict,
            "rule": (spec.story, f"{spec.formula} ({spec.origin}).", spec.use),
        }
        for chapter in chapters
        for spec in [find_sampler(chapter.spec.sampler)]
    ]
