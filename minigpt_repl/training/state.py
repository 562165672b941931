"""The state of an unfinished training, saved so that it can go on after anything.

One file, written beside and renamed: whatever ends the program, what is read back
is a state that was whole. It holds arrays and a JSON header, never code. Knows
nothing of models: whoever saves arrays gets the same back.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt_repl.atomic import explained, open_atomically
from minigpt_repl.errors import CheckpointError

STATE_FILE = "state.npz"
FORMAT = 1

Arrays = Sequence[NDArray[Any]]


@dataclass(frozen=True)
class State:
    """What a training needs to go on.

    Attributes:
        header: recipe, seed, data, step, elapsed seconds, history.
        groups: lists of arrays by name: the model's, the optimizer's, the best.
    """

    header: Mapping[str, Any]
    groups: Mapping[str, Arrays]


def save_state(folder: Path, state: State) -> None:
    """Save a state in a folder, in the place of the one before.

    Raises:
        MiniGPTError: if it can't be written; the state before is left intact.
    """
    arrays: dict[str, Any] = {
        f"{group}/{index}": array
        for group, members in state.groups.items()
        for index, array in enumerate(members)
    }
    header = {"format": FORMAT, "groups": _sizes(state.groups), **state.header}
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with open_atomically(folder / STATE_FILE) as file:
        np.savez(file, header=np.array(json.dumps(header)), **arrays)


def load_state(folder: Path) -> State | None:
    """The state in a folder, or `None` if none was saved.

    Raises:
        CheckpointError: if there is a file that is not a state.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            groups = {
                name: [file[f"{name}/{index}"] for index in range(size)]
                for name, size in header["groups"].items()
            }
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} can't be read ({error}): remove it, or start anew with --overwrite"
        ) from error
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is of another version of minigpt-repl: start anew with --overwrite"
        )
    return State(header, groups)


def remove_state(folder: Path) -> None:
    """Forget a training; to be called when its result is saved."""
    with explained(folder):
        (folder / STATE_FILE).unlink(missing_ok=True)


def _sizes(groups: Mapping[str, Arrays]) -> dict[str, int]:
    return {name: len(members) for name, members in groups.items()}
