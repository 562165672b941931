"""Long work shows itself: a panel on a terminal, a few lines a minute elsewhere."""

import io

import pytest
from rich.console import Console

from minigpt_repl.training.progress import PLAIN_EVERY, Display, duration


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stream():
    return io.StringIO()


def test_a_pipe_gets_plain_lines(stream):
    progress = Display(Console(file=stream))
    progress.start("download", 100, "bytes")
    progress.advance(50)
    progress.finish()
    assert stream.getvalue().splitlines() == [
        "download: started",
        "download: 0.0/0.0 MB, done in 0.0s",
    ]


def test_plain_lines_come_a_few_times_a_minute(stream, clock):
    progress = Display(Console(file=stream), clock)
    progress.start("train", 600, "steps")
    for second in range(120):
        clock.now = second
        progress.advance(second, loss=4.0)
    lines = [line for line in stream.getvalue().splitlines() if "loss" in line]
    assert len(lines) == 119 // PLAIN_EVERY


def test_a_line_says_how_far_how_fast_and_how_long_still(stream, clock):
    progress = Display(Console(file=stream), clock)
    progress.start("tokenize", 1000, "lines")
    progress.advance(0)
    clock.now = 20.0
    progress.advance(400)
    assert "400/1,000 lines" in stream.getvalue()
    assert "20.0 lines/s" in stream.getvalue()
    assert "30s left" in stream.getvalue()


def test_a_resumed_stage_is_not_taken_for_a_fast_one(stream, clock):
    progress = Display(Console(file=stream), clock)
    progress.start("train", 1000, "steps")
    progress.advance(900)
    clock.now = 20.0
    progress.advance(910)
    assert "0.5 steps/s" in stream.getvalue()


def test_slow_steps_have_a_rate_too(stream, clock):
    # rich's own estimate looks at the last 30 seconds only.
    progress = Display(Console(file=stream), clock)
    progress.start("tokenize", 10, "documents")
    for done in range(3):
        clock.now = 40.0 * done
        progress.advance(5 * done)
    line = stream.getvalue().splitlines()[-1]
    assert line == "tokenize: 10/10 documents, 0.1 documents/s, 0.0s left"


def test_training_figures_are_named(stream, clock):
    progress = Display(Console(file=stream), clock)
    progress.start("train", 1000, "steps")
    clock.now = 20.0
    progress.advance(
        10,
        step=10,
        loss=4.25,
        val_perplexity=70.123,
        learning_rate=0.008,
        tokens_per_second=16384.0,
        seconds_left=3900.0,
    )
    line = stream.getvalue().splitlines()[-1]
    for part in (
        "10/1,000 steps",
        "loss 4.250",
        "validation perplexity 70.1",
        "rate 8.00e-03",
        "16,384 tokens/s",
        "1h05m left",
    ):
        assert part in line


def test_nobody_knows_how_much_there_is(stream, clock):
    progress = Display(Console(file=stream), clock)
    progress.start("download", None, "bytes")
    progress.advance(0)
    clock.now = 20.0
    progress.advance(30_000_000)
    assert "30.0 MB" in stream.getvalue()
    assert "1.5 MB/s" in stream.getvalue()
    assert "left" not in stream.getvalue()


def test_a_terminal_gets_a_panel_that_goes_away_and_lines_that_stay(stream, clock):
    console = Console(file=stream, force_terminal=True, width=80)
    progress = Display(console, clock)
    progress.start("train", 100, "steps")
    progress.advance(40, loss=4.2)
    progress.say("a sample [with brackets]")
    clock.now = 5.0
    progress.finish()
    shown = stream.getvalue()
    assert "40/100 steps" in shown
    assert "loss 4.200" in shown
    assert "a sample [with brackets]" in shown
    assert shown.rstrip().endswith("train: 40/100 steps, done in 5.0s")


def test_a_sample_with_markup_is_shown_as_it_is(stream):
    progress = Display(Console(file=stream, force_terminal=True, width=80))
    progress.say("[UNK] [/bold] :smile:")
    assert "[UNK] [/bold] :smile:" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(4.24, "4.2s"), (42.4, "42s"), (185, "3m05s"), (7620, "2h07m")],
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_sample_of_controls_steers_no_terminal(stream, is_terminal):
    progress = Display(Console(file=stream, force_terminal=is_terminal, width=80))
    progress.say("a\x1b]52;c;aGk=\x07\u202e")
    assert r"a\x1b]52;c;aGk=\x07\u202e" in stream.getvalue()
