"""`minigpt-setup` as a user has it: a process, its output, its exit code."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from processes import python

from minigpt_repl.__main__ import setup
from minigpt_repl.training.recipes import DEFAULT

SCRIPT = Path(__file__).parents[2] / "scripts" / "setup_model.py"

SMALL = (
    *("--layers", "1", "--width", "16", "--heads", "2", "--feedforward", "16"),
    *("--context", "16", "--vocabulary-size", "300", "--batch-size", "8"),
    *("--sampler", "none"),
)


def made_up_text(lines=200):
    """Paragraphs of a made-up language, apart by blank lines."""
    rng = random.Random(1)
    nouns = ["king", "queen", "boy", "girl", "dog", "house", "garden", "river"]
    verbs = ["saw", "found", "loved", "left", "called"]
    paragraphs = []
    for _ in range(lines):
        sentences = [
            f"The {rng.choice(nouns)} {rng.choice(verbs)} the {rng.choice(nouns)}."
            for _ in range(rng.randint(3, 7))
        ]
        paragraphs.append(" ".join(sentences))
    return "\n\n".join(paragraphs)


@pytest.fixture
def place(tmp_path):
    """A folder with `text.txt`, and a cache of its own."""
    (tmp_path / "text.txt").write_text(made_up_text(), encoding="utf-8")
    return tmp_path


def start(place, *arguments, corpus="text.txt", out="out"):
    environment = os.environ | {
        "XDG_CACHE_HOME": str(place / "cache"),
        "KERAS_HOME": str(place / "keras"),
    }
    command = [sys.executable, str(SCRIPT), "--corpus", corpus, "--out", out]
    return subprocess.Popen(
        [*command, *SMALL, *arguments],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(place, *arguments, **options):
    process = start(place, *arguments, **options)
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


def refused(place, capsys, *arguments, corpus="text.txt", out="out"):
    """The exit code and the errors of a setup that does no work, in this process."""
    source = [] if corpus is None else ["--corpus", str(place / corpus)]
    code = setup([*source, "--out", str(place / out), *SMALL, *arguments])
    return code, capsys.readouterr().err


def record(place, out="out"):
    return json.loads((place / out / "training.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_text_becomes_a_checkpoint_with_its_draft(place):
    corpus = str(place / "text.txt")
    code, output, errors = run(place, "--steps", "12", "--draft", corpus=corpus)
    assert code == 0, errors
    # stdout stays free; what is long shows itself, with no escape sequence.
    assert output == ""
    assert "\x1b" not in errors
    assert "Traceback" not in errors
    assert "validation perplexity" in errors
    assert "learned by heart: perplexity" in errors
    from minigpt_repl.models.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(place / "out")
    assert checkpoint.draft is not None
    assert checkpoint.causal_lm.compute_dtype == "float32"
    training = checkpoint.record.training
    assert training["steps"] == 12
    assert training["recipe"]["name"] == "default"
    assert training["draft"]["steps"] == 3
    assert training["data"]["train_lines"] + training["data"]["valid_lines"] == 200
    # No more of the path: the checkpoint may be given away.
    assert training["data"]["source"] == "text.txt"
    # The state is not shipped, and gone when there is nothing to go on with.
    assert not list((place / "out.training").rglob("state.npz"))
    rows = (place / "out.training" / "log.csv").read_text().splitlines()
    columns = rows[0].split(",")
    assert len(rows) >= 2 and {"step", "epochs", "val_loss"} <= set(columns)
    assert len(columns) == len(set(columns))
    # What is finished can go on, and its draft model learns from it.
    taught = ("--teacher", "out", "--batch-size", "4")
    done, again = [
        train_longer(place, corpus, "longer", *taught, "--halfway") for _ in range(2)
    ]
    assert done.returncode == 0, done.stderr
    told = [done.stderr.find(each) for each in ("5/5 steps", "halfway: ", "3/3 steps")]
    assert -1 not in told and told == sorted(told), done.stderr
    assert again.returncode == 2 and "longer is there already" in again.stderr
    assert not (place / "longer.training").exists()
    longer = load_checkpoint(place / "longer")
    training = longer.record.training
    assert training["steps"] == 17 and training["begun_as"]["steps"] == 12
    assert [each["step"] for each in training["history"]] == [12, 17]
    assert training["draft"]["distilled"]["steps"] == 3
    assert training["teachers"] == [checkpoint.record.training["metrics"]]
    assert training["recipe"]["batch_size"] == 4 and training["halfway"]
    assert training["metrics"] == training["history"][-1]
    before, after = checkpoint.causal_lm.backbone, longer.causal_lm.backbone
    assert after.trainable and longer.draft.backbone.trainable
    for one, other in zip(before.weights, after.weights, strict=True):
        stays = len(one.shape) < 2 or "bias" in one.path
        assert np.array_equal(one, other) == stays, one.path

    # Or begin anew in today's shape, which is another than its teacher's.
    done = train_longer(place, corpus, "anew", *taught, "--anew")
    assert done.returncode == 0, done.stderr
    anew = load_checkpoint(place / "anew")
    assert anew.causal_lm.backbone.num_layers == 3 and before.num_layers == 1
    training = anew.record.training
    assert training["steps"] == 5 and training["begun_as"]["steps"] == 12
    assert training["metrics"] == training["history"][-1]


def train_longer(place, corpus, out, *arguments):
    script = SCRIPT.with_name("train_longer.py")
    command = [sys.executable, script, "--corpus", corpus, "--checkpoint", "out"]
    command += ["--out", out, "--steps", "5", "--draft-steps", "3"]
    return subprocess.run(
        [*command, *arguments],
        cwd=place,
        env=os.environ | {"XDG_CACHE_HOME": str(place / "cache")},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_an_interrupt_saves_says_how_to_go_on_and_exits_130(place):
    process = start(place, "--steps", "100000")
    state = place / "out.training" / "state.npz"
    wait_for(lambda: state.exists(), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "--resume" in errors.splitlines()[-1]
    assert not (place / "out").exists()
    steps = int(
        re.search(r"stopped after step ([\d,]+), saved", errors)[1].replace(",", "")
    )
    # Corpus and shape are in the state.
    command = [sys.executable, str(SCRIPT), "--out", "out", "--resume"]
    done = subprocess.run(
        [*command, "--steps", str(steps + 5)],
        cwd=place,
        env=os.environ | {"XDG_CACHE_HOME": str(place / "cache")},
        capture_output=True,
        text=True,
    )
    code, errors = done.returncode, done.stderr
    assert code == 0, errors
    assert f"going on after step {steps:,}" in errors
    assert record(place)["training"]["steps"] == steps + 5


@pytest.mark.slow
def test_killed_at_random_it_always_goes_on(place):
    """SIGKILL at any moment leaves a whole state, or none, and a whole checkpoint."""
    rng = random.Random(7)
    for _ in range(3):
        process = start(place, "--steps", "60", "--resume")
        time.sleep(rng.uniform(2, 10))
        process.kill()
        process.communicate()
    code, _, errors = run(place, "--steps", "60", "--resume")
    assert code == 0, errors
    assert record(place)["training"]["steps"] == 60
    from minigpt_repl.models.checkpoint import load_checkpoint

    load_checkpoint(place / "out")
    leftovers = [each.name for each in place.iterdir() if each.name.startswith(".")]
    assert len(leftovers) <= 1, leftovers
    code, _, errors = run(place, "--steps", "60", "--resume")
    assert code == 0
    assert "is finished" in errors


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)], ids=["", "overwrite"])
@pytest.mark.parametrize("name", ["mine.txt", "draft/mine.txt", "assets/mine.txt"])
def test_a_file_of_ones_own_is_never_replaced(place, capsys, name, overwrite):
    path = place / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    code, errors = refused(place, capsys, "--steps", "2", *overwrite)
    assert code == 2
    assert errors.count("\n") == 1
    assert f"{path} is not a checkpoint's" in errors
    assert path.read_text() == "precious"
    assert not (place / "out.training").exists()


@pytest.mark.parametrize("out", ["/proc/1/x", "/dev/null/x"])
def test_a_place_where_nothing_can_be_is_one_line(place, capsys, out):
    code, errors = refused(place, capsys, out=out)
    assert (code, errors.count("\n")) == (1, 1)
    assert f"can't write {out}" in errors


def test_a_second_setup_is_refused_and_names_the_firsts_process(place, capsys):
    from minigpt_repl.training.resume import locked

    with locked(place / "out"):
        code, errors = refused(place, capsys)
    assert code == 2
    assert f"process {os.getpid()} is setting up" in errors
    # What a process that was killed leaves is no obstacle.
    (place / "out.training").mkdir(exist_ok=True)
    (place / "out.training" / "lock").write_text("1")
    with locked(place / "out"):
        pass


def test_where_nothing_was_begun_there_is_nothing_to_go_on_with(place, capsys):
    # It began anew, on SimpleBooks, at a place that was mistyped.
    code, errors = refused(place, capsys, "--resume", corpus=None, out="mistyped")
    assert code == 2 and "leave --resume out to start one" in errors
    assert not [*place.glob("mistyped*")]


def test_a_finished_training_is_finished_whatever_lies_beside_it(place, capsys):
    out = place / "out"
    out.mkdir()
    (out / "training.json").write_text("{}")
    (out / "README.md").write_text("how I made it")
    code, errors = refused(place, capsys, "--resume")
    assert code == 0 and f"the training of {out} is finished" in errors
    code, errors = refused(place, capsys, "--overwrite")
    assert code == 2 and "README.md is not a checkpoint's" in errors


def test_a_training_of_an_old_version_needs_its_corpus(place, capsys):
    """0.1.0 kept recipe and seed in the state, and no options."""
    from minigpt_repl.training.resume import State, save_state

    recipe = DEFAULT.changed(num_layers=1, hidden_dim=16, num_heads=2)
    header = {"recipe": asdict(recipe), "seed": 7, "data": "x", "step": 3}
    save_state(place / "out.training", State(header, {}))
    code, errors = refused(place, capsys, "--resume", corpus=None)
    assert code == 2
    assert "give --corpus" in errors
    setup = asked(out=place / "out", resume=True, corpus="text.txt")
    assert (setup.recipe, setup.options.seed) == (recipe, 7)


def test_the_state_keeps_the_options(place, monkeypatch):
    from minigpt_repl.training.resume import State, save_state

    monkeypatch.chdir(place)
    out = place / "out"
    first = asked(out=out, corpus="text.txt", steps=9, num_layers=1, prompt="the")
    header = {
        "options": json.loads(json.dumps(first.options.to_json())),
        "recipe": asdict(first.recipe),
        "seed": 1,
    }
    save_state(place / "out.training", State(header, {}))
    second = asked(out=out, resume=True)
    assert second.options.corpus == str(place / "text.txt")
    assert (second.options.steps, second.options.prompt) == (9, "the")
    assert second.recipe == first.recipe
    third = asked(out=out, resume=True, minutes=2.0)
    assert (third.options.steps, third.options.minutes) == (None, 2.0)


def test_the_folder_of_an_unfinished_training_says_how_it_goes_on(place):
    from minigpt_repl.errors import CheckpointError
    from minigpt_repl.models.record import read_record
    from minigpt_repl.training.resume import State, remove_state, save_state

    folder = place / "out.training"
    save_state(folder, State({"step": 1234, "progress": 0.42}, {}))
    told = r"stopped after step 1,234, 42% done; go on with minigpt-setup --out .*out"
    with pytest.raises(CheckpointError, match=told + " --resume"):
        read_record(place / "out")
    for wrong in ("[" * 100_000, '{"step": 1%s, "progress": 1}' % ("0" * 4000), "{}"):
        (folder / "progress.json").write_text(wrong)
        with pytest.raises(CheckpointError, match="make one with"):
            read_record(place / "out")
    remove_state(folder)
    with pytest.raises(CheckpointError, match="make one with"):
        read_record(place / "out")


def asked(**given):
    """The setup of a command line that gives just these options."""
    from minigpt_repl.training.setup_model import command
    from minigpt_repl.training.setup_options import Options, make_setup

    context = command.make_context("minigpt-setup", [])
    options = context.params | given
    return make_setup(Options(**options), given)


@pytest.mark.slow
def test_korean_is_trained_as_it_is_written(place):
    """Syllables stay whole: neither accents nor Hangul are taken apart."""
    rng = random.Random(2)
    words = ["나비가", "바다를", "보았다", "작은", "소년은", "café에서", "울었다"]
    lines = [" ".join(rng.choices(words, k=12)) + "." for _ in range(200)]
    (place / "ko.txt").write_text("\n\n".join(lines), encoding="utf-8")
    code, _, errors = run(
        *(place, "--steps", "40", "--sampler", "random", "--tokenizer", "wordpiece"),
        corpus="ko.txt",
    )
    assert code == 0, errors
    words_file = place / "out" / "assets" / "tokenizer" / "vocabulary.txt"
    vocabulary = words_file.read_text(encoding="utf-8").split("\n")
    assert any("é" in word for word in vocabulary)
    letters = "".join(vocabulary)
    assert not any("\u1100" <= letter <= "\u11ff" for letter in letters)
    sample = [line for line in errors.splitlines() if line.startswith("random: ")][-1]
    assert any("가" <= letter <= "힣" for letter in sample)


@pytest.mark.slow
def test_case_is_kept_and_a_small_text_ends_long_before_the_time_does(place):
    code, _, errors = run(
        *(place, "--minutes", "600", "--batch-size", "256"),
        *("--tokenizer", "wordpiece", "--no-lowercase"),
    )
    assert code == 0, errors
    assert "it is read 100 times at most" in errors
    assert 0 < record(place)["training"]["steps"] <= 100 * 3
    words_file = place / "out" / "assets" / "tokenizer" / "vocabulary.txt"
    assert "The" in words_file.read_text(encoding="utf-8").split("\n")
    assert record(place)["lowercase"] is False


@pytest.mark.slow
def test_tutorial_prints_its_model_and_a_sample_at_each_epochs_end(place):
    code, _, errors = run(
        place, "--recipe", "tutorial", "--epochs", "2", "--sampler", "top_k"
    )
    assert code == 0, errors
    assert "Total params" in errors
    assert sum(line.startswith("top_k: ") for line in errors.splitlines()) == 2
    history = record(place)["training"]["history"]
    assert [each["step"] for each in history] == [
        history[0]["step"] * n for n in (1, 2)
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--steps", "1", "--minutes", "1"], "--steps and --minutes"),
        (["--resume", "--overwrite"], "--resume goes on, --overwrite starts anew"),
        (["--recipe", "tutorail"], "did you mean tutorial?"),
        (["--sampler", "contrastive"], "can't write samples during training"),
        (["--sampler", "topp_k"], "no sampler 'topp_k'"),
        (["--sampler", "top_k:k=0"], "k must be a whole number"),
        (["--sampler", "min_p=0.1 + greedy + xtc"], "greedy chooses the token"),
        (["--sampler", "ban=king + min_p"], "ban can't write samples during training"),
        (["--sampler", "mirostat"], "mirostat can't write samples during training"),
        (["--layers", "0"], "'--layers': 0 is not in the range x>=1"),
        (["--context", "1"], "'--context': 1 is not in the range x>=2"),
        (["--dropout", "1"], "'--dropout': 1.0 is not in the range 0<=x<1"),
        (["--learning-rate", "-1"], "-1.0 is not in the range x>0"),
        (["--steps", "x"], "'x' is not a valid integer"),
    ],
)
def test_wrong_options_are_refused_before_any_work(arguments, told, place, capsys):
    code, errors = refused(place, capsys, *arguments)
    assert code == 2
    assert told in errors
    assert errors.startswith("minigpt-setup: ") and errors.count("\n") == 1
    assert {each.name for each in place.iterdir()} == {"text.txt"}


def test_a_defect_is_one_line_and_a_traceback_only_on_demand(
    place, capsys, monkeypatch
):
    # Only `minigpt-repl` had this: the setup showed its traceback.
    monkeypatch.setattr("minigpt_repl.training.setup_model._run", lambda *_: 1 / 0)
    told = "minigpt-setup: a defect of this program, ZeroDivisionError: division by"
    code, errors = refused(place, capsys)
    assert code == 1
    assert errors.startswith(told) and errors.count("\n") == 1
    code, errors = refused(place, capsys, "--debug")
    assert code == 1
    assert "Traceback" in errors and told in errors


def test_help_and_wrong_options_load_no_tensorflow():
    code = (
        "import sys\n"
        "from minigpt_repl.__main__ import setup\n"
        "assert setup(['--help']) == 0\n"
        "heavy = {'tensorflow', 'keras', 'keras_hub', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert "--recipe" in done.stdout


def wait_for(condition, process, seconds=240):
    """Until the condition holds; fails if the process ends before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it did not get there"
        time.sleep(0.2)
