"""`:compare` and its kin: what they show, what they keep, what they refuse."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from drawn import drawn
from fakes import FakeEngine
from hypothesis import given, settings
from hypothesis import strategies as st
from talk import Talk, talk

from minigpt_repl.engine.request import TokenChosen
from minigpt_repl.errors import EngineError
from minigpt_repl.repl.context import Context
from minigpt_repl.repl.dispatch import find_command
from minigpt_repl.repl.output import Live
from minigpt_repl.sampling.registry import all_samplers


def shares(table):
    """Percentages of a distribution's last column, row by row."""
    return [float(p) for p in re.findall(r"([\d.]+)%\s*$", table, re.MULTILINE)]


def test_a_chain_is_named_alike_over_its_texts_and_in_its_figures():
    after = talk(":compare greedy min_p=0.1+xtc=1 -- the king")
    for shown in (after.lives, after.said):
        assert "min_p=0.1 + xtc=1" in shown
        assert "min_p + xtc" not in shown


def test_beside_a_long_chain_the_figures_stay_side_by_side():
    chain = "repetition_penalty=1.1 + top_k=9 + min_p=0.05 + temperature=0.8"
    said = talk(f":compare greedy {chain.replace(' ', '')} -- the king").said
    headings = [line for line in said.splitlines() if "perplexity" in line]
    assert len(headings[0].split()) > 2
    assert all(stage in said for stage in chain.split(" + "))


def test_all_samplers_side_by_side_by_default():
    after = talk("the king", ":compare")
    names = [column.strategy.sampler for column in after.session.comparison.columns]
    assert names == [spec.name for spec in all_samplers()]
    assert all(name in after.lives for name in names)
    assert "perplexity" in after.said
    assert any("not quality" in notice for notice in after.notices)
    assert len(after.session.nodes) == 1  # the comparison is no turn


def test_without_a_draft_model_speculative_is_left_out_and_it_is_said():
    engine = FakeEngine(context_length=64, has_draft=False)
    after = talk("the king", ":compare", engine=engine)
    names = [each.strategy.sampler for each in after.session.comparison.columns]
    drafted = {"speculative", "speculative_sampling", "contrastive_decoding"}
    assert "greedy" in names and not drafted & set(names)
    assert "contrastive_decoding need a draft model" in after.notices[0]


def test_named_strategies_count_and_prompt():
    after = talk(":compare greedy top_k:k=3 n=2 -- the queen")
    comparison = after.session.comparison
    assert comparison.prompt == "the queen"
    assert [len(column.generations) for column in comparison.columns] == [2, 2]


def test_where_nobody_looks_only_the_whole_is_drawn():
    assert talk(":compare greedy -- the", is_terminal=False).count(Live) == 1


def test_a_comparison_needs_a_prompt():
    assert ":compare -- PROMPT" in str(talk(":compare").error)


def test_a_stop_ends_the_comparison_and_keeps_it():
    engine = FakeEngine(context_length=64)
    generate_rows = engine.generate_rows

    def stopping(requests):
        for row, event in generate_rows(requests):
            yield row, event
            is_token = isinstance(event, TokenChosen)
            if requests[row].sampler == "random" and is_token:
                engine.stop()

    engine.generate_rows = stopping
    after = talk("the", ":compare greedy random top_k", engine=engine)
    first, second, third = after.session.comparison.columns
    assert first.generations[0].stop_reason == "length"
    assert second.generations[0].stop_reason == "interrupted"
    assert third.generations == ()
    assert after.notices[-2:] == [
        "stopped: 2 of 3 texts had begun",
        ":export keeps what is here",
    ]


def test_a_sweep_varies_one_parameter_of_the_sampler_in_use():
    commas = talk("the king", ":sweep temperature 0.2,0.8,1.4")
    after = talk("the king", ":sweep temperature 0.2..1.4/3")
    comparison = after.session.comparison
    values = [
        column.strategy.parameters["temperature"] for column in comparison.columns
    ]
    assert values == pytest.approx([0.2, 0.8, 1.4])
    assert "temperature=0.8" in after.said and "trend" in after.said
    swept = [column.strategy for column in commas.session.comparison.columns]
    assert swept == [column.strategy for column in comparison.columns]


