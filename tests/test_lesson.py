"""docs/lesson.ipynb: its cells run in their order, and what it says of them is so."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "lesson.ipynb"


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
