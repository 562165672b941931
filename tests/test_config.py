"""The config file and the environment: what is good holds, what is bad is told."""

import re

import pytest

from minigpt_repl.config import (
    config_path,
    default_config_text,
    read_config,
    read_environment,
)
from minigpt_repl.errors import MiniGPTError
from minigpt_repl.settings import Settings


@pytest.fixture
def config(tmp_path):
    def read(text):
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return read_config(path)

    return read


def test_every_setting_may_stand_in_the_file(config):
    layer = config(
        'checkpoint = "~/mine"\nsampler = "topk"\nlength = 40\nseed = 7\nchat = true\n'
        'stats = "off"\n[top_k]\nk = 5\ntemperature = 1\n[top-p]\nk = "off"\np = 0.5\n'
    )
    assert layer.problems == () and layer.checkpoint == "~/mine"
    assert layer.values == {
        "sampler": "top_k",
        "length": 40,
        "seed": 7,
        "chat": True,
        "stats": False,
        "top_k.k": 5,
        "top_k.temperature": 1.0,
        "top_p.k": None,
        "top_p.p": 0.5,
    }
    settings = Settings({"config": layer.values})
    assert settings.value("length") == 40 and settings.origin("length") == "config"


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("lenth = 3", "lenth", "did you mean length?"),
        ("\n# x\nlength = 0", "length", "a whole number 1..100000; got 0"),
        ("length = 1.5", "length", "got 1.5"),
        ("length = [1]", "length", "length must be"),
        ("length = 1979-05-27", "length", "length must be"),
        ('sampler = "tpk"', "sampler", "did you mean top_k?"),
        ('sampler = "min_p=2 + top_k"', "sampler", "min_p must be a number 0..1"),
        ('sampler = "min_p + tpo_k"', "sampler", "did you mean top_k?"),
        ("sampler = 3", "sampler", "sampler must be a name; got 3"),
        ("checkpoint = 3", "checkpoint", "checkpoint must be a folder; got 3"),
        ("chat = 1", "chat", "chat must be on or off; got 1"),
        ("k = 3", "k", "put it under [top_k], [top_p], [contrastive]"),
        ("[top_k]\nk = 0", "top_k.k", "k must be a whole number 1..vocabulary; got 0"),
        ("[top_k]\n\nq = 0", "top_k.q", "top_k has no parameter 'q'"),
        ("[greedy]\nk = 3", "greedy.k", "k belongs to top_k"),
        ("[top_x]\nk = 3", "top_x.k", "no sampler 'top_x'"),
        ("top_k.k = 0", "top_k.k", "k must be a whole number"),
        ("top_k = {k = 0}", "top_k.k", "k must be a whole number"),
        ("[top_k.more]\nk = 0", "top_k.more", "top_k has no parameter 'more'"),
        ("a = 1\nlength = ", "", "Invalid value (at end"),
    ],
)
def test_what_is_bad_is_told_with_file_and_key(config, tmp_path, text, key, words):
    layer = config(text)
    assert layer.values == {}
    (problem,) = layer.problems
    assert words in problem and "\n" not in problem
    place = f"{tmp_path / 'config.toml'}: "
    assert problem.startswith(f"{place}{key}: " if key else place)


def test_what_is_good_holds_beside_what_is_bad(config):
    layer = config("length = 5\nlenth = 6\nseed = 3\n[top_k]\nk = -1\ntemperature = 2")
    assert layer.values == {"length": 5, "seed": 3, "top_k.temperature": 2.0}
    assert len(layer.problems) == 2


def test_no_file_of_ones_own_is_no_problem(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config_path() == tmp_path / "minigpt-repl" / "config.toml"
    layer = read_config()
    assert layer.values == {} and layer.problems == ()
    config_path().parent.mkdir()
    config_path().write_text("length = 5")
    assert read_config().values == {"length": 5}


def test_ones_own_file_that_can_not_be_read_does_not_stop_the_program(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    config_path().mkdir(parents=True)
    (problem,) = read_config().problems
    assert "it is a folder" in problem
    config_path().rmdir()
    config_path().write_bytes(b"length = 5 # \xff")
    assert "not UTF-8" in read_config().problems[0]


def test_a_file_that_was_named_must_be_there(tmp_path):
    with pytest.raises(MiniGPTError, match="no such file"):
        read_config(tmp_path / "none.toml")


def test_the_printed_config_sets_nothing(config):
    layer = config(default_config_text())
    assert layer.values == {} and layer.problems == () and layer.checkpoint is None


def test_the_printed_config_holds_every_setting_at_its_default(config):
    taken = re.sub(r"^# (\w+ = )", r"\1", default_config_text(), flags=re.MULTILINE)
    layer = config(taken)
    settings = Settings()
    assert layer.problems == () and layer.checkpoint
    assert layer.values == {key: settings.value(key) for key in settings.names()}


def test_the_environment_has_a_name_for_every_setting():
    layer = read_environment(
        {
            "MINIGPT_SAMPLER": "topp",
            "MINIGPT_LENGTH": "40",
            "MINIGPT_TOP_K_K": "5",
            "MINIGPT_TOP_K_TEMPERATURE": "0.5",
            "MINIGPT_SPECULATIVE_NUM_SPECULATIVE_TOKENS": "3",
            "MINIGPT_CHECKPOINT": "/somewhere",
            "HOME": "/root",
        }
    )
    assert layer.problems == ()
    assert layer.values == {
        "sampler": "top_p",
        "length": 40,
        "top_k.k": 5,
        "top_k.temperature": 0.5,
        "speculative.num_speculative_tokens": 3,
    }


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("MINIGPT_LENTH", "4", "did you mean MINIGPT_LENGTH?"),
        ("MINIGPT_LENGTH", "ten", "length must be a whole number"),
        ("MINIGPT_SAMPLER", "tpk", "did you mean top_k?"),
        ("MINIGPT_TOP_P_P", "2", "0 < p <= 1; got 2"),
        ("MINIGPT_TOP_P", "1", "MINIGPT_TOP_P_P or MINIGPT_TOP_P_K or MINIGPT_TOP"),
    ],
)
def test_a_bad_variable_is_told_by_name(name, text, words):
    layer = read_environment({name: text, "MINIGPT_SEED": "3"})
    assert layer.values == {"seed": 3}
    (problem,) = layer.problems
    assert problem.startswith(f"environment: {name}: ") and words in problem


def test_a_chain_brings_its_values(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('sampler = "min_p=0.1 + temperature=0.8"')
    layer = read_config(file)
    assert layer.problems == ()
    assert layer.values == {
        "sampler": "min_p + temperature",
        "min_p + temperature.min_p": 0.1,
        "min_p + temperature.temperature": 0.8,
    }
    assert Settings({"config": layer.values}).parameters()["min_p"] == 0.1
    assert read_environment({"MINIGPT_SAMPLER": "top_k=3"}).values == {
        "sampler": "top_k",
        "top_k.k": 3,
    }