def test_a_sweep_of_words_takes_each_list_as_a_value():
    # It ended in a KeyError of the name that was typed.
    after = talk("the king", ":sampler ban + top_k", ":sweep ban.words king,old the")
    swept = [each.strategy.parameters for each in after.session.comparison.columns]
    assert [values["ban"] for values in swept] == ["king,old", "the"]
    assert after.session.comparison.names == ["ban=king,old", "ban=the"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (":sweep", "top_k has k, temperature"),
        (":sweep k", "a parameter and its values"),
        (":sweep p 0.5", "p belongs to top_p"),
        (":sweep k 0", "k must be"),
        (":sweep k 1..9/x", "FIRST..LAST/COUNT"),
    ],
)
def test_sweeps_that_can_not_be(line, said):
    assert said in str(talk("the", line).error)


def test_the_next_token_by_rule_and_every_column_sums_to_1():
    after = talk("the king", ":next 5")
    assert re.search(r"sum +100.0% +100.0% +100.0% +100.0% +100.0%", after.said)
    assert "·" in after.said and "█" in after.said
    # The rows shown and those left out make up the model's column.
    column = re.findall(r"^ +\S+(?: more)? +([\d.]+)%", after.said, re.MULTILINE)
    assert sum(map(float, column[:-1])) == pytest.approx(100, abs=0.5)


def test_the_next_token_of_named_strategies_and_at_the_start():
    after = talk(":next 3 top_k:k=2")
    kept = shares(after.said)
    assert kept[-1] == 100 and sum(kept[:2]) == pytest.approx(100, abs=0.2)
    assert "at the start" in after.notices[0]
    assert re.search(r"tokens kept +\d+ +2$", after.said, re.MULTILINE)


@pytest.mark.parametrize("width", [30, 40, 60, 80, 200])
def test_strategies_of_the_next_token_get_a_table_of_their_own_where_it_is_narrow(
    width,
):
    names = ["greedy", "top_k:k=3", "top_p", "min_p=0.05 + temperature=0.8"]
    table = talk(f":next 3 {' '.join(names)}").outputs[-1].content
    shown = drawn(table, width=width)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    # Every figure is whole, in one line: the model's in each table, and theirs.
    sums = [line.split()[1:] for line in lines if line.split()[:1] == ["sum"]]
    assert {figure for figures in sums for figure in figures} == {"100.0%"}
    assert sum(len(figures) - 1 for figures in sums) == len(names)
    assert ("█" in shown) == (width >= 80)


def test_next_takes_a_number_in_range():
    for line in (":next 0", ":next 101", ":next -3"):
        assert "1..100" in str(talk(line).error)


def test_why_a_token_was_chosen():
    after = talk("the king", ":why 2")
    for name in ("probability", "rank", "surprisal", "entropy", "removes"):
        assert name in after.said
    assert "smallest k" in after.said and "smallest p" in after.said
    assert "2 of 12" in after.said and "◂" in after.said
    token = after.session.node.generation.tokens[1].text
    by_word = talk("the king", f":why {token}")
    assert "of 12" in by_word.said


def test_why_takes_the_last_token_and_the_most_surprising_one():
    assert "12 of 12" in talk("the king", ":why -1").said
    after = talk("the king", ":heat")
    place = re.search(r":why (\d+)", after.notices[0]).group(1)
    assert f"{place} of 12" in after.type(":why").said


@pytest.mark.parametrize("word", ["0", "13", "-13", "zebra"])
def test_why_refuses_what_is_not_in_the_text(word):
    assert "1..12" in str(talk("the king", f":why {word}").error)


def test_heat_has_a_digit_for_every_token_where_there_is_no_colour():
    after = talk("the king", ":heat")
    first, *_ = after.said.split("\n\n")
    assert len(re.findall(r"\d", first)) == 12


def test_diff_marks_what_greedy_would_have_taken():
    after = talk("the king", ":diff")
    made = after.session.node.generation
    rows = after.engine.logits((*made.started.prompt_ids, *made.token_ids))
    places = range(len(made.started.prompt_ids), len(rows) - 1)
    best = [int(rows[place].argmax()) for place in places]
    others = sum(a != b for a, b in zip(best, made.token_ids, strict=True))
    text, table = after.said.split("\n\n")
    assert text.count("{") == others > 0
    assert re.search(rf"greedy +{12 - others} of 12", table)
    assert re.search("random +12 of 12", table)


