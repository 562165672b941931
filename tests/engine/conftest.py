"""An engine over the tiny model, with a draft model, made once."""

from pathlib import Path

import pytest

from minigpt_repl.formats import Record


@pytest.fixture(scope="session")
def make_checkpoint(tiny_words):
    """The function that wraps models as a loaded checkpoint."""

    def make(causal_lm, draft=None):
        from minigpt_repl.models.checkpoint import Checkpoint

        record = Record(
            vocabulary_size=len(tiny_words),
            embedding_rows=causal_lm.backbone.vocabulary_size,
            context_length=causal_lm.backbone.max_sequence_length,
            parameter_count=causal_lm.count_params(),
            lowercase=True,
            has_draft=draft is not None,
            files={},
            training={"recipe": "tiny"},
        )
        return Checkpoint(Path("tiny"), causal_lm, record, draft)

    return make


@pytest.fixture(scope="session")
def tiny_draft(make_causal_lm):
    """A causal LM of one layer that often differs from the tiny one."""
    return make_causal_lm(seed=5, num_layers=1)


@pytest.fixture(scope="session")
def engine(make_checkpoint, tiny_causal_lm, tiny_draft):
    from minigpt_repl.engine.engine import LocalEngine

    return LocalEngine(make_checkpoint(tiny_causal_lm, tiny_draft))


@pytest.fixture(scope="session")
def sentences(make_checkpoint, make_causal_lm, tiny_words):
    """A model that likes full stops, so that some of its texts end early."""
    from minigpt_repl.engine.engine import LocalEngine

    causal_lm = make_causal_lm(seed=3)
    bias = [8.0 * (n == tiny_words.index(".")) for n in range(80)]
    causal_lm.head.bias.assign(bias)
    return LocalEngine(make_checkpoint(causal_lm))
