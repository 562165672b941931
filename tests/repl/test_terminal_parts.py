"""Toolbar, colours, history file and blocks of lines, each on its own."""

import os
import stat
from dataclasses import replace

import pytest
from fakes import FakeEngine

from minigpt_repl.engine.request import Finished, Status
from minigpt_repl.repl import output
from minigpt_repl.repl.context import Session
from minigpt_repl.repl.dispatch import whole_input
from minigpt_repl.repl.line_editor import LineHistory, colors
from minigpt_repl.repl.screen import wants_color
from minigpt_repl.repl.terminal import toolbar
from minigpt_repl.settings import Settings


def words(session: Session, status: str = "ready", columns: int = 120) -> str:
    now = Status(status, FakeEngine().info)
    parts = toolbar(session, "/somewhere/default", now, columns)
    return "".join(text for _, text in parts)


@pytest.fixture
def session():
    settings = Settings().set({"seed": "7", "length": "10"})[0]
    engine = FakeEngine()
    *_, last = engine.generate(settings.request("the king"))
    assert isinstance(last, Finished)
    return Session(settings).add("the king", last.generation)


def test_toolbar_tells_what_the_next_text_is_made_with(session):
    assert words(session) == (
        "default · top_k k=10 temperature=1 · seed 7 · 13/32 · 500 tokens/s · ready"
    )
    assert words(Session(Settings()), "loading") == (
        "default · top_k k=10 temperature=1 · loading"
    )


@pytest.mark.parametrize("columns", range(8, 90, 3))
def test_toolbar_fits_and_keeps_the_sampler(session, columns):
    shown = words(session, columns=columns)
    assert len(shown) <= columns
    assert "top_k" in shown
    assert "ready" in shown or columns < len("top_k · ready")


@pytest.mark.parametrize("columns", range(20, 130, 11))
def test_toolbar_cuts_a_long_chain_and_keeps_the_state(session, columns):
    text = "repetition_penalty:penalty=1.2,window=64 + dry=0.8 + top_k=40 + min_p=0.1"
    session = Session(session.settings.set({"sampler": text})[0])
    shown = words(session, columns=columns)
    assert len(shown) <= columns
    assert shown.endswith(" · ready")
    assert ("top_k=40" in shown) == (columns >= len(f"{text} · ready"))
    assert "repetition" in shown or columns < 40


def test_toolbar_cuts_a_chain_on_the_narrowest_screen(session):
    # All of its name was there where no letter of it had room.
    session = Session(session.settings.set({"sampler": "top_k + min_p + random"})[0])
    assert "min_p" not in words(session, columns=len("... · ready"))


@pytest.mark.parametrize(
    ("setting", "environment", "is_terminal", "expected"),
    [
        ("auto", {"TERM": "xterm"}, True, True),
        ("auto", {"TERM": "xterm"}, False, False),
        ("auto", {"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ("auto", {"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ("auto", {"TERM": "dumb"}, True, False),
        ("auto", {}, True, False),
        ("always", {"TERM": "dumb", "NO_COLOR": "1"}, False, True),
        ("never", {"TERM": "xterm"}, True, False),
    ],
)
def test_when_to_colour(setting, environment, is_terminal, expected):
    assert wants_color(setting, environment, is_terminal) is expected


def test_colours_suit_the_background_that_the_terminal_tells():
    light, dark = (colors({"COLORFGBG": given}) for given in ("0;15", "15;0"))
    assert light["prompt"] == "bold ansiblue" and light.keys() == dark.keys()
    assert dark["prompt"] == "bold ansibrightcyan" and colors({}) == dark


def test_history_gives_lines_back_the_last_first(tmp_path):
    path = tmp_path / "state" / "history"
    first = LineHistory(path)
    lines = ["the king", "two\nlines", ":set k 5", "+ plus\n+ plus", "한국어 👑"]
    for line in lines:
        first.store_string(line)
    assert list(LineHistory(path).load_history_strings()) == lines[::-1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first.trouble is None


def test_two_sessions_write_one_history(tmp_path):
    path = tmp_path / "history"
    one, two = LineHistory(path), LineHistory(path)
    for number in range(20):
        (one, two)[number % 2].store_string(f"line {number}")
    expected = [f"line {number}" for number in reversed(range(20))]
    assert list(LineHistory(path).load_history_strings()) == expected


@pytest.mark.parametrize("content", [b"\xff\xfe\x00+\n\n+", b"no history at all", b""])
def test_a_damaged_history_does_no_harm(tmp_path, content):
    path = tmp_path / "history"
    path.write_bytes(content)
    history = LineHistory(path)
    list(history.load_history_strings())
    history.store_string("the king")
    assert next(iter(LineHistory(path).load_history_strings())) == "the king"


def test_a_folder_in_the_way_is_told(tmp_path):
    (tmp_path / "history").mkdir()
    history = LineHistory(tmp_path / "history")
    assert list(history.load_history_strings()) == []
    history.store_string("the king")
    assert "lines are not kept" in history.trouble
    history.trouble = None  # it was told
    history.store_string("the queen")
    assert history.trouble is None


@pytest.mark.parametrize("kind", ["pipe", "device", "large"])
def test_a_history_without_end_is_told_once_and_never_read(tmp_path, kind):
    path = tmp_path / "history"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(200_000_000)
    history = LineHistory(path)
    assert list(history.load_history_strings()) == []
    assert "lines are not kept" in history.trouble
    history.trouble = None
    history.store_string("the king")
    assert history.trouble is None


def test_controls_in_a_history_are_visible(tmp_path):
    path = tmp_path / "history"
    path.write_text("\n# 2026\n+a\x1b[2J\u202e\n+b\n")
    (line,) = LineHistory(path).load_history_strings()
    assert line == "a\\x1b[2J\\u202e\nb"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_history_is_told(tmp_path):
    tmp_path.chmod(0o500)
    history = LineHistory(tmp_path / "history")
    history.store_string("the king")
    assert "Permission denied" in history.trouble


def test_blocks_of_lines():
    assert whole_input(":{") is None
    assert whole_input(":{\nthe king") is None
    assert whole_input(":{\nthe\nking\n:}") == "the\nking"
    assert whole_input("the :{ king") == "the :{ king"
    assert whole_input("the king\n:{") == "the king\n:{"


def test_an_unfinished_text_has_no_speed(session):
    generation = session.node.generation
    node = replace(session.node, generation=replace(generation, tokens=()))
    assert "tokens/s" not in words(replace(session, nodes=(node,)))


def test_large_frames_leave_time_for_what_comes_meanwhile(monkeypatch):
    now = 0.0
    monkeypatch.setattr(output.time, "monotonic", lambda: now)
    pace = output.Pace(is_terminal=True)
    assert pace.is_due()
    now += 2.0  # so long did that frame take to draw
    taken = 0
    while not pace.is_due():
        now += 0.25
        taken += 1
    assert taken == 8  # as long again
    assert not output.Pace(is_terminal=False).is_due()
