"""`:explain`: a rule's story, and the rule at work on the model's own next token.

Each kind of rule shows what it weighs: the cut of a truncation, the penalties of a
history rule, the two parts of contrastive search's score, the tree of beam search, the
drafts of speculative decoding.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.text import Text

from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import CandidatesWeighed, EngineInfo
from minigpt_repl.errors import UsageError
from minigpt_repl.repl.commands.beam_tree import BeamTree
from minigpt_repl.repl.commands.rule_tables import (
    Cut,
    contrast_table,
    history_table,
    score_table,
    stages_work_out,
)
from minigpt_repl.repl.commands.searches import DraftsView, search_request
from minigpt_repl.repl.completion import sampler_words
from minigpt_repl.repl.context import Context, Steps, current_ids, prompt_ids_of
from minigpt_repl.repl.continuation import ending_in_a_line
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Notice, Output, Say
from minigpt_repl.repl.tables import Sheet
from minigpt_repl.sampling.parameters import Value, format_value
from minigpt_repl.sampling.registry import SamplerSpec, read_sampler

if TYPE_CHECKING:
    import numpy as np

SHOWN_CONTEXT = 60
TREE_STEPS = 2
DRAFTED_TOKENS = 12


@command("explain", usage="[SAMPLER]", complete=sampler_words)
def explain(context: Context, arguments: str) -> Steps:
    """Tell a sampler's rule, and work it on the model's own next token.

    A sampler or a rule of a chain, with values if you like: `:explain top_p:p=0.5`.
    Without a name it is the sampler in use. The next token is that after the last
    prompt; for rules that look at the text so far, that after the last text.
    """
    settings = context.session.settings
    spec, values = settings.sampler, settings.parameters()
    if arguments:
        spec, typed = read_sampler(arguments)
        values = settings.parameters(spec)
        for name, text in typed.items():
            values[name] = spec.parameter(name).parse(text, settings.limits)
    yield Say(Text("\n".join(_story(spec))))
    node = context.session.node
    ids: tuple[int, ...] = ()
    prompt, where = "", "at the start"
    if node is not None:
        prompt = node.text if spec.needs_history else node.prompt
        ids = (
            current_ids(context) if spec.needs_history else prompt_ids_of(context, node)
        )
        where = ending_in_a_line(prompt, SHOWN_CONTEXT)
    named = spec.text(values)
    if not spec.stages:
        pairs = (f"{name}={format_value(value)}" for name, value in values.items())
        named = " ".join((spec.name, *pairs))
    yield Notice(f"{named}, the next token after: {where}")
    if spec.search is not None:
        yield from _search(context, spec, values, prompt, ids)
    else:
        scores = context.engine.logits(ids)[-1]  # (vocabulary,)
        info = context.engine.info
        place = inspection.next_place(ids, context.engine)
        yield Say(_rule(spec, values, scores, info, place))
    return context.session


def _story(spec: SamplerSpec) -> Iterator[str]:
    yield spec.story
    if not spec.stages:  # a stage's story has them
        yield f"{spec.formula} ({spec.origin})."
    if spec.use:
        yield spec.use


def _rule(
    spec: SamplerSpec,
    values: Mapping[str, Value],
    scores: "np.ndarray",
    info: EngineInfo,
    place: inspection.Places,
) -> Sheet:
    """What a rule makes of one distribution."""
    if len(spec.stages) > 1:
        return stages_work_out(spec, values, scores, info, place)
    left = inspection.kept_distribution(spec, values, scores, place)
    if spec.needs_history:
        (after,) = inspection.chain_logits(spec, values, scores, place)
        return history_table(scores, after, place, info)
    temperature = inspection.rule_temperature(spec, values) or 1.0
    tempered = inspection.probabilities(scores, temperature)
    has_temperature = not spec.stages and "temperature" in values
    model = inspection.probabilities(scores)
    return Cut(model, tempered, left, info, has_temperature).table()


def _search(
    context: Context,
    spec: SamplerSpec,
    values: Mapping[str, Value],
    prompt: str,
    ids: tuple[int, ...],
) -> Iterator[Output]:
    """What a search weighs at the next token, by making a few."""
    lengths = {"hypotheses": TREE_STEPS, "candidates": 1, "drafts": DRAFTED_TOKENS}
    assert spec.search is not None
    shows, info = spec.search.shows, context.engine.info
    if spec.needs_draft and not info.has_draft:
        raise UsageError(
            f"{spec.name} needs a draft model, and the checkpoint has none"
        )
    request = replace(
        search_request(context, spec.name, prompt, ids),
        parameters=dict(values),
        length=lengths[shows],
        stop="none",
    )
    tree, drafts = BeamTree(request, context.engine), DraftsView(info)
    for event in context.engine.generate(request):
        if shows == "hypotheses":
            tree.follow(event)
        elif shows == "drafts":
            drafts.draw(event)
        elif isinstance(event, CandidatesWeighed):
            is_likeness = spec.search.against == "likeness"
            table = score_table if is_likeness else contrast_table
            yield Say(table(event, values, info))
    if shows == "hypotheses":
        yield Say(tree.drawn())
    elif shows == "drafts":
        yield Say(drafts.whole())
        yield Notice(drafts.rate(sum(one.accepted + 1 for one in drafts.rounds)))
