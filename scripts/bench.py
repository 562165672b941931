#!/usr/bin/env python3
"""How fast the engine decodes, beside the ways there were before.

    scripts/bench.py
    scripts/bench.py --quick --sampler greedy --json bench.json
    scripts/bench.py --peers

In one run, on one checkpoint: the reference example's own loop (the whole model on
all positions for every token), KerasHub's `generate()` compiled, and this engine,
streamed; then the samplers that can with 8, 32 and 64 rows, the tokens of all rows
counted. Tokens per second are medians; the contenders take turns, so that whatever
else the machine does slows all. With --peers also Hugging Face transformers and
llama.cpp, where they are installed: `pip install -e .[bench]`.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click
from bench_contenders import (
    compiled_generate,
    example_loop,
    request,
    streamed,
)
from bench_peers import Timed, find_peers

from minigpt_repl.engine.request import Request
from minigpt_repl.engine.worker import quiet
from minigpt_repl.sampling.registry import SamplerSpec, find_sampler, read_sampler

ROOT = Path(__file__).resolve().parent.parent
CONTENDERS: dict[str, Mapping[str, Any]] = {
    "greedy": {},
    "random": {},
    "top_k": {"k": 10},
    "top_p": {"p": 0.5},
    "beam": {"num_beams": 10},
    "contrastive": {"k": 5},
}
FLOORS: dict[str, tuple[float, float | None, float | None]] = {
    "greedy": (120, 3, 0.6),
    "random": (100, 3, 0.5),
    "top_k": (100, 3, 0.5),
    "top_p": (80, 3, 0.7),
    "beam": (45, 1.8, None),
    "contrastive": (45, None, None),
}
"""Streamed, against the example's loop, transformers and llama.cpp."""

CHAIN = (
    "repetition_penalty=1.1 + typical_p=0.95 + top_k=50 + min_p=0.05 + temperature=0.8"
)
CHAIN_FLOOR = 0.8
"""Of five rules, against top_k alone."""

ROWS = (8, 32, 64)
"""Texts made together. 64 of top_k: at least 3 times one, 1.2 times transformers'."""


@click.command()
@click.option("--checkpoint", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--sampler", "names", multiple=True, type=click.Choice([*CONTENDERS, "chain"])
)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--quick", is_flag=True, help="Two rounds, fewer of the slow tokens.")
@click.option(
    "--peers",
    is_flag=True,
    help="Also transformers and llama.cpp, where installed: extra `bench`.",
)
@click.option("--json", "out", type=click.Path(path_type=Path), metavar="FILE")
def bench(
    checkpoint: Path | None,
    names: tuple[str, ...],
    rounds: int,
    quick: bool,
    peers: bool,
    out: Path | None,
) -> None:
    """Measure tokens per second, time to the first token, and memory."""
    checkpoint = checkpoint or ROOT / "checkpoints" / "default"
    rounds = 2 if quick else rounds
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    with quiet():
        from minigpt_repl.engine.worker import load_engine
        from minigpt_repl.models.checkpoint import load_checkpoint

        engine = load_engine(checkpoint)
        causal_lm = load_checkpoint(checkpoint).causal_lm
    others = find_peers(causal_lm) if peers else {}
    before = processor_times()
    results: dict[str, Any] = {
        "machine": describe_machine(),
        "checkpoint": engine.info.checkpoint_sha256,
        "parameters": engine.info.parameter_count,
        "peers": {name: peer.description for name, peer in others.items()},
        "samplers": {},
    }
    for name in [n for n in CONTENDERS if not names or n in names]:
        spec = find_sampler(name)
        values = spec.check(CONTENDERS[name])
        clock = time.perf_counter()
        engine.warm(Request("", name, values))
        first_use_s = time.perf_counter() - clock
        contenders: dict[str, Timed] = {
            "example": example_loop(causal_lm, spec, values, 4 if quick else 16),
            "generate": compiled_generate(causal_lm, spec, values),
            "streamed": streamed(engine, spec, values),
        }
        for other, peer in others.items():
            if name in peer.samplers:
                contenders[other] = peer.timed(name)
        # Where no chance is involved a text is made once, however many are asked for.
        for rows in ROWS if spec.is_random else ():
            engine.warm(Request("", name, values), rows)
            contenders[f"{rows} rows"] = streamed(engine, spec, values, rows)
            if "transformers" in others:
                peer = others["transformers"]
                contenders[f"transformers, {rows} rows"] = peer.timed(name, rows)
        found = measure(contenders, rounds)
        found["first_use_s"] = first_use_s
        found["first_token_ms"] = 1000 * first_token_s(engine, spec, values, rounds)
        results["samplers"][name] = found
        click.echo(row(name, found))
    if not names or "chain" in names:
        results["chain"] = chained(engine, rounds)
        click.echo(chain_row(results["chain"]))
    results["memory_mb"] = memory()
    click.echo(memory_line(results["memory_mb"]))
    stolen, passed = (
        now - then for now, then in zip(processor_times(), before, strict=True)
    )
    results["machine"]["stolen"] = stolen / passed if passed else None
    if passed:
        click.echo(f"processor: {stolen / passed:.0%} taken by other machines")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def chained(engine: Any, rounds: int) -> dict[str, float]:
    """A chain of five rules and top_k alone, streamed."""
    spec, typed = read_sampler(CHAIN)
    values = {name: spec.parameter(name).parse(text) for name, text in typed.items()}
    top_k = find_sampler("top_k")
    return measure(
        {
            "chain": streamed(engine, spec, spec.check(values)),
            "top_k": streamed(engine, top_k, top_k.check(CONTENDERS["top_k"])),
        },
        rounds,
    )


