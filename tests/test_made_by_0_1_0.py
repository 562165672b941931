"""What 0.1.0 made still opens, or says in one line what to do.

`fixtures/0.1.0/make.py` wrote the files, with the program as it was then.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from fakes import FakeEngine
from msgspec.structs import replace

from minigpt_repl.compare.export import (
    ReplayError,
    read_recorded,
    recorded_texts,
    replay,
)
from minigpt_repl.config import read_config
from minigpt_repl.errors import MiniGPTError
from minigpt_repl.repl.commands.saving import dump_session, parse_session
from minigpt_repl.sampling import registry
from minigpt_repl.settings import Settings

FILES = Path(__file__).parent / "fixtures" / "0.1.0"
SETUP = Path(__file__).parents[1] / "scripts" / "setup_model.py"


def text_of(name):
    return (FILES / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "checkpoint"
    with zipfile.ZipFile(FILES / "checkpoint.zip") as archive:
        archive.extractall(folder)
    return folder


def test_the_files_are_small():
    sizes = [path.stat().st_size for path in FILES.rglob("*") if path.is_file()]
    assert sum(sizes) < 200_000


@pytest.mark.slow
def test_a_checkpoint_opens_and_continues_as_it_did(checkpoint):
    from minigpt_repl.engine.engine import LocalEngine
    from minigpt_repl.engine.request import Request
    from minigpt_repl.models.checkpoint import load_checkpoint

    loaded = load_checkpoint(checkpoint)
    assert loaded.draft is not None and loaded.record.training["steps"] == 5
    made = json.loads(text_of("comparison.json"))
    assert loaded.record.sha256 == made["checkpoint_sha256"]
    greedy = made["strategies"][0]
    request = Request(made["prompt"], greedy["sampler"], {}, length=made["length"])
    again = list(LocalEngine(loaded).generate(request))[-1].generation
    tokens = greedy["texts"][0]["tokens"]
    assert again.token_ids == tuple(token["id"] for token in tokens)
    assert again.text == greedy["texts"][0]["text"]


@pytest.mark.slow
def test_an_unfinished_training_goes_on(tmp_path):
    shutil.copy(FILES / "text.txt", tmp_path)
    shutil.copytree(FILES / "model.training", tmp_path / "model.training")
    options = (
        "--corpus text.txt --out model --layers 1 --width 8 --heads 1 --feedforward 8 "
        "--context 16 --vocabulary-size 80 --batch-size 8 --sampler none --steps 20"
    )
    result = subprocess.run(
        [sys.executable, str(SETUP), *options.split(), "--resume"],
        cwd=tmp_path,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "going on after step 7" in result.stderr
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    assert record["training"]["steps"] == 20
    assert record["training"]["history"][0]["step"] == 7


def test_a_session_opens_with_every_text_and_setting():
    session = parse_session(text_of("session.json"), "session.json", Settings())
    content = json.loads(text_of("session.json"))
    assert [node.parent for node in session.nodes] == [None, 1, None, None]
    assert session.current == 4
    for node, turn in zip(session.nodes, content["turns"], strict=True):
        assert node.prompt == turn["prompt"]
        assert node.generation.text == turn["generation"]["text"]
        ids = [token["id"] for token in turn["generation"]["tokens"]]
        assert list(node.generation.token_ids) == ids
    assert session.node.generation.accepted is not None
    assert session.settings.value("length") == 8
    assert session.settings.value("top_k.k") == 4
    assert session.settings.sampler.name == "speculative"
    again = parse_session(dump_session(session), "again.json", Settings())
    assert again.nodes == session.nodes


@pytest.mark.parametrize(
    ("name", "counts"),
    [("comparison.json", [7]), ("export.json", [4]), ("texts.json", [1, 1, 1, 1])],
)
def test_an_export_can_be_replayed(name, counts):
    many = read_recorded(text_of(name), name)
    assert [len(list(recorded_texts(recorded))) for recorded in many] == counts
    content = json.loads(text_of(name))
    for recorded, one in zip(many, content.get("comparisons", [content]), strict=True):
        texts = [text for item in one["strategies"] for text in item["texts"]]
        assert recorded.checkpoint_sha256 == one["checkpoint_sha256"]
        for (request, read), text in zip(recorded_texts(recorded), texts, strict=True):
            ids = [token["id"] for token in text["tokens"]]
            assert [token.id for token in read.tokens] == ids
            assert (request.seed, request.prompt) == (text["seed"], one["prompt"])


def test_a_config_file_holds():
    layer = read_config(FILES / "config.toml")
    assert layer.problems == ()
    assert layer.values == {
        "sampler": "top_p",
        "length": 12,
        "stop": "sentence",
        "top_k.k": 5,
        "top_p.p": 0.8,
    }


def test_a_plugin_is_told_where_what_it_imports_is_now(monkeypatch):
    monkeypatch.syspath_prepend(str(FILES))
    entry = EntryPoint("rank", "plugin:SPEC", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [entry])
    monkeypatch.setattr(registry, "_plugins_loaded", False)
    with pytest.raises(MiniGPTError) as caught:
        registry.all_samplers()
    message = str(caught.value)
    assert "'rank' (plugin:SPEC)" in message and "\n" not in message
    assert "minigpt_repl.decoding is minigpt_repl.sampling now" in message


def test_a_replay_of_its_random_texts_names_the_version():
    """The same seed draws other tokens now, so a difference would say nothing."""
    (recorded,) = read_recorded(text_of("comparison.json"), "comparison.json")
    drawn = tuple(one for one in recorded.strategies if one.sampler == "top_k")
    assert drawn
    with pytest.raises(ReplayError, match=r"made by minigpt-repl 0\.1\.0"):
        list(replay(FakeEngine(), replace(recorded, strategies=drawn)))
