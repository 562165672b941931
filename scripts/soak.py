"""Makes thousands of texts with random samplers, sizes and lengths in one process.

    python scripts/soak.py                 3,000 texts
    python scripts/soak.py --minutes 5
    python scripts/soak.py --prompts 300   typed into the program at a terminal

It fails if after the first 1,000 texts memory grows by more than 5 %, if threads or
open files become more, or if any text is not what was asked for.
"""

import argparse
import os
import random
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from minigpt_repl.engine.request import Finished, Generation, Request
from minigpt_repl.engine.worker import quiet
from minigpt_repl.paths import bundled_checkpoint
from minigpt_repl.sampling.parameters import Parameter, Value
from minigpt_repl.sampling.registry import SamplerSpec, all_samplers

if TYPE_CHECKING:
    from minigpt_repl.engine.engine import LocalEngine

GENERATIONS, SETTLING = 3000, 1000
"""Texts, and those after which memory must not grow any more."""

MOST_GROWTH = 0.05
MOST_ROWS = 64
"""Candidates of contrastive search; of the model's whole vocabulary a text takes
minutes and gigabytes."""

RESERVED = 3
"""Ids below this are never generated."""

KEPT = 20
"""Texts that a session at a terminal keeps."""

REPEATED = 20
"""Every so many texts one is made twice and must come out the same."""


@dataclass
class Figures:
    """What a run found."""

    generations: int = 0
    tokens: int = 0
    stopped: int = 0
    memory_at_start: int = 0
    memory_at_end: int = 0
    traces: int = 0
    held_at_start: tuple[int, int] = (0, 0)
    held_at_end: tuple[int, int] = (0, 0)

    @property
    def growth(self) -> float:
        """Of memory, from the first measure to the last, as a fraction."""
        if not self.memory_at_start:
            return 0.0
        return self.memory_at_end / self.memory_at_start - 1


class Soak:
    """Random texts on one engine.

    Args:
        engine: makes them.
        seed: of the settings that are drawn.
        settling: texts after which memory is first measured.
    """

    def __init__(self, engine: "LocalEngine", seed: int, settling: int = SETTLING):
        # Here, as the import of TensorFlow is to be quiet.
        from minigpt_repl.models.language_model import traces

        self._engine, self._traces = engine, traces
        self._random = random.Random(seed)
        self._settling = settling
        self._words = engine.info.text.pieces[RESERVED:]
        self._specs = [
            spec
            for spec in all_samplers()
            if engine.info.has_draft or not spec.needs_draft
        ]
        self._decks: dict[tuple[str, str], list[int]] = {}
        self.figures = Figures()

    def step(self) -> None:
        """One text, checked."""
        request = self._draw()
        is_stopped = self._random.random() < 0.1
        made = self._make(request, is_stopped)
        check(made, request, len(self._engine.info.text.pieces), is_stopped)
        if self.figures.generations % REPEATED == 0 and not is_stopped:
            again = self._make(replace(request, seed=made.seed))
            if again.token_ids != made.token_ids or again.text != made.text:
                raise AssertionError(f"not the same again: {request}")
        self.figures.generations += 1
        self.figures.tokens += len(made.tokens)
        self.figures.stopped += is_stopped
        self.figures.traces = self._traces.total()
        self.figures.memory_at_end = resident_bytes()
        self.figures.held_at_end = held()
        if self.figures.generations == self._settling:
            self.figures.memory_at_start = self.figures.memory_at_end
            self.figures.held_at_start = self.figures.held_at_end

    def _make(self, request: Request, is_stopped: bool = False) -> Generation:
        for number, event in enumerate(self._engine.generate(request)):
            if isinstance(event, Finished):
                return event.generation
            if is_stopped and number == 3:
                self._engine.stop()
        raise AssertionError(f"no end: {request}")

    def _draw(self) -> Request:
        spec = self._random.choice(self._specs)
        length = self._random.choice([1, 2, self._random.randint(3, 40), 150])
        count = self._random.choice([0, 1, 5, 30, 200])
        prompt = " ".join(self._random.choices(self._words, k=count))
        return Request(
            prompt=self._random.choice([prompt, prompt.title(), f"{prompt} 왕 \x07"]),
            sampler=spec.name,
            parameters=self._parameters(spec),
            length=length,
            seed=self._random.choice([None, self._random.randrange(2**31)]),
            stop=self._random.choice(["none", "sentence"]),
            with_scores=self._random.random() < 0.5,
            with_details=self._random.random() < 0.3,
        )

    def _parameters(self, spec: SamplerSpec) -> dict[str, Value]:
        limits = {"vocabulary": len(self._engine.info.text.pieces)}
        values = {
            p.name: self._size(spec, p, limits)
            if p.is_structural
            else self._value(p, limits)
            for p in spec.parameters
        }
        return spec.check(values, limits)

    def _size(
        self, spec: SamplerSpec, parameter: Parameter, limits: dict[str, int]
    ) -> int:
        """A value that needs a program of its own: each once before any comes again.

        So all have come before memory is first measured, and what it grows by then is
        no program.
        """
        deck = self._decks.setdefault((spec.name, parameter.name), [])
        if not deck:
            top = parameter.maximum
            top = int(limits[top] if isinstance(top, str) else top or 1)
            deck += range(int(parameter.minimum or 1), min(top, MOST_ROWS) + 1)
            self._random.shuffle(deck)
        return deck.pop()

    def _value(self, parameter: Parameter, limits: dict[str, int]) -> Value:
        if parameter.optional and self._random.random() < 0.5:
            return None
        low, high = parameter.minimum or 0, parameter.maximum
        top = limits[high] if isinstance(high, str) else high or 2.0
        if parameter.kind is int:
            return self._random.randint(int(low), int(top))
        least = low + 1e-3 if parameter.exclusive_minimum else low
        drawn = self._random.uniform(least, min(top, 2.0))
        return float(self._random.choice([least, top, drawn]))


