"""A comparison is made text by text, stopped, shown, and measured."""

import io
import math
from dataclasses import replace

import pytest
from drawn import drawn
from fakes import FakeEngine
from rich.console import Console

from minigpt_repl.compare.choice import bar, inspect
from minigpt_repl.compare.comparison import Column, Comparison, finish, run_plan
from minigpt_repl.compare.comparison_view import (
    DIVERGENCE_MARK,
    NARROWEST,
    FiguresView,
    GrowingView,
    TextsView,
    shared_words,
    sparkline,
)
from minigpt_repl.compare.measures import MEASURES
from minigpt_repl.compare.pieces import (
    GAP,
    HeatView,
    PartialText,
    beginning_in_a_line,
    digit,
    display_pieces,
    fitting,
    level,
    spaced_words,
    visible,
)
from minigpt_repl.compare.spec import Strategy
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import (
    HypothesesChanged,
    Request,
    Token,
    TokenChosen,
    finished,
)
from minigpt_repl.errors import EngineStopped
from minigpt_repl.models.text.wordpiece import WordPieceText
from minigpt_repl.sampling.registry import find_sampler

GREEDY = Strategy("greedy", {})
RANDOM = Strategy("random", {"temperature": 1.0})
TOP_K = Strategy("top_k", {"k": 3, "temperature": 1.0})
MIROSTAT = {"mirostat": 5.0, "mirostat.eta": 1.0}


def make_plan(*strategies, **more):
    count, varied = more.pop("count", 1), more.pop("varied", None)
    request = Request("the king", "greedy", {}, **{"seed": 3, "length": 8} | more)
    columns = tuple(map(Column, strategies or (GREEDY, TOP_K)))
    return Comparison(request, columns, count, varied)


def grown(engine, plan):
    """A comparison after each token."""
    return run_plan(engine, plan, is_due=lambda: True)


def compare(plan, engine=None):
    return finish(run_plan(engine or FakeEngine(context_length=64), plan))


def test_every_strategy_gets_every_seed():
    engine = FakeEngine(context_length=64)
    compare(make_plan(RANDOM, TOP_K, count=2), engine)
    asked = [(request.sampler, request.seed) for request in engine.requests]
    assert asked == [("random", 3), ("random", 4), ("top_k", 3), ("top_k", 4)]


def test_texts_grow_one_token_after_the_other():
    *seen, comparison = grown(FakeEngine(context_length=64), make_plan(GREEDY))
    lengths = [len(one.columns[0].texts[0]) for one in seen]
    assert lengths == sorted(lengths) and len(set(lengths)) >= 8
    assert seen[0].columns[0].writing and comparison.columns[0].writing == ()


def test_what_a_search_has_settled_on_is_not_put_behind_its_text():
    # For the time of a frame the best text of a beam search stood there twice.
    text = PartialText()
    text.follow(HypothesesChanged((), " ran"))
    assert not text.follow(TokenChosen(0, Token(7, "ran"), " ran", " ran"))
    assert text.text == " ran"


def test_nothing_but_the_whole_is_told_where_nobody_looks():
    (comparison,) = run_plan(FakeEngine(context_length=64), make_plan(GREEDY))
    assert len(comparison.generations) == 1 and not comparison.is_growing


def test_texts_of_a_strategy_grow_together():
    *seen, _ = grown(FakeEngine(context_length=64), make_plan(TOP_K, count=3))
    assert [len(one.columns[0].texts) for one in seen[:3]] == [1, 2, 3]
    assert all(len(one.columns[0].generations) == 0 for one in seen[:-3])


def test_the_speed_of_texts_made_together_is_told_once_and_named():
    comparison = compare(make_plan(GREEDY, TOP_K, count=3))
    speed = next(m for m in comparison.measures if m.key == "tokens_per_s")
    assert comparison.columns[1].figure(speed).half is None
    made = [one for column in comparison.columns for one in column.generations]
    assert [generation.timings.rows for generation in made] == [1, 1, 1, 3, 3, 3]
    lines = drawn(FiguresView(comparison), width=250).splitlines()
    assert [line.split()[-1] for line in lines] == ["rows", "1", "3"]
    assert "rows" not in drawn(FiguresView(compare(make_plan())), width=250)


