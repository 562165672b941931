"""Sessions, scripts, configs and histories that are broken, closed or in the way."""

import errno
import json
import os
import random
import resource
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest
from fakes import FakeEngine
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt_repl import files
from minigpt_repl.config import read_config, read_environment
from minigpt_repl.errors import MiniGPTError
from minigpt_repl.repl import commands  # noqa: F401, fills the table of commands
from minigpt_repl.repl.commands.saving import dump_session, parse_session
from minigpt_repl.repl.context import Context, Session
from minigpt_repl.repl.dispatch import perform, run_line
from minigpt_repl.repl.line_editor import LineHistory
from minigpt_repl.repl.output import Notice
from minigpt_repl.settings import Settings


class Typist:
    """Types lines into a session; keeps what was told."""

    def __init__(self):
        self.session = Session(Settings(limits={"vocabulary": 39}))
        self.engine = FakeEngine()
        self.told = []

    def type(self, *lines):
        for line in lines:
            context = Context(self.session, self.engine)
            self.session = perform(run_line(line, context), self.carry_out)

    def carry_out(self, output):
        if isinstance(output, Notice):
            self.told.append(output.text)


@pytest.fixture
def typist():
    typist = Typist()
    typist.type(":set length 3", ":set seed 1", "the king", "the boy", ":continue")
    return typist


def refused(typist, line):
    """The one line in which it is refused; the session is as it was."""
    before = typist.session
    with pytest.raises(MiniGPTError) as caught:
        typist.type(line)
    assert typist.session == before
    assert "\n" not in str(caught.value)
    typist.type("the queen")  # the session goes on
    return str(caught.value)


def test_a_saved_session_comes_back_whole(typist, tmp_path):
    typist.type(f":save {tmp_path / 'a.json'}")
    before = typist.session
    typist.type(":reset", "something else", f":load {tmp_path / 'a.json'}")
    after = typist.session
    assert after.nodes == before.nodes
    assert after.current == before.current
    for key in before.settings.names():
        assert after.settings.value(key) == before.settings.value(key)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"null", b"[]", b"3", b"\xff\xfe", b"[" * 100_000, b"{}", b"\0"),
        b'{"kind": "minigpt-repl session"}',
        b'{"kind": "minigpt-repl session", "version": 99}',
    ],
    ids=lambda content: repr(content[:12]),
)
def test_files_that_are_no_session(typist, tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert "a.json" in refused(typist, f":load {path}")


def test_a_session_cut_anywhere_is_refused(typist, tmp_path):
    path = tmp_path / "a.json"
    typist.type(f":save {path}")
    content = path.read_bytes()
    lengths = random.Random(1)
    for length in [0, *(lengths.randrange(len(content) - 2) for _ in range(20))]:
        path.write_bytes(content[:length])
        refused(typist, f":load {path}")


def leaves(value, path=()):
    """Paths of everything in a JSON value."""
    yield path
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in pairs:
            yield from leaves(item, (*path, key))


def session_json():
    typist = Typist()
    typist.type(":set length 2", ":set seed 1", "the king", ":continue")
    return json.loads(dump_session(typist.session))


SAVED = session_json()
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=3,
)


@pytest.mark.parametrize("value", [10**30, -(10**400), 10**4000, 1e308])
@pytest.mark.parametrize("key", ["seed", "length", "beam.num_beams", "top_p.p"])
def test_a_number_in_a_session_that_is_too_large(typist, tmp_path, key, value):
    content = json.loads(json.dumps(SAVED))
    content["settings"][key] = value
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert "must be a" in refused(typist, f":load {tmp_path / 'a.json'}")


def test_a_session_of_very_many_texts_is_read_in_linear_time():
    def steps(count):
        """How many lines of Python it takes."""
        turn, taken = SAVED["turns"][0], 0
        turns = [{**turn, "id": i + 1, "parent": i or None} for i in range(count)]
        text = json.dumps(SAVED | {"turns": turns, "current": count})

        def count_lines(frame, event, argument):
            nonlocal taken
            taken += event == "line"
            return count_lines

        settings = Settings(limits={"vocabulary": 39})
        before = sys.gettrace()  # coverage's
        sys.settrace(count_lines)
        try:
            session = parse_session(text, "a.json", settings)
            assert [n.parent for n in session.nodes] == [None, *range(1, count)]
        finally:
            sys.settrace(before)
        return taken

    assert steps(400) < 5 * steps(100)


