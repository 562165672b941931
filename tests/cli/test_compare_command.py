"""`compare` and `replay` as commands: exit codes, output, the ends of a pipe."""

import json

import pytest
from fakes import FakeEngine

from minigpt_repl.engine.request import TokenChosen
from minigpt_repl.repl import entry


@pytest.fixture
def exported(run, home):
    """A comparison as JSON, in a file."""
    result = run(
        "compare", "-p", "the king", "greedy", "top_k:k=3", "--seed", "4", "--json"
    )
    assert result.code == 0, result.err
    path = home / "made.json"
    path.write_text(result.out)
    return path


def test_a_comparison_as_json(exported):
    text = exported.read_text()
    assert len(text.splitlines()) == 1
    assert "top_k" in json.dumps(json.loads(text))


def test_a_comparison_as_a_page_of_text(run):
    result = run("compare", "-p", "the king", "greedy", "top_p:p=0.5", "--length", "9")
    assert result.code == 0
    assert "greedy" in result.out
    assert "top_p" in result.out
    assert "\x1b" not in result.out


def test_options_before_the_subcommand_count(run, engines):
    run("--seed", "5", "--length", "3", "compare", "-p", "the king", "greedy")
    (request,) = engines[0].requests
    assert (request.seed, request.length) == (5, 3)


def test_what_the_repl_says_of_a_comparison_is_said_here_too(run, monkeypatch):
    # The shell never said that a comparison was stopped.
    engine = FakeEngine(not_finite_at={4: 2})
    generate_rows = engine.generate_rows

    def stopping(requests):
        for row, event in generate_rows(requests):
            yield row, event
            if requests[row].sampler == "random" and isinstance(event, TokenChosen):
                engine.stop()

    engine.generate_rows = stopping
    monkeypatch.setattr(entry, "open_engine", lambda *_: engine)
    strategies = ("top_k", "random", "greedy")
    result = run("compare", "-p", "the king", *strategies, "--seed", "4")
    assert result.code == 0
    quality, stopped, damaged = result.err_lines
    assert "not quality" in quality and "not finite" in damaged
    assert stopped == "minigpt-repl: stopped: 2 of 3 texts had begun"


@pytest.mark.parametrize("name", ["made.md", "made.html"])
def test_a_comparison_in_a_file(run, home, name):
    flag = {"made.md": "--markdown", "made.html": "--html"}[name]
    result = run("compare", "-p", "the king", "greedy", flag, str(home / name))
    assert result.code == 0 and "same for every seed" in result.out
    assert "the king" in (home / name).read_text()
    assert run("compare", "-p", "a fox", "greedy", flag, str(home / name)).code == 0


@pytest.mark.parametrize("flag", ["--markdown", "--html"])
def test_a_comparison_is_not_written_over_another_file(run, home, flag):
    (home / "novel.txt").write_text("my own words")
    result = run("compare", "-p", "x", "greedy", flag, str(home / "novel.txt"))
    assert result.code == 2 and "is not an export" in result.err
    assert (home / "novel.txt").read_text() == "my own words"


def test_a_replay_of_the_same_is_well(run, exported):
    assert run("replay", str(exported)).code == 0


def test_a_replay_that_differs_fails(run, exported):
    exported.write_text(exported.read_text().replace('"seed":4', '"seed":5'))
    result = run("replay", str(exported))
    assert result.code == 1
    assert len(result.err_lines) == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("compare",), 2),
        (("compare", "-p", "x", "tpk"), 2),
        (("compare", "-p", "x", "top_k:k=0"), 2),
        (("compare", "-p", "x", "--n", "many"), 2),
        (("compare", "-p", "x", "greedy", "--html", "/nowhere/made.html"), 1),
        (("replay", "/nowhere/made.json"), 1),
        (("replay",), 2),
    ],
)
def test_mistakes_are_one_line(run, arguments, code):
    result = run(*arguments)
    assert result.code == code
    assert len(result.err_lines) == 1
