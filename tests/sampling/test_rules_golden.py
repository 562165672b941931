"""The chain's rules give what the peers' own code gives, in numpy and compiled.

golden.json is made by scripts/golden_rules.py from the peers' code.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from minigpt_repl.sampling.chain import STAGES
from minigpt_repl.sampling.stage import probabilities

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())
PEERS = ("transformers", "llama.cpp")
NAMES = [
    (peer, name)
    for peer in PEERS
    for name in dict.fromkeys(case["rule"] for case in GOLDEN[peer]["cases"])
]

OTHERWISE = {
    # transformers keeps all tokens that equal the last one kept, here ids decide.
    ("transformers", "top_k", "with ties"),
    ("transformers", "top_k", "all equal"),
    ("transformers", "typical_p", "with ties"),
    ("transformers", "typical_p", "all equal"),
    ("transformers", "epsilon_cutoff", "all equal"),
    # A sum of exactly p does not reach p, as in KerasHub; for the peers it does.
    ("transformers", "top_p", "all equal"),
    ("llama.cpp", "top_p", "all equal"),
    # Which of equal tokens it chose, where one was kept, is up to the order of a sort.
    ("llama.cpp", "mirostat", "all equal"),
    # Where nothing would be left the most probable token is; transformers gives NaN.
    ("transformers", "no_repeat_ngram", "one left"),
}
"""What differs on purpose, by peer, rule and logits."""


WIDTH = 4
"""An amount and the most tokens of a word."""


def arrays(case):
    """A case's parameters as the rule wants them."""
    defaults = {p.name: p.default for p in STAGES[case["rule"]].parameters}
    values = {
        name: 2**30 if value is None else value
        for name, value in (defaults | case["values"]).items()
    }
    if "words" in values:
        rows = [
            [row[0], *[-1] * (WIDTH - len(row)), *row[1:]] for row in values["words"]
        ]
        values["words"] = np.array([rows], np.float32)
    if "breakers" in values:
        mask = np.isin(np.arange(16), values["breakers"])
        values["breakers"] = mask[None].astype(np.float32)
    return values


def left(case, namespace=np, dtype="float64"):
    """The probabilities that the rule leaves of a case."""
    stage, values = STAGES[case["rule"]], arrays(case)
    given = {
        "chance": namespace.array([[0.5]], dtype=dtype),
        "made": values.pop("made", 0),
        "end_id": values.pop("end_id", None),
        "learned": namespace.zeros((1, 1), dtype=dtype),
    }
    logits = [-np.inf if x is None else x for x in GOLDEN["logits"][case["title"]]]
    logits = namespace.array([logits], dtype=dtype)
    seen = [-1] * (20 - len(case["seen"])) + case["seen"]
    seen = namespace.array([seen], dtype="int32")
    for token in case.get("chosen", ()):
        behind = stage.apply(namespace, logits, values, seen, given).logits
        shares = [
            probabilities(namespace, each)[:, token, None] for each in (logits, behind)
        ]
        given["learned"] = stage.learns(namespace, given["learned"], *shares, **values)
    changed = stage.apply(namespace, logits, values, seen, given)
    return np.array(probabilities(namespace, changed.logits))[0]


def cases(peer, name):
    return [
        case
        for case in GOLDEN[peer]["cases"]
        if case["rule"] == name and (peer, name, case["title"]) not in OTHERWISE
    ]


@pytest.mark.parametrize(("peer", "name"), NAMES)
def test_probabilities_are_the_peers(peer, name):
    assert len(cases(peer, name)) >= 15
    for case in cases(peer, name):
        got, expected = left(case), np.array(case["probabilities"])
        if case["title"] in ("with ties", "all equal"):
            # Which of equal tokens stay is up to the order of a sort.
            got, expected = np.sort(got), np.sort(expected)
        assert got == pytest.approx(expected, rel=1e-4, abs=1e-7), case


