"""`:save`, `:load`, `:source`, `:model`: files that are there, and all others."""

import os
from dataclasses import replace

import pytest
from fakes import FakeEngine
from talk import Talk

from minigpt_repl.errors import CheckpointError
from minigpt_repl.repl.commands.program import model_facts
from minigpt_repl.repl.output import Mistake, Quit, SwitchModel


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_saved_session_goes_on_in_another(tmp_path):
    talk = Talk().set(length="6", seed="3").type("the king", ":save a session.json")
    assert talk.notices == ["saved 1 text to a session.json"]
    other = Talk().type(":load 'a session.json'")
    assert other.notices == [
        "loaded 1 text from a session.json",
        "seed: off -> 3",
        "length: 80 -> 6",
    ]
    assert other.session.nodes == talk.session.nodes
    assert other.type(":again").texts == [talk.session.node.text]
    assert os.listdir(tmp_path) == ["a session.json"]


def test_a_home_folder_is_put_in_full(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Talk().type(":save ~/mine.json")
    assert (tmp_path / "mine.json").is_file()


def test_saving_again_replaces_a_session_but_nothing_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    talk = Talk().set(length="3").type(":save s.json", "the king", ":save s.json")
    assert talk.error is None
    talk.type(":save notes.txt")
    assert "is there and is not a saved session" in str(talk.error)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (":save folder", "it is a folder"),
        (":save folder/none/s.json", "there is no folder folder/none"),
        (":save /dev/full/x", "there is no folder"),
        (":save ''", ":save FILE: name a file"),
        (":load folder", "it is a folder"),
        (":load /dev/zero", "not an ordinary file"),
        (":load bytes", "not UTF-8"),
        (":load notes.tx", "did you mean notes.txt?"),
        (":load notes.txt", "not a saved session"),
        (":load " + "a" * 5000, "too long"),
        (":source folder", "it is a folder"),
        (":model notes.txt", "a checkpoint is a folder"),
    ],
)
def test_files_that_will_not_do_are_told_in_one_line(tmp_path, line, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "notes.txt").write_text("mine")
    talk = Talk().type(line)
    assert words in str(talk.error) and "\n" not in str(talk.error)
    assert len(os.listdir(tmp_path)) == 3


