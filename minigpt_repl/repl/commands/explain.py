"""`:explain`: a sampler's rule in three sentences, then at work."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.text import Text

from minigpt_repl.decoding.parameters import Value, format_value
from minigpt_repl.decoding.registry import SamplerSpec, find_sampler
from minigpt_repl.repl.command import Desk, Steps, command
from minigpt_repl.repl.continuation import ending, prompt_ids_of
from minigpt_repl.repl.outputs import Notice, Say
from minigpt_repl.repl.tables import NAME, STRONG, Sheet, make_table
from minigpt_repl.repl.words import sampler_words

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
    where = "at the start" if node is None else ending(node.prompt, SHOWN_PROMPT)
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
    temperature = float(values.get("temperature", 1.0) or 0.0)
    model = _softmax(scores)
    tempered = _softmax(scores / temperature) if temperature > 0 else model
    rule = spec if temperature > 0 or not spec.is_random else find_sampler("greedy")
    kept = rule.keeps(tempered, values)
    total = float(tempered[kept].sum())
    best = (-model).argsort(kind="stable")[:SHOWN_TOKENS]
    has_temperature = "temperature" in values
    rows = []
    for token_id in map(int, best):
        is_kept = bool(kept[token_id])
        after = f"{100 * float(tempered[token_id]) / total:.1f}%" if is_kept else "-"
        word = words[token_id] if token_id < len(words) else f"id {token_id}"
        rows.append(
            (
                Text(word, style=NAME if is_kept else ""),
                f"{100 * float(model[token_id]):.1f}%",
                f"{100 * float(tempered[token_id]):.1f}%" if has_temperature else "",
                Text(after, style=STRONG if is_kept else ""),
            )
        )
    others = int(kept.sum()) - int(kept[best].sum())
    if others:
        rest = 100 * (total - float(tempered[best][kept[best]].sum())) / total
        rows.append((Text(f"{others} more"), "", "", Text(f"{rest:.1f}%")))
    middle = "temperature" if has_temperature else ""
    headings = ("token", "model", middle, "kept")
    return make_table(headings, rows, right="model temperature kept", whole=4)


def _softmax(scores: "np.ndarray") -> "np.ndarray":
    """Probabilities, in float64, of scores `(vocabulary,)`."""
    import numpy as np

    shifted = np.exp(scores.astype(np.float64) - float(scores.max()))
    return np.asarray(shifted / shifted.sum())
