"""Types random lines into one session, with a real model, and watches it.

    python scripts/fuzz.py                20,000 lines
    python scripts/fuzz.py --lines 500 --seed 3

Every line ends in an error of ours or in none; whatever is shown has no control that
a terminal obeys; the session stays whole. A line makes one text at most, and a short
one; `:source`, `:quit` and `:step` are left out. It reports what it counted.
"""

import argparse
import io
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from minigpt_repl.engine.request import Engine, EngineInfo, Request, RowEvents
from minigpt_repl.engine.worker import quiet
from minigpt_repl.errors import CheckpointError, EngineError, MiniGPTError
from minigpt_repl.paths import bundled_checkpoint
from minigpt_repl.repl import commands  # noqa: F401 - fills the table of commands
from minigpt_repl.repl.context import Context, Session
from minigpt_repl.repl.dispatch import all_commands, perform, run_line, whole_input
from minigpt_repl.repl.output import Ask, AskEditor, Output, SwitchModel
from minigpt_repl.repl.screen import Screen
from minigpt_repl.sampling.registry import all_samplers
from minigpt_repl.settings import SESSION_PARAMETERS, Settings
from minigpt_repl.shown import shown

LEFT_OUT = ("source", "quit", "step", "tour")
MOST_TOKENS, MOST_NODES = 8, 200
LONGEST_ERROR = 2000


class BriefEngine(Engine):
    """Makes one short text for each line, then no more."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.texts, self.is_spent = 0, False
        for name in ("encode", "logits", "warm", "prepare", "stop", "close"):
            setattr(self, name, getattr(engine, name))

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    def generate_rows(self, requests: Sequence[Request]) -> RowEvents:
        if self.is_spent or len(requests) > 1:
            raise EngineError("one text a line")
        self.is_spent, self.texts = True, self.texts + 1
        brief = [replace(r, length=min(r.length, MOST_TOKENS)) for r in requests]
        yield from self._engine.generate_rows(brief)


class Fuzz:
    """Lines drawn at random, carried out one after the other."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self._random = random.Random(seed)
        self._engine = BriefEngine(engine)
        self._limits = {"vocabulary": engine.info.vocabulary_size}
        self._session = Session(Settings(limits=self._limits))
        self.counts: Counter[str] = Counter()
        self._open = ""  # the lines of a block that is not closed yet
        self._names = [c.name for c in all_commands() if c.name not in LEFT_OUT]
        parameters = [n for spec in all_samplers() for n in spec.parameter_names]
        samplers = [spec.name for spec in all_samplers()]
        settings = [parameter.name for parameter in SESSION_PARAMETERS]
        self._words = [*self._names, *parameters, *samplers, *settings, "--", "on"]
        self._words += ["a.json", "b.md", "c.html", "off", "none", "..", "the king"]

    def step(self) -> None:
        """One line, and what must hold after it."""
        is_end = bool(self._open) and self._random.random() < 0.5
        line = ":}" if is_end else self._line()
        self._engine.is_spent = False
        whole = whole_input(self._open + line)
        if whole is None:
            self._open += f"{line}\n"
            self.counts["lines of blocks"] += 1
            return
        self._open = ""
        out, err = io.StringIO(), io.StringIO()
        is_terminal = self._random.random() < 0.5
        context = Context(self._session, self._engine, 80, is_terminal)
        try:
            carry_out = partial(
                self._carry_out, Screen(out, err, get_terminal_size, False)
            )
            self._session = perform(run_line(whole, context), carry_out)
            self.counts["carried out"] += 1
        except MiniGPTError as error:
            self.counts["refused"] += 1
            assert str(error) and len(str(error)) < LONGEST_ERROR, line
            assert "\n" not in str(error), line
        said = out.getvalue() + err.getvalue()
        assert said == shown(said), (line, said)
        self.counts["texts"] = self._engine.texts
        self._check(line)

    def _carry_out(self, screen: Screen, output: Output) -> object:
        if isinstance(output, Ask | AskEditor):
            return None
        if isinstance(output, SwitchModel):
            raise CheckpointError("there is no other")
        screen.show(output)
        return None

    def _check(self, line: str) -> None:
        settings, nodes = self._session.settings, self._session.nodes
        for key in settings.names():
            if key != "sampler":
                value = settings.value(key)
                assert settings.parameter(key).check(value, settings.limits) == value
        ids = {node.id for node in nodes}
        assert len(ids) == len(nodes), line
        assert all(node.parent is None or node.parent in ids for node in nodes), line
        if len(nodes) > MOST_NODES:
            self._session = Session(settings)

    def _line(self) -> str:
        draw = self._random
        kind = draw.random()
        if kind < 0.15:
            return " ".join(draw.choices(("the", "king", "Said", "é", "?", "왕"), k=5))
        if kind < 0.25:
            return "".join(map(chr, draw.choices(range(0x250), k=draw.randint(0, 30))))
        if kind < 0.28:
            return draw.choice([":{", ":}", ":", "::", "\\:", " :set k 3", ""])
        words = [self._word() for _ in range(draw.randint(0, 4))]
        line = f":{draw.choice(self._names)} {' '.join(words)}".rstrip()
        if kind < 0.4:
            place = draw.randint(0, len(line))
            line = line[:place] + chr(draw.randrange(0x3000)) + line[place + 1 :]
        name = line[1:].split(" ")[0]
        # What is cut or changed may be short for one that is left out.
        is_left_out = any(each.startswith(name or " ") for each in LEFT_OUT)
        return "" if is_left_out or name == "q" else line

    def _word(self) -> str:
        draw = self._random
        number = draw.choice([draw.randint(-2, 40), draw.uniform(-1, 3), 10**30])
        pair = f"{draw.choice(self._words)}{draw.choice('= ')}{number}"
        spec = f"{draw.choice(self._words)}:{pair}"
        return draw.choice([draw.choice(self._words), str(number), pair, spec])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, default=bundled_checkpoint())
    options = parser.parse_args()
    options.checkpoint = options.checkpoint.absolute()
    began = time.monotonic()
    with quiet():
        from minigpt_repl.engine.worker import load_engine

        engine: Any = load_engine(options.checkpoint)
        fuzz = Fuzz(engine, options.seed)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)  # files that a line happens to name
            for number in range(1, options.lines + 1):
                fuzz.step()
                if number % 1000 == 0 or number == options.lines:
                    tell(number, fuzz.counts, time.monotonic() - began)
            os.chdir("/")
    return 0


def tell(lines: int, counts: Mapping[str, int], seconds: float) -> None:
    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    print(f"{lines} lines in {seconds:.0f} s: {told}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
