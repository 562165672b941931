"""`:explain`: a rule's story, and the rule at work on the model's own next token.

Each kind of rule shows what it weighs: the cut of a truncation, the penalties of a
history rule, the two parts of contrastive search's score, the tree of beam search, the
drafts of speculative decoding.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.text import Text

from minigpt_repl.compare.pieces import FAINT, is_own_text, next_token_place, visible
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import CandidatesWeighed, EngineInfo
from minigpt_repl.errors import UsageError, no_draft
from minigpt_repl.repl.commands.chains import stages_work_out
from minigpt_repl.repl.commands.searches import DraftsView, search_request
from minigpt_repl.repl.commands.token_trees import BeamTree
from minigpt_repl.repl.completion import sampler_words
from minigpt_repl.repl.context import Context, Outputs, current_ids, prompt_ids_of
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Notice, Output, Say
from minigpt_repl.repl.tables import NAME, STRONG, FittingTable, Row
from minigpt_repl.sampling.parameters import Value, format_values
from minigpt_repl.sampling.registry import SamplerSpec, read_sampler
from minigpt_repl.shown import (
    as_score,
    as_similarity,
    in_nats,
    in_nats_of_change,
    percent,
)

if TYPE_CHECKING:
    import numpy as np

TREE_STEPS = 2
DRAFTED_TOKENS = 12
SHOWN_TOKENS = 10
SHOWN_REMOVED = 3

Rows = list[Row]


@command("explain", usage="[SAMPLER]", complete=sampler_words)
def explain(context: Context, arguments: str) -> Outputs:
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
    # A stage's story has its formula.
    formula = [] if spec.stages else [f"{spec.formula} ({spec.origin})."]
    yield Say(Text("\n".join(filter(None, [spec.story, *formula, spec.use]))))
    node = context.session.node
    prompt, ids = "", current_ids(context)
    if node is not None:
        is_whole = spec.needs_history or is_own_text(node.generation)
        prompt = node.text if is_whole else node.prompt
        ids = ids if is_whole else prompt_ids_of(context, node)
    named = spec.text(values)
    if not spec.stages:
        named = f"{spec.name} {format_values(values, shows_off=True)}".rstrip()
    yield Notice(f"{named}, {next_token_place(prompt)}")
    if spec.search is not None:
        yield from _search(context, spec, values, prompt, ids)
    else:
        scores = inspection.next_logits(context.engine, ids)
        info = context.engine.info
        place = inspection.next_place(ids, context.engine)
        yield Say(_rule(spec, values, scores, info, place))


def _rule(
    spec: SamplerSpec,
    values: Mapping[str, Value],
    scores: "np.ndarray",
    info: EngineInfo,
    place: inspection.TokenContexts,
) -> FittingTable:
    """What a rule makes of one distribution."""
    model = inspection.probabilities(scores)
    if len(spec.stages) > 1:
        lefts = inspection.chain_left(spec, values, scores, place)
        shares = [inspection.probabilities(left.logits) for left in lefts]
        return stages_work_out(spec, [model, *shares], info)
    if spec.needs_history:
        (after,) = inspection.chain_left(spec, values, scores, place)
        return history_table(scores, after.logits, place, info)
    left = inspection.kept_distribution(spec, values, scores, place)
    temperature = inspection.rule_temperature(spec, values) or 1.0
    tempered = inspection.probabilities(scores, temperature)
    has_temperature = not spec.stages and "temperature" in values
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
        raise UsageError(no_draft(spec.name))
    request = replace(
        search_request(context, spec, prompt, ids),
        parameters=dict(values),
        length=lengths[shows],
        stop="none",
    )
    tree, drafts = BeamTree(request, context.engine), DraftsView(info)
    for event in context.engine.generate(request):
        tree.follow(event)
        drafts.follow(event)
        if isinstance(event, CandidatesWeighed):
            yield Say(candidates_table(event, spec.search.against, values, info))
    if shows == "hypotheses":
        yield Say(tree.drawn())
    elif shows == "drafts":
        yield Say(drafts.drawn())
        yield Notice(drafts.rate(sum(one.accepted + 1 for one in drafts.steps)))


@dataclass(frozen=True)
class Cut:
    """Before and after a rule that removes tokens: the model's probabilities
    `(vocabulary,)`, those that the rule saw, which have the temperature applied, and
    what it left, renormalised."""

    model: "np.ndarray"
    seen: "np.ndarray"
    left: "np.ndarray"
    info: EngineInfo
    has_temperature: bool

    def table(self) -> FittingTable:
        """The most probable tokens, with the cut marked if there is one."""
        order = inspection.top_ids(self.seen, len(self.seen))
        kept = [i for i in order if self.left[i] > 0]
        if len(kept) < len(order) and order[: len(kept)] == kept:
            rows = self._with_cut(order, kept)
        else:
            rows = [self._row(i) for i in order[:SHOWN_TOKENS]]
            rows += self._more(order[SHOWN_TOKENS:], "")
        if len(kept) == len(order):
            rows.append((Text("nothing is removed", style=FAINT),))
        temperature = ["temperature"] * self.has_temperature
        headings = ("token", "model", *temperature, "sum", "left")
        return FittingTable(headings, rows, "model temperature sum left")

    def _with_cut(self, order: list[int], kept: list[int]) -> Rows:
        """The tokens around the place from which on all are removed."""
        first, last = kept, []
        if len(kept) > SHOWN_TOKENS:
            first, last = kept[: SHOWN_TOKENS - 3], kept[-2:]
        rows: Rows = [self._row(i) for i in first]
        rows += self._more(kept[len(first) : len(kept) - len(last)], "kept")
        rows += [self._row(i) for i in last]
        mass = percent(self.seen[kept].sum())
        cut = f"── cut: {len(kept):,} of {len(order):,} tokens, {mass} ──"
        rows.append((Text(cut, style=STRONG),))
        removed = order[len(kept) :]
        rows += [self._row(i) for i in removed[:SHOWN_REMOVED]]
        return rows + self._more(removed[SHOWN_REMOVED:], "removed")

    def _row(self, i: int) -> Row:
        is_kept = self.left[i] > 0
        is_reached = inspection.comes_before(self.seen, i)
        is_reached[i] = True
        return (
            Text(visible(i, self.info), style=NAME if is_kept else FAINT),
            percent(self.model[i]),
            *[percent(self.seen[i])] * self.has_temperature,
            percent(self.seen[is_reached].sum()),
            Text(percent(self.left[i]), style=STRONG if is_kept else FAINT),
        )

    def _more(self, ids: list[int], word: str) -> Rows:
        if not ids:
            return []
        name = Text(f"{len(ids):,} more {word}".rstrip(), style=FAINT)
        share = Text(percent(self.left[ids].sum()), style=FAINT)
        blank = [""] * (1 + self.has_temperature)
        return [(name, percent(self.model[ids].sum()), *blank, share)]


def history_table(
    before: "np.ndarray",
    after: "np.ndarray",
    place: inspection.TokenContexts,
    info: EngineInfo,
) -> FittingTable:
    """What a history rule takes off the logits of tokens that were there.

    `before` are the logits `(vocabulary,)`, `after` the same behind the rule, and
    `place` has the tokens so far.
    """
    shares, left = inspection.probabilities(before), inspection.probabilities(after)
    seen = place.seen[0].tolist()
    order = inspection.top_ids(shares, len(shares))
    changed = [i for i in order if before[i] != after[i]]
    best = [i for i in order[:SHOWN_TOKENS] if i not in changed]
    shown = sorted(
        [*changed[: SHOWN_TOKENS - SHOWN_REMOVED], *best[:SHOWN_REMOVED]],
        key=lambda i: -shares[i],
    )
    rows: Rows = []
    for i in shown:
        style, change = "", ""
        if i in changed:
            style = NAME
            is_gone = left[i] == 0
            change = "removed" if is_gone else in_nats_of_change(after[i] - before[i])
        rows.append(
            (
                Text(visible(i, info), style=style),
                str(seen.count(i) or "-"),
                in_nats(before[i]),
                change,
                percent(shares[i]),
                Text(percent(left[i]), style=STRONG),
            )
        )
    if lost := [i for i in changed if i not in shown]:
        cells = [percent(each[lost].sum()) for each in (shares, left)]
        rows.append((Text(f"{len(lost)} more changed", FAINT), "", "", "", *cells))
    if not changed:
        rows.append((Text("it changes nothing here", style=FAINT),))
    headings = ("token", "seen", "logit", "penalty", "before", "after")
    return FittingTable(headings, rows, right="seen logit penalty before after")


def candidates_table(
    step: CandidatesWeighed,
    against: str,
    values: Mapping[str, Value],
    info: EngineInfo,
) -> FittingTable:
    """The candidates of a step, best score first: with the two parts of contrastive
    search's score, or with what the draft model gives them."""
    headings = ["token", "p", "q(draft)", "ln(p/q)"]
    if against == "similarity":
        headings[2:] = ["similarity", "(1-alpha)*p", "-alpha*similarity", "score"]
    alpha = float(values.get("alpha") or 0)
    greedy = max(step.rows, key=lambda row: row[1])[0]
    rows: Rows = []
    for place, (token_id, probability, weight, score) in enumerate(step.rows):
        word = Text(visible(token_id, info), style="" if place else NAME)
        if not place:
            word.append(" chosen", style="not bold default")
        elif token_id == greedy:
            word.append(" the most probable", style=FAINT)
        cells = [percent(weight)]
        if against == "similarity":
            own = as_similarity((1 - alpha) * probability)
            cells = [as_similarity(weight), own, as_score(-alpha * weight)]
        total = Text(as_score(score), style="" if place else STRONG)
        rows.append((word, percent(probability), *cells, total))
    return FittingTable(headings, rows, right=" ".join(headings[1:]))
