"""`minigpt-repl compare` and `replay`, as a shell sees them."""

import json

import jsonschema
import pytest

from minigpt_repl.formats import schema
from minigpt_repl.sampling.registry import all_samplers

FAST = ("--length", "6", "--seed", "3")


def test_texts_side_by_side_on_a_page(run):
    result = run("compare", "-p", "the king", "greedy", "top_k:k=3", *FAST)
    assert result.code == 0
    assert "greedy" in result.out and "top_k k=3 temperature=1" in result.out
    assert "perplexity" in result.out and "\x1b" not in result.out
    assert "not quality" in result.err


def test_json_is_one_line_that_the_schema_allows(run):
    result = run("compare", "-p", "the king", "--n", "2", "--json", *FAST)
    assert result.code == 0
    (line,) = result.out.splitlines()
    content = json.loads(line)
    jsonschema.validate(content, schema("comparison"))
    assert [s["sampler"] for s in content["strategies"]] == [
        "greedy",
        "beam",
        "diverse_beam",
        "random",
        "top_k",
        "top_p",
        "contrastive",
        "speculative",
        "speculative_sampling",
        "contrastive_decoding",
        "prompt_lookup",
    ]
    assert [t["seed"] for t in content["strategies"][4]["texts"]] == [3, 4]


def test_files_are_written_where_they_are_named(run, tmp_path):
    page, notes = tmp_path / "a.html", tmp_path / "a.md"
    result = run(
        "compare", "-p", "the king", "greedy", *FAST,
        "--html", str(page), "--markdown", str(notes),
    )  # fmt: skip
    assert result.code == 0 and "perplexity" in result.out
    assert page.read_text().startswith("<!doctype html>")
    assert notes.read_text().startswith("# ")


def test_the_prompt_may_come_from_stdin(run):
    result = run("compare", "-p", "-", "greedy", "--json", *FAST, stdin="the queen\n")
    assert json.loads(result.out)["prompt"] == "the queen"


def test_flags_before_the_command_hold_too(run):
    result = run(
        "--set", "top_k.k=4", "--seed", "9", "compare", "-p", "a", "topk", "--json"
    )
    content = json.loads(result.out)
    assert content["seed"] == 9
    assert content["strategies"][0]["parameters"]["k"] == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("compare", "greedy"), "missing option '-p'"),
        (("compare", "-p", "a", "gredy"), "did you mean greedy?"),
        (("compare", "-p", "a", "--n", "0"), "n must be"),
        (("compare", "-p", "a", "--length", "x"), "length must be"),
        (("replay",), "missing argument"),
    ],
)
def test_what_is_wrong_is_one_line_and_2(run, arguments, said):
    result = run(*arguments)
    assert result.code == 2 and said in result.err and len(result.err_lines) == 1


def make_file(run, path):
    result = run("compare", "-p", "the king", "--json", *FAST)
    path.write_text(result.out)
    return json.loads(result.out)


def test_a_replay_passes_on_what_compare_wrote(run, tmp_path):
    path = tmp_path / "a.json"
    make_file(run, path)
    result = run("replay", str(path))
    assert result.code == 0 and result.err == ""
    assert result.out.count("6 tokens agree") == len(all_samplers())


def test_a_replay_fails_when_a_seed_was_changed(run, tmp_path):
    path = tmp_path / "a.json"
    content = make_file(run, path)
    content["seed"] = 4
    path.write_text(json.dumps(content))
    result = run("replay", str(path))
    assert result.code == 1 and "seed" in result.err
    for strategy in content["strategies"]:
        strategy["texts"][0]["seed"] = 4
    path.write_text(json.dumps(content))
    result = run("replay", str(path))
    assert result.code == 1 and "token" in result.err


def test_a_file_that_is_not_there_or_no_export(run, tmp_path):
    assert "no such file" in run("replay", str(tmp_path / "no.json")).err
    path = tmp_path / "a.json"
    path.write_text('{"type": "generation"}')
    result = run("replay", str(path))
    assert result.code == 1 and "is not a comparison" in result.err
