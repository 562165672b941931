"""Builds hostile files, runs the programs on them, and prints what happens.

    python scripts/hostile.py [WORDS OF A ROW]

A line for each row: what was tried, exit code, seconds, peak memory, the last line
that was said. A row fails if the code is not the one that is due, if it takes too
long or too much memory, if more than a line is said, or if a control reaches a
terminal. tests/faults/test_hostile.py runs the rows that need no model.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hostile_run import INTERRUPT, STEERS, Try, faults, run

from minigpt_repl.models.record import RECORD_FILE, VOCABULARY_FILE, hash_files
from minigpt_repl.paths import bundled_checkpoint

FIXTURES = Path(__file__).resolve().parent.parent / "tests/fixtures/0.1.0"
CONTROLS = "\x1b]52;c;aGk=\x07\x1b[2J\x9b2J\u202e\u2066\x7f\x08"


@dataclass
class Row:
    tried: str
    build: Callable[[Path], Try]
    needs_model: bool = False


ROWS: list[Row] = []


def row(tried: str, needs_model: bool = False) -> Callable[..., Callable[..., Try]]:
    def enter(build: Callable[[Path], Try]) -> Callable[[Path], Try]:
        ROWS.append(Row(tried, build, needs_model))
        return build

    return enter


def checkpoint(place: Path) -> Path:
    """A copy of the bundled checkpoint, to be changed."""
    return Path(shutil.copytree(bundled_checkpoint(), place / "model"))


def sign(directory: Path, **claims: object) -> list[str]:
    """Make the record agree with the files, as a forger would; the arguments."""
    path = directory / RECORD_FILE
    content = json.loads(path.read_text()) | claims
    path.write_text(json.dumps(content | {"files": hash_files(directory)}))
    return ["--checkpoint", str(directory)]


def configure(directory: Path, *names: str, **values: object) -> None:
    """Change the backbone's configuration in files."""
    for name in names:
        content = json.loads((directory / name).read_text())
        content["config"].get("backbone", content)["config"].update(values)
        (directory / name).write_text(json.dumps(content))


def claiming(place: Path, record: str, **sizes: object) -> Try:
    model = checkpoint(place)
    configure(model, "config.json", "task.json", **sizes)
    claims = {record: next(iter(sizes.values()))} if record else {}
    return Try([*sign(model, **claims), "-p", "the"], seconds=2, says="minigpt-setup")


def hostile_vocabulary(place: Path) -> list[str]:
    model = checkpoint(place)
    for folder in (model, model / "draft"):
        path = folder / VOCABULARY_FILE
        words = path.read_text().split("\n")
        words[3:-1] = [f"{word}{CONTROLS}" for word in words[3:-1]]
        path.write_text("\n".join(words))
    return sign(model)


@row("controls in the vocabulary: text, :why, :raw, :compare in a pipe", True)
def _(place: Path) -> Try:
    lines = ":set length 8\nthe king\n:why\n:raw\n:heat\n:diff\n:next\n:beams -- a\n"
    lines += ":compare greedy random -- the\n:tree\n"
    return Try(hostile_vocabulary(place), lines.encode(), 0)


@row("the same, --json", True)
def _(place: Path) -> Try:
    model = hostile_vocabulary(place)
    return Try([*model, "-p", "the king", "--length", "8", "--jsonl"], code=0)


@row("the same, compare to .html and .md", True)
def _(place: Path) -> Try:
    files = [place / "a.html", place / "a.md"]
    wanted = ["-p", "the", "greedy", "random", "--length", "8"]
    written = ["--html", str(files[0]), "--markdown", str(files[1])]
    model = hostile_vocabulary(place)
    return Try([*model, "compare", *wanted, *written], code=0, files=files)


@row("the same, in the REPL on a terminal", True)
def _(place: Path) -> Try:
    lines = [":set length 8", "the king", ":why", ":compare greedy random -- the"]
    return Try(hostile_vocabulary(place), code=0, keys=[*lines, ":quit"])


def exported(place: Path, **changes: object) -> list[str]:
    content = json.loads((FIXTURES / "comparison.json").read_text())
    path = place / "export.json"
    path.write_text(json.dumps(content | changes))
    return ["replay", str(path)]


for name, value in {
    "seed": CONTROLS * 100_000,
    "stop": CONTROLS,
    "varied": 3,
    "checkpoint_sha256": CONTROLS,
    "versions": {"keras": [CONTROLS]},
    "prompt_ids": [CONTROLS],
    CONTROLS: 1,
}.items():

    @row(f"replay: junk in {name!r}")
    def _(place: Path, name: str = name, value: object = value) -> Try:
        return Try(exported(place, **{name: value}), says="is damaged")


for key in ("class_name", "module", "registered_name"):

    @row(f"a configuration's {key}")
    def _(place: Path, key: str = key) -> Try:
        model = checkpoint(place)
        path = model / "config.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {key: CONTROLS * 10_000}))
        return Try([*sign(model), "-p", "the"])


