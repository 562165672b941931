"""Fixtures of the tests of the training."""

import pytest


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """Results of finished stages are kept in a folder that holds none yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
