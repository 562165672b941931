"""A damaged checkpoint is refused in one line, never used as if it were whole."""

import json
import os
import random
import shutil
import sys
from pathlib import Path

import pytest
from forged import edit_json, sign
from processes import python

from minigpt_repl.errors import CheckpointError
from minigpt_repl.models.checkpoint import load_checkpoint, save_checkpoint
from minigpt_repl.models.record import (
    RECORD_FILE,
    VOCABULARY_FILE,
    read_record,
)

FILES = (
    "config.json",
    "metadata.json",
    "model.weights.h5",
    "preprocessor.json",
    "task.json",
    "task.weights.h5",
    "tokenizer.json",
    VOCABULARY_FILE,
)
CUTS = 20


def refused(directory: Path, verify: bool = True) -> str:
    """The line in which loading is refused."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(directory, verify=verify)
    message = str(caught.value)
    assert "\n" not in message
    helps = ("minigpt-setup", "newer minigpt-repl", "can't read")
    assert any(help in message for help in helps)
    return message


def test_the_list_of_files_is_complete(whole):
    assert set(read_record(whole).files) == set(FILES)


@pytest.mark.parametrize("name", [*FILES, RECORD_FILE])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    assert name in refused(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_though_the_record_does_not_list_it(copy, name):
    (copy / name).unlink()
    sign(copy)
    assert name in refused(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_without_verification_too(copy, name):
    (copy / name).unlink()
    assert name in refused(copy, verify=False)


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_the_place_of_a_file_is_refused(copy, name):
    (copy / name).unlink()
    (copy / name).mkdir()
    assert name in refused(copy)


@pytest.mark.parametrize("name", [*FILES, RECORD_FILE])
def test_a_truncated_file_is_refused_at_any_length(copy, name):
    path = copy / name
    content = path.read_bytes()
    lengths = random.Random(name)
    for length in [0, *(lengths.randrange(len(content) - 1) for _ in range(CUTS))]:
        path.write_bytes(content[:length])
        assert name in refused(copy)


@pytest.mark.parametrize("name", [*FILES, RECORD_FILE])
@pytest.mark.parametrize("size", [1, 1000])
def test_random_bytes_are_refused(copy, name, size):
    (copy / name).write_bytes(random.Random(size).randbytes(size))
    assert name in refused(copy)


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_seen(copy, name):
    path = copy / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    assert name in refused(copy)


@pytest.mark.parametrize("name", FILES)
def test_damage_is_no_traceback_without_verification(copy, name):
    path = copy / name
    content = path.read_bytes()
    for damaged in (content[:-1], content[: len(content) // 2], b"", b"\xff\x00" * 50):
        path.write_bytes(damaged)
        # Not every damage can be seen without the record; what is not allowed is
        # any other error.
        try:
            load_checkpoint(copy, verify=False)
        except CheckpointError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    "change",
    [
        lambda words: [*words, "extra"],
        lambda words: words[:-1],
        lambda words: [*words[:-1], words[5]],
        lambda words: [words[1], words[0], *words[2:]],
    ],
    ids=["added", "removed", "doubled", "swapped"],
)
@pytest.mark.parametrize("signed", [False, True])
def test_a_changed_vocabulary_is_refused(copy, change, signed):
    path = copy / VOCABULARY_FILE
    words = path.read_text().splitlines()
    path.write_text("\n".join(change(words)) + "\n")
    if signed:
        sign(copy)
    refused(copy)


def test_weights_of_another_shape_are_refused(copy, make_causal_lm, tmp_path):
    save_checkpoint(tmp_path / "other", make_causal_lm(hidden_dim=24), {})
    for name in ("model.weights.h5", "task.weights.h5"):
        shutil.copy(tmp_path / "other" / name, copy / name)
    assert "weights.h5" in refused(copy)
    sign(copy)
    refused(copy)
    refused(copy, verify=False)


def test_the_weights_of_another_model_of_the_same_shape_are_refused(
    copy, make_causal_lm, tmp_path
):
    save_checkpoint(tmp_path / "other", make_causal_lm(seed=9), {})
    shutil.copy(tmp_path / "other" / "model.weights.h5", copy)
    assert "model.weights.h5" in refused(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 99},
        {"version": "1"},
        {"version": True},
        {"version": None},
        {"version": 0},
        {"vocabulary_size": "71"},
        {"vocabulary_size": 70},
        {"vocabulary_size": -71},
        {"embedding_rows": 81},
        {"embedding_rows": 70},
        {"context_length": 33},
        {"context_length": None},
        {"lowercase": 1},
        {"files": []},
        {"files": {}},
        {"files": {"config.json": 3}},
        {"files": {"../outside": "0" * 64}},
        {"files": {"/etc/passwd": "0" * 64}},
        {"training": None},
        {"has_draft": True},
    ],
    ids=str,
)
def test_a_record_that_cannot_be_right_is_refused(copy, change):
    path = copy / RECORD_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refused(copy)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "3", '"record"', "{}", "[" * 100_000, "\ufeff{}", '{"version":'],
    ids=lambda text: text[:12],
)
def test_a_record_that_is_none_is_refused(copy, text):
    (copy / RECORD_FILE).write_text(text)
    assert RECORD_FILE in refused(copy)


@pytest.mark.parametrize("name", ["config.json", "task.json", "tokenizer.json"])
@pytest.mark.parametrize("text", ["null", "[]", "{}", "[" * 100_000], ids=str.__len__)
def test_a_configuration_of_another_form_is_refused(copy, name, text):
    (copy / name).write_text(text)
    sign(copy)
    refused(copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vocabulary_size", 10**13),
        ("num_layers", -1),
        ("num_layers", 1),
        ("num_layers", "two"),
        ("hidden_dim", 0),
        ("activation", "os.system"),
    ],
)
def test_a_configuration_with_impossible_values_is_refused(copy, key, value):
    for name in ("config.json", "task.json"):
        content = json.loads((copy / name).read_text())
        backbone = content["config"].get("backbone", content)
        backbone["config"][key] = value
        (copy / name).write_text(json.dumps(content))
    sign(copy)
    refused(copy)


def test_another_class_of_ours_is_not_a_language_model(copy):
    shutil.copy(copy / "config.json", copy / "task.json")
    sign(copy)
    refused(copy)


def test_a_file_and_nothing_are_told_from_a_folder(whole, tmp_path):
    assert "there is no checkpoint" in refused(tmp_path / "nowhere")
    assert "is a file" in refused(whole / "config.json")
    assert "is a file" in refused(whole / "config.json", verify=False)
    refused(whole / "config.json" / "below")
    refused(tmp_path / ("long" * 100))
    refused(tmp_path / "a\0b")


def test_an_empty_folder_is_refused(tmp_path):
    assert RECORD_FILE in refused(tmp_path)
    refused(tmp_path, verify=False)


def test_an_unreadable_file_is_named(copy, monkeypatch):
    # Root may read anything, so the refusal of the system is put in its place.
    original = Path.open

    def deny(path, *arguments, **keywords):
        if path.name == "model.weights.h5":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", deny)
    message = refused(copy)
    assert "model.weights.h5" in message
    assert "Permission denied" in message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
def test_another_users_folder_is_refused_in_one_line(tmp_path):
    code = """
