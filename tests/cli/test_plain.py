"""Lines from a pipe, a file or a flag are handled as if they had been typed."""

import io
import json
from shutil import get_terminal_size

import jsonschema
import pytest
from fakes import VOCABULARY
from recorded import make_recorded

from minigpt_repl.formats import schema
from minigpt_repl.repl import entry
from minigpt_repl.sampling.registry import all_samplers

SAMPLERS = [spec.name for spec in all_samplers()]


def test_each_line_is_continued_and_only_texts_are_on_stdout(run):
    result = run(stdin="the little boy\nthe king\n")
    assert result.code == 0
    lines = result.out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("the little boy ")
    assert lines[1].startswith("the king ")
    assert "top_k k=10" in result.err


def test_commands_in_the_pipe_change_what_follows(run, engines):
    result = run(stdin=":sampler topk\n:set k 3\n:set seed 5\nthe little boy\n")
    assert result.code == 0
    (request,) = engines[0].requests
    assert (request.sampler, request.parameters["k"], request.seed) == ("top_k", 3, 5)


def test_the_same_seed_gives_the_same_text_in_every_way_of_asking(run, home):
    (home / "lines").write_text(":set seed 7\nthe queen\n")
    ways = [
        run("--seed", "7", stdin="the queen\n"),
        run(stdin=":set seed 7\nthe queen\n"),
        run("--seed", "7", "-p", "the queen"),
        run("--seed", "7", "-p", "-", stdin="the queen\n"),
        run("-e", ":set seed 7", "-p", "the queen"),
        run("--script", str(home / "lines")),
        run("--set", "seed=7", stdin=b"\xef\xbb\xbfthe queen\r\n"),
        run("--seed", "7", stdin="the queen"),
    ]
    assert {way.code for way in ways} == {0}
    assert len({way.out for way in ways}) == 1


def test_nothing_in_nothing_out_and_no_engine(run, engines):
    result = run(stdin="")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert engines == []


def test_empty_lines_do_nothing(run):
    assert run(stdin="\n   \n\t\n").out == ""


def test_a_failing_line_is_named_and_ends_the_run(run):
    result = run(stdin="the boy\n:smapler greedy\nthe king\n")
    assert result.code == 1
    assert len(result.out.splitlines()) == 1
    assert result.err_lines[-1].startswith("stdin:2: no command :smapler")
    assert "did you mean :sampler?" in result.err_lines[-1]


def test_a_file_that_fails_ends_the_lines_that_asked_for_it(run, home):
    (home / "lines").write_text("the king\n:nonsense\n")
    result = run(stdin=f":source {home / 'lines'}\nthe boy\n")
    assert result.code == 1 and "lines:2: " in result.err_lines[-1]
    assert "the king" in result.out and "the boy" not in result.out


def test_keep_going_goes_on_and_still_fails(run):
    result = run("--keep-going", stdin=":nonsense\nthe king\n:set k ten\n")
    assert result.code == 1
    assert result.out.startswith("the king ")
    assert [line.split(" ")[0] for line in result.err_lines if "stdin" in line] == [
        "stdin:1:",
        "stdin:3:",
    ]


def test_quit_ends_the_run(run):
    result = run("--keep-going", stdin="the boy\n:quit\nthe king\n")
    assert result.code == 0
    assert len(result.out.splitlines()) == 1


def test_a_block_is_one_prompt(run, engines):
    run(stdin=":{\nthe boy\nand the girl\n:}\n")
    (request,) = engines[0].requests
    assert "boy" in request.prompt
    assert "girl" in request.prompt


def test_a_block_that_is_not_closed_fails(run):
    result = run(stdin=":{\nthe boy\n")
    assert result.code == 1
    assert result.err_lines[-1].startswith("stdin:2:")


def test_a_script_that_cannot_be_read(run, home):
    result = run("--script", str(home / "missing"))
    assert result.code == 1
    assert "missing" in result.err
    assert len(result.err_lines) == 1


def test_a_script_fails_by_its_own_name(run, home):
    script = home / "lines.txt"
    script.write_text("the boy\n:what\n")
    result = run("--script", str(script))
    assert result.code == 1
    assert result.err_lines[-1].startswith(f"{script}:2: ")


def test_a_sourced_file_that_fails_fails_the_run(run, home):
    (home / "lines").write_text(":what\n")
    result = run("--keep-going", stdin=f":source {home / 'lines'}\n")
    assert result.code == 1


