"""`:compare` and `:sweep`: one prompt through several strategies, side by side."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

from minigpt_repl.compare.comparison import (
    Comparison,
    divergences,
    make_plan,
    run_plan,
)
from minigpt_repl.compare.comparison_view import (
    GrowingView,
    TextsView,
    below_texts,
    notes,
)
from minigpt_repl.compare.spec import (
    all_strategies,
    parse_sweep,
    parse_typed,
    split_prompt,
)
from minigpt_repl.errors import UsageError, no_draft
from minigpt_repl.repl.completion import spec_words, value_words
from minigpt_repl.repl.context import Context, Steps, again_request
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Live, Notice, Output, Pace, Say
from minigpt_repl.settings import Settings


def strategy_words(context: Context, typed: str) -> Iterator[str]:
    """For `:compare`: strategies, and what else may stand there."""
    last = "" if not typed or typed[-1].isspace() else typed.split()[-1]
    yield from spec_words(context.session.settings, last)
    if ":" not in last:
        yield from ("n=5", "--")


def parameter_words(context: Context, typed: str) -> Iterator[str]:
    """For `:sweep`: a parameter of the sampler in use, then its values."""
    spec = context.session.settings.sampler
    name, space, _ = typed.lstrip().partition(" ")
    if not space:
        yield from spec.parameter_names
    elif name in spec.parameter_names:
        yield from value_words(spec.parameter(name), context.session.settings)


@command("compare", usage="[SPEC ...] [n=5] [-- PROMPT]", complete=strategy_words)
def compare(context: Context, arguments: str) -> Steps:
    """Continue one prompt with several strategies, side by side.

    A strategy is a sampler with parameters, such as `top_k:k=10,temperature=0.8`;
    without one it is every sampler as it is set. Without a prompt it is the last
    one. With n, that many texts each: text i has the seed plus i. Words that all
    texts share from the start are dimmed, the first that differs is marked; with
    `:set noise shared` it is told which rule parted them. `:export` writes the
    comparison to a file.
    """
    session = context.session
    named, count, typed_prompt = parse_typed(arguments, session.settings)
    prompt, ids = prompt_for(context, typed_prompt, ":compare")
    has_draft = context.engine.info.has_draft
    strategies = named or all_strategies(session.settings, has_draft)
    if not named and not has_draft:
        left_out = [s.name for s in session.settings.samplers() if s.needs_draft]
        yield Notice(f"left out: {no_draft(*left_out)}")
    plan = make_plan(session.settings, strategies, prompt, count, ids)
    comparison = yield from show_comparison(context, plan)
    if plan.first.noise == "shared" and not comparison.is_interrupted:
        yield from map(Notice, divergences(context.engine, comparison))
    return replace(session, comparison=comparison)


@command("sweep", usage="PARAM V1 V2 ... [-- PROMPT]", complete=parameter_words)
def sweep(context: Context, arguments: str) -> Steps:
    """Continue one prompt with several values of one parameter.

    `:sweep temperature 0.2 1 1.4`, or `0.2..1.4/5` for five values. Sampler,
    seed and prompt are the same for all; the last row of the table draws each
    measure from the first value to the last.
    """
    session = context.session
    words, typed_prompt = split_prompt(arguments)
    name, *values = words.split() or [""]
    name = _varied(session.settings, name, values)
    strategies = parse_sweep(values, name, session.settings)
    prompt, ids = prompt_for(context, typed_prompt, ":sweep")
    plan = make_plan(session.settings, strategies, prompt, 1, ids, varied=name)
    comparison = yield from show_comparison(context, plan)
    return replace(session, comparison=comparison)


def show_comparison(
    context: Context, plan: Comparison
) -> Generator[Output, Any, Comparison]:
    """Run a plan and show it while it grows, then the figures."""
    pace = Pace(context.is_terminal)
    with closing(run_plan(context.engine, plan, pace.is_due)) as steps:
        for comparison in steps:
            if comparison.is_growing:
                yield Live(GrowingView(comparison))
    yield Live(TextsView(comparison))
    yield from map(Say, below_texts(comparison))
    yield from map(Notice, notes(comparison))
    if comparison.is_interrupted:
        yield Notice(":export keeps what is here")
    return comparison


def prompt_for(
    context: Context, typed: str | None, wanted_for: str
) -> tuple[str, tuple[int, ...] | None]:
    """The prompt that was typed, or the last one with its exact tokens."""
    if typed is not None:
        return typed, None
    node = context.session.prompted
    if node is None:
        raise UsageError(
            f"{wanted_for} needs a text: type a prompt first, or {wanted_for} -- PROMPT"
        )
    return node.prompt, again_request(context, node).prompt_ids


def _varied(settings: Settings, name: str, values: list[str]) -> str:
    """The parameter of the sampler in use that a sweep varies, by its full name."""
    spec = settings.sampler
    if not name or not values:
        names = ", ".join(spec.parameter_names) or "no parameters"
        raise UsageError(
            f":sweep takes a parameter and its values, such as "
            f"temperature 0.2..1.4/5; {spec.name} has {names}"
        )
    if any(value.startswith("n=") for value in values):
        raise UsageError(
            ":sweep makes one text for each value; several of each strategy are made "
            "by :compare greedy top_k:k=5 n=5"
        )
    try:
        return spec.parameter(name).name
    except UsageError as error:  # names the samplers that have it
        is_known = any(name in each.parameter_names for each in settings.samplers())
        hint = "; :sampler NAME switches to one of them" if is_known else ""
        raise UsageError(f"{error}{hint}") from None
