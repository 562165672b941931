"""`minigpt-setup` as a user has it: a process, its output, its exit code."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "setup_model.py"

SMALL = (
    *("--layers", "1", "--width", "16", "--heads", "2", "--feedforward", "16"),
    *("--context", "16", "--vocabulary-size", "130", "--batch-size", "8"),
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
    steps = int(errors.split("stopped after step ")[1].split(",")[0])
    code, _, errors = run(place, "--steps", str(steps + 5), "--resume")
    assert code == 0, errors
    assert f"going on after step {steps}" in errors
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


@pytest.mark.slow
def test_what_is_there_is_replaced_only_when_asked_for(place):
    (place / "out").mkdir()
    (place / "out" / "mine.txt").write_text("precious")
    code, _, errors = run(place, "--steps", "2")
    assert code == 2
    assert errors.count("\n") == 1
    assert "--overwrite" in errors
    assert (place / "out" / "mine.txt").read_text() == "precious"
    code, _, errors = run(place, "--steps", "2", "--overwrite")
    assert code == 0, errors
    assert record(place)["training"]["steps"] == 2


@pytest.mark.slow
def test_korean_is_trained_as_it_is_written(place):
    """Syllables stay whole: neither accents nor Hangul are taken apart."""
    rng = random.Random(2)
    words = ["나비가", "바다를", "보았다", "작은", "소년은", "café에서", "울었다"]
    lines = [" ".join(rng.choices(words, k=12)) + "." for _ in range(200)]
    (place / "ko.txt").write_text("\n\n".join(lines), encoding="utf-8")
    code, _, errors = run(
        place, "--steps", "40", "--sampler", "random", corpus="ko.txt"
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
def test_case_is_kept_when_asked_for(place):
    code, _, errors = run(place, "--steps", "3", "--no-lowercase")
    assert code == 0, errors
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
        (["--recipe", "tutorail"], "did you mean 'tutorial'"),
        (["--sampler", "contrastive"], "can't write samples during training"),
        (["--sampler", "topp_k"], "no sampler 'topp_k'"),
        (["--layers", "0"], "num_layers must be 1 or more, but 0"),
        (["--steps", "x"], "'x' is not a valid integer"),
    ],
)
def test_wrong_options_are_refused_before_any_work(arguments, told, place):
    code, output, errors = run(place, *arguments)
    assert code == 2
    assert told in errors
    assert "Traceback" not in errors
    assert output == ""
    assert not (place / "out").exists()
    assert not (place / "cache").exists()


def test_help_and_wrong_options_load_no_tensorflow():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from minigpt_repl.training.setup_model import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'tensorflow', 'keras', 'keras_hub', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(SCRIPT.parents[1])],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "--recipe" in done.stdout


def wait_for(condition, process, seconds=240):
    """Until the condition holds; fails if the process ends before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it did not get there"
        time.sleep(0.2)
