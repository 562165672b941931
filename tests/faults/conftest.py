"""A checkpoint to be damaged."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def whole(tiny_causal_lm, tmp_path_factory):
    """A good checkpoint that no test changes."""
    from minigpt_repl.models.checkpoint import save_checkpoint

    directory = tmp_path_factory.mktemp("checkpoints") / "whole"
    save_checkpoint(directory, tiny_causal_lm, {"recipe": "none"})
    return directory


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of a good checkpoint, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))