import os, sys
from pathlib import Path
from minigpt_repl.errors import CheckpointError
from minigpt_repl.models.record import read_record
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    read_record(Path(sys.argv[1]))
except CheckpointError as error:
    print(error)
"""
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / RECORD_FILE).write_text("{}")
    (tmp_path / "closed").chmod(0)
    for place in ("closed", "closed/below"):
        result = python(code, tmp_path / place)
        assert result.stderr == ""
        assert len(result.stdout.splitlines()) == 1
        assert "ermission denied" in result.stdout


CODE = "import pathlib; pathlib.Path({marker!r}).write_text('ran')"


def lambda_layer(marker: Path) -> dict:
    """What Keras writes for a Lambda layer that holds code."""
    import base64
    import marshal

    function = compile(
        f"lambda x: exec({CODE.format(marker=str(marker))!r})", "x", "eval"
    )
    code = base64.b64encode(marshal.dumps(function.co_consts[0])).decode()
    return {
        "module": "keras.layers",
        "class_name": "Lambda",
        "registered_name": None,
        "config": {
            "name": "lambda",
            "function": {
                "class_name": "__lambda__",
                "config": {"code": code, "defaults": None, "closure": None},
            },
        },
    }


@pytest.fixture
def evil_module(tmp_path, monkeypatch):
    """A module on the path that leaves a mark when anything imports it."""
    marker = tmp_path / "marker"
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "evil_layers.py").write_text(
        CODE.format(marker=str(marker)) + "\nclass MiniGPTBackbone: pass\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    yield marker
    sys.modules.pop("evil_layers", None)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(
    "place", ["config.json", "task.json", "tokenizer.json", "preprocessor.json"]
)
@pytest.mark.parametrize("trick", ["lambda", "module", "registered", "nested", "bare"])
def test_a_checkpoint_runs_no_code(copy, evil_module, place, trick, verify):
    marker = evil_module

    def change(content):
        if trick == "lambda":
            content.clear()
            content.update(lambda_layer(marker))
        elif trick == "module":
            content["module"] = "evil_layers"
        elif trick == "registered":
            content["registered_name"] = "evil>Layer"
            content["module"] = "evil_layers"
        elif trick == "nested":
            content["config"]["dtype"] = lambda_layer(marker)
        else:
            content["config"]["activation"] = lambda_layer(marker)["config"]["function"]

    edit_json(copy / place, change)
    sign(copy)
    message = refused(copy, verify=verify)
    assert place in message
    assert not marker.exists()
    assert "evil_layers" not in sys.modules


def test_a_registered_name_of_others_is_refused(copy):
    import keras

    @keras.saving.register_keras_serializable(package="elsewhere")
    class MiniGPTBackbone(keras.layers.Layer):
        def __init__(self, **keywords):
            raise AssertionError("the checkpoint chose this class")

    edit_json(
        copy / "config.json",
        lambda content: content.update(registered_name="elsewhere>MiniGPTBackbone"),
    )
    sign(copy)
    assert "elsewhere" in refused(copy)


def test_a_pickle_beside_the_model_is_never_opened(copy, tmp_path):
    marker = tmp_path / "marker"

    class Evil:
        def __reduce__(self):
            return exec, (CODE.format(marker=str(marker)),)

    import pickle

    for name in ("model.pkl", "model.keras", "assets/tokenizer/vocabulary.pkl"):
        (copy / name).write_bytes(pickle.dumps(Evil()))
    sign(copy)
    load_checkpoint(copy)
    assert not marker.exists()
