"""Where a checkpoint is found, and where the XDG folders are."""

from pathlib import Path

import pytest

from minigpt_repl import paths


@pytest.fixture(autouse=True)
def no_checkpoint_in_the_environment(monkeypatch):
    monkeypatch.delenv("MINIGPT_CHECKPOINT", raising=False)


def test_a_flag_beats_the_environment_and_that_beats_the_config(monkeypatch):
    assert paths.find_checkpoint(None, "/from/config") == Path("/from/config")
    monkeypatch.setenv("MINIGPT_CHECKPOINT", "/from/environment")
    found = paths.find_checkpoint("/from/flag", "/from/config")
    assert found == Path("/from/flag")
    found = paths.find_checkpoint(None, "/from/config")
    assert found == Path("/from/environment")


def test_with_nothing_said_the_bundled_checkpoint_is_used():
    assert paths.find_checkpoint() == paths.bundled_checkpoint()
    assert paths.bundled_checkpoint().parts[-2:] == ("checkpoints", "default")


def test_a_home_folder_is_understood():
    found = paths.find_checkpoint("~/mine")
    assert found == Path.home() / "mine"


@pytest.mark.parametrize("value", ["", "relative/path"])
def test_an_xdg_variable_that_is_not_absolute_is_ignored(monkeypatch, value):
    monkeypatch.setenv("XDG_STATE_HOME", value)
    assert paths.state_home() == Path.home() / ".local/state" / "minigpt-repl"


def test_a_relative_home_is_ignored(monkeypatch):
    for name in ("CONFIG", "STATE", "DATA", "CACHE"):
        monkeypatch.delenv(f"XDG_{name}_HOME", raising=False)
    for value in ("here", ""):
        monkeypatch.setenv("HOME", value)
        assert paths.state_home().is_absolute()
        assert paths.config_home().is_absolute()
    monkeypatch.setenv("HOME", "/some/where")
    assert paths.data_home() == Path("/some/where/.local/share/minigpt-repl")


def test_an_absolute_xdg_variable_is_used(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert paths.cache_home() == tmp_path / "minigpt-repl"


def test_in_a_clone_a_new_checkpoint_goes_beside_the_default_one():
    assert paths.default_output() == paths.bundled_checkpoint().parent / "mine"


def test_outside_a_clone_it_goes_to_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "site-packages" / "minigpt_repl")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert paths.default_output() == tmp_path / "minigpt-repl" / "checkpoints" / "mine"
