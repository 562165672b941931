"""`:explain`: a sampler's rule in three sentences, then at work."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.text import Text

from minigpt_repl.engine.inspection import (
    kept_distribution,
    probabilities,
    temperature_of,
    top_ids,
)
from minigpt_repl.repl.command import Desk, Steps, command
from minigpt_repl.repl.continuation import ending_in_a_line, prompt_ids_of
from minigpt_repl.repl.outputs import Notice, Say
from minigpt_repl.repl.sheet import NAME, STRONG, Sheet, make_table
from minigpt_repl.repl.words import sampler_words
from minigpt_repl.sampling.parameters import Value, format_value
from minigpt_repl.sampling.registry import SamplerSpec, find_sampler

if TYPE_CHECKING:
    import numpy as np

SHOWN_TOKENS = 10
SHOWN_PROMPT = 60


@command("explain", usage="[SAMPLER]", complete=sampler_words)
def explain(desk: Desk, arguments: str) -> Steps:
    """Tell a sampler's rule, worked on the model's own next word.

    The table shows the most probable tokens after the last prompt: the model's
    probability, that with the temperature applied, and what the rule makes of it.
    Without a name it is the sampler in use.
    """
    settings = desk.session.settings
    spec = find_sampler(arguments) if arguments else settings.sampler
    values = settings.parameters(spec)
    yield Say(Text(spec.story))
    node = desk.session.node
    ids = () if node is None else prompt_ids_of(desk, node)
    scores = desk.engine.logits(ids)[-1]  # (vocabulary,)
    where = "at the start"
    if node is not None:
        where = ending_in_a_line(node.prompt, SHOWN_PROMPT)
    now = " ".join(f"{name}={format_value(value)}" for name, value in values.items())
    yield Notice(f"{spec.name} {now}".rstrip() + f", the next token after: {where}")
    yield Say(_work_out(spec, values, scores, desk.engine.info.words))
    return desk.session


def _work_out(
    spec: SamplerSpec,
    values: Mapping[str, Value],
    scores: "np.ndarray",
    words: tuple[str, ...],
) -> Sheet:
    """The rule on one distribution, from the model's scores `(vocabulary,)`."""
    model = probabilities(scores)
    tempered = probabilities(scores, temperature_of(values) or 1.0)
    left = kept_distribution(spec, values, scores)
    best = top_ids(model, SHOWN_TOKENS)
    has_temperature = "temperature" in values
    rows: list[tuple[Text, str, str, Text]] = []
    for token_id in best:
        is_kept = left[token_id] > 0
        rows.append(
            (
                Text(words[token_id], style=NAME if is_kept else ""),
                _percent(model[token_id]),
                _percent(tempered[token_id]) if has_temperature else "",
                Text(_percent(left[token_id]) if is_kept else "-", style=STRONG),
            )
        )
    others = int((left > 0).sum()) - int((left[best] > 0).sum())
    if others:
        rest = Text(_percent(1 - left[best].sum()), style=STRONG)
        rows.append((Text(f"{others} more"), "", "", rest))
    headings = ("token", "model", "temperature" if has_temperature else "", "kept")
    return make_table(headings, rows, right="model temperature kept", whole=4)


def _percent(share: float) -> str:
    return f"{100 * float(share):.1f}%"