def test_lines_before_the_prompt_fail_as_lines(run):
    result = run("-e", ":set k 0", "-p", "the boy")
    assert result.code == 1
    assert result.err_lines[-1].startswith("-e:1: k must be")
    assert result.out == ""


def test_a_prompt_that_looks_like_a_command_is_a_prompt(run, engines):
    assert run("-p", ":quit").code == 0
    assert engines[0].requests[0].prompt == ":quit"


def test_an_empty_prompt_starts_from_nothing(run, engines):
    result = run("-p", "")
    assert result.code == 0
    assert engines[0].requests[0].prompt == ""
    assert result.out.strip()


def test_only_new_leaves_the_prompt_out(run):
    whole = run("-p", "the king", "--seed", "3").out
    new = run("-p", "the king", "--seed", "3", "--only-new").out
    assert whole == "the king" + new


def test_text_i_uses_seed_plus_i(run):
    together = run("-p", "the king", "--seed", "3", "-n", "3").out.splitlines()
    alone = [run("-p", "the king", "--seed", str(3 + i)).out.strip() for i in range(3)]
    assert together == alone


def test_without_a_seed_the_first_is_drawn_and_the_others_follow(run):
    result = run("-p", "the king", "-n", "3", "--json")
    seeds = [json.loads(line)["seed"] for line in result.out.splitlines()]
    assert seeds == [seeds[0], seeds[0] + 1, seeds[0] + 2]


def test_texts_of_one_prompt_are_made_together(run, engines):
    result = run("-p", "the king", "--seed", "3", "-n", "3", "--json")
    texts = [json.loads(line) for line in result.out.splitlines()]
    assert [text["timings"]["rows"] for text in texts] == [3, 3, 3]
    assert {text["timings"]["tokens"] for text in texts} == {240}
    assert engines[0].warmed_rows == [3]


@pytest.mark.parametrize("flag", ["--json", "--jsonl"])
def test_what_chance_plays_no_part_in_is_made_once_for_all_seeds(run, engines, flag):
    how = ("-p", "the king", "--sampler", "greedy", "--seed", "3", "-n", "3")
    lines = [json.loads(line) for line in run(*how, flag).out.splitlines()]
    texts = [line for line in lines if line["type"] == "generation"]
    assert [text["seed"] for text in texts] == [3, 4, 5]
    assert len({text["text"] for text in texts}) == 1
    assert len(engines[0].requests) == 1
    result = run(*how)
    assert len(result.out.splitlines()) == 1
    assert "same for every seed" in result.err


def test_after_the_last_seed_comes_the_first(run):
    result = run("-p", "the", "--seed", str(2**31 - 1), "-n", "2", "--json")
    assert [json.loads(line)["seed"] for line in result.out.splitlines()] == [
        2**31 - 1,
        0,
    ]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_json_keeps_to_its_schema(run, sampler):
    result = run("-p", "the king", "--sampler", sampler, "--length", "9", "--json")
    assert result.code == 0
    (line,) = result.out.splitlines()
    content = json.loads(line)
    jsonschema.validate(content, schema("generation"))
    assert content["sampler"]["name"] == sampler
    assert content["prompt"] == "the king"
    assert all(token["rank"] >= 1 for token in content["tokens"])
    assert content["text"] == run(
        "-p", "the king", "--sampler", sampler, "--length", "9", "--only-new",
        "--seed", str(content["seed"]),
    ).out.rstrip("\n")  # fmt: skip


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_jsonl_tells_each_token_and_then_the_text(run, sampler):
    result = run(
        "-p", "the king", "--sampler", sampler, "--length", "9", "-n", "2", "--jsonl"
    )
    lines = [json.loads(line) for line in result.out.splitlines()]
    texts = [line for line in lines if line["type"] == "generation"]
    assert len(texts) == 2
    for index, text in enumerate(texts):
        tokens = [line for line in lines if line.get("text_index") == index]
        for token in tokens:
            jsonschema.validate(token, schema("token"))
        assert [token["id"] for token in tokens] == [t["id"] for t in text["tokens"]]
        assert [token["index"] for token in tokens] == list(range(len(tokens)))
        assert "".join(token["delta"] for token in tokens) == text["text"]