def test_diff_of_a_greedy_text_finds_nothing():
    text, _ = talk(":sampler greedy", "the king", ":diff").said.split("\n\n")
    assert "{" not in text and "†" not in text


@pytest.mark.parametrize("line", [":why", ":heat", ":diff", ":branch"])
def test_before_the_first_text_there_is_nothing_to_look_into(line):
    assert f"{line} needs a text" in str(talk(line).error)


def test_tokens_of_another_model_are_not_looked_into():
    class Other(FakeEngine):
        @property
        def info(self):
            return replace(super().info, checkpoint_sha256="0" * 64)

    after = talk("the king")
    after.engine = Other()
    assert "another model" in str(after.type(":why").error)


def test_the_tree_of_turns_branches_and_steps():
    after = talk("the king", ":branch 4", ":goto 1", ":step", answers=["", "", "q"])
    after.type(":tree")
    lines = after.said.splitlines()
    assert lines[0].startswith("1 top_k the king|")
    assert "4-5 * 5 top_k" in after.said  # two steps in one line
    assert [node.parent for node in after.session.nodes] == [None, None, 2, 1, 4]


def test_a_branch_keeps_tokens_and_goes_on_from_them():
    after = talk("the king", ":branch 4")
    whole, kept, gone_on = after.session.nodes
    assert kept.generation.token_ids == whole.generation.token_ids[:4]
    # The fake engine writes no capitals.
    assert whole.text.lower().startswith(kept.text.lower())
    assert gone_on.prompt == kept.text
    assert gone_on.parent == kept.id and len(gone_on.generation.tokens) == 12


def test_a_branch_without_a_number_is_where_the_model_was_least_sure():
    after = talk("the king", ":branch")
    assert "before the least sure" in after.notices[0]
    for word in ("0", "13", "x"):
        assert "1..12" in str(talk("the king", f":branch {word}").error)


def test_going_to_any_text():
    after = talk("the king", "the queen", ":goto 1")
    assert after.session.current == 1 and "the king" in after.notices[0]
    assert after.type(":continue").session.nodes[-1].parent == 1
    assert "there are 1..3" in str(after.type(":goto 9").error)
    assert "there are none" in str(talk(":goto 1").error)
    assert ":tree needs a text" in str(talk(":tree").error)


def test_beams_are_a_tree_that_fits_a_blackboard():
    after = talk(":beams -- the king")
    (request,) = after.engine.requests
    assert request.with_details and request.sampler == "beam"
    assert (request.parameters["num_beams"], request.length) == (3, 4)
    assert re.search("├── ·?[#a-z]+ -[0-9.]+", after.lives)
    assert re.search("dropped, [0-9.]+ short", after.lives)
    assert "the sum of ln p over the new tokens" in after.notices[0]
    assert len(after.session.node.generation.tokens) == 4
    (request,) = talk(":beams 2 5 -- the king").engine.requests
    assert (request.parameters["num_beams"], request.length) == (2, 5)
    after = talk(":sampler diverse_beam num_groups=2", ":beams 4 -- the king")
    request = after.engine.requests[-1]
    assert request.sampler == "diverse_beam" and request.parameters["num_groups"] == 2
    assert re.search("└── group 1\n    ├── ·?[#a-z]+ -[0-9.]+", after.lives)
    assert re.search("^ +-4.00 +[-0-9.]+ group 1", after.said, re.MULTILINE)
    for wrong in ("0", "99", "3 99", "x", "1 2 3"):
        assert "1..10 beams" in str(talk(f":beams {wrong} -- the").error)


def test_candidates_show_probability_similarity_and_what_the_penalty_changed():
    after = talk(":candidates -- the king")
    assert "probability" in after.lives and "similarity" in after.lives
    # A probability is a percentage here as everywhere, a similarity is none.
    assert re.search(r"\n·?[#a-z]+ +([0-9.]+%|-) +[0-9.-]+ +[+-][0-9.]+", after.lives)
    assert re.search(r"the penalty changed \d+ of 12 tokens", after.said)


