"""Two devices of one machine train what one trains: each takes half of every batch."""

import os
import subprocess
import sys

import numpy as np
import pytest
from test_setup_model import SCRIPT, SMALL, made_up_text, record

# A process of its own: devices can't be made once TensorFlow has started.
ON_TWO = """
import runpy, sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
sys.argv[:] = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirrored")
    (folder / "text.txt").write_text(made_up_text(), encoding="utf-8")
    return folder


def train(place, out, *arguments, devices):
    """Train in a process with so many devices; returns its output and its record."""
    program = ["-c", ON_TWO] if devices == 2 else []
    options = ["--corpus", "text.txt", "--out", out, *SMALL, *arguments]
    done = subprocess.run(
        [sys.executable, *program, str(SCRIPT), *options],
        cwd=place,
        env=os.environ | {"XDG_CACHE_HOME": str(place / "cache")},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert ("2 devices share every batch" in done.stderr) == (devices == 2)
    return done.stderr, record(place, out)["training"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        # 7 is odd, so that a device gets an empty row.
        ("--recipe", "default", "--full-precision", "--batch-size", "7"),
        ("--recipe", "tutorial"),
    ],
    ids=["default", "tutorial"],
)
def test_two_devices_give_the_losses_of_one(place, options):
    name = options[1]
    options = (*options, "--steps", "60")
    _, one = train(place, f"{name}-1", *options, devices=1)
    told, two = train(place, f"{name}-2", *options, "--sampler", "greedy", devices=2)
    assert "greedy: " in told
    assert len(one["history"]) == len(two["history"]) >= 2
    np.testing.assert_allclose(
        [each["loss"] for each in two["history"]],
        [each["loss"] for each in one["history"]],
        atol=1e-3,
    )
    np.testing.assert_allclose(
        two["training_losses"], one["training_losses"], atol=1e-3
    )
