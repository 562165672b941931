"""`minigpt_repl.load()`: a model in Python, as a script and a notebook use it."""

import pytest
from fakes import FakeEngine
from page import Page
from processes import python

import minigpt_repl
from minigpt_repl import notebook
from minigpt_repl.errors import MiniGPTError, UsageError


@pytest.fixture
def engine():
    return FakeEngine(context_length=64)


@pytest.fixture
def model(engine):
    return notebook.Model(engine)


def test_a_text_comes_piece_by_piece_and_is_made_once(model, engine):
    text = model.generate("the king", "min_p=0.05 + temperature=0.8", length=9, seed=4)
    assert engine.requests == []
    pieces = list(text)
    assert len(pieces) > 3 and str(text) == "the king" + "".join(pieces)
    assert "".join(text) == "".join(pieces) and text.seed == 4
    (request,) = engine.requests
    assert (request.sampler, request.length) == ("min_p + temperature", 9)


def test_a_search_gives_its_text_in_one_piece(model):
    text = model.generate("the king", "beam:num_beams=3", length=6)
    assert "".join(text) == text.generation.text != ""


def test_a_loop_that_is_left_ends_the_work(model):
    text = model.generate("the king", length=20, seed=2)
    first = next(iter(text))
    assert str(text).startswith(f"the king{first}")


def test_a_drawn_seed_makes_the_same_text_again(model):
    text = model.generate("the king", "random", length=9)
    again = model.generate("the king", "random", length=9, seed=text.seed)
    assert str(again) == str(text)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda model: model.generate("the", "tpo_k"), "did you mean top_k"),
        (lambda model: model.generate("the", "top_k:k=0"), "k"),
        (lambda model: model.generate("the", seed=-1), "seed"),
        (lambda model: model.generate("the", length=0), "length"),
        (lambda model: model.compare("the", "greedy", n=0), "n must be"),
        (lambda model: model.generate(5), "a prompt must be text; got 5"),
        (lambda model: model.next(None), "a prompt must be text"),
        (lambda model: model.next("the", count=0), "count must be"),
        (lambda model: model.next("the", 3), "a sampler must be text; got 3"),
        (lambda model: model.compare("the", ["greedy"]), "a sampler must be text"),
        (lambda model: model.generate("the", length=3).why(4), "1..3"),
        (lambda model: model.generate("the", length=3).why("zebra"), "zebra"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(model, call, told):
    with pytest.raises(UsageError, match=told) as caught:
        call(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda model: model.next("the", "top_k:k=2"), ("top_k", "k=2", "-")),
        (
            lambda model: model.compare("the", "greedy", "top_k", length=8, seed=3),
            ("greedy", "seed 3", "same for every seed", "perplexity"),
        ),
        (lambda model: model.generate("the", length=8, seed=3), ("seed 3",)),
        (lambda model: model.generate("the", length=8).why(2), ("rank", "2 of 8")),
        (lambda model: model.generate("the", length=8).heat(), ("bits",)),
    ],
)
def test_what_comes_back_shows_itself(model, make, words):
    shown = make(model)
    page = Page(shown._repr_html_())
    assert page.open == [] and "script" not in page.tags
    for word in words:
        assert word in page.text
    assert "\x1b" not in repr(shown) and "object at" not in repr(shown)


def test_figures_are_numbers(model):
    compared = model.compare("the king", "greedy", "random", n=3, length=12, seed=1)
    assert set(compared.figures) == {"greedy", "random"}
    assert 0 <= compared.figures["greedy"]["repeated_4"] <= 1
    assert repr(compared).splitlines()[-1].startswith("Low perplexity is not quality")


def test_loading_says_what_is_wrong_and_keeps_no_process(tmp_path):
    with pytest.raises(MiniGPTError, match="checkpoint"):
        minigpt_repl.load(tmp_path)


def test_the_package_has_its_parts_at_hand_and_loads_none_of_them():
    script = (
        "import sys, minigpt_repl\n"
        "assert not {'rich', 'keras'} & set(sys.modules)\n"
        "assert minigpt_repl.sampling.__name__ == 'minigpt_repl.sampling'"
    )
    python(script, check=True)


@pytest.mark.slow
def test_a_script_is_quiet(tmp_path, tiny_causal_lm):
    from minigpt_repl.models.checkpoint import save_checkpoint

    save_checkpoint(tmp_path / "model", tiny_causal_lm, {})
    script = """
import sys, minigpt_repl
with minigpt_repl.load(sys.argv[1]) as model:
    for piece in model.generate("the cat", "min_p=0.1 + temperature=0.8", length=5):
        print(piece, end="", flush=True)
assert "tensorflow" not in sys.modules
"""
    result = python(script, tmp_path / "model")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout
