"""Makes the golden values of the chain's rules, by running the peers' own code.

`python scripts/golden_rules.py PEER` with PEER `transformers` (which needs it and
torch) or `llama.cpp` (which needs llama_cpp_python) puts that peer's cases into
tests/sampling/golden.json; those of the other one stay. A case is a rule with its
parameters, logits by their title, tokens so far, and the probabilities that the peer's
code left. Words are rows of an amount and token ids, breakers token ids. A rule that
follows its own choices has cases with the tokens that it chose before, on the same
logits.
"""

import ctypes
import importlib
import json
import math
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parent.parent / "tests" / "sampling" / "golden.json"
SIZE = 16
FROM_TRANSFORMERS: dict[str, tuple[str, str, list[float]]] = {
    "temperature": ("TemperatureLogitsWarper", "temperature", [0.1, 0.8, 3.0]),
    "top_k": ("TopKLogitsWarper", "k", [1, 3, 16]),
    "top_p": ("TopPLogitsWarper", "p", [0.01, 0.5, 0.9, 1.0]),
    "min_p": ("MinPLogitsWarper", "p", [0.0, 0.05, 0.3, 1.0]),
    "typical_p": ("TypicalLogitsWarper", "p", [0.01, 0.5, 0.9]),
    "epsilon_cutoff": ("EpsilonLogitsWarper", "epsilon", [0.0003, 0.05, 0.9]),
    "eta_cutoff": ("EtaLogitsWarper", "epsilon", [0.0003, 0.05, 0.9]),
    "top_h": ("TopHLogitsWarper", "h", [0.1, 0.4, 0.9, 1.0]),
    "repetition_penalty": (
        "RepetitionPenaltyLogitsProcessor",
        "penalty",
        [0.7, 1.1, 5.0],
    ),
    "no_repeat_ngram": ("NoRepeatNGramLogitsProcessor", "size", [1, 2, 3, 5]),
}
FROM_LLAMA: dict[str, list[dict[str, Any]]] = {
    "temperature": [{"temperature": t} for t in (0.0, 0.1, 0.8, 3.0)],
    "top_k": [{"k": k} for k in (1, 3, 16)],
    "top_p": [{"p": p} for p in (0.01, 0.5, 0.9, 1.0)],
    "min_p": [{"p": p} for p in (0.0, 0.05, 0.3, 1.0)],
    "typical_p": [{"p": p} for p in (0.01, 0.5, 0.9)],
    "top_n_sigma": [{"n": n} for n in (0.3, 1.0, 2.0)],
    "xtc": [
        {"probability": 1.0, "threshold": t} for t in (0.0, 0.02, 0.1, 0.3, 0.5, 0.6)
    ],
    "dynamic_temperature": [
        {"temperature": 1.0, "range": 0.0, "exponent": 1.0},
        {"temperature": 1.0, "range": 0.5, "exponent": 1.0},
        {"temperature": 0.5, "range": 2.0, "exponent": 2.0},
    ],
    "repetition_penalty": [{"penalty": p, "window": w} for p, w in ((1.1, 64), (3, 4))],
    "presence_penalty": [{"penalty": p, "window": w} for p, w in ((0.5, 64), (-2, 4))],
    "frequency_penalty": [{"penalty": p, "window": w} for p, w in ((0.5, 64), (2, 4))],
    "dry": [
        {"multiplier": m, "base": b, "allowed_length": a, "window": w, "breakers": x}
        for m, b, a, w in ((0.8, 1.75, 2, 64), (2, 1.1, 1, 64), (1, 3, 3, 8))
        for x in ([], [2], [4, 7])
    ],
    "logit_bias": [{"words": [[2.0, 3]]}, {"words": [[-1.5, 2], [4.0, 0], [1.0, 15]]}],
    "mirostat": [],
    "adaptive_p": [],
}
PUSHES = [[[2.0, 3]], [[-1.5, 2], [4.0, 3, 1]], [[1.0, 1, 2, 3], [2.0, 2, 3]]]
BANS = [[[-1, 3]], [[-1, 2], [-1, 3, 1]], [[-1, 1, 2, 3], [-1, 4, 8]]]
MADE = [(tokens, made) for tokens in (0, 3, 20) for made in (0, 2, 3, 19, 20)]
END_ID = 6
FOLLOWING: dict[str, list[dict[str, float]]] = {
    "mirostat": [{"tau": t, "eta": e} for t, e in ((5.0, 0.1), (1.0, 0.5), (0.2, 1))],
    "adaptive_p": [
        {"target": t, "decay": d} for t, d in ((0.5, 0.9), (0.1, 0.5), (1.0, 0.0))
    ],
}
DRY_FOR_TESTS = "_Z30llama_sampler_init_dry_testingffiiRKSt6vectorIS_IiSaIiEESaIS1_EE"
FOLLOWED = 6
"""Tokens that a rule follows in a case."""
HISTORIES = [
    [],
    [3],
    [1, 2, 3, 1, 2],
    [5, 5, 5, 5],
    [1, 2, 3, 4, 9, 2, 3, 4, 8, 1, 2, 3, 4],
    [7, 1, 7, 2, 7, 3, 7, 1, 7, 2, 7],
]
WORDED = ("logit_bias", "ban", "min_length")
WITH_HISTORY = ("random", "one left", "some removed")
HISTORY_RULES = (
    "logit_bias",
    "ban",
    "min_length",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "no_repeat_ngram",
    "dry",
)


def all_logits() -> dict[str, list[float]]:
    """The logits, by what is special in them."""
    draw = random.Random(20)
    minus = -math.inf

    def normal(scale: float) -> list[float]:
        return [round(draw.gauss(0, scale), 3) for _ in range(SIZE)]

    made = {"random": normal(2), "sharp": normal(8), "flat": normal(0.3)}
    made["with ties"] = [float(round(x)) for x in normal(1.5)]
    made["all equal"] = [0.5] * SIZE
    made["one left"] = [minus] * 5 + [1.25] + [minus] * (SIZE - 6)
    made["some removed"] = [x if i % 3 else minus for i, x in enumerate(normal(2))]
    made["extreme"] = [round(x * 100, 1) for x in normal(3)]
    return made


def transformers_cases(name: str, logits: list[float]) -> list[dict[str, Any]]:
    """The cases of a rule of transformers."""
    if name in WORDED:
        return worded_cases(name, logits)
    torch = importlib.import_module("torch")
    processors = importlib.import_module("transformers.generation.logits_process")
    class_name, parameter, values = FROM_TRANSFORMERS[name]
    cases = []
    for value in values:
        try:
            processor = getattr(processors, class_name)(value)
        except ValueError:
            continue  # it doesn't allow that value
        for seen in HISTORIES if name in HISTORY_RULES else [[]]:
            ids = torch.tensor([seen], dtype=torch.long)
            left = processor(ids, torch.tensor([logits]))[0].tolist()
            cases.append(case(name, {parameter: value}, seen, left))
    return cases


def worded_cases(name: str, logits: list[float]) -> list[dict[str, Any]]:
    """The cases of the rules of transformers that are given token ids."""
    torch = importlib.import_module("torch")
    processors = importlib.import_module("transformers.generation.logits_process")
    made: list[tuple[dict[str, Any], Any, list[list[int]]]] = []
    if name == "logit_bias":
        for rows in PUSHES:
            biases = [[row[1:], row[0]] for row in rows]
            processor = processors.SequenceBiasLogitsProcessor(biases)
            made.append(({"words": rows}, processor, HISTORIES))
    elif name == "ban":
        for rows in BANS:
            processor = processors.NoBadWordsLogitsProcessor([row[1:] for row in rows])
            made.append(({"words": rows}, processor, HISTORIES))
    else:
        for tokens, count in MADE:
            processor = processors.MinNewTokensLengthLogitsProcessor(
                0, tokens, END_ID, device="cpu"
            )
            values = {"tokens": tokens, "made": count, "end_id": END_ID}
            made.append((values, processor, [[1] * count]))
    cases = []
    for values, processor, histories in made:
        for seen in histories:
            ids = torch.tensor([seen], dtype=torch.long)
            left = processor(ids, torch.tensor([logits]))[0].tolist()
            cases.append(case(name, values, seen if len(seen) <= SIZE else [], left))
    return cases


class Vector(ctypes.Structure):
    """A `std::vector` of C++ as its three pointers."""

    _fields_ = tuple((end, ctypes.c_void_p) for end in ("begin", "end", "room"))

    @classmethod
    def of(cls, items: ctypes.Array[Any]) -> "Vector":
        """One that holds an array, which has to be kept."""
        begin = ctypes.addressof(items)
        end = begin + ctypes.sizeof(items)
        return cls(begin, end, end)


def dry_sampler(cpp: Any, values: dict[str, Any]) -> Any:
    """llama.cpp's DRY with breakers as token ids, which its own tests make so."""
    tokens = [(ctypes.c_int32 * 1)(token) for token in values["breakers"]]
    heads = (Vector * len(tokens))(*map(Vector.of, tokens))
    make = cpp.llama_cpp._lib[DRY_FOR_TESTS]
    make.restype = cpp.llama_sampler_p_ctypes
    floats = (ctypes.c_float, ctypes.c_float)
    make.argtypes = (*floats, ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p)
    names = ("multiplier", "base", "allowed_length", "window")
    return make(*(values[name] for name in names), ctypes.byref(Vector.of(heads)))


def following_cases(name: str, logits: list[float]) -> list[dict[str, Any]]:
    """The cases of the rules of llama.cpp that follow their own choices."""
    cpp = importlib.import_module("llama_cpp")
    cases = []
    for values in FOLLOWING[name]:
        make = {
            "mirostat": lambda tau, eta: cpp.llama_sampler_init_mirostat_v2(
                1, tau, eta
            ),
            "adaptive_p": lambda target, decay: cpp.llama_sampler_init_adaptive_p(
                target, decay, 1
            ),
        }
        sampler = make[name](**values)
        chosen: list[int] = []
        for _ in range(FOLLOWED):
            left, selected = applied(cpp, sampler, logits)
            cases.append(case(name, values, [], left) | {"chosen": [*chosen]})
            cpp.llama_sampler_accept(sampler, selected)
            chosen.append(selected)
        cpp.llama_sampler_free(sampler)
    return cases


