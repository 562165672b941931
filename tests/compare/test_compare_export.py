"""Exports: three formats of one comparison, and a replay that can tell a lie."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import jsonschema
import pytest
from fakes import VOCABULARY, FakeEngine
from page import Page

from minigpt_repl.compare.comparison import Column, Comparison, finish, run_plan
from minigpt_repl.compare.export import (
    ReplayError,
    check_place,
    check_suffix,
    comparison_of,
    comparison_to_json,
    read_recorded,
    render,
    replay,
    warnings,
)
from minigpt_repl.compare.measures import MEASURES
from minigpt_repl.compare.page import escape_markdown, fragment
from minigpt_repl.compare.spec import Strategy
from minigpt_repl.engine.request import Request
from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.formats import encode, schema
from minigpt_repl.models.text.wordpiece import WordPieceText

HOSTILE = 'the <script>alert(1)</script> & "king" `x` | [a](b) *c*\n# d'


def make_comparison(prompt="the king", count=2, **more):
    strategies = (
        Strategy("greedy", {}),
        Strategy("beam", {"num_beams": 3, "temperature": 1.0}),
        Strategy("top_k", {"k": 9, "temperature": 1.0}),
    )
    request = Request(prompt, "greedy", {}, length=8, seed=3, **more)
    plan = Comparison(request, tuple(map(Column, strategies)), count)
    return finish(run_plan(FakeEngine(context_length=64), plan))


@pytest.fixture(scope="module")
def comparison():
    return make_comparison()


ENGINE = FakeEngine(context_length=64)
INFO = ENGINE.info


def as_json(*comparisons):
    return json.loads(render(comparisons, ".json", ENGINE))


def test_the_json_is_what_its_schema_says(comparison):
    described = schema("comparison")
    jsonschema.Draft202012Validator.check_schema(described)
    jsonschema.validate(as_json(comparison), described)
    jsonschema.validate(as_json(comparison, comparison), described)
    assert set(as_json(comparison)["strategies"][0]["measures"]) == {
        measure.key for measure in MEASURES
    }


def test_a_wrong_field_breaks_the_schema(comparison):
    content = as_json(comparison)
    content["strategies"][0]["texts"][0]["tokens"][0]["id"] = "7"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, schema("comparison"))


def test_the_json_does_not_tell_where_the_reader_keeps_files(comparison):
    assert INFO.directory not in render([comparison], ".json", ENGINE)
    assert INFO.directory not in render([comparison], ".html", ENGINE)


def test_the_page_is_whole_and_refers_to_nothing(comparison):
    text = render([comparison], ".html", ENGINE)
    page = Page(text)
    assert page.open == [] and page.links
    # Only to what it explains itself.
    assert all(f'id="{link.removeprefix("#")}"' in text for link in page.links)
    assert all(link.startswith("#") for link in page.links)
    assert "script" not in page.tags and "url(" not in text and "@import" not in text
    assert {"svg", "article", "h2"} <= set(page.tags)
    assert "prefers-color-scheme: dark" in text and "@media print" in text
    assert 'name="viewport"' in text


def test_the_page_has_every_text_and_figure(comparison):
    shown = "".join(Page(render([comparison], ".html", ENGINE)).text.split()).lower()
    for column in comparison.columns:
        for generation in column.generations:
            raw = "".join(t.text.removeprefix("##") for t in generation.tokens)
            assert raw in shown
    for measure in MEASURES:
        assert "".join(measure.heading.split()) in shown
    assert comparison.checkpoint_sha256 in shown


def test_a_token_tells_what_else_there_was(comparison):
    shown = render([comparison], ".html", ENGINE)
    made = comparison.columns[0].generations[0]
    ids = (*made.started.prompt_ids, *made.token_ids)
    best = ENGINE.logits(ids)[len(made.started.prompt_ids)].argmax()
    first, *_ = re.findall('data-tip="([^"]*)"', shown)
    assert f"the model: ·{VOCABULARY[best]}" in first and "rank 1" in first
    # Of another model the words are known, what it would have said is not.
    column = replace(comparison.columns[0], generations=(
        replace(made, checkpoint_sha256="0" * 64),
    ))  # fmt: skip
    foreign = render([replace(comparison, columns=(column,))], ".html", ENGINE)
    assert "the model:" not in foreign and 'data-tip="' in foreign


def test_what_is_the_same_for_every_seed_is_there_once_and_says_so(comparison):
    for strategy in as_json(comparison)["strategies"]:
        is_drawn = strategy["sampler"] == "top_k"
        assert len(strategy["texts"]) == (2 if is_drawn else 1)
        assert strategy["same_for_every_seed"] != is_drawn
    page = Page(render([comparison], ".html", ENGINE)).text
    markdown = render([comparison], ".md", ENGINE)
    assert page.count("same for every seed") == 2 and "seed 4" in page
    assert markdown.count("Same for every seed") == 2 and "Seed 4" in markdown
    alone = make_comparison(count=1)
    assert "seed 3" in Page(render([alone], ".html", ENGINE)).text
    assert "Seed 3" in render([alone], ".md", ENGINE)


def test_a_strategy_has_one_colour_on_a_whole_page(comparison):
    shown = render([comparison, comparison], ".html", ENGINE)
    headings = re.findall('<article class="(s[0-7])"><h3>([a-z_]+)', shown)
    rows = re.findall('<g class="(s[0-7])"><text class="name"[^>]*>([a-z_]+)', shown)
    assert len(set(headings)) == 3 and set(headings) == set(rows)


def test_where_a_text_began_with_nothing_every_format_says_so():
    promptless = make_comparison("", count=1)
    assert "<h2>(no prompt)</h2>" in render([promptless], ".html", ENGINE)
    assert "<b>(no prompt)</b>" in fragment(ENGINE, comparison=promptless)
    assert render([promptless], ".md", ENGINE).splitlines()[2] == "## (no prompt)"


def test_whatever_a_prompt_holds_it_stays_text():
    hostile = make_comparison(prompt=HOSTILE, count=1)
    text = render([hostile], ".html", ENGINE)
    assert "<script" not in text and "&lt;script&gt;" in text
    assert HOSTILE in Page(text).text
    markdown = render([hostile], ".md", ENGINE)
    assert "<script" not in markdown.replace("\\<", "")
    assert not re.search(r"^# d", markdown, re.MULTILINE)


def test_words_of_the_vocabulary_are_escaped_too(comparison):
    (column, *_) = comparison.columns
    made = column.generations[0]
    token = replace(made.tokens[0], text="<b>&")
    made = replace(made, tokens=(token, *made.tokens[1:]))
    one = comparison_of("<i>", made)
    words = [
        "<b>&" if id == token.id else word for id, word in enumerate(INFO.text.pieces)
    ]
    other = FakeEngine(context_length=64)
    info = replace(INFO, text=WordPieceText(words))
    renamed = SimpleNamespace(info=info, logits=other.logits, encode=other.encode)
    text = render([one], ".html", renamed)
    assert "<b>&" not in text
    assert "&lt;b&gt;&amp;" in text and "<i>" not in text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a*b_c", r"a\*b\_c"),
        ("- a", r"\- a"),
        ("1. a", r"1\. a"),
        ("0.82", "0.82"),
        ("\x1b[2J\u202e", r"\\x1b\[2J\\u202e"),
        ("a | b", r"a \| b"),
        ("<b>", r"\<b\>"),
    ],
)
def test_markdown_shows_text_as_it_is(text, escaped):
    assert escape_markdown(text) == escaped


def test_the_markdown_has_texts_and_a_table(comparison):
    text = render([comparison], ".md", ENGINE)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(comparison.measures)
    assert len({row.count(" | ") for row in rows}) == 1
    # Where chance plays no part one text stands for all.
    assert text.count("\n> ") == 4 and text.count("Same for every seed:") == 2


def export(comparison, path):
    suffix = check_suffix(path)
    check_place(path, suffix)
    path.write_text(render([comparison], suffix, ENGINE), encoding="utf-8")


def test_an_export_is_never_written_over_another_file(comparison, tmp_path):
    path = tmp_path / "mine.md"
    path.write_text("my notes")
    with pytest.raises(UsageError, match="not an export"):
        export(comparison, path)
    assert path.read_text() == "my notes"
    for suffix, own in {
        ".md": "# My notes\n\non minigpt-repl\n",
        ".html": "<!doctype html><title>minigpt-repl</title>",
        ".json": '{"name": "minigpt-repl", "type": "module"}',
    }.items():
        (tmp_path / f"own{suffix}").write_text(own)
        with pytest.raises(UsageError, match="not an export"):
            export(comparison, tmp_path / f"own{suffix}")
    for suffix in (".md", ".html", ".json"):
        for _ in range(2):
            export(comparison, tmp_path / f"a{suffix}")


def test_a_name_tells_the_format(comparison, tmp_path):
    with pytest.raises(UsageError, match=r"\.md, \.html, \.json"):
        export(comparison, tmp_path / "a.txt")
    export(comparison, tmp_path / "A.HTML")
    assert "<!doctype" in (tmp_path / "A.HTML").read_text()


def replayed(content, engine=None):
    (recorded,) = read_recorded(json.dumps(content), "a.json")
    return list(replay(engine or FakeEngine(context_length=64), recorded))


def test_a_replay_agrees_token_for_token(comparison):
    lines = replayed(as_json(comparison))
    # What is the same for every seed is there once.
    assert len(lines) == 4 and all(line.endswith("8 tokens agree") for line in lines)


def test_the_exact_tokens_of_a_prompt_are_replayed():
    ids = (3, 4)
    assert replayed(as_json(make_comparison(count=1, prompt_ids=ids)))


def test_other_seeds_differ_at_a_token(comparison):
    content = as_json(comparison)
    content["seed"] = 90
    for strategy in content["strategies"]:
        for index, text in enumerate(strategy["texts"]):
            text["seed"] = 90 + index
    with pytest.raises(ReplayError, match=r"top_k.*seed 90: token \d is"):
        replayed(content)


@pytest.mark.parametrize("place", ["comparison", "text"])
def test_one_changed_seed_is_found_out(comparison, place):
    content = as_json(comparison)
    part = content
    if place == "text":
        part = content["strategies"][2]["texts"][1]
    part["seed"] += 1
    with pytest.raises(MiniGPTError, match="seed"):
        replayed(content)


def test_a_changed_token_is_found_and_named(comparison):
    content = as_json(comparison)
    token = content["strategies"][0]["texts"][0]["tokens"][4]
    token["id"], token["text"] = VOCABULARY.index("queen"), "queen"
    with pytest.raises(ReplayError, match=r"token 5 is '.*', the file has 'queen'"):
        replayed(content)


def test_a_missing_token_is_found(comparison):
    content = as_json(comparison)
    content["strategies"][0]["texts"][0]["tokens"].pop()
    with pytest.raises(ReplayError, match="8 tokens, the file has 7"):
        replayed(content)


def test_a_text_that_was_stopped_is_replayed_as_far_as_it_went(comparison):
    content = as_json(comparison)
    text = content["strategies"][0]["texts"][0]
    text["stop_reason"], text["tokens"] = "interrupted", text["tokens"][:3]
    assert "3 tokens agree" in replayed(content)[0]


def test_a_token_picked_by_hand_is_not_expected_of_the_sampler(comparison):
    content = as_json(comparison)
    text = content["strategies"][0]["texts"][0]
    text["stop_reason"], text["tokens"] = "picked", text["tokens"][:1]
    text["tokens"][0] |= {"id": VOCABULARY.index("queen"), "text": "queen"}
    assert "'queen' was picked by hand" in replayed(content)[0]

    # A text of `:score` is the user's as a whole.
    text["tokens"] *= 2
    assert "'queen queen' was picked by hand" in replayed(content)[0]


def test_another_checkpoint_or_version_is_warned_of(comparison):
    content = as_json(comparison)
    assert list(warnings(read_recorded(json.dumps(content), "a")[0], INFO)) == []
    content["checkpoint_sha256"] = "0" * 64
    content["versions"] |= {"keras": "1.0", "minigpt-repl": "0.1.0"}
    told = list(warnings(read_recorded(json.dumps(content), "a")[0], INFO))
    assert len(told) == 3 and "checkpoint 000000000000" in told[0]
    assert any("with keras 1.0" in line for line in told)
    assert any("with minigpt-repl 0.1.0, this is 0.2" in line for line in told)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        '{"type": "generation"}',
        '{"type": "comparison"}',
        '{"type": "comparison", "schema_version": 2}',
        '{"type": "session", "schema_version": 1, "comparisons": 3}',
        '{"type": "comparison", "schema_version": 1, "prompt_ids": null}',
    ],
)
def test_what_is_no_export_gives_one_line(content):
    with pytest.raises(MiniGPTError) as error:
        read_recorded(content, "a.json")
    assert str(error.value).startswith("a.json ") and "\n" not in str(error.value)


def test_every_missing_or_wrong_field_gives_one_line(comparison):
    whole = json.loads(encode(comparison_to_json(comparison)))
    for name in whole:
        # What files of 0.1.0 do not have yet may be missing.
        missing = () if name == "noise" else ({},)
        for wrong in (*missing, {name: {"a": []}}):
            content = {k: v for k, v in whole.items() if k != name} | wrong
            with pytest.raises(MiniGPTError, match=r"^a\.json is ") as error:
                read_recorded(json.dumps(content), "a.json")
            assert name in str(error.value) or name == "type"


@pytest.mark.parametrize("name", ["stop", "checkpoint_sha256", "varied", "x\x1b[2J"])
def test_what_a_file_says_is_cut_and_harmless_in_an_error(comparison, name):
    wrong = ["\x1b]52;c;aGk=\x07" * 100] if name == "varied" else "\x1b[2J" * 100_000
    content = as_json(comparison) | {name: wrong}
    with pytest.raises(MiniGPTError) as error:
        read_recorded(json.dumps(content), "a.json")
    assert str(error.value).isprintable() and len(str(error.value)) < 200


def test_no_export_steers_a_terminal(comparison):
    evil = "\x1b]52;c;aGk=\x07 \x9b2J \x7f \u202e"
    made = comparison.columns[0].generations[0]
    token = replace(made.tokens[0], text=evil)
    made = replace(made, tokens=(token, *made.tokens[1:]), text=evil)
    one = comparison_of(evil, made)
    for suffix in (".html", ".md", ".json"):
        text = render([one], suffix, ENGINE)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
        if suffix != ".json":
            assert "x1b" in text and "u202e" in text
