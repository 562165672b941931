"""Which lines are commands, which are prompts, and which do nothing."""

import unicodedata

import pytest
from fakes import FakeEngine
from hypothesis import given, settings
from hypothesis import strategies as st
from talk import Talk

from minigpt_repl.errors import UsageError
from minigpt_repl.repl.dispatch import all_commands, find_command, whole_inputs
from minigpt_repl.repl.output import ClearScreen, Quit


@pytest.mark.parametrize("line", ["", "   ", "\t", "\x00\x07", "\u200b"])
def test_a_line_with_nothing_in_it_does_nothing(line):
    talk = Talk().type(line)
    assert talk.outputs == [] and talk.session.nodes == ()


@pytest.mark.parametrize(
    ("line", "prompt"),
    [
        ("the king", "the king"),
        ("  the king  ", "  the king  "),
        (" :quit", ":quit"),
        ("\\:quit", ":quit"),
        ("\\n", "\\n"),
        ("the king\x07", "the king"),
        ("the\u00a0king", "the\u00a0king"),
        ("the\nking", "the\nking"),
        ("a: b", "a: b"),
    ],
)
def test_anything_else_is_a_prompt_without_control_characters(line, prompt):
    talk = Talk().type(line)
    assert talk.engine.requests[0].prompt == prompt
    assert talk.session.node.prompt == prompt


def test_an_escape_sequence_never_reaches_the_terminal():
    talk = Talk().type("the \x1b[31mking")
    assert "\x1b" not in talk.texts[0] and "king" in talk.texts[0]


@pytest.mark.parametrize("line", [":quit", ":q", ":qui", ": quit", ":quit   "])
def test_a_command_goes_by_name_alias_and_unique_beginning(line):
    assert Talk().type(line).outputs == [Quit()]


def test_an_exact_name_wins_over_longer_ones():
    for command in all_commands():
        longer = [c for c in all_commands() if c.name.startswith(command.name)]
        assert command in longer and find_command(command.name) is command


def test_a_beginning_of_several_names_lists_them():
    error = Talk().type(":s").error
    assert ":save" in str(error) and ":sampler" in str(error) and ":set" in str(error)


def test_a_wrong_name_gives_the_nearest():
    error = Talk().type(":smapler").error
    assert "no command :smapler; did you mean :sampler?" in str(error)


def test_a_colon_alone_says_where_the_commands_are():
    assert ":help" in str(Talk().type(":").error)


def test_arguments_of_a_command_without_any_are_refused():
    talk = Talk().type(":clear everything")
    assert ":clear takes no arguments; got 'everything'" in str(talk.error)
    assert talk.count(ClearScreen) == 0


@pytest.mark.parametrize("command", all_commands(), ids=lambda command: command.name)
def test_every_command_has_help_that_starts_with_one_line(command):
    assert command.summary and len(command.summary) <= 80
    assert find_command(command.name) is command
    for alias in command.aliases:
        assert find_command(alias) is command


def test_a_block_is_one_input():
    lines = ["a", ":{", "the old", ":set", ":}", "b"]
    assert [*whole_inputs(lines)] == ["a", "the old\n:set", "b"]


def test_a_block_that_never_ends_is_told():
    inputs = whole_inputs(["the king", " :{ ", "the next"])
    assert next(inputs) == "the king"
    with pytest.raises(UsageError, match=":}"):
        next(inputs)


_COMMANDS = [f":{command.name}" for command in all_commands()]
_ODD = [":", "k", "=", "10", "top_k", "k=5", "p=0.5", "nan", "1e999", "-1", "off"]
_ODDER = ["\x00", "\ud800", "../", "~x", "."]
_WORDS = st.sampled_from([*_COMMANDS, *_ODD, *_ODDER]).filter(
    lambda word: word not in (":save", ":source")  # they touch files
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_WORDS | st.text(max_size=8), max_size=6), st.sampled_from([" ", "\n"]))
def test_no_line_raises_anything_but_our_errors(words, between):
    talk = Talk(FakeEngine()).set(length="3")
    talk.type("the king", between.join(words))
    if talk.error is not None:
        assert_is_one_line(talk.error)


@pytest.mark.parametrize("start", ["", ":", ":set ", ":set k ", ":load ", ":sampler "])
def test_a_line_of_a_megabyte_is_handled(start):
    talk = Talk(FakeEngine()).set(length="2").type(start + "a" * 1_000_000)
    if talk.error is not None:
        assert_is_one_line(talk.error)


def assert_is_one_line(error):
    assert len(str(error)) < 500
    categories = {unicodedata.category(character) for character in str(error)}
    assert not categories & {"Cc", "Cs"}