def measure(contenders: Mapping[str, Timed], rounds: int) -> dict[str, float]:
    """Medians of tokens per second; one run of each to warm up is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, timed in contenders.items():
            # The example's loop compiles nothing: it needs no run to warm up.
            if number == 0 and name == "example":
                continue
            rate = timed()
            if number:
                rates[name].append(rate)
    return {name: statistics.median(found) for name, found in rates.items()}


def first_token_s(
    engine: Any, spec: SamplerSpec, values: Mapping[str, Any], rounds: int
) -> float:
    """Median seconds from the request to the first token, or first hypothesis."""
    found = []
    for _ in range(rounds):
        made = list(engine.generate(request(spec, values, 1)))[-1].generation
        found.append(made.timings.first_token_s)
    return statistics.median(found)


def describe_machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def processor_times() -> tuple[int, int]:
    """Ticks that a virtual machine's host gave to others, and all; 0 where unknown."""
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return 0, 0
    ticks = [int(number) for number in line.split()[1:9]]
    return ticks[7], sum(ticks)


def memory() -> dict[str, float]:
    """Resident megabytes: a bare `import keras_hub`, and an engine that is warm."""
    engine = (
        "from minigpt_repl.engine.worker import load_engine\n"
        f"engine = load_engine({str(ROOT / 'checkpoints' / 'default')!r})\n"
        "from minigpt_repl.engine.request import Request\n"
        "from minigpt_repl.sampling.registry import find_sampler\n"
        "for name in ('greedy', 'top_k'):\n"
        "    engine.warm(Request('', name, find_sampler(name).defaults()))\n"
    )
    return {
        "import": resident_mb("import keras_hub\n"),
        "engine": resident_mb(engine),
    }


def resident_mb(script: str) -> float:
    """Resident memory of a Python process that has run a script."""
    script += (
        "lines = open('/proc/self/status').read().splitlines()\n"
        "print(next(l.split()[1] for l in lines if l.startswith('VmRSS')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        check=True,
        cwd=ROOT,
        text=True,
    )
    return int(done.stdout.split()[-1]) / 1024


def row(name: str, found: Mapping[str, float]) -> str:
    """One sampler's line: rates, and ratios against the floors."""
    example, streamed = found["example"], found["streamed"]
    floor, peer_floor, llama_floor = FLOORS[name]
    parts = [
        f"{name:<12} example {example:6.1f}",
        f"generate() {found['generate']:7.1f}",
        f"streamed {streamed:7.1f} tokens/s",
        f"{streamed / example:5.1f}x the example (floor {floor}x)",
        f"first {found['first_token_ms']:.1f} ms",
        f"first use {found['first_use_s']:.1f} s",
    ]
    if transformers := found.get("transformers"):
        parts.append(
            f"{streamed / transformers:.1f}x transformers' {transformers:.1f} "
            f"(floor {peer_floor}x)"
        )
    if llama_cpp := found.get("llama.cpp"):
        parts.append(
            f"{streamed / llama_cpp:.2f}x llama.cpp's {llama_cpp:.0f} "
            f"(floor {llama_floor}x)"
        )
    for rows in ROWS if f"{ROWS[0]} rows" in found else ():
        rate = found[f"{rows} rows"]
        parts.append(f"{rows} rows {rate:.0f}, {rate / streamed:.1f}x one")
        if theirs := found.get(f"transformers, {rows} rows"):
            parts[-1] += f", {rate / theirs:.1f}x transformers' {theirs:.0f}"
    return "; ".join(parts)


def chain_row(found: Mapping[str, float]) -> str:
    """The chain's line."""
    chain, top_k = found["chain"], found["top_k"]
    return (
        f"{CHAIN}: {chain:.0f} tokens/s, {chain / top_k:.2f}x top_k's {top_k:.0f} "
        f"(floor {CHAIN_FLOOR}x)"
    )


def memory_line(found: Mapping[str, float]) -> str:
    """Memory in one line."""
    more = found["engine"] - found["import"]
    return (
        f"memory: import keras_hub {found['import']:.0f} MB, engine "
        f"{found['engine']:.0f} MB: {more:.0f} MB more (at most 250)"
    )


if __name__ == "__main__":
    bench()