@row("a configuration's activation")
def _(place: Path) -> Try:
    model = checkpoint(place)
    configure(model, "config.json", "task.json", activation=CONTROLS * 10_000)
    return Try([*sign(model), "-p", "the"])


@row("a file name in the record")
def _(place: Path) -> Try:
    model = checkpoint(place)
    path = model / RECORD_FILE
    content = json.loads(path.read_text())
    content["files"][CONTROLS] = "0" * 64
    path.write_text(json.dumps(content))
    return Try(["--checkpoint", str(model), "-p", "the"], says="names a file")


@row("a FIFO among the checkpoint's configurations")
def _(place: Path) -> Try:
    model = checkpoint(place)
    os.mkfifo(model / "extra.json")
    return Try([*sign(model), "-p", "the"], seconds=3)


for name, arguments in {
    "--script": ["--script"],
    "--config": ["-p", "the", "--config"],
    "replay": ["replay"],
}.items():

    @row(f"{name} of a link to /dev/zero")
    def _(place: Path, arguments: list[str] = arguments) -> Try:
        (place / "zero.json").symlink_to("/dev/zero")
        return Try([*arguments, str(place / "zero.json")], seconds=3)

    @row(f"{name} of a FIFO")
    def _(place: Path, arguments: list[str] = arguments) -> Try:
        os.mkfifo(place / "pipe.json")
        return Try([*arguments, str(place / "pipe.json")], seconds=3)


for flags in ([], ["-p", "-"]):

    @row(f"an endless line on standard input {' '.join(flags)}".rstrip())
    def _(place: Path, flags: list[str] = flags) -> Try:
        return Try(flags, None, seconds=4, megabytes=500, says="longer than 4 MB")


@row("vocabulary_size 3,000,000")
def _(place: Path) -> Try:
    return claiming(place, "embedding_rows", vocabulary_size=3_000_000)


@row("num_layers 1,000,000")
def _(place: Path) -> Try:
    return claiming(place, "", num_layers=10**6)


@row("num_layers 900, and the record says as much")
def _(place: Path) -> Try:
    return claiming(place, "", num_layers=900)


@row("a context of 1,000,000,000")
def _(place: Path) -> Try:
    return claiming(place, "context_length", max_sequence_length=10**9)


@row("the same, --no-verify")
def _(place: Path) -> Try:
    tried = claiming(place, "context_length", max_sequence_length=10**9)
    tried.arguments.append("--no-verify")
    return tried


@row("config.json and task.json differ")
def _(place: Path) -> Try:
    model = checkpoint(place)
    configure(model, "task.json", activation="gelu")
    return Try([*sign(model), "-p", "the"], seconds=2, says="task.json that it is")


for value in ("nan", "inf", "1e38"):

    @row(f"weights that are {value}")
    def _(place: Path, value: str = value) -> Try:
        import h5py

        model = checkpoint(place)
        with h5py.File(model / "model.weights.h5", "r+") as file:
            file["layers/layer_normalization/vars/0"][...] = float(value)
        return Try([*sign(model), "-p", "the"], seconds=3, says="not finite")


@row("finite weights whose products are not", True)
def _(place: Path) -> Try:
    import h5py

    model, block = checkpoint(place), "layers/rotary_decoder"
    with h5py.File(model / "model.weights.h5", "r+") as file:
        file[f"{block}/_feedforward_layer_norm/vars/0"][...] = 1e18
        file[f"{block}/_feedforward_intermediate_dense/vars/0"][...] = 1e16
        file[f"{block}/_feedforward_output_dense/vars/0"][...] = 1e10
    arguments = [*sign(model), "-p", "the", "--length", "5"]
    return Try(arguments, code=0, says="not finite")


@row("200 MB of zeros as config.json")
def _(place: Path) -> Try:
    model = checkpoint(place)
    with (model / "config.json").open("wb") as file:
        file.truncate(200_000_000)
    arguments = [*sign(model), "-p", "the"]
    return Try(arguments, seconds=3, megabytes=500, says="larger than")


@row("200 MB of zeros as --config")
def _(place: Path) -> Try:
    with (place / "config.toml").open("wb") as file:
        file.truncate(200_000_000)
    arguments = ["--config", str(place / "config.toml"), "-p", "the"]
    return Try(arguments, seconds=2, megabytes=200, says="larger than")


for delay in (0.05, 0.1, 0.2):

    @row(f"^C {delay} s after the start")
    def _(place: Path, delay: float = delay) -> Try:
        return Try(["-p", "the"], code=130, seconds=2, interrupt_s=delay)


@row(":step in a script, then a command", True)
def _(place: Path) -> Try:
    lines = ":set length 3\n:step the king\n\n:set k 3\nthe boy\n"
    return Try([], lines.encode(), code=0, says="k: 10 -> 3")