def check(made: Generation, request: Request, words: int, is_stopped: bool) -> None:
    """Raise AssertionError unless a text is what was asked for."""
    ids = made.token_ids
    wrong = [
        len(ids) > request.length and "too long",
        any(not RESERVED <= token_id < words for token_id in ids) and "an id",
        made.stop_reason == "length" and len(ids) != request.length and "too short",
        made.stop_reason == "interrupted" and not is_stopped and "stopped",
        made.stop_reason == "stop" and request.stop == "none" and "a stop",
        not made.text.isprintable() and "its text",
        request.with_scores and not all(t.score for t in made.tokens) and "a score",
        bool(ids) != bool(made.text) and "no text",
    ]
    if any(wrong):
        raise AssertionError(f"{next(filter(None, wrong))}: {request}: {made}")


def resident_bytes(process: int | str = "self") -> int:
    """Memory of a process that is in use now (Linux; elsewhere the peak of ours)."""
    statm = Path(f"/proc/{process}/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def held(process: int | str = "self") -> tuple[int, int]:
    """Threads and open files of a process (Linux; elsewhere none are seen)."""
    tasks, files = Path(f"/proc/{process}/task"), Path(f"/proc/{process}/fd")
    if not tasks.exists():
        return 0, 0
    return len([*tasks.iterdir()]), len([*files.iterdir()])


def type_prompts(count: int, checkpoint: Path, seed: int) -> int:
    """Type prompts into the program at a terminal; returns the exit code.

    A session keeps its texts, so an empty one is loaded again and again.
    """
    import pexpect

    drawn, samplers = random.Random(seed), [spec.name for spec in all_samplers()]
    command = f"{sys.executable} -m minigpt_repl --no-history --checkpoint {checkpoint}"
    # It does not answer where the cursor is, for which a second would be waited.
    environment = os.environ | {"PROMPT_TOOLKIT_NO_CPR": "1"}
    began, figures = time.monotonic(), Figures()
    # At one moment or another a thread or a file is in use for a moment.
    early: list[tuple[int, int]] = []
    late: list[tuple[int, int]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        pexpect.spawn(command, env=environment, timeout=180) as terminal,
    ):
        empty = Path(folder) / "empty.json"
        terminal.expect_exact("> ")
        terminal.send(f":save {empty}\r")
        for number in range(1, count + 1):
            sampler = drawn.choice(samplers)
            for line in (
                *([f":load {empty}"] if number % KEPT == 0 else []),
                f":sampler {sampler}",
                f":set length {drawn.randint(1, 60)}",
                " ".join(drawn.choices(("the", "king", "said", "한국", "(", "o"), k=9)),
            ):
                terminal.expect_exact("> ")
                terminal.send(f"{line}\r")
            terminal.expect_exact("tokens/s")
            is_early = number <= max(1, count // 3)
            (early if is_early else late).append(held(terminal.pid))
            figures.generations = number
            figures.memory_at_end = resident_bytes(terminal.pid)
            if is_early:
                figures.memory_at_start = figures.memory_at_end
            figures.held_at_start, figures.held_at_end = least(early), least(late)
            if number % 50 == 0:
                tell(figures, time.monotonic() - began)
        terminal.expect_exact("> ")
        terminal.send(":quit\r")
        terminal.expect(pexpect.EOF)
    tell(figures, time.monotonic() - began)
    return judge(figures)


def least(seen: list[tuple[int, int]]) -> tuple[int, int]:
    """The fewest threads and the fewest files of those that were seen."""
    return min((threads for threads, _ in seen), default=0), min(
        (files for _, files in seen), default=0
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--generations", type=int, default=None)
    parser.add_argument("--settling", type=int, default=SETTLING)
    parser.add_argument("--prompts", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, default=bundled_checkpoint())
    options = parser.parse_args()
    if options.prompts:
        return type_prompts(options.prompts, options.checkpoint, options.seed)
    most = options.generations or (GENERATIONS if options.minutes is None else None)
    with quiet():
        from minigpt_repl.engine.worker import load_engine

        soak = Soak(load_engine(options.checkpoint), options.seed, options.settling)
        began = time.monotonic()
        figures = soak.figures
        while most is None or figures.generations < most:
            seconds = time.monotonic() - began
            if options.minutes is not None and seconds > 60 * options.minutes:
                break
            soak.step()
            if figures.generations % 500 == 0:
                tell(figures, seconds)
    tell(figures, time.monotonic() - began)
    return judge(figures)


def judge(figures: Figures) -> int:
    """Tell whether more is held than before; returns the exit code."""
    if not figures.memory_at_start:
        print("too few texts to judge what is held")
        return 0
    if figures.growth > MOST_GROWTH:
        print(f"FAILED: memory grew by {figures.growth:.1%}, {MOST_GROWTH:.0%} allowed")
    before, after = figures.held_at_start, figures.held_at_end
    is_more = any(now > then for then, now in zip(before, after, strict=True))
    if is_more:
        print(f"FAILED: threads and files were {before}, and are {after}")
    return int(figures.growth > MOST_GROWTH or is_more)


def tell(figures: Figures, seconds: float) -> None:
    print(
        f"{figures.generations} texts, {figures.tokens} tokens, {figures.stopped} "
        f"stopped, {figures.tokens / max(seconds, 1e-9):.0f} tokens/s, "
        f"{figures.memory_at_end / 2**20:.0f} MiB ({figures.growth:+.1%}), "
        f"{figures.traces} traces, {figures.held_at_end[0]} threads, "
        f"{figures.held_at_end[1]} files",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