@pytest.mark.parametrize(("peer", "name", "title"), sorted(OTHERWISE))
def test_what_differs_from_a_peer_on_purpose_differs(peer, name, title):
    same = [
        np.allclose(np.sort(left(case)), np.sort(case["probabilities"]), atol=1e-4)
        for case in GOLDEN[peer]["cases"]
        if (case["rule"], case["title"]) == (name, title)
    ]
    assert not all(same)


@pytest.mark.parametrize("name", STAGES)
def test_a_rule_is_the_same_in_numpy_and_in_keras(name):
    from keras import ops

    made = [case for peer in PEERS for case in GOLDEN[peer]["cases"]]
    # What is nearly 0 is 0 in float32, which is the compiled program's.
    chosen = [c for c in made if c["rule"] == name and c["title"] != "extreme"]
    for case in chosen[:: max(1, len(chosen) // 6)]:
        got = left(case, ops, "float32")
        assert got == pytest.approx(left(case), rel=1e-3, abs=1e-6), case


@pytest.mark.parametrize(
    "name", [n for n, each in STAGES.items() if not each.can_empty]
)
def test_a_rule_that_is_not_asked_always_leaves_a_token(name):
    """Whatever the logits and the parameters; those that may not are looked after."""
    from keras import ops

    rng = np.random.default_rng(9)
    one_left = np.full(16, -np.inf)
    one_left[3] = -50
    rows = [rng.normal(0, 1, 16), rng.normal(0, 60, 16), np.zeros(16), one_left]
    logits = ops.array(np.stack(rows), dtype="float32")
    seen = ops.array(np.tile(np.arange(16), (4, 1)), dtype="int32")
    stage = STAGES[name]
    for end in ("lowest", "default", "highest"):
        values = {p.name: extreme(p, end) for p in stage.parameters}
        for chance, learned in itertools.product((0.0, 0.999), (-20.0, 0.0, 20.0)):
            given = {"chance": chance, "made": 0, "end_id": 3, "learned": learned}
            left = stage.apply(ops, logits, values, seen, given)
            is_left = np.array(left.logits) > -np.inf
            assert is_left.any(axis=-1).all(), values
            assert not np.array(left.is_rescued).any()


def extreme(parameter, end):
    """The lowest or highest value that a parameter takes."""
    if end == "default":
        return parameter.default
    if end == "lowest":
        least = parameter.minimum or 0
        return least + 1e-6 if parameter.exclusive_minimum else least
    return 16 if isinstance(parameter.maximum, str | None) else parameter.maximum


def kept(name, shares, **values):
    """The ids that a rule keeps, for cases worked by hand."""
    logits = np.log(np.array([shares]) + 1e-300)
    left = STAGES[name].apply(np, logits, values, None, {})
    return np.flatnonzero(left.logits[0] > -np.inf).tolist()


def test_top_a_by_hand_from_its_origin():
    # RWKV: limit = top_a * max(probs) ** 2; probs[probs < limit] = 0
    shares = [0.5, 0.3, 0.12, 0.05, 0.03]
    assert kept("top_a", shares, a=0.2) == [0, 1, 2, 3]  # limit 0.05
    assert kept("top_a", shares, a=0.4) == [0, 1, 2]  # limit 0.1
    assert kept("top_a", shares, a=1.0) == [0, 1]  # limit 0.25
    assert kept("top_a", shares, a=0.0) == [0, 1, 2, 3, 4]
    assert kept("top_a", [0.9, 0.1], a=1.0) == [0]  # limit 0.81
    assert kept("top_a", [0.25] * 4, a=1.0) == [0, 1, 2, 3]


def test_greedy_and_random_by_hand():
    assert kept("greedy", [0.3, 0.4, 0.3]) == [1]
    assert kept("greedy", [0.4, 0.2, 0.4]) == [0]
    assert kept("random", [0.3, 0.4, 0.3]) == [0, 1, 2]


def test_every_rule_has_its_story_and_an_oracle():
    for stage in STAGES.values():
        assert stage.story.count(".") >= 3 and stage.summary and stage.origin
    by_hand = {"top_a", "greedy", "random"}  # the tests above
    assert {name for _, name in NAMES} | by_hand == {*STAGES}