@row(":step in a script, then a line that is no answer", True)
def _(place: Path) -> Try:
    lines = b":step the king\n\nthe boy\n"
    return Try([], lines, says="stdin:3: 'the boy' is no answer")


@row("a history that can't be written, two lines at a terminal", True)
def _(place: Path) -> Try:
    (place / "state" / "minigpt-repl" / "history").mkdir(parents=True)
    lines = [":set k 3", ":set k 4", ":quit"]
    return Try([], code=0, keys=lines, says="lines are not kept")


@row("a history that is a link to /dev/zero, at a terminal", True)
def _(place: Path) -> Try:
    (place / "state" / "minigpt-repl").mkdir(parents=True)
    (place / "state" / "minigpt-repl" / "history").symlink_to("/dev/zero")
    return Try([], code=0, keys=[":set k 3", ":quit"], says="lines are not kept")


@row("a history of controls, at a terminal", True)
def _(place: Path) -> Try:
    (place / "state" / "minigpt-repl").mkdir(parents=True)
    history = f"\n# 2026\n+:set k {CONTROLS}\n"
    (place / "state" / "minigpt-repl" / "history").write_text(history)
    return Try([], code=0, keys=[":set k", "\x1b[A", ":quit"])


@row("a config file of controls")
def _(place: Path) -> Try:
    wrong = '"\\u001b]52;c;aGk=\\u0007" = 1\nsampler = "\\u009b2J\\u202e"\n'
    wrong += '["\\u001b[2J"]\nk = 3\n[top_k]\nk = "\\u001b[2J"\n'
    (place / "config.toml").write_text(wrong)
    return Try(["--config", str(place / "config.toml")], b":quit\n", code=0, says="x1b")


@row("a relative HOME")
def _(place: Path) -> Try:
    return Try(["--print-config"], code=0, environment={"HOME": "here"})


@row("an unusable TMPDIR", True)
def _(place: Path) -> Try:
    arguments = ["-p", "the", "--length", "3"]
    return Try(arguments, code=0, environment={"TMPDIR": "/nonexistent"})


for searching in ("beam num_beams=64", "contrastive k=64", "speculative"):

    @row(f"^C in the middle of {searching}, at a terminal", True)
    def _(place: Path, searching: str = searching) -> Try:
        keys = ["the", f":sampler {searching}", ":set length 120", "the king"]
        return Try([], code=0, keys=[*keys, INTERRUPT, ":quit"], says="stopped")


@row(":load of a session of another checkpoint, then every look at it", True)
def _(place: Path) -> Try:
    shutil.copy(FIXTURES / "session.json", place)
    looks = [":tree", ":why", ":raw", ":heat", ":next", ":again", ":continue", ":diff"]
    exports = [f":export --session a{suffix}" for suffix in (".md", ".html", ".json")]
    lines = [":load session.json", ":set length 3", *looks, *exports]
    return Try(["--keep-going"], "\n".join(lines).encode(), says="another")


for out, why in {"/proc/1/x": "can't", "/dev/null/x": "can't"}.items():

    @row(f"setup --out {out}")
    def _(place: Path, out: str = out, why: str = why) -> Try:
        (place / "text.txt").write_text("the king and the queen. " * 1000)
        arguments = ["--corpus", str(place / "text.txt"), "--out", out]
        return Try(arguments, is_setup=True, seconds=10, says=why)


@row("setup --overwrite --out of a folder with a file of one's own")
def _(place: Path) -> Try:
    (place / "text.txt").write_text("the king and the queen. " * 1000)
    (place / "mine").mkdir()
    (place / "mine" / "thesis.txt").write_text("x")
    arguments = [
        "--corpus",
        str(place / "text.txt"),
        "--overwrite",
        "--out",
        str(place / "mine"),
    ]
    return Try(arguments, is_setup=True, code=2, says="thesis.txt")


@row("setup of a FIFO as its text")
def _(place: Path) -> Try:
    os.mkfifo(place / "text.txt")
    arguments = ["--corpus", str(place / "text.txt"), "--out", str(place / "mine")]
    return Try(arguments, is_setup=True, says="ordinary file")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("words", nargs="*", help="rows that have these words only")
    wanted = " ".join(parser.parse_args().words)
    failed = 0
    print("| tried | code | seconds | MB | said | as it should be |")
    print("|---|---|---|---|---|---|")
    for each in ROWS:
        if wanted not in each.tried:
            continue
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            tried = each.build(place)
            found = run(tried, place)
            wrong = "; ".join(faults(tried, found, place))
        failed += bool(wrong)
        said = (found.err.splitlines() or [""])[-1].replace(str(place), "...")
        said = STEERS.sub("?", said).replace("|", "\\|")
        print(
            f"| {each.tried} | {found.code} | {found.seconds:.1f} "
            f"| {found.megabytes} | {said[:160]} | {wrong or 'yes'} |",
            flush=True,
        )
    print(f"\n{failed} rows are not as they should be")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
