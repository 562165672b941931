"""Prompts, and the commands that work on the texts made so far."""

import io
from dataclasses import replace

import pytest
from fakes import FakeEngine
from rich.console import Console
from talk import Talk

from minigpt_repl.compare.pieces import Row, RowsView
from minigpt_repl.engine.request import TokenChosen
from minigpt_repl.errors import EngineError
from minigpt_repl.repl.output import (
    AskEditor,
    Notice,
    TextDelta,
    TextEnded,
    TextReplaced,
    TextStarted,
)
from minigpt_repl.sampling.registry import all_samplers


class Stopper(FakeEngine):
    """Is stopped, as by ^C, when it has made some tokens of a text."""

    def __init__(self, after, **more):
        super().__init__(**more)
        self.after = after

    def generate_rows(self, requests):
        for row, event in super().generate_rows(requests):
            if isinstance(event, TokenChosen) and event.index == self.after - 1:
                self.stop()
            yield row, event


@pytest.mark.parametrize("sampler", [spec.name for spec in all_samplers()])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_is_shown_is_the_text_that_is_kept(sampler, is_terminal):
    talk = Talk(is_terminal=is_terminal).set(sampler=sampler, length="20", seed="1")
    talk.type("the old king")
    assert talk.texts == [talk.session.node.text]
    assert talk.texts[0].startswith("the old king ")
    kinds = [type(output) for output in talk.outputs]
    assert kinds[0] is TextStarted and kinds[-2:] == [TextEnded, Notice]


class Waiting(FakeEngine):
    """Notes what is on the screen while it gets ready for the first token."""

    def generate_rows(self, requests):
        for row, event in super().generate_rows(requests):
            if isinstance(event, TokenChosen) and event.index == 0:
                self.on_screen = list(self.talk.outputs)
            yield row, event


def test_nothing_stands_on_the_screen_before_the_first_token():
    # A new order of rules is compiled for seconds: the line that tells of a wait
    # is drawn where no text has begun.
    engine = Waiting()
    engine.talk = talk = Talk(engine).set(length="3")
    talk.type("the king")
    assert engine.on_screen == []
    assert isinstance(talk.outputs[0], TextStarted)


def test_text_is_streamed_token_by_token():
    talk = Talk().set(length="20").type("the king")
    assert talk.count(TextDelta) >= 15


def test_what_can_not_be_taken_back_is_not_written_early():
    beam = Talk(is_terminal=True).set(sampler="beam", length="9").type("the")
    assert beam.count(TextReplaced) >= 5
    piped = Talk(is_terminal=False).set(sampler="beam", length="9").type("the")
    assert piped.count(TextReplaced) == 0 and piped.count(TextDelta) == 1
    assert piped.texts == beam.texts


def test_the_stats_line_tells_all_that_is_needed_to_have_the_text_again():
    talk = Talk().type(":sampler top_k k=5", ":set seed 7 length 9", "the king")
    assert talk.notices == [
        "top_k k=5 temperature=1 · seed 7 · 9 tokens · 500 tokens/s · "
        "first after 10 ms · length reached"
    ]
    first = talk.texts
    assert talk.type("the king").texts == first


def test_stats_can_be_silenced():
    assert Talk().set(stats="off", length="5").type("the king").notices == []


def test_a_drawn_seed_is_reported_so_that_the_text_can_be_had_again():
    talk = Talk().set(length="9").type("the king")
    first, seed = talk.texts, talk.session.node.generation.seed
    assert f"seed {seed} " in talk.notices[-1]
    assert talk.type(f":set seed {seed}", "the king").texts == first


def test_unknown_words_and_cropping_are_told_before_the_text():
    talk = Talk(FakeEngine(context_length=8)).set(length="3", stats="off")
    talk.type("zebra " + "the king " * 6 + "zebra quagga")
    assert talk.notices == [
        "prompt cropped by 9 tokens: the model sees the last 6",
        "unknown to the model: zebra, quagga",
        "context full after 1 token: the model went on from the last words only",
    ]
    assert isinstance(talk.outputs[0], Notice)
    assert isinstance(talk.outputs[2], TextStarted)


def test_many_unknown_words_are_counted():
    words = " ".join(f"word{number}" for number in range(20))
    talk = Talk().set(length="1", stats="off").type(words)
    assert "word7 and 12 more" in talk.notices[0]


def test_an_interrupted_text_is_kept_and_its_length_told():
    talk = Talk(Stopper(3)).set(length="50").type("the king")
    assert len(talk.session.node.generation.tokens) == 3
    assert talk.notices[0] == "stopped after 3 tokens"
    assert talk.notices[1].endswith("interrupted")
    assert talk.set(stats="off").type("the king").notices == ["stopped after 3 tokens"]


def test_a_failing_engine_ends_the_line_and_leaves_the_session():
    talk = Talk(FakeEngine(fail_at=3)).type("the king")
    assert isinstance(talk.error, EngineError)
    assert isinstance(talk.outputs[-1], TextEnded)
    assert talk.session.nodes == ()


