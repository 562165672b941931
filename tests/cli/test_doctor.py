"""Every line of `doctor` is ok or says what to do."""

import sys
from importlib import metadata

import pytest
from fakes import FakeEngine
from recorded import make_recorded

from minigpt_repl import doctor
from minigpt_repl.errors import EngineError
from minigpt_repl.repl import entry


@pytest.fixture
def whole(home, monkeypatch):
    """A checkpoint whose files agree with its record, as far as doctor looks."""
    monkeypatch.setattr(doctor, "verify_files", lambda directory, record: None)
    monkeypatch.setattr(doctor, "_devices", lambda: doctor.Finding("devices", "1 CPU"))
    return home / "model"


def lines_of(result) -> dict[str, str]:
    """The state of each subject."""
    return {line[5:23].strip(): line[:4].strip() for line in result.out.splitlines()}


def test_all_is_well(run, whole):
    result = run("doctor")
    assert result.code == 0, result.out
    states = lines_of(result)
    assert set(states.values()) == {"ok"}
    assert {"python", "keras", "tensorflow", "devices", "checkpoint"} <= set(states)
    assert {"msgspec", "jinja2", "packaging", "charset-normalizer"} <= set(states)
    assert {"config folder", "state folder", "20 tokens"} <= set(states)
    assert result.err == ""


def test_a_damaged_checkpoint_is_named_with_what_to_do(run, home):
    result = run("doctor", "--checkpoint", str(make_recorded(home / "damaged")))
    assert result.code == 1
    (line,) = [line for line in result.out.splitlines() if line.startswith("fix")]
    assert "checkpoint" in line
    assert "minigpt-setup" in line


def test_a_missing_checkpoint_is_named_with_what_to_do(run, home, engines):
    result = run("--checkpoint", str(home / "nowhere"), "doctor")
    assert result.code == 1
    assert lines_of(result)["checkpoint"] == "fix"
    assert "nowhere" in result.out


def test_a_package_that_is_missing_or_of_a_wrong_version(run, whole, monkeypatch):
    original = metadata.version
    versions = {"keras": "3.9.2", "keras-hub": "1.0"}

    def version(name):
        if name == "rich":
            raise metadata.PackageNotFoundError(name)
        return versions.get(name) or original(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(
        doctor.metadata,
        "requires",
        lambda name: [
            "keras<3.16,>=3.15",
            "keras-hub<0.33,>=0.32",
            "rich<16,>=13",
            "pytest; extra == 'test'",
        ],
    )
    result = run("doctor")
    assert result.code == 1
    wrong = [line for line in result.out.splitlines() if line.startswith("fix")]
    assert [line.split()[1] for line in wrong] == ["keras", "keras-hub", "rich"]
    assert "pip install 'keras<3.16,>=3.15'" in wrong[0]
    assert "20 tokens" not in result.out


def test_an_old_python_is_named(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    wanted = doctor._requirements()["python"]
    assert "install Python >=3.11" in str(doctor._python(wanted))


def test_a_clone_that_is_not_installed_is_looked_at_as_far_as_it_goes(
    run, whole, monkeypatch
):
    original = metadata.metadata

    def not_installed(name):
        if name == "minigpt-repl":
            raise metadata.PackageNotFoundError(name)
        return original(name)

    monkeypatch.setattr(doctor.metadata, "requires", not_installed)
    monkeypatch.setattr(doctor.metadata, "metadata", not_installed)
    result = run("doctor")
    assert result.code == 0, result.out
    assert {"python", "tensorflow", "devices", "20 tokens"} <= set(lines_of(result))


def test_a_folder_that_cannot_be_written(run, whole, home, monkeypatch):
    (home / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "file" / "state"))
    result = run("doctor")
    assert result.code == 1
    (line,) = [line for line in result.out.splitlines() if line.startswith("fix")]
    assert "state folder" in line
    assert str(home / "file") in line


@pytest.mark.parametrize("way", ["raises", "fails", "stops early"])
def test_an_engine_that_makes_no_text(run, whole, monkeypatch, way):
    def open_engine(directory, options):
        if way == "raises":
            raise EngineError("no memory left")
        engine = FakeEngine(fail_at=3 if way == "fails" else None)
        if way == "stops early":
            monkeypatch.setattr(engine, "generate", lambda request: iter([None]))
        return engine

    monkeypatch.setattr(entry, "open_engine", open_engine)
    result = run("doctor")
    assert result.code == 1
    assert lines_of(result)["20 tokens"] == "fix"


def test_a_settings_file_that_is_wrong_is_named(run, whole, home):
    (home / "config" / "minigpt-repl").mkdir(parents=True)
    (home / "config" / "minigpt-repl" / "config.toml").write_text("lenth = 3\n")
    result = run("doctor")
    assert result.code == 1
    (line,) = [line for line in result.out.splitlines() if line.startswith("fix")]
    assert "config.toml: lenth" in line
