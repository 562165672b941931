"""Samples and curves of a training."""

import pytest

from minigpt_repl.errors import UsageError


def evaluations():
    from minigpt_repl.training.trainable import Evaluation

    return [Evaluation(step, step / 2, 4.0, 54.6, 1.5) for step in (5, 10, 15)]


def test_curves_are_drawn_into_a_png(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    from minigpt_repl.training.pipeline import draw_curves

    path = tmp_path / "new" / "curve.png"
    draw_curves(path, [("one", evaluations()), ("other", evaluations())])
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("module", "extra"), [("matplotlib", "plot"), ("tensorboard", "tensorboard")]
)
def test_what_is_not_installed_is_refused_with_the_command(monkeypatch, module, extra):
    import sys

    from minigpt_repl.training.setup_options import check_installed

    monkeypatch.setitem(sys.modules, module, None)
    command = rf"pip install 'minigpt-repl\[{extra}\]'"
    with pytest.raises(UsageError, match=command):
        check_installed(module, "a wish", extra)


@pytest.mark.slow
def test_a_sample_is_readable_text_that_begins_with_the_prompt(make_causal_lm):
    from minigpt_repl.training.pipeline import sample_text

    causal_lm = make_causal_lm(seed=1)
    causal_lm.compile(sampler="greedy")
    text = sample_text(causal_lm, "the cat sat")
    assert text.startswith("The cat sat")
    assert len(text) > len("The cat sat")
    assert "##" not in text
    assert "[" not in text
    # The preprocessor is out of the way only meanwhile.
    assert causal_lm.preprocessor is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "label"),
    [
        ("repetition_penalty=1.3 + dry=0.8 + top_k=100000 + temperature=0.8", None),
        ("Diverse-Beam:num_beams=3,num_groups=2", "diverse_beam:num_beams=3,"),
    ],
)
def test_a_sample_is_written_by_any_sampler_as_the_repl_takes_it(
    make_causal_lm, typed, label
):
    from minigpt_repl.training.pipeline import show_samples
    from minigpt_repl.training.progress import Progress
    from minigpt_repl.training.setup_options import Options, make_setup

    class Said(Progress):
        def say(self, text):
            lines.append(text)

    lines = []
    setup = make_setup(Options(sampler=typed), {"sampler"})
    chosen = (setup.sampler, setup.sampler_values)
    shown = show_samples(make_causal_lm(seed=1), *chosen, Said(), "the cat")
    shown.on_epoch_end(1, {"val_perplexity": 9.0})
    (line,) = lines
    assert line.startswith(label or typed) and ": The cat" in line
    assert len(line.partition(": The cat")[2]) > 10


def test_a_samplers_label_has_what_is_not_its_default():
    from minigpt_repl.training.setup_options import Options, make_setup

    labels = {
        "topk": "top_k",
        "top_k:k=20": "top_k:k=20",
        "top_p:temperature=0": "greedy",
        "min_p + temperature": "min_p=0.05 + temperature=1",
    }
    for typed, label in labels.items():
        setup = make_setup(Options(sampler=typed), {"sampler"})
        assert setup.sampler.brief(setup.sampler_values) == label