def test_an_engine_that_can_not_load_says_so():
    talk = Talk(FakeEngine(broken=EngineError("no model"))).type("the king")
    assert str(talk.error) == "no model" and talk.outputs == []


def test_stop_sentence_is_passed_on():
    talk = Talk().set(stop="sentence", length="60", seed="2").type("the king")
    assert talk.notices[-1].endswith("sentence ended")
    assert talk.texts[0][-1] in ".!?"


def test_raw_shows_tokens_joined_by_spaces():
    talk = Talk().set(raw="on", length="30", seed="1").type("the king")
    assert talk.texts[0].split()[2:] == words_of(talk)


def words_of(talk):
    pieces = " ".join(token.text for token in talk.session.node.generation.tokens)
    return pieces.replace(" ##", "").split()


def test_prompts_stand_alone_unless_it_is_a_chat():
    talk = Talk().set(length="5").type("the king", "the queen")
    assert talk.engine.requests[-1].prompt == "the queen"
    assert talk.session.node.parent is None


def test_in_a_chat_each_prompt_goes_on_from_the_conversation():
    talk = Talk().set(length="5", chat="on").type("the king")
    first = talk.session.node.text
    talk.type("the queen")
    assert talk.engine.requests[-1].prompt == f"{first} the queen"
    assert talk.texts[0].startswith("the queen")  # only the new part is shown
    assert talk.session.node.parent == 1
    assert talk.session.node.text.startswith(f"{first} the queen")


def test_in_a_chat_only_new_unknown_words_are_told():
    talk = Talk().set(length="3", chat="on", stats="off").type("zebra", "the king")
    assert talk.notices == []


def test_again_makes_another_text_of_the_same_prompt():
    talk = Talk().set(length="20").type("the king", ":again")
    first, second = talk.session.nodes
    assert second.prompt == first.prompt
    assert second.generation.seed != first.generation.seed


def test_again_uses_the_settings_as_they_are_now():
    talk = Talk().set(length="5").type("the king", ":sampler greedy", ":again")
    assert talk.engine.requests[-1].sampler == "greedy"


def test_again_with_a_number_makes_that_many_with_new_seeds():
    talk = Talk().set(length="8").type("the king", ":again 5")
    assert len({node.generation.seed for node in talk.session.nodes}) == 6
    made = [node.generation for node in talk.session.nodes[1:]]
    for generation in made:
        shown = " ".join(talk.lives.rpartition(f"seed {generation.seed}")[2].split())
        assert shown.startswith(generation.text.strip())
    assert "5 texts together · 40 tokens" in talk.notices[0]
    assert talk.texts == []  # they are drawn, not written one after the other


def test_elsewhere_texts_are_written_in_their_order_when_they_are_finished():
    talk = Talk(is_terminal=False).set(length="8", seed="7").type("the king")
    talk.type(":again 3")
    made = talk.session.nodes[1:]
    assert talk.texts == [node.text for node in made]
    seeds = [notice.split(" · ")[1] for notice in talk.notices]
    assert seeds == ["seed 8", "seed 9", "seed 10"]
    assert "tokens/s of 3 texts together" in talk.notices[0]


def test_each_of_several_texts_is_the_one_that_its_seed_gives_alone():
    talk = Talk().set(length="8", seed="7").type("the king", ":again 3")
    for node in talk.session.nodes[1:]:
        alone = Talk().set(length="8", seed=str(node.generation.seed))
        assert alone.type("the king").texts == [node.text]


def test_a_text_that_ends_does_not_end_those_beside_it():
    engine = FakeEngine(not_finite_at={8: 2})
    talk = Talk(engine).set(length="40", seed="7", stop="sentence")
    talk.type("the king", ":again 4")
    made = [node.generation for node in talk.session.nodes[1:]]
    lengths = [len(generation.tokens) for generation in made]
    assert lengths[0] == 2 and min(lengths[1:]) >= 20
    assert made[0].stop_reason == "not_finite"
    assert talk.notices[0].startswith("seed 8: the model's scores are not finite")
    assert "1 scores not finite" in talk.notices[-1]


def test_scores_that_are_no_numbers_end_a_text_and_are_told():
    talk = Talk(FakeEngine(not_finite_at={7: 2})).set(length="9", seed="7")
    talk.type("the king")
    assert len(talk.session.node.generation.tokens) == 2
    assert talk.notices[0].endswith("its weights may be damaged")
    assert talk.notices[1].endswith("scores not finite")


def test_more_texts_than_lines_stay_within_the_screen():
    growing = [Row(f"seed {n}", "a word " * 30, is_growing=n > 50) for n in range(64)]
    for columns, lines in ((80, 24), (20, 5), (200, 60)):
        console = Console(width=columns, height=lines, file=io.StringIO())
        drawn = console.render_lines(RowsView("the king " * 99, growing))
        assert len(drawn) < lines
        whole = console.render_lines(RowsView("the king", growing, is_whole=True))
        assert len(whole) > 64


