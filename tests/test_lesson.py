"""The lesson in docs: what it says to type can be typed in that order, and of the
notebook also that it is true of the shipped model.
"""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from fakes import FakeEngine
from talk import Talk

DOCS = Path(__file__).resolve().parent.parent / "docs"
NOTEBOOK = DOCS / "lesson.ipynb"
TYPED = re.compile(r"^> (.+)|`(:[a-z]+ [^`]+)`", re.MULTILINE)
PLACEHOLDER = ":help WORD"


def test_every_line_of_the_lesson_can_be_typed_where_it_stands(monkeypatch, tmp_path):
    # `:sweep temperature` stood where the sampler in use was greedy.
    monkeypatch.chdir(tmp_path)
    talk = Talk(FakeEngine(context_length=128), keys=["escape"] * 9, answers=[""] * 9)
    text = (DOCS / "lesson.md").read_text(encoding="utf-8")
    lines = [found[1] or found[2] for found in TYPED.finditer(text)]
    assert len(lines) > 20
    for line in lines:
        if line != PLACEHOLDER:
            assert talk.type(line).error is None, f"{line}: {talk.error}"


@pytest.mark.slow
def test_the_lesson_is_true_of_the_shipped_model(monkeypatch, capsys):
    monkeypatch.delenv("MINIGPT_CHECKPOINT", raising=False)
    names: dict = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]), names)
    greedy, drawn = names["searches"].figures["greedy"], names["drawn"].figures
    beam = names["searches"].figures["beam"]
    assert greedy["repeated_4"] > 0.5 and names["figures"]["repeated_4"] > 0.5
    # "A repetition makes the next one more probable."
    assert all(before < after for before, after in pairwise(names["again"]))
    # "Beam search did find the more probable text. And the text goes round as well."
    assert beam["perplexity"] < greedy["perplexity"] and beam["repeated_4"] > 0.5
    # "`random` never repeats itself and wanders off. Top-k and top-p cut them off."
    assert drawn["random"]["repeated_4"] < 0.05
    for name in ("top_k", "top_p"):
        assert drawn[name]["perplexity"] < drawn["random"]["perplexity"]
        assert drawn[name]["repeated_4"] < greedy["repeated_4"] / 2
    # "Temperature is the knob between greedy and more than the model's own doubt."
    sweep = list(names["sweep"].values())
    assert all(a["repeated_4"] >= b["repeated_4"] for a, b in pairwise(sweep))
    assert all(a["perplexity"] < b["perplexity"] for a, b in pairwise(sweep))
    assert all(
        each["repeated_4"] < greedy["repeated_4"] / 2
        for each in names["mended"].figures.values()
    )
    assert "traceback" not in capsys.readouterr().err.lower()
