"""Files that the user names in commands: found, read within bounds, written whole."""

import os
import stat
from pathlib import Path

from minigpt_repl.atomic import write_bytes_atomically
from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.suggest import did_you_mean, plain, shown_path

LARGEST = 64 * 1024 * 1024
"""Bytes of the largest file that is read."""


def user_path(typed: str, usage: str) -> Path:
    """The path that the user typed, without quotes, `~` put in full.

    Raises:
        UsageError: if nothing was typed, or what no file can be called.
    """
    name = typed.strip()
    if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'":
        name = name[1:-1]
    if not name:
        raise UsageError(f"{usage}: name a file")
    if "\0" in name or "\n" in name:
        raise UsageError(f"{plain(name)} can't be the name of a file")
    return Path(os.path.expanduser(name))


def read_user_file(path: Path, largest: int = LARGEST) -> str:
    """A text file's content.

    Args:
        path: of an ordinary file; nothing else is opened.
        largest: bytes that it may have.

    Raises:
        MiniGPTError: if it is missing, no ordinary file, too large or not UTF-8.
    """
    shown = shown_path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise MiniGPTError(f"can't read {shown}: it is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise MiniGPTError(f"can't read {shown}: it is not an ordinary file")
        with path.open("rb") as file:
            content = file.read(largest + 1)
        if len(content) > largest:
            raise MiniGPTError(
                f"can't read {shown}: it is larger than {largest // 2**20} MB"
            )
        return content.decode().removeprefix("\ufeff")
    except FileNotFoundError:
        raise MiniGPTError(
            f"can't read {shown}: there is no such file{_nearest(path)}"
        ) from None
    except UnicodeDecodeError:
        raise MiniGPTError(f"can't read {shown}: it is not UTF-8 text") from None
    except OSError as error:
        raise MiniGPTError(f"can't read {shown}: {error.strerror}") from error
    except ValueError as error:  # a name that the system can't encode
        raise MiniGPTError(f"can't read {shown}: {error}") from error


def write_user_file(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        MiniGPTError: if it can't be written; what was there is then still there.
    """
    shown = shown_path(path)
    try:
        if path.is_dir() or not path.name:
            raise MiniGPTError(f"can't write {shown}: it is a folder")
        if not path.parent.is_dir():
            raise MiniGPTError(
                f"can't write {shown}: there is no folder {shown_path(path.parent)}"
            )
        if path.exists() and not path.is_file():
            raise MiniGPTError(f"can't write {shown}: it is not an ordinary file")
        write_bytes_atomically(path, text.encode("utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MiniGPTError(f"can't write {shown}: {reason}") from error


def _nearest(path: Path) -> str:
    try:
        names = os.listdir(path.parent)
    except (OSError, ValueError):
        return ""
    return did_you_mean(path.name, (name for name in names if name.isprintable()))