def test_a_comparison_that_grows_stays_within_the_screen():
    plan = make_plan(RANDOM, TOP_K, count=9, length=60)
    seen = [*grown(FakeEngine(context_length=64), plan)]
    for one in seen[:: len(seen) // 20]:
        console = Console(file=io.StringIO(), width=80, height=24)
        assert len(console.render_lines(GrowingView(one))) < 24


def test_a_seed_is_drawn_once_for_all():
    comparison = compare(make_plan(seed=None))
    seeds = {c.generations[0].seed for c in comparison.columns}
    assert seeds == {comparison.first.seed}


def test_scores_come_with_the_texts_and_not_from_the_engine_once_more(monkeypatch):
    engine = FakeEngine(context_length=64)
    asked, logits = [], engine.logits
    monkeypatch.setattr(engine, "logits", lambda ids: asked.append(ids) or logits(ids))
    comparison = compare(make_plan(), engine)
    # The engine asks itself, once for each text.
    assert len(asked) == len(comparison.generations)
    assert comparison.columns[0].figure(MEASURES[5]).mean > 1


def test_a_stop_keeps_what_is_there():
    engine = FakeEngine(context_length=64)
    for comparison in grown(engine, make_plan()):
        if len(comparison.columns[1].texts) == 1:
            engine.stop()
    whole, cut = (column.generations[0] for column in comparison.columns)
    assert comparison.is_interrupted
    assert len(whole.tokens) == 8 and len(cut.tokens) == 1


def test_a_stop_between_texts_keeps_those_that_are_there(monkeypatch):
    engine = FakeEngine(context_length=64)
    generate_rows = engine.generate_rows

    def stopped_after_one(requests):
        yield from generate_rows(requests[:1])
        raise EngineStopped("stopped before the first token")

    monkeypatch.setattr(engine, "generate_rows", stopped_after_one)
    comparison = compare(make_plan(), engine)
    assert comparison.is_interrupted
    assert [len(column.generations) for column in comparison.columns] == [1, 0]


def test_a_stop_before_all_texts_is_an_error(monkeypatch):
    engine = FakeEngine(context_length=64)

    def stopped(request):
        raise EngineStopped("stopped: the model is still loading")

    monkeypatch.setattr(engine, "generate_rows", stopped)
    with pytest.raises(EngineStopped, match="loading"):
        compare(make_plan(), engine)


def test_where_chance_plays_no_part_one_text_stands_for_all():
    engine = FakeEngine(context_length=64)
    comparison = compare(make_plan(count=3), engine)
    asked = [request.sampler for request in engine.requests]
    assert asked == ["greedy", "top_k", "top_k", "top_k"]
    greedy = comparison.columns[0].generations
    seed = comparison.first.seed
    assert [made.seed for made in greedy] == [seed, seed + 1, seed + 2]
    assert len({made.text for made in greedy}) == 1
    page = drawn(TextsView(comparison))
    assert page.count("same for every seed") == 1 and page.count("seed ") == 4
    assert comparison.columns[0].figure(MEASURES[0]).half is None


def test_means_and_intervals_over_several_texts():
    comparison = compare(make_plan(TOP_K, count=3))
    interval = comparison.columns[0].figure(MEASURES[0])
    values = [MEASURES[0].of(made) for made in comparison.columns[0].generations]
    assert interval.mean == pytest.approx(sum(values) / 3) and interval.half > 0


@pytest.mark.parametrize(
    ("texts", "count"),
    [
        ([["a", "b"], ["a", "c"]], 1),
        ([["a", "b"], ["a", "b", "c"]], 2),
        ([["a"], ["b"]], 0),
        ([["a"]], 0),
        ([], 0),
        ([["a"], []], 0),
    ],
)
def test_words_shared_from_the_start(texts, count):
    assert shared_words(texts) == count


def test_words_keep_the_space_before_them():
    assert spaced_words(" a  b\nc") == [" a", "  b", "\nc"]


def test_side_by_side_the_first_word_that_differs_is_marked():
    strategies = [Strategy("top_k", {"k": k, "temperature": 0.01}) for k in (5, 30)]
    comparison = compare(make_plan(*strategies, GREEDY, count=1))
    page = drawn(TextsView(comparison))
    # At so low a temperature all are greedy: nothing differs.
    assert DIVERGENCE_MARK not in page
    other = Strategy("random", {"temperature": 1.0})
    seed = next(
        seed
        for seed in range(50)
        if shared_words(
            [
                spaced_words(column.texts[0])
                for column in compare(make_plan(GREEDY, other, seed=seed)).columns
            ]
        )
    )
    page = drawn(TextsView(compare(make_plan(GREEDY, other, seed=seed))))
    assert page.count(DIVERGENCE_MARK) == 2


@pytest.mark.parametrize(
    ("count", "width", "expected"),
    [(6, 200, 6), (6, 80, 3), (4, 80, 2), (7, 80, 3), (6, 30, 1), (1, 20, 1)],
)
def test_as_many_columns_as_have_room(count, width, expected):
    widths = [NARROWEST] * count
    assert len(fitting(widths, width + GAP)[0]) == expected


@pytest.mark.parametrize("width", [20, 39, 80, 200])
def test_no_line_is_wider_than_the_terminal(width):
    comparison = compare(make_plan(GREEDY, TOP_K, count=2))
    for view in (TextsView(comparison), FiguresView(comparison)):
        assert max(map(len, drawn(view, width=width).splitlines())) <= width


def test_a_narrow_terminal_stacks_and_loses_no_word():
    comparison = compare(make_plan())
    page = drawn(TextsView(comparison), width=30)
    for column in comparison.columns:
        for word in column.texts[0].split():
            assert word in page
    heading, other = page.index("greedy"), page.index("top_k")
    assert "\n\n" in page[heading:other]


def test_the_table_has_every_measure_once():
    page = drawn(FiguresView(compare(make_plan())), width=80)
    for measure in MEASURES:
        assert page.split().count(measure.heading.split()[0]) == 1
    assert "±" not in page
    assert "±" in drawn(FiguresView(compare(make_plan(count=2))), width=80)


def test_a_sweep_names_its_values_and_draws_a_trend():
    strategies = [Strategy("top_k", {"k": k, "temperature": 1.0}) for k in (1, 5, 20)]
    page = drawn(FiguresView(compare(make_plan(*strategies, varied="k"))), width=120)
    assert "k=20" in page and "trend" in page and "█" in page


def test_sparklines_and_bars():
    assert sparkline([0, 1, None, 2]) == "▁▅ █"
    assert sparkline([3, 3]) == "▁▁"
    assert sparkline([1, math.inf, math.nan, 2]) == "▁  █"
    assert bar(0.5, 4) == "██" and bar(1 / 32, 4) == "▏" and bar(2, 3) == "███"


def test_pieces_put_together_are_the_text():
    (column,) = compare(make_plan(TOP_K, length=20)).columns
    generation = column.generations[0]
    info = FakeEngine().info
    words = [token.text for token in generation.tokens]
    pieces = display_pieces(generation, info)
    assert len(pieces) == 20
    raw = "".join(word.removeprefix("##") for word in words)
    assert "".join("".join(pieces).split()).lower() == raw


def test_a_piece_goes_right_after_the_prompt():
    text = WordPieceText(("[PAD]", "[UNK]", "[BOS]", "the", "king", "##dom", "."))
    assert text.parts("the", (3,), (4, 5, 6)) == [" king", "dom", "."]
    assert text.parts("the ", (3,), (4,)) == ["king"]


def test_the_space_before_a_token_can_be_seen():
    text = WordPieceText(("king", "##ing", ","))
    assert [text.visible(place) for place in range(3)] == ["·king", "##ing", ","]


@pytest.mark.parametrize(
    ("bits", "expected"),
    [(0.0, (0, "0")), (1.0, (1, "1")), (5.9, (2, "5")), (40.0, (4, "9"))],
)
def test_surprisal_has_a_colour_and_a_digit(bits, expected):
    assert (level(bits), digit(bits)) == expected


def test_heat_without_colour_has_digits_and_with_colour_none():
    view = HeatView("the", [" king", "dom"], [2.5, 11.0])
    assert "the king2dom9" in drawn(view)
    colored = drawn(view, force_terminal=True, color_system="standard")
    assert "\x1b[" in colored and "9" not in colored.replace("\x1b[39m", "")
    no_color = drawn(view, force_terminal=True, color_system="standard", no_color=True)
    assert "king2" in no_color


def test_no_view_steers_a_terminal():
    evil = "a \x1b]52;c;aGk=\x07 \x9b2J\u202e\x7f"
    comparison = compare(make_plan(GREEDY, TOP_K))
    column = comparison.columns[0]
    made = replace(column.generations[0], text=evil)
    comparison = replace(
        comparison,
        first=replace(comparison.first, prompt=evil),
        columns=(replace(column, generations=(made,)), *comparison.columns[1:]),
    )
    for view in (TextsView(comparison), HeatView(evil, [evil], [2.0])):
        page = drawn(view)
        assert not set("\x1b\x07\x9b\u202e\x7f") & set(page)
        assert "x1b]52" in page.replace("\n", "")
    info = replace(FakeEngine().info, text=WordPieceText((evil,)))
    assert visible(0, info) == "·a \\x1b]52;c;aGk=\\x07 \\x9b2J\\u202e\\x7f"


def test_a_text_is_cut_to_a_cell():
    assert beginning_in_a_line("the\n king ", 8) == "the king"
    assert beginning_in_a_line("the\nkings", 8) == "the k..."


def test_what_one_chain_learned_is_no_others():
    """`:diff` asked each chain with what the text's own had learned."""
    engine = FakeEngine(context_length=64)
    *_, last = engine.generate(Request("the king", "mirostat", MIROSTAT, 8, seed=3))
    made = finished(last)
    text = inspect(engine, "the king", made)
    other = find_sampler("mirostat"), {**MIROSTAT, "mirostat": 1.5}
    assert (text.replayed.learned != 0).any()
    expected = inspection.kept_mask(
        *other, text.rows, inspection.generation_places(made, engine)
    )
    assert (inspection.kept_mask(*other, text.rows, text.where) == expected).all()
    wrong = inspection.kept_mask(*other, text.rows, text.replayed)
    assert not (wrong == expected).all()