@given(st.sampled_from(list(leaves(SAVED))[1:]), anything)
@settings(max_examples=400, deadline=None)
def test_a_session_with_anything_in_it_is_refused_or_allowed(path, value):
    content = json.loads(json.dumps(SAVED))
    owner = content
    for key in path[:-1]:
        owner = owner[key]
    owner[path[-1]] = value
    present = Settings(limits={"vocabulary": 39})
    try:
        session = parse_session(json.dumps(content), "a.json", present)
    except MiniGPTError as error:
        assert "\n" not in str(error)
        return
    session = replace(session, settings=session.settings.fitted_to(present.limits)[0])
    for key in session.settings.names():
        if key != "sampler":
            found = session.settings.value(key)
            assert session.settings.parameter(key).check(found, present.limits) == found
    typist = Typist()
    typist.session = session
    typist.type(":set length 2", ":show history", ":show stats", "the boy")


@pytest.mark.parametrize("command", [":load", ":source"])
def test_what_cannot_be_read(typist, tmp_path, command):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "folder" in refused(typist, f"{command} {tmp_path / 'folder'}")
    assert "ordinary" in refused(typist, f"{command} {tmp_path / 'pipe'}")
    assert "no such file" in refused(typist, f"{command} {tmp_path / 'missing.json'}")
    refused(typist, f"{command} {tmp_path / 'loop'}")
    refused(typist, f"{command} {tmp_path / ('x' * 300)}")
    refused(typist, f"{command} a\0b")
    if os.path.exists("/dev/zero"):
        refused(typist, f"{command} /dev/zero")


def test_what_cannot_be_written(typist, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    assert "folder" in refused(typist, f":save {tmp_path / 'folder'}")
    assert "no folder" in refused(typist, f":save {tmp_path / 'nowhere' / 'a.json'}")
    assert "not a saved session" in refused(typist, f":save {tmp_path / 'file'}")
    refused(typist, f":save {tmp_path / 'file' / 'a.json'}")
    refused(typist, f":save {tmp_path / ('x' * 300)}")
    os.mkfifo(tmp_path / "pipe")
    assert "ordinary" in refused(typist, f":save {tmp_path / 'pipe'}")
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "pipe"]


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="no devices here")
def test_a_device_is_not_replaced_by_a_file(typist):
    assert "ordinary" in refused(typist, ":save /dev/null")
    assert not os.path.isfile("/dev/null")