def test_drafts_are_marked_and_the_rate_is_told():
    after = talk(":drafts -- the king")
    assert "+·" in after.lives and " -" in after.lives and " =" in after.lives
    assert "accepted 12 of 24 drafted tokens (50.0%)" in after.notices[0]
    engine = FakeEngine(has_draft=False)
    assert "setup --draft makes one" in str(talk(":drafts -- a", engine=engine).error)


def test_a_view_says_where_the_prompt_goes():
    assert "after --" in str(talk(":beams the king").error)
    assert "after --" in str(talk(":drafts the king").error)


def test_a_comparison_can_be_made_again_from_the_screen():
    after = Talk(engine=FakeEngine(context_length=64)).type(
        "the king", ":compare greedy random"
    )
    seed = re.search(r"seed (\d+)", after.lives)[1]
    assert after.session.comparison.first.seed == int(seed)
    assert "same for every seed" in after.lives


def test_many_texts_end_with_a_picture():
    after = talk("the king", ":compare greedy random top_k:k=2 n=5")
    assert "not told apart" in after.said and "◆" in after.said
    assert "told apart" not in talk("the king", ":compare greedy random").said


def test_the_page_of_a_session_is_its_tree(tmp_path):
    path = tmp_path / "a.html"
    lines = (
        "the king",
        ":sampler greedy",
        ":continue",
        ":goto 1",
        ":step",
        "the queen",
    )
    after = talk(*lines, answers=["", "2", "q"]).type(f":export --session {path}")
    assert after.error is None
    page = path.read_text()
    heading = "<h3>([0-9,-]+)( \\*)? ([a-z_]+) <small>(.*?)</small>"
    headings = re.findall(heading, page)
    assert [(number, mark.strip(), name) for number, mark, name, _ in headings] == [
        ("1", "", "top_k"),
        ("2", "", "greedy"),
        ("3-4", "", "greedy"),
        ("5", "*", "greedy"),
    ]
    assert "seed 3" in headings[0][3] and "same for every seed" in headings[1][3]
    assert "picked by hand" in headings[2][3]
    assert page.count("<ul>") == 1 and "the model: " in page
    after.type(f":export --session {path}")
    assert after.error is None
    path.write_text("mine")
    assert "not an export" in str(after.type(f":export --session {path}").error)


@pytest.mark.parametrize("suffix", [".md", ".html", ".json"])
def test_a_comparison_and_a_session_are_exported(tmp_path, suffix):
    one, all_ = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    after = talk("the king", "the queen", ":compare greedy random")
    after.type(f":export {one}")
    assert "wrote the comparison" in after.notices[0]
    after.type(f":export --session {all_}")
    assert "wrote the session" in after.notices[0]
    assert "the king" in all_.read_text() and "the queen" in all_.read_text()
    if suffix == ".json":
        session = json.loads(all_.read_text())
        first = session["comparisons"][0]["strategies"][0]
        assert first["measures"]["perplexity"]["mean"] > 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (":export", "name a file"),
        (":export a.txt", ".md, .html, .json"),
        (":export --sesion a.md", "no option '--sesion': :export [--session] FILE"),
        (":export a.md", ":compare first"),
        (":export --session a.md", "needs a text"),
        (":export --session", "name a file"),
    ],
)
def test_exports_that_can_not_be(line, said):
    assert said in str(talk(line).error)


@pytest.mark.parametrize(
    ("command", "typed", "word"),
    [
        ("compare", "top", "top_k"),
        ("compare", "greedy top_k:", "top_k:temperature="),
        ("compare", "top_k:k=3,t", "top_k:k=3,temperature="),
        ("compare", "top_k:k=", "top_k:k=10"),
        ("sweep", "", "temperature"),
        ("sweep", "k ", "10"),
        ("export", "", "--session"),
        ("goto", "", "1"),
        ("why", "", "saw"),
    ],
)
def test_what_may_come_next_is_offered(command, typed, word):
    after = talk("the king")
    context = Context(after.session, after.engine)
    assert word in list(find_command(command).complete(context, typed))


