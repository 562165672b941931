"""Every file and message has one shape: what is written is what is accepted."""

import json
import math
import os
import sys
import zipfile
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import make_recorded

from minigpt_repl import formats
from minigpt_repl.errors import CheckpointError
from minigpt_repl.models.record import RECORD_FILE, read_json, read_record

ROOT = Path(__file__).parents[1]
MADE = ROOT / "tests" / "fixtures" / "0.1.0"
RECORD = ROOT / "checkpoints" / "default" / RECORD_FILE


@pytest.mark.parametrize("name", formats.PUBLISHED)
def test_the_published_schemas_are_those_of_the_program(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import schemas

    text = (schemas.FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert text == schemas.text_of(name), "run scripts/schemas.py"
    jsonschema.Draft202012Validator.check_schema(json.loads(text))
    sys.modules.pop("schemas")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("generation", MADE / "generation.json"),
        ("comparison", MADE / "comparison.json"),
        ("comparison", MADE / "texts.json"),
        ("session", MADE / "session.json"),
        ("record", RECORD),
    ],
)
def test_files_keep_to_their_schema(name, path):
    jsonschema.validate(json.loads(path.read_text()), formats.schema(name))


def test_what_was_read_is_written_as_it_was():
    shipped = RECORD.read_text()
    record = formats.decode(shipped, "a", formats.Record)
    assert json.loads(formats.encode(record)) == json.loads(shipped)
    with zipfile.ZipFile(MADE / "checkpoint.zip") as archive:
        old = archive.read(RECORD_FILE).decode()
    again = json.loads(formats.encode(formats.decode(old, "a", formats.Record)))
    # What 0.1.0 did not know is at its default.
    assert (again.pop("tokenizer"), again.pop("document")) == ("wordpiece", None)
    assert again == json.loads(old)
    text = (MADE / "comparison.json").read_text()
    comparison = formats.decode(text, "a", formats.Comparison)
    again = formats.encode(comparison)
    assert formats.decode(again, "a", formats.Comparison) == comparison
    # What 0.1.0 did not count yet has its default.
    for default in (
        ',"rows":1,"tokens":0',
        ',"same_for_every_seed":false',
        ',"noise":"own"',
    ):
        again = again.replace(default, "")
    assert json.loads(again) == json.loads(text)


@given(st.text(st.characters(exclude_categories=("Cs",))), st.floats())
def test_any_text_and_figure_is_one_line_of_safe_json(text, number):
    token = formats.TokenLine(1, 0, 0, 3, text, number, 1, text)
    line = formats.encode(token)
    assert not set(line) & {*map(chr, range(32)), *map(chr, range(127, 160)), "\u202e"}
    content = json.loads(line, parse_constant=pytest.fail)
    assert content["delta"] == text
    assert content["logprob"] == (number if math.isfinite(number) else None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": -1}, "is damaged: seed: expected int >= 0"),
        ({"seed": True}, "is damaged: seed: expected int, got bool"),
        ({"count": 10**30}, "is damaged: count: expected int <= 100"),
        ({"stop": "junk"}, "is damaged: stop: invalid enum value 'junk'"),
        ({"strategies": [{}]}, "is damaged: strategies[0].sampler is missing"),
        ({"schema_version": 2}, "version 2, this program reads up to 1"),
        ({"schema_version": "1"}, "is damaged: schema_version: expected int"),
        ({"type": "token"}, "is not a comparison"),
        ({"surprise": 1}, "unknown field surprise"),
        ({"\x1b[2J": 1}, r"unknown field \x1b[2J"),
    ],
    ids=repr,
)
def test_what_is_wrong_is_named_by_its_place(change, said):
    content = json.loads((MADE / "comparison.json").read_text()) | change
    with pytest.raises(formats.FormatError) as error:
        formats.decode(json.dumps(content), "a.json", formats.Comparison)
    assert str(error.value).startswith("a.json ") and said in str(error.value)


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "\x1b]52;c;aGk=\x07", "a" * 1_000_000, "a\u202eb"],
    ids=len,
)
def test_a_record_names_only_files_that_can_be_in_its_folder(tmp_path, name):
    folder = make_recorded(tmp_path / "model")
    content = json.loads((folder / RECORD_FILE).read_text())
    content["files"] = {name: "0" * 64}
    (folder / RECORD_FILE).write_text(json.dumps(content))
    with pytest.raises(CheckpointError) as error:
        read_record(folder)
    assert "names a file" in str(error.value) and str(error.value).isprintable()
    assert len(str(error.value)) < 400


def test_only_ordinary_files_of_a_sensible_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(CheckpointError, match="ordinary"):
        read_json(tmp_path / "pipe.json")
    with (tmp_path / "zeros.json").open("wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(CheckpointError, match="larger than 16 MB"):
        read_json(tmp_path / "zeros.json")