@contextmanager
def tiny_disk(path, kilobytes):
    """A file system that is soon full."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(path)]
    try:
        made = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        made = False
    if not made:
        pytest.skip("no small file system can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_disk_that_is_full(typist, tmp_path):
    with tiny_disk(tmp_path / "disk", kilobytes=16) as disk:
        path = disk / "a.json"
        typist.type(f":save {path}")
        before = path.read_bytes()
        typist.type(":set length 100", *["the king"] * 20)
        assert "disk is full" in refused(typist, f":save {path}")
        assert path.read_bytes() == before
        assert [path.name for path in disk.iterdir()] == ["a.json"]


@contextmanager
def room_for(size):
    """A file system whose files have no room for more bytes than these."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "line",
    [
        *(":save {}/a.json", ":export {}/a.md", ":export {}/a.html"),
        *(":export {}/a.json", ":export --session {}/a.html"),
    ],
)
def test_a_write_that_fails_at_any_byte_leaves_the_old_file(typist, tmp_path, line):
    line = line.format(tmp_path)
    typist.type(":compare greedy random -- the king", line)
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()
    for size in (0, 1, 100, len(before) // 2, len(before) - 1):
        with room_for(size):
            assert path.name in refused(typist, line)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


def test_a_history_that_fails_at_any_byte_tells_it_once_and_keeps_what_it_had(tmp_path):
    path = tmp_path / "history"
    LineHistory(path).store_string(":set k 3")
    before = path.read_bytes()
    for more in range(25):
        history = LineHistory(path)
        with room_for(len(before) + more):
            history.store_string(":set k 4")
            history.store_string(":set k 5")
        assert "lines are not kept" in history.trouble
        assert ":set k 3" in list(LineHistory(path).load_history_strings())
        path.write_bytes(before)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_leaves_the_old_file(typist, tmp_path, monkeypatch, code):
    path = tmp_path / "a.json"
    typist.type(f":save {path}")
    before = path.read_bytes()

    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "fsync", fail)
    assert "a.json" in refused(typist, f":save {path}")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    "content",
    [
        *(b"\xff\xfe", b"length = ", b"[[[", b"length = 1\nlength = 2", b"= 3", b"\0"),
        b"length = " + b"1" * 5000,
        b"length = 0x" + b"f" * 5000,
        b"length = [0x" + b"f" * 5000 + b"]",
        b"a." * 8000 + b"b = 1",
        *(b"length = 10e400", b"[top_k]\nk = {}", b"k = 3", b"a = " + b"[" * 100_000),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_broken_config_is_told_and_the_program_goes_on(
    tmp_path, monkeypatch, content
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    place = tmp_path / "minigpt-repl" / "config.toml"
    place.parent.mkdir()
    place.write_bytes(content)
    layer = read_config()
    assert layer.values == {}
    (problem,) = layer.problems
    assert "config.toml" in problem
    assert "\n" not in problem


@pytest.mark.parametrize("way", ["folder", "file above", "loop"])
def test_something_in_the_place_of_the_config(tmp_path, monkeypatch, way):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    place = tmp_path / "minigpt-repl" / "config.toml"
    if way == "folder":
        place.mkdir(parents=True)
    elif way == "file above":
        place.parent.write_text("")
    else:
        place.parent.mkdir()
        place.symlink_to(place)
    layer = read_config()
    assert layer.values == {}
    assert len(layer.problems) <= 1
    with pytest.raises(MiniGPTError):
        read_config(place)


@given(st.dictionaries(st.text(st.characters(exclude_characters="\0=")), st.text()))
@settings(max_examples=200, deadline=None)
def test_any_environment(variables):
    layer = read_environment({f"MINIGPT_{k}": v for k, v in variables.items()})
    assert all("\n" not in problem for problem in layer.problems)


def entries(history):
    return list(history.load_history_strings())


def test_a_history_that_cannot_be_written_costs_nothing_else(tmp_path):
    for place in (tmp_path, tmp_path / "file" / "history"):
        (tmp_path / "file").write_text("")
        history = LineHistory(place)
        assert entries(history) == []
        history.append_string("the king")
        assert history.trouble
        assert "\n" not in history.trouble
        assert history.get_strings() == ["the king"]


def test_a_history_of_garbage_is_read_as_far_as_it_goes(tmp_path):
    place = tmp_path / "history"
    place.write_bytes(random.Random(1).randbytes(5000) + b"\n\n# now\n+the king\n")
    history = LineHistory(place)
    assert "the king" in entries(history)
    history.append_string("the boy")
    assert "the boy" in entries(LineHistory(place))


def test_a_full_disk_costs_the_history_only(tmp_path):
    with tiny_disk(tmp_path / "disk", kilobytes=8) as disk:
        history = LineHistory(disk / "history")
        for _ in range(20):
            history.append_string("x" * 1000)
        assert history.trouble
        assert len(history.get_strings()) == 20


def test_two_programs_write_one_history(tmp_path):
    place = tmp_path / "history"
    one, other = LineHistory(place), LineHistory(place)
    for number in range(50):
        one.append_string(f"one {number}")
        other.append_string(f"other {number}\nsecond line")
    found = entries(LineHistory(place))
    assert len(found) == 100
    assert {"one 7", "other 7\nsecond line"} <= set(found)
    assert place.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("suffix", [".md", ".html", ".json"])
def test_exports_that_cannot_be_written(typist, tmp_path, suffix):
    typist.type(":compare greedy top_k -- the king")
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    os.mkfifo(tmp_path / f"pipe{suffix}")
    assert "folder" in refused(typist, f":export {folder}")
    assert "no folder" in refused(typist, f":export {tmp_path}/nowhere/a{suffix}")
    assert "ordinary" in refused(typist, f":export {tmp_path}/pipe{suffix}")
    with tiny_disk(tmp_path / "disk", kilobytes=4) as disk:
        (disk / "filler").write_bytes(b"x" * 4096)
        assert "disk is full" in refused(typist, f":export {disk}/a{suffix}")
        assert os.listdir(disk) == ["filler"]