def applied(cpp: Any, sampler: Any, logits: list[float]) -> tuple[list[float], int]:
    """The logits that a sampler of llama.cpp leaves, and the token it selected."""
    # What was removed before is not in llama.cpp's list any more.
    there = [(i, x) for i, x in enumerate(logits) if x > -math.inf]
    data = (cpp.llama_token_data * len(there))(
        *(cpp.llama_token_data(id=i, logit=x, p=0.0) for i, x in there)
    )
    array = cpp.llama_token_data_array(
        data=data, size=len(there), selected=-1, sorted=False
    )
    cpp.llama_sampler_apply(sampler, ctypes.byref(array))
    left = [-math.inf] * SIZE
    for place in range(array.size):
        left[array.data[place].id] = array.data[place].logit
    return left, array.data[max(0, array.selected)].id


def llama_cases(name: str, logits: list[float]) -> list[dict[str, Any]]:
    """The cases of a rule of llama.cpp."""
    cpp = importlib.import_module("llama_cpp")
    init: dict[str, Callable[..., Any]] = {
        "temperature": lambda temperature: cpp.llama_sampler_init_temp(temperature),
        "top_k": lambda k: cpp.llama_sampler_init_top_k(k),
        "top_p": lambda p: cpp.llama_sampler_init_top_p(p, 1),
        "min_p": lambda p: cpp.llama_sampler_init_min_p(p, 1),
        "typical_p": lambda p: cpp.llama_sampler_init_typical(p, 1),
        "top_n_sigma": lambda n: cpp.llama_sampler_init_top_n_sigma(n),
        "xtc": lambda probability, threshold: cpp.llama_sampler_init_xtc(
            probability, threshold, 1, 1
        ),
        "dynamic_temperature": lambda temperature, range, exponent: (
            cpp.llama_sampler_init_temp_ext(temperature, range, exponent)
        ),
        "repetition_penalty": lambda penalty, window: cpp.llama_sampler_init_penalties(
            SIZE, window, penalty, 0.0, 0.0
        ),
        "presence_penalty": lambda penalty, window: cpp.llama_sampler_init_penalties(
            SIZE, window, 1.0, 0.0, penalty
        ),
        "frequency_penalty": lambda penalty, window: cpp.llama_sampler_init_penalties(
            SIZE, window, 1.0, penalty, 0.0
        ),
        "dry": lambda **values: dry_sampler(cpp, values),
        "logit_bias": lambda words: cpp.llama_sampler_init_logit_bias(
            SIZE,
            len(words),
            (cpp.llama_logit_bias * len(words))(
                *(cpp.llama_logit_bias(token=row[1], bias=row[0]) for row in words)
            ),
        ),
    }
    if name in FOLLOWING:
        return following_cases(name, logits)
    cases = []
    for values in FROM_LLAMA[name]:
        for seen in HISTORIES if name in HISTORY_RULES else [[]]:
            sampler = init[name](**values)
            for token in seen:
                cpp.llama_sampler_accept(sampler, token)
            left, _ = applied(cpp, sampler, logits)
            cpp.llama_sampler_free(sampler)
            cases.append(case(name, values, seen, left))
    return cases


def case(
    name: str,
    values: dict[str, Any],
    seen: list[int],
    left: list[float],
) -> dict[str, Any]:
    """A case as it is kept; where nothing was left, all probabilities are 0."""
    highest = max(left)
    weights = [math.exp(x - highest) if x > -math.inf else 0.0 for x in left]
    return {
        "rule": name,
        "values": values,
        "seen": seen,
        "probabilities": [float(f"{w / (sum(weights) or 1):.5g}") for w in weights],
    }


def main() -> None:
    """Put a peer's cases into the file."""
    peer = sys.argv[1]
    make = {"transformers": transformers_cases, "llama.cpp": llama_cases}[peer]
    names = [*(FROM_TRANSFORMERS if peer == "transformers" else FROM_LLAMA)]
    if peer == "transformers":
        names += WORDED
    package = peer.replace(".", "_")
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    kept[peer] = {
        "version": importlib.import_module(package).__version__,
        "cases": [
            one | {"title": title}
            for title, logits in all_logits().items()
            for name in names
            if name not in HISTORY_RULES or title in WITH_HISTORY
            for one in make(name, logits)
        ],
    }
    logits = {
        title: [None if x == -math.inf else x for x in row]
        for title, row in all_logits().items()
    }
    lines = [f'"logits": {json.dumps(logits)}']
    for name in ("llama.cpp", "transformers"):
        if name not in kept:
            continue
        cases = ",\n".join(json.dumps(each) for each in kept[name]["cases"])
        version = json.dumps(kept[name]["version"])
        lines.append(f'"{name}": {{"version": {version}, "cases": [\n{cases}\n]}}')
    FILE.write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main()
