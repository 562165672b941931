"""Samplers are found by any spelling, and a package can add one."""

from dataclasses import replace
from importlib import metadata

import pytest

from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.sampling import registry


class Plugin:
    """An entry point that loads what it was made with, or fails with it."""

    name, value = "coin", "coin_package:SPEC"

    def __init__(self, loaded):
        self.loaded = loaded

    def load(self):
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


@pytest.fixture
def install(monkeypatch):
    """Installs packages with one plugin each, for this test."""

    def install(*loaded):
        plugins = [Plugin(each) for each in loaded]
        monkeypatch.setattr(metadata, "entry_points", lambda group: plugins)
        monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
        monkeypatch.setattr(registry, "_plugins_loaded", False)

    return install


@pytest.fixture
def coin():
    return replace(registry.find_sampler("random"), name="coin", aliases=("toss",))


@pytest.mark.parametrize("spelling", ["top_k", "topk", "Top-K", "TOPK"])
def test_spelling_does_not_matter(spelling):
    assert registry.find_sampler(spelling).name == "top_k"


def test_a_plugin_of_a_package_is_found_and_listed(install, coin):
    install(coin)
    assert registry.find_sampler("toss") is coin
    assert registry.all_samplers()[-1] is coin


def test_a_plugin_is_not_looked_for_while_a_built_in_one_is_meant(install):
    install(RuntimeError("must not be loaded"))
    assert registry.find_sampler("greedy").name == "greedy"


def test_a_plugin_that_fails_is_named_in_one_line(install):
    install(RuntimeError("no coin"))
    with pytest.raises(MiniGPTError, match=r"'coin' \(coin_package:SPEC\).*no coin"):
        registry.all_samplers()


def test_a_plugin_that_fails_does_not_keep_others_away(install, coin):
    install(RuntimeError("no coin"), coin)
    with pytest.raises(MiniGPTError, match="no coin"):
        registry.find_sampler("toss")
    assert registry.find_sampler("toss") is coin


def test_a_name_that_is_taken_is_refused(coin):
    with pytest.raises(UsageError, match="registered already"):
        registry.register(replace(coin, name="TopK"))


def test_an_unknown_name_tells_the_nearest_and_all():
    with pytest.raises(UsageError, match=r"there are greedy, .*did you mean top_k"):
        registry.find_sampler("tpk")
