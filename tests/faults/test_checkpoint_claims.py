"""What a checkpoint says of itself is compared before anything is built of it."""

import json
import os
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from forged import edit_json, sign
from processes import python

from minigpt_repl.errors import CheckpointError
from minigpt_repl.models.checkpoint import load_checkpoint, save_checkpoint
from minigpt_repl.models.record import (
    VOCABULARY_FILE,
    check_checkpoint,
    parameter_count,
)

ROOT = Path(__file__).resolve().parent.parent.parent


def change(directory: Path, record=(), **files) -> None:
    """Change the backbone's configuration in some files, and sign them."""
    for name, values in files.items():
        edit_json(
            directory / f"{name}.json",
            lambda content, values=values: (
                content["config"].get("backbone", content)["config"].update(values)
            ),
        )
    sign(directory, **dict(record))


def refused(directory: Path, verify: bool = True) -> str:
    with pytest.raises(CheckpointError) as caught:
        check_checkpoint(directory, verify)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    return str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"tie_weights": True, "normalize_first": True},
        {"num_heads": 3},
        {"rotary": True},
    ],
)
def test_weights_are_counted_without_building_them(make_causal_lm, config, tmp_path):
    causal_lm = make_causal_lm(**config)
    save_checkpoint(tmp_path / "model", causal_lm, {})
    check_checkpoint(tmp_path / "model")
    own = causal_lm.backbone.count_params()
    sizes = causal_lm.backbone
    assert parameter_count(sizes) == (own, causal_lm.count_params() - own)


@pytest.mark.parametrize(
    "sizes",
    [
        {"vocabulary_size": 3_000_000},
        {"num_layers": 10**6},
        {"num_layers": 900},
        {"max_sequence_length": 10**9},
        {"max_sequence_length": 10**9, "rotary": True},
        {"hidden_dim": 10**6},
        {"intermediate_dim": 10**9},
        {"num_heads": 10**9},
        {"hidden_dim": 10**400},
    ],
    ids=str,
)
def test_sizes_that_the_weights_do_not_have_are_refused(copy, sizes):
    change(copy, config=sizes, task=sizes)
    assert "minigpt-setup" in refused(copy)
    refused(copy, verify=False)
    claims = {
        "embedding_rows": sizes.get("vocabulary_size", 80),
        "context_length": sizes.get("max_sequence_length", 32),
        "parameter_count": 10**9,
    }
    change(copy, claims)
    refused(copy)


def test_two_configurations_that_differ_are_both_named(copy):
    change(copy, task={"num_layers": 3})
    assert "config.json says 'num_layers' is 2, task.json that it is 3" in refused(copy)
    change(copy, config={"num_layers": 3, "activation": "gelu"})
    line = refused(copy)
    assert "config.json says 'activation' is 'gelu', task.json" in line
    assert "config.json says" in refused(copy, verify=False)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("name", ["model.weights.h5", "task.weights.h5"])
def test_weights_that_are_no_numbers_are_found_when_loading(copy, name, value):
    with h5py.File(copy / name, "r+") as file:
        found = []
        file.visititems(
            lambda _, item: found.append(item) if hasattr(item, "shape") else None
        )
        values = [each for each in found if each.ndim > 0][-1]
        values[..., 0] = value
    change(copy)
    assert "not finite" in refused(copy)
    assert name in refused(copy, verify=False)
    with pytest.raises(CheckpointError, match="not finite"):
        load_checkpoint(copy, verify=False)


def test_weights_that_take_no_room_in_their_file_are_refused(copy):
    with h5py.File(copy / "model.weights.h5", "r+") as file:
        group = file["layers/token_and_position_embedding/token_embedding/vars"]
        del group["0"]
        group.create_dataset("0", (80, 16), np.float32, chunks=(8, 16))
    change(copy)
    assert "holds less than it says" in refused(copy)


@pytest.mark.parametrize("name", ["config.json", "task.json", "metadata.json"])
def test_a_configuration_of_hundreds_of_megabytes_is_refused_by_its_size(copy, name):
    with (copy / name).open("wb") as file:
        file.truncate(200_000_000)
    change(copy)
    assert "larger than 16 MB" in refused(copy)


def test_a_vocabulary_of_hundreds_of_megabytes_is_refused_by_its_size(copy):
    with (copy / VOCABULARY_FILE).open("wb") as file:
        file.truncate(200_000_000)
    assert "larger than 64 MB" in refused(copy, verify=False)


@pytest.mark.parametrize("name", ["config.json", "extra.json", "metadata.json"])
def test_a_pipe_among_the_configurations_is_not_opened(copy, name):
    (copy / name).unlink(missing_ok=True)
    os.mkfifo(copy / name)
    refused(copy)
    refused(copy, verify=False)


@pytest.mark.parametrize("key", ["class_name", "module", "registered_name"])
def test_names_in_a_configuration_are_quoted_and_cut(copy, key):
    path = copy / "config.json"
    content = json.loads(path.read_text())
    for name in ("\x1b]52;c;aGk=\x07" * 9999, ["a"] * 9999, {"a": "\x1b" * 9999}):
        path.write_text(json.dumps(content | {key: name}))
        change(copy)
        line = refused(copy)
        assert line.isprintable()


CODE = """
import resource, sys
from minigpt_repl.__main__ import main
code = main(["--checkpoint", sys.argv[1], "-p", "the cat"])
# Its own ru_maxrss begins with that of the process that started it.
status = open("/proc/self/status").read().split("VmHWM:")[1]
peaks = int(status.split()[0]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(max(peaks) // 1024)
sys.exit(code)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="there is no /proc to ask"
)
def test_it_is_refused_soon_and_with_little_memory(copy):
    sizes = {"vocabulary_size": 3_000_000, "max_sequence_length": 10**9}
    change(copy, config=sizes, task=sizes)
    began = time.monotonic()
    result = python(CODE, copy)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert (
        int(result.stdout) < 1500
    )  # MB; of pytest too, since it begins as a copy of that
    assert time.monotonic() - began < 10  # about one second where nobody else works
