"""The grammar of chains: what is typed, and back."""

import pytest

from minigpt_repl.errors import UsageError
from minigpt_repl.sampling import chain
from minigpt_repl.sampling.registry import find_sampler, read_sampler


def values_of(text):
    spec, typed = read_sampler(text)
    return spec, spec.check({n: spec.parameter(n).parse(t) for n, t in typed.items()})


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("min_p=0.05 + temperature=0.8", "min_p=0.05 + temperature=0.8"),
        ("Min-P = 0.05+TEMPERATURE", "min_p=0.05 + temperature=1"),
        ("xtc + greedy", "xtc=0.5 + greedy"),
        ("xtc:threshold=.2,probability=1", "xtc:probability=1,threshold=0.2"),
        (
            "dry:window=64,base=2 + top_k",
            "dry:multiplier=0.8,base=2,window=64 + top_k=40",
        ),
        ("top_k=5", "top_k:k=5,temperature=1"),
        ("top_k:k=5,temperature=0.8", "top_k:k=5,temperature=0.8"),
        ("dry", "dry=0.8"),
        ('min_p="0.1" + greedy', "min_p=0.1 + greedy"),
    ],
)
def test_what_is_typed_is_written_again(text, again):
    spec, values = values_of(text)
    assert spec.text(values) == again
    assert values_of(again) == (spec, values)


def test_a_name_alone_is_the_sampler_that_it_always_was():
    spec, typed = read_sampler("topk")
    assert not spec.stages and typed == {} and spec is find_sampler("top_k")


def test_quotes_hold_a_value_together():
    one, two = chain.parse('ban="a + b, c" + top_k=3')
    assert (one.name, one.main, two.main) == ("ban", "a + b, c", "3")
    assert chain.split("'a,b',c", ",") == ["'a,b'", "c"]


def test_a_value_is_given_once():
    with pytest.raises(UsageError, match="given twice"):
        read_sampler("xtc:probability=1,probability=0 + greedy")


def test_a_chain_is_random_unless_it_ends_greedily():
    assert find_sampler("min_p + temperature").is_random
    assert not find_sampler("min_p + greedy").is_random
