"""Graphs that are called with nothing around them: what they give, what they leave."""

import gc
from pathlib import Path

import pytest
import tensorflow as tf

from minigpt_repl.engine.direct import Direct, let_go_of_functions

STATUS = Path("/proc/self/status")


def traced(function):
    spec = tf.TensorSpec((), tf.float32)
    return tf.function(function, autograph=False).get_concrete_function(spec)


@pytest.mark.parametrize("is_compiled", [False, True])
def test_a_graph_gives_all_its_results_and_sees_its_variables(is_compiled):
    count = tf.Variable(1.0)

    def function(x):
        count.assign_add(x)
        return x + 1.0, {"count": count.read_value()}

    call = Direct(
        tf.function(
            function, autograph=False, jit_compile=is_compiled or None
        ).get_concrete_function(tf.TensorSpec((), tf.float32)),
        is_compiled,
    )
    for expected in (3.0, 5.0):
        assert sorted(float(each) for each in call(tf.constant(2.0))) == [3.0, expected]


def resident_mb():
    row = next(r for r in STATUS.read_text().splitlines() if r.startswith("VmRSS"))
    return int(row.split()[1]) / 1024


def use_a_graph(number):
    def function(x):
        for place in range(300):
            x = tf.sin(x + float(300 * number + place))
        return x

    Direct(traced(function), is_compiled=False)(tf.constant(1.0))


def growth_mb(numbers, let_go):
    """How much memory the use of so many graphs takes, when nobody holds them."""
    gc.collect()
    before = resident_mb()
    for number in numbers:
        use_a_graph(number)
        let_go()
        gc.collect()
    return resident_mb() - before


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="reads Linux' figures of memory")
def test_the_memory_of_graphs_that_nobody_holds_is_given_back():
    # A session may use thousands of shapes, some 4 MB each.
    growth_mb(range(3), let_go_of_functions)
    freed = growth_mb(range(3, 15), let_go_of_functions)
    kept = growth_mb(range(15, 27), lambda: None)
    assert freed < 0.7 * kept
