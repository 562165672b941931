"""Writes docs/rules.md: every rule of a chain, worked on one real distribution.

`python scripts/rules_page.py` makes the page with the shipped model; `--check` changes
nothing and fails if anything would change.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minigpt_repl.compare.pieces import visible
from minigpt_repl.engine import inspection
from minigpt_repl.errors import UsageError
from minigpt_repl.sampling.chain import STAGES
from minigpt_repl.sampling.parameters import format_value
from minigpt_repl.sampling.registry import read_sampler
from minigpt_repl.sampling.stage import Stage

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "rules.md"
GOLDEN = ROOT / "tests" / "sampling" / "golden.json"
PROMPT = "The old man looked at the dog, and the dog looked at the"
TOKENS = 10
BAR = 16
SHOWN = {
    "top_k": "top_k=5",
    "top_p": "top_p=0.5",
    "typical_p": "typical_p=0.5",
    "epsilon_cutoff": "epsilon_cutoff=0.02",
    "eta_cutoff": "eta_cutoff=0.02",
    "top_a": "top_a=0.5",
    "temperature": "temperature=0.5",
    "repetition_penalty": "repetition_penalty=1.5",
    "presence_penalty": "presence_penalty=2",
    "frequency_penalty": "frequency_penalty=1",
    "logit_bias": 'logit_bias="dog:1, girl:2"',
    "ban": 'ban="dog, old"',
    "mirostat": "mirostat=2.5",
    "adaptive_p": "min_p=0.1 + adaptive_p=0.03",
}
"""What is shown of a rule where its defaults show little."""

INTRODUCTION = f"""# The rules of a chain

Made by `scripts/rules_page.py`; change the rules' docstrings, not this page.

Rules are stacked with `+` and apply from left to right, each to what the ones before
it left: `:sampler repetition_penalty=1.1 + top_k=50 + min_p=0.05 + temperature=0.8`.
`:chain` shows what each leaves. A rule is one entry of `minigpt_repl/sampling`; it
serves the compiled step and every view. Golden cases are what the peer's own code gave
for the same logits; `tests/sampling/golden.json` holds them, `scripts/golden_rules.py`
makes them.

The pictures: the {TOKENS} most probable tokens after "{PROMPT}", under the shipped
model and behind the rule.

"""


def rule_table(golden: dict[str, Any]) -> Iterator[str]:
    """A line a rule."""
    yield "| rule | kind | formula | golden cases | source |"
    yield "|---|---|---|---|---|"
    for stage in STAGES.values():
        cells = (
            f"[`{stage.name}`](#{stage.name})",
            stage.kind,
            f"`{formula(stage)}`".replace("|", "\\|"),
            checked_by(stage, golden),
            stage.origin,
        )
        yield f"| {' | '.join(cells)} |"


def formula(stage: Stage) -> str:
    """A rule's formula, to stand as code."""
    return stage.formula.replace("`", "")


def checked_by(stage: Stage, golden: dict[str, Any]) -> str:
    """Whose code gave the golden cases of a rule, and how many there are."""
    counts = {
        peer: sum(case["rule"] == stage.name for case in golden[peer]["cases"])
        for peer in ("transformers", "llama.cpp")
    }
    found = [
        f"{count} of {peer} {golden[peer]['version']}"
        for peer, count in counts.items()
        if count
    ]
    return ", ".join(found) or "worked by hand"


def section(stage: Stage, engine: Any, logits: np.ndarray) -> Iterator[str]:
    """A rule: what it does, its parameters, its picture."""
    yield f"## {stage.name}\n"
    yield f"{stage.summary.capitalize()}: `{formula(stage)}`.\n"
    yield f"{stage.story} {stage.use}\n"
    for parameter in stage.parameters:
        default = format_value(parameter.default)
        allowed = parameter.allowed()
        yield f"- `{parameter.name}` = `{default}` ({allowed}): {parameter.help}"
    yield f"\n```\n{picture(SHOWN.get(stage.name, stage.name), engine, logits)}\n```\n"


def picture(text: str, engine: Any, logits: np.ndarray) -> str:
    """What a rule makes of the most probable tokens."""
    is_last = text in ("greedy", "random")
    spec, typed = read_sampler(f"temperature + {text}" if is_last else text)
    if not spec.stages:  # a sampler's name that is a rule's too, such as top_k
        spec, typed = read_sampler(f"{text} + random")
    values = spec.check({n: spec.parameter(n).parse(t) for n, t in typed.items()})
    where = inspection.next_place(engine.encode(PROMPT), engine)
    try:
        left = inspection.kept_distribution(spec, values, logits, where)
    except UsageError as error:
        return str(error)
    model = inspection.probabilities(logits)
    best = inspection.top_ids(model, TOKENS)
    highest = max(model[best].max(), left[best].max())
    lines = [f"{'token':12} {'the model':24} {text}"]
    for token_id in best:
        word = visible(token_id, engine.info)
        lines.append(
            f"{word:12} {drawn(model[token_id], highest):24} "
            f"{drawn(left[token_id], highest)}".rstrip()
        )
    rest = [1 - share[best].sum() for share in (model, left)]
    lines.append(f"{'others':12} {percent(rest[0]):24} {percent(rest[1])}")
    return "\n".join(lines)


def drawn(share: float, highest: float) -> str:
    """A share as a number and a bar."""
    return f"{percent(share)} {'█' * round(BAR * share / highest)}".rstrip()


def percent(share: float) -> str:
    """A share in percent, `-` where it is none."""
    return f"{100 * share:5.1f}%" if share > 1e-9 else "    -"


def page() -> str:
    """The whole page."""
    from minigpt_repl.engine.worker import load_engine

    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    engine = load_engine(ROOT / "checkpoints" / "default")
    logits = engine.logits(engine.encode(PROMPT))[-1]
    lines = [*rule_table(golden), ""]
    for stage in STAGES.values():
        lines += section(stage, engine, logits)
    engine.close()
    return INTRODUCTION + "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the page, or with `--check` fail if it is out of date."""
    made = page()
    if "--check" not in sys.argv:
        PAGE.write_text(made, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != made:
        sys.exit("docs/rules.md is out of date: run python scripts/rules_page.py")


if __name__ == "__main__":
    main()
