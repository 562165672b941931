"""A checkpoint is saved whole, is checked before it is loaded, and is only data."""

import numpy as np
import pytest
from forged import edit_json

from minigpt_repl.errors import CheckpointError, MiniGPTError
from minigpt_repl.models.checkpoint import load_checkpoint, save_checkpoint
from minigpt_repl.models.record import RECORD_FILE, VOCABULARY_FILE, read_record


@pytest.fixture
def saved(tiny_causal_lm, tmp_path):
    save_checkpoint(tmp_path / "model", tiny_causal_lm, {"recipe": "none"})
    return tmp_path / "model"


def test_a_saved_checkpoint_loads_with_the_same_weights(tiny_causal_lm, saved):
    checkpoint = load_checkpoint(saved)
    for ours, theirs in zip(
        tiny_causal_lm.weights, checkpoint.causal_lm.weights, strict=True
    ):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    assert checkpoint.record.training == {"recipe": "none"}
    assert checkpoint.draft is None


def test_the_record_tells_what_a_terminal_needs(saved):
    record = read_record(saved)
    assert (record.vocabulary_size, record.embedding_rows) == (71, 80)
    assert record.context_length == 32
    assert record.lowercase
    assert VOCABULARY_FILE in record.files
    assert len(record.sha256) == 64


@pytest.mark.slow
def test_the_draft_model_comes_along(make_causal_lm, tmp_path):
    model, draft = make_causal_lm(), make_causal_lm(num_layers=1, hidden_dim=8)
    save_checkpoint(tmp_path / "model", model, {}, draft=draft)
    checkpoint = load_checkpoint(tmp_path / "model")
    assert checkpoint.record.has_draft
    assert checkpoint.draft.backbone.hidden_dim == 8


def test_saving_again_replaces_what_was_there(make_causal_lm, saved):
    before = read_record(saved).sha256
    save_checkpoint(saved, make_causal_lm(seed=5), {"recipe": "new"})
    assert read_record(saved).sha256 != before
    assert load_checkpoint(saved).record.training == {"recipe": "new"}
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_a_save_that_fails_leaves_the_old_one_intact(
    tiny_causal_lm, saved, monkeypatch
):
    before = read_record(saved).sha256

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tiny_causal_lm), "save_to_preset", fail)
    with pytest.raises(MiniGPTError, match="the disk is full"):
        save_checkpoint(saved, tiny_causal_lm, {})
    assert read_record(saved).sha256 == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_without_a_record_it_is_refused_with_a_hint(saved):
    (saved / RECORD_FILE).unlink()
    with pytest.raises(CheckpointError, match="--no-verify"):
        load_checkpoint(saved)
    assert load_checkpoint(saved, verify=False).record.vocabulary_size == 71


def test_a_changed_vocabulary_is_seen(saved):
    path = saved / VOCABULARY_FILE
    path.write_text(path.read_text() + "word\n")
    with pytest.raises(CheckpointError, match="sha256"):
        load_checkpoint(saved)


def test_a_vocabulary_longer_than_the_rows_is_refused_even_unverified(saved):
    path = saved / VOCABULARY_FILE
    extra = "".join(f"w{i}\n" for i in range(10))
    path.write_text(path.read_text() + extra)
    with pytest.raises(CheckpointError, match="only 80 rows"):
        load_checkpoint(saved, verify=False)


def test_a_vocabulary_with_reserved_words_out_of_place_is_refused_even_unverified(
    saved,
):
    path = saved / VOCABULARY_FILE
    first, second, rest = path.read_text().split("\n", 2)
    path.write_text(f"{second}\n{first}\n{rest}")
    with pytest.raises(CheckpointError, match=r"\[PAD\] \[UNK\] \[BOS\]"):
        load_checkpoint(saved, verify=False)


def test_a_newer_version_is_refused(saved):
    edit_json(saved / RECORD_FILE, lambda content: content.update(version=99))
    with pytest.raises(CheckpointError, match="newer minigpt-repl"):
        load_checkpoint(saved)


@pytest.mark.parametrize("file", ["config.json", "task.json", "tokenizer.json"])
@pytest.mark.parametrize(
    ("module", "name"),
    [("keras.layers", "Lambda"), ("os", "system"), ("minigpt_repl.lm", "Evil")],
)
def test_a_configuration_that_names_other_classes_never_reaches_keras(
    saved, file, module, name
):
    edit_json(
        saved / file, lambda content: content.update(module=module, class_name=name)
    )
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(saved, verify=False)


def test_a_missing_folder_and_a_file_are_told_apart(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="is a file"):
        load_checkpoint(tmp_path / "file")