@pytest.mark.parametrize("flag", ["--json", "--jsonl"])
def test_alternatives_and_entropy_are_told_on_request(run, flag):
    result = run("-p", "the king", "--length", "6", flag, "--top", "3")
    lines = [json.loads(line) for line in result.out.splitlines()]
    *tokens, text = lines
    for token in (*tokens, *text["tokens"]):
        shares = [each["probability"] for each in token["top"]]
        assert len(shares) == 3 and shares == sorted(shares, reverse=True)
        assert token["entropy_bits"] > 0
        if token["rank"] <= 3:
            assert token["top"][token["rank"] - 1]["id"] == token["id"]
    for line in lines:
        jsonschema.validate(line, schema(line["type"]))
    assert "top" not in json.loads(run("-p", "the king", "--json").out)["tokens"][0]
    refused = run("-p", "the king", "--top", "3")
    assert refused.code == 2 and "add --json or --jsonl" in refused.err


def test_lines_can_be_answered_in_json_too(run):
    result = run("--json", stdin=":set length 4\nthe king\nthe boy\n:show settings\n")
    assert result.code == 0
    prompts = [json.loads(line)["prompt"] for line in result.out.splitlines()]
    assert prompts == ["the king", "the boy"]


def test_no_escape_bytes_whatever_is_shown(run):
    everything = ":help\n:sampler\n:set\n:show settings\nthe king\n:show history\n"
    result = run("--keep-going", stdin=everything)
    assert result.code == 0
    assert "\x1b" not in result.out + result.err


def test_control_characters_of_a_prompt_are_not_passed_on(run):
    result = run("-p", "the \x1b[31mking\x07\x00")
    assert result.code == 0
    assert not set("\x1b\x07\x00") & set(result.out + result.err)
    result = run(stdin=b"the \x1b[31mking\x07\x00\n")
    assert not set("\x1b\x07\x00") & set(result.out + result.err)


def test_input_that_is_no_utf_8_is_read_all_the_same(run):
    result = run(stdin=b"the \xff\xfe king\n")
    assert result.code == 0
    assert "king" in result.out
    assert run("-p", "the \udcff king").code == 0


def test_a_very_long_line(run):
    assert run(stdin="the king " * 120_000 + "\n").code == 0


def test_a_text_that_fails_midway_is_ended_and_told(run, monkeypatch):
    from fakes import FakeEngine

    monkeypatch.setattr(entry, "open_engine", lambda *a: FakeEngine(fail_at=3))
    result = run("--keep-going", stdin="the king\nthe boy\n")
    assert result.code == 1
    assert len(result.out.splitlines()) == 2
    assert sum(line.startswith("stdin:") for line in result.err_lines) == 2


def test_switching_the_model_takes_the_new_one(run, home, engines):
    other = make_recorded(home / "other")
    result = run(stdin=f"the king\n:model {other}\nthe boy\n")
    assert result.code == 0, result.err
    assert len(engines) == 2
    assert engines[0].closed
    assert engines[1].directory.endswith("other")
    assert engines[1].requests[0].prompt == "the boy"


def test_switching_to_no_model_keeps_the_old_one(run, home, engines):
    result = run("--keep-going", stdin=f":model {home / 'nowhere'}\nthe boy\n")
    assert result.code == 1
    assert result.out.startswith("the boy ")


def test_engines_are_closed_at_the_end(run, engines):
    run("-p", "the king")
    assert engines[0].closed


def test_only_what_is_used_is_warmed(run, engines):
    run(stdin="the king\n:sampler greedy\nthe king\nthe boy\n")
    assert engines[0].warmed == ["top_k", "greedy"]


def test_settings_need_no_engine(run, engines):
    run(stdin=":set k 3\n:sampler greedy\n:help\n:show settings\n")
    assert engines == []


def test_ranges_are_those_of_the_checkpoint_before_it_is_loaded(run, engines):
    result = run(stdin=":set k 5000\n")
    assert f"1..{len(VOCABULARY)}" in result.err
    assert result.code == 1
    assert engines == []


def test_stdout_is_flushed_as_the_text_comes(home, engines):
    from minigpt_repl.repl.dispatch import perform
    from minigpt_repl.repl.screen import Screen

    flushed = []

    class Recorder(io.StringIO):
        def flush(self):
            flushed.append(self.getvalue())

    from fakes import FakeEngine

    from minigpt_repl.repl.context import Context, Session
    from minigpt_repl.repl.continuation import continue_times
    from minigpt_repl.settings import Settings

    page = Screen(Recorder(), io.StringIO(), get_terminal_size, can_move=False)
    settings, _ = Settings().set({"length": "6"})
    steps = continue_times(Context(Session(settings), FakeEngine()), "the", 1)
    perform(steps, page.show)
    assert len(set(flushed)) >= 6
