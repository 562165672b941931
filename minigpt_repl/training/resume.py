"""What a setup has finished or saved, so that the next run goes on from there.

Finished stages are found by a fingerprint of all that they were made from; the folder
that holds them may be deleted at any time. The state of an unfinished training holds
arrays and a JSON header, never code. Both are read back whole, whatever ends the
program.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from minigpt_repl import paths
from minigpt_repl.errors import CheckpointError, UsageError
from minigpt_repl.files import (
    explained,
    open_atomically,
    recover_directory,
    write_bytes_atomically,
)
from minigpt_repl.models.record import DRAFT_FOLDER, PRESET_FILES, TOKENIZER_FILES
from minigpt_repl.paths import PROGRESS_FILE, RECORD_FILE

STATE_FILE = "state.npz"
LOCK_FILE = "lock"
FORMAT = 1
DAMAGE = (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)
"""What reading a damaged file of arrays may raise."""

if TYPE_CHECKING:
    from numpy.typing import NDArray


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """The checkpoint's place for this process alone, until it ends or is killed.

    Raises:
        UsageError: if another process is at work there.
        MiniGPTError: if nothing can be written there.
    """
    folder = paths.training_folder(out)
    with explained(out):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK_FILE, "a+", encoding="utf-8")  # noqa: SIM115
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UsageError(
                f"process {file.read()} is setting up {out}: wait until it ends, or "
                "name another folder with --out"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            with explained(out):
                recover_directory(out.absolute())
            yield
        finally:
            if [each.name for each in folder.iterdir()] == [LOCK_FILE]:
                shutil.rmtree(folder, ignore_errors=True)


def is_finished(out: Path, resume: bool, overwrite: bool) -> bool:
    """Whether there is nothing to go on with, only a checkpoint.

    Raises:
        UsageError: if there is something that only the user may let go of.
    """
    has_state = any(paths.training_folder(out).rglob(STATE_FILE))
    has_checkpoint = (out / RECORD_FILE).exists()
    if resume and has_checkpoint and not has_state:
        return True
    if (mine := _not_ours(out)) is not None:
        raise UsageError(
            f"{mine} is not a checkpoint's and would be lost: move it away, or name "
            "another folder with --out"
        )
    if overwrite or resume:
        return False
    if has_state:
        raise UsageError(
            f"there is an unfinished training of {out}: go on with --resume, or start "
            "anew with --overwrite"
        )
    if has_checkpoint:
        raise UsageError(
            f"{out} is there already: replace it with --overwrite, or name another "
            "folder with --out"
        )
    return False


def _not_ours(out: Path) -> Path | None:
    """What lies at a checkpoint's place and is of no checkpoint, if anything."""
    if out.exists() and not out.is_dir():
        return out
    files = {RECORD_FILE, "task.weights.h5", *PRESET_FILES}
    files.update(*TOKENIZER_FILES.values())
    files |= {f"{DRAFT_FOLDER}/{name}" for name in files}
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents}
    for path in sorted(out.rglob("*")):
        known = folders if path.is_dir() else files
        if path.relative_to(out).as_posix() not in known:
            return path
    return None


def clear(folder: Path) -> None:
    """Forget an unfinished training, as one that is begun anew does."""
    with explained(folder):
        for each in folder.iterdir():
            if each.is_dir():
                shutil.rmtree(each)
            elif each.name != LOCK_FILE:
                each.unlink()


def fingerprint(**made_from: Any) -> str:
    """Names a result by the JSON that it was made from: 24 hexadecimal digits."""
    canonical = json.dumps(made_from, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:24]


def kept_value(stage: str, key: str, make: Callable[[], Any]) -> Any:
    """What `make` returns, or what it returned in an earlier run.

    It is a value that JSON can hold, kept in the user's cache folder. The key is its
    `fingerprint`.

    Raises:
        MiniGPTError: if the result can't be kept, such as on a full disk.
    """
    path = paths.cache_home() / f"{stage}-{key}.json"
    with contextlib.suppress(OSError, ValueError):  # missing, or damaged
        return json.loads(path.read_text(encoding="utf-8"))
    value = make()
    with _opened_to_keep(path) as file:
        file.write(json.dumps(value, ensure_ascii=False).encode("utf-8"))
    return value