def test_again_counts_up_from_a_seed_that_is_set():
    talk = Talk().set(length="8", seed="7").type("the king", ":again 3")
    assert [node.generation.seed for node in talk.session.nodes] == [7, 8, 9, 10]


def test_again_says_why_nothing_changed():
    talk = Talk().set(length="8", seed="7").type("the king", ":again")
    assert ":unset seed" in talk.notices[-1]
    talk = Talk().set(length="8", sampler="greedy").type("the king", ":again 5")
    assert len(talk.texts) == 1
    assert "greedy draws nothing at random" in talk.notices[-1]


@pytest.mark.parametrize("count", ["0", "-1", "101", "many", "1.5"])
def test_again_refuses_other_counts(count):
    talk = Talk().set(length="3").type("the king", f":again {count}")
    assert f"1..100; got '{count}'" in str(talk.error)


def test_a_stop_ends_all_texts_and_keeps_them():
    talk = Talk(Stopper(2)).set(length="9").type("the king", ":again 4")
    made = [node.generation for node in talk.session.nodes[1:]]
    assert [generation.stop_reason for generation in made] == ["interrupted"] * 4
    assert sum(len(generation.tokens) for generation in made) >= 4
    assert "4 of 4 texts had begun" in talk.notices[0]


def test_texts_that_are_stopped_before_their_first_token_are_not_kept():
    class Deaf(FakeEngine):
        def generate_rows(self, requests):
            for event in super().generate_rows(requests):
                if len(requests) > 1:
                    self.stop()
                yield event

    for is_terminal in (True, False):
        talk = Talk(Deaf(), is_terminal=is_terminal).set(length="9")
        talk.type("the king", ":again 4")
        assert str(talk.error) == "stopped before the first token"
        assert len(talk.session.nodes) == 1 and talk.outputs == []


def test_continue_goes_on_from_the_exact_tokens():
    talk = Talk().set(length="6", seed="1").type("the king", ":continue")
    first, second = talk.session.nodes
    made = first.generation
    expected = (*made.started.prompt_ids, *made.token_ids)
    assert talk.engine.requests[-1].prompt_ids == expected
    assert second.parent == first.id and second.text.startswith(first.text)
    assert talk.texts[0] == second.text


def test_after_another_model_a_text_is_continued_by_its_words():
    talk = Talk().set(length="6").type("the king")
    node = talk.session.node
    other = replace(node.generation, checkpoint_sha256="0" * 64)
    talk.session = replace(talk.session, nodes=(replace(node, generation=other),))
    talk.type(":continue")
    assert talk.engine.requests[-1].prompt_ids is None
    assert talk.engine.requests[-1].prompt == node.text


def test_again_of_a_continued_text_uses_its_tokens():
    talk = Talk().set(length="6").type("the king", ":continue", ":again")
    assert talk.engine.requests[2].prompt_ids == talk.engine.requests[1].prompt_ids
    assert talk.session.node.parent == 1


def test_undo_drops_the_newest_text():
    talk = Talk().set(length="4").type("the king", ":continue", ":undo")
    assert talk.session.current == 1 and len(talk.session.nodes) == 1
    assert "dropped text 2" in talk.notices[0]
    talk.type(":undo")
    assert talk.session.node is None and talk.session.nodes == ()


def test_undo_leaves_the_current_text_where_it_is():
    talk = Talk().set(length="4").type("the king", "the queen", "the dog")
    talk.session = replace(talk.session, current=1)
    assert talk.type(":undo").session.current == 1


def test_raw_command_shows_the_pieces():
    talk = Talk().set(length="30", seed="1").type("the king", ":raw")
    pieces = [token.text for token in talk.session.node.generation.tokens]
    assert talk.said.split() == pieces


def test_edit_continues_what_comes_back_from_the_editor():
    talk = Talk(edited="the old queen\n").set(length="4").type("the king", ":edit")
    assert AskEditor("the king") in talk.outputs
    assert talk.session.node.prompt == "the old queen"


@pytest.mark.parametrize("edited", [None, "", " \n"])
def test_edit_without_a_result_makes_nothing(edited):
    talk = Talk(edited=edited).set(length="4").type("the king", ":edit")
    assert talk.notices == ["nothing to continue"] and len(talk.session.nodes) == 1


def test_history_and_stats_tell_of_the_texts():
    talk = Talk().set(length="4", seed="3").type("the king", ":continue")
    said = talk.type(":show history").said
    assert "the king" in said
    assert [line[0] for line in said.splitlines()[1:]] == [" ", "*"]
    talk.type(":show stats")
    assert "top_k" in talk.said and "8" in talk.said
    assert talk.notices[0].startswith("text 2: top_k")


@pytest.mark.parametrize("what", ["history", "stats"])
def test_nothing_to_show_is_said(what):
    assert "no texts yet" in Talk().type(f":show {what}").notices[0]