def test_a_file_that_can_not_be_written_is_told(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    talk = Talk().type(":save s.json")
    assert "the disk is full" in str(talk.error)
    assert os.listdir(tmp_path) == []


def test_source_runs_lines_as_if_typed(tmp_path):
    (tmp_path / "run.txt").write_text(
        "\ufeff:set k 3 length 4\n\nthe king\n:{\nthe old\nqueen\n:}\n"
    )
    talk = Talk().type(":source run.txt")
    assert [r.prompt for r in talk.engine.requests] == ["the king", "the old\nqueen"]
    assert talk.session.settings.value("top_k.k") == 3


def test_source_ends_at_the_first_failing_line_and_keeps_what_was_done(tmp_path):
    (tmp_path / "run.txt").write_text(":set length 4\nthe king\n:set k 0\nthe queen\n")
    talk = Talk().type(":source run.txt")
    mistakes = [o for o in talk.outputs if isinstance(o, Mistake)]
    assert [m.text for m in mistakes] == [
        "run.txt:3: k must be a whole number 1..38; got 0"
    ]
    assert len(talk.session.nodes) == 1
    assert talk.session.settings.value("length") == 4


def test_source_of_a_file_that_runs_itself_ends(tmp_path):
    (tmp_path / "a.txt").write_text(":source b.txt\n")
    (tmp_path / "b.txt").write_text(":source ./a.txt\n")
    notices = Talk().type(":source a.txt").notices
    assert len(notices) == 1
    assert notices[0].startswith("b.txt:1: ") and "would run itself" in notices[0]


def test_source_may_run_another_file(tmp_path):
    (tmp_path / "a.txt").write_text(":source b.txt\n:source b.txt\n:set k 3\n")
    (tmp_path / "b.txt").write_text("the king\n")
    talk = Talk().set(length="3").type(":source a.txt")
    assert len(talk.session.nodes) == 2
    assert talk.session.settings.value("top_k.k") == 3


def test_quit_in_a_sourced_file_leaves_at_once(tmp_path):
    (tmp_path / "a.txt").write_text(":source b.txt\nthe queen\n")
    (tmp_path / "b.txt").write_text(":set k 3\n:q\nthe king\n")
    talk = Talk().type(":source b.txt")
    assert talk.outputs[-1] == Quit() and talk.engine.requests == []


def test_stopping_a_text_stops_the_sourced_file(tmp_path):
    class Stopped(FakeEngine):
        def generate_rows(self, requests):
            for event in super().generate_rows(requests):
                self.stop()
                yield event

    (tmp_path / "a.txt").write_text("the king\nthe queen\n")
    talk = Talk(Stopped()).type(":source a.txt")
    assert len(talk.session.nodes) == 1 and talk.error is None


def test_a_branch_in_a_sourced_file_is_no_stop(tmp_path):
    (tmp_path / "a.txt").write_text("the king\n:branch 3\nthe queen\n")
    talk = Talk().set(length="6").type(":source a.txt")
    assert [node.prompt for node in talk.session.nodes][-1] == "the queen"


def test_a_block_left_open_is_told(tmp_path):
    (tmp_path / "a.txt").write_text(":{\nthe king\n")
    talk = Talk().type(":source a.txt")
    assert ":}" in talk.notices[0] and talk.session.nodes == ()


def test_model_shows_what_is_loaded():
    said = Talk().type(":model").said
    assert "/checkpoints/fake" in said and "1,234" in said and "38 words" in said
    assert said == Talk().type(":show model").said


def test_model_tells_every_figure_of_a_training_once():
    metrics = {"step": 5024, "elapsed": 4560.2, "perplexity": 39.8}
    metrics["bits_per_byte"] = 1.3713
    training = {"seed": 1234567, "steps": 5024, "wall_seconds": 4563.3}
    engine = FakeEngine()
    info = replace(engine.info, training={**training, "metrics": metrics})
    facts = dict(model_facts(info))
    assert facts["steps"] == "5,024" and facts["seed"] == "1234567"
    assert facts["trained in"] == "1.3 h" and facts["bits a byte"] == "1.371"
    assert not {"step", "elapsed", "best after", "bits per byte"} & {*facts}
    metrics["step"] = 4000
    facts = dict(model_facts(replace(info, training={**training, "metrics": metrics})))
    assert facts["best after step"] == "4,000" and facts["best after"] == "1.3 h"


def test_model_tells_numbers_of_a_record_that_no_float_holds():
    # `steps` of a record may be any number of JSON: it was a traceback.
    training = {"steps": 10**400, "metrics": {"perplexity": 10**400, "loss": 0.5}}
    facts = dict(model_facts(replace(FakeEngine().info, training=training)))
    assert facts["steps"].startswith("1000") and facts["perplexity"] == facts["steps"]


def test_model_switches_and_takes_back_what_is_beyond_it(tmp_path):
    (tmp_path / "other").mkdir()
    info = replace(FakeEngine().info, vocabulary_size=8, directory="other")
    talk = Talk(switched=info).type(":set k 30", ":model other")
    assert SwitchModel(str(tmp_path / "other")) in talk.outputs
    assert talk.notices[1] == "top_k.k: 30 -> 8, the model's vocabulary is smaller"
    assert talk.session.settings.limits == {"vocabulary": 8, "draft": 1}
    assert "1..8" in str(talk.type(":set k 9").error)


def test_a_model_that_can_not_be_loaded_changes_nothing(tmp_path):
    (tmp_path / "other").mkdir()
    talk = Talk(switched=CheckpointError("other is damaged"))
    before = talk.session
    assert str(talk.type(":model other").error) == "other is damaged"
    assert talk.session == before


def test_model_in_a_sourced_file_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text(":model /tmp\n")
    assert "sourced file" in Talk().type(":source a.txt").notices[0]
