#!/usr/bin/env python3
"""Runs the blocks of a clone's README as they are printed, each as a reader would.

    scripts/readme_blocks.py CLONE

What would take long is shortened, by `SHORTER`. Blocks run side by side, those of `sh`
with the clone as the current folder, after the first, which installs. A command that
fails ends with 1 and is shown with what it said.
"""

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SHORTER = (
    ("scripts/test  ", ": scripts/test"),  # it is what CI runs beside this
    ("--minutes 10", "--minutes 0.03 --layers 1 --width 32"),
)
NOVEL = "The king saw the queen. The queen saw the dog, and the dog ran home.\n\n" * 150


def blocks(readme: str) -> list[tuple[str, str]]:
    """Language and text of the blocks that can be run."""
    found = re.findall(r"^```(sh|python)\n(.*?)^```$", readme, re.M | re.S)
    for long, short in SHORTER:
        found = [(kind, text.replace(long, short)) for kind, text in found]
    return found


def run(clone: Path, home: Path, kind: str, text: str) -> str:
    """Run a block; returns what is wrong, or nothing."""
    python = str(clone / ".venv" / "bin" / "python")
    command = ["bash", "-euo", "pipefail", "-c", text]
    done = subprocess.run(
        command if kind == "sh" else [python, "-c", text],
        cwd=clone,
        env={"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "TERM": "dumb"}
        | {name: os.environ[name] for name in os.environ if "PIP_" in name},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    is_wrong = done.returncode or "Traceback" in done.stderr
    return (
        f"--- exit code {done.returncode} of\n{text}{done.stderr}" if is_wrong else ""
    )


def main(clone: Path) -> int:
    """Run all blocks; returns the exit code."""
    (first, *others) = blocks((clone / "README.md").read_text(encoding="utf-8"))
    (clone / "some-novel.txt").write_text(NOVEL, encoding="utf-8")
    with tempfile.TemporaryDirectory() as home, ThreadPoolExecutor(2) as pool:
        wrong = [run(clone, Path(home), *first)]
        wrong += pool.map(lambda each: run(clone, Path(home), *each), others)
    print("\n".join(filter(None, wrong)) or f"README: {len(wrong)} blocks ran")
    return int(any(wrong))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