COMMANDS = [
    *("compare", "sweep", "next", "why", "heat", "diff", "step", "tree", "goto"),
    *("branch", "beams", "candidates", "drafts", "tour"),
]
WORDS = st.sampled_from(
    [
        *("greedy", "top_k:k=3", "top_k:", "n=2", "--", "-", "=", ":", "k", "p=1"),
        *("1", "-1", "99", "9" * 5000, "0..inf/3", "1..9/3", "nan", "\u00b2", "k=1"),
        *("[bold]", "temperature", "the", "\u202e", "{0}", "%s", "\\"),
    ]
)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(COMMANDS), st.lists(WORDS, max_size=4))
def test_any_arguments_do_something_or_give_one_line(command, words):
    after = Talk(FakeEngine(context_length=64), is_terminal=False, answers=["", "c"])
    after.set(seed="3", length="3").type("the king", f":{command} {' '.join(words)}")
    assert "\n" not in str(after.error or "")
    after.said, after.lives  # noqa: B018 - they can be drawn


def test_a_branch_takes_another_token_and_goes_on():
    after = talk("the king", ":set length 5", ":branch 4 dog")
    whole, kept, gone_on = after.session.nodes
    assert kept.generation.token_ids[:3] == whole.generation.token_ids[:3]
    assert kept.generation.tokens[3].text == "dog" and len(kept.generation.tokens) == 4
    assert kept.text.lower().endswith("dog") and kept.generation.stop_reason == "picked"
    assert gone_on.prompt == kept.text and gone_on.parent == kept.id
    assert "·dog had " in after.said + " ".join(after.notices)
    before = after.session
    assert "no tokens for 'zzz'" in str(after.type(":branch 4 zzz").error)
    assert "one token; 'the dog' is 2" in str(after.type(":branch 4 the dog").error)
    assert after.session == before


def test_the_likeliest_continuations_grow_as_a_tree():
    after = talk("the king", ":tree --auto 2 3")
    assert after.error is None and len(after.session.nodes) == 1
    lines = after.said.splitlines()
    assert len(lines) == 3 + 9 and max(map(len, lines)) <= 80
    assert sum("together" in line for line in lines) == 9
    for words in ("0", "9 1", "2 11", "x", "2 2 2", "8 8"):
        error = str(talk("the king", f":tree --auto {words}").error)
        assert ":tree --auto" in error and "\n" not in error
    assert ":tree takes --auto" in str(talk("the king", ":tree up").error)


def test_with_shared_noise_it_is_told_where_texts_part_and_why():
    line = (
        ":compare greedy top_k:k=1 min_p=0.01+random temperature=9+random -- the king"
    )
    after = talk(":set seed 3", ":set noise shared", line)
    same, cut, *more = [line for line in after.notices if " and " in line][-3:]
    assert same == "greedy and top_k do not part"
    assert re.match(
        r"greedy and min_p=0.01 \+ random part at token \d+, .* \| .*: ", cut
    )
    assert "greedy of greedy removed" in cut and "greedy of greedy removed" in more[0]
    line = ":compare temperature=9+random temperature=0.4+random -- the king"
    (told,) = [n for n in after.type(line).notices if " part at token " in n]
    assert "neither removed the other's, temperature gave other probabilities" in told
    line = ":compare temperature=9+random diverse_beam -- the king"
    (told,) = [n for n in after.type(line).notices if " part at token " in n]
    assert told.endswith("diverse_beam does not choose by this noise")
    assert not any(" part at " in n for n in talk(":compare greedy random").notices)


class Damaged(FakeEngine):
    """Of weights that are no numbers."""

    def logits(self, token_ids):
        return np.full_like(super().logits(token_ids), np.nan)


@pytest.mark.parametrize(
    "line",
    [":next", ":tree --auto", ":chain", ":explain top_k", ":explain beam", ":step the"],
)
def test_scores_that_are_no_numbers_are_told_in_one_line(line):
    # It ended in a trace, as a defect of this program.
    with pytest.raises(EngineError, match="scores are not finite numbers: its weights"):
        raise Talk(Damaged()).type(line).error


def test_a_step_without_a_token_says_why():
    after = talk(":step the", engine=FakeEngine(not_finite_at={3: 0}))
    assert "scores are not finite" in after.notices[-1]