def kept_arrays(
    stage: str, key: str, make: Callable[[], dict[str, "NDArray[Any]"]]
) -> dict[str, "NDArray[Any]"]:
    """As `kept_value`, of arrays by their names."""
    import numpy as np

    path = paths.cache_home() / f"{stage}-{key}.npz"
    with (
        contextlib.suppress(OSError, *DAMAGE),
        np.load(path, allow_pickle=False) as file,
    ):
        return dict(file)
    arrays = make()
    with _opened_to_keep(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return arrays


@contextlib.contextmanager
def _opened_to_keep(path: Path) -> Iterator[Any]:
    with explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomically(path) as file:
        yield file


@dataclass(frozen=True)
class State:
    """What a training needs to go on."""

    header: Mapping[str, Any]  # recipe, seed, data, step, elapsed seconds, history
    # Arrays by name: the model's, the optimizer's, the best.
    groups: Mapping[str, Sequence["NDArray[Any]"]]


def save_state(folder: Path, state: State) -> None:
    """Save a state in a folder, in the place of the one before.

    Raises:
        MiniGPTError: if it can't be written; the state before is left intact.
    """
    import numpy as np

    arrays: dict[str, Any] = {
        f"{group}/{index}": array
        for group, members in state.groups.items()
        for index, array in enumerate(members)
    }
    sizes = {group: len(members) for group, members in state.groups.items()}
    header = {"format": FORMAT, "groups": sizes, **state.header}
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with open_atomically(folder / STATE_FILE) as file:
        np.savez(file, header=np.array(json.dumps(header)), **arrays)
    # For whoever opens the folder before there is a checkpoint.
    told = {name: header.get(name) for name in ("step", "progress")}
    write_bytes_atomically(folder / PROGRESS_FILE, json.dumps(told).encode())


def load_state(folder: Path) -> State | None:
    """The state in a folder, or `None` if none was saved.

    Raises:
        CheckpointError: if there is a file that is not a state.
    """
    header = read_header(folder)
    if header is None:
        return None
    with _opened(folder / STATE_FILE) as file:
        groups = {
            name: [file[f"{name}/{index}"] for index in range(size)]
            for name, size in header["groups"].items()
        }
    return State(header, groups)


def read_header(folder: Path) -> dict[str, Any] | None:
    """What the state in a folder says of itself, or `None` if none was saved.

    Raises:
        CheckpointError: if there is a file that is not a state.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    with _opened(path) as file:
        header: dict[str, Any] = json.loads(str(file["header"]))
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is of another version of minigpt-repl: start anew with --overwrite"
        )
    return header


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The arrays of a state's file by their names."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except (OSError, *DAMAGE) as error:
        raise CheckpointError(
            f"{path} can't be read ({error}): remove it, or start anew with --overwrite"
        ) from error


def remove_state(folder: Path) -> None:
    """Forget a training; to be called when its result is saved."""
    with explained(folder):
        (folder / STATE_FILE).unlink(missing_ok=True)
        (folder / PROGRESS_FILE).unlink(missing_ok=True)


def check_same(state: State, recipe: Mapping[str, Any], seed: int, data: str) -> None:
    """Whether a state belongs to a training with this recipe, seed and data.

    Raises:
        UsageError: naming what differs.
    """
    now = {**recipe, "seed": seed}
    then = {**state.header["recipe"], "seed": state.header["seed"]}
    differs = [
        f"{name} {then[name]}, not {now.get(name)}"
        for name in then
        if now.get(name) != then[name]
    ]
    if state.header["data"] != data:
        differs.append("another text or vocabulary")
    if differs:
        raise UsageError(
            f"the unfinished training has {differs[0]}: resume with the same options "
            "and --corpus, or start anew with --overwrite"
        )
