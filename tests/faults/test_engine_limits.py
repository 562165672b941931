"""What a long session must not do to the engine's process."""

import shutil

import pytest

from minigpt_repl.decoding import engine as engine_module
from minigpt_repl.decoding.request import Finished, Request
from minigpt_repl.lm.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def engine(tiny_causal_lm, tmp_path_factory):
    directory = tmp_path_factory.mktemp("engine") / "model"
    save_checkpoint(directory, tiny_causal_lm, {})
    engine = engine_module.load_engine(directory)
    shutil.rmtree(directory)  # all that it needs is in memory
    yield engine
    engine.close()


def beam_text(engine, beams):
    request = Request("the cat", "beam", {"num_beams": beams, "temperature": 1.0}, 4)
    events = list(engine.generate(request))
    assert isinstance(events[-1], Finished)
    return events[-1].generation.token_ids


def test_graphs_of_values_used_long_ago_are_given_up(engine, monkeypatch):
    monkeypatch.setattr(engine_module, "MOST_SAMPLERS", 2)
    first = beam_text(engine, 2)
    for beams in (3, 4):
        beam_text(engine, beams)
    traced = engine.trace_count
    beam_text(engine, 3)  # kept
    assert engine.trace_count == traced
    assert beam_text(engine, 2) == first  # traced again, and the same
    assert engine.trace_count > traced
