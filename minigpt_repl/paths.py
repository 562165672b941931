"""Where things are: the XDG folders, and how a checkpoint is found."""

import os
from pathlib import Path

APP = "minigpt-repl"
CHECKPOINT_VARIABLE = "MINIGPT_CHECKPOINT"
RECORD_FILE = "training.json"
"""What a checkpoint is made of, in its folder."""
PROGRESS_FILE = "progress.json"
"""How far an unfinished training came, in its folder."""
PACKAGE = Path(__file__).resolve().parent


def config_home() -> Path:
    """Folder of `config.toml`."""
    return _xdg("XDG_CONFIG_HOME", ".config")


def state_home() -> Path:
    """Folder of the history and the engine's log."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def data_home() -> Path:
    """Folder of the user's own checkpoints, outside a clone."""
    return _xdg("XDG_DATA_HOME", ".local/share")


def cache_home() -> Path:
    """Folder of what can be made again: counts, vocabularies, token ids."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def bundled_checkpoint() -> Path:
    """The checkpoint that comes with the program, in a wheel or in a clone."""
    in_wheel = PACKAGE / "checkpoints" / "default"
    return in_wheel if in_wheel.is_dir() else PACKAGE.parent / "checkpoints" / "default"


def find_checkpoint(
    flag: str | Path | None = None, config: str | Path | None = None
) -> Path:
    """The checkpoint to load: flag, then environment, then config, then bundled.

    Each may be a folder, or the name of one of the `known_checkpoints`.
    """
    for place in (flag, os.environ.get(CHECKPOINT_VARIABLE), config):
        if place:
            folder = Path(os.path.expanduser(place))
            is_name = len(folder.parts) == 1 and not os.path.exists(folder)
            return known_checkpoints().get(folder.name, folder) if is_name else folder
    return bundled_checkpoint()


def known_checkpoints() -> dict[str, Path]:
    """Folders of the checkpoints that can be called by name: those beside the one
    that comes with the program, and the user's own, which win."""
    places = (bundled_checkpoint(), default_output(), data_home() / "checkpoints" / "_")
    found: dict[str, Path] = {}
    for folder in dict.fromkeys(place.parent for place in places):
        records = sorted(folder.glob(f"*/{RECORD_FILE}"))
        found |= {record.parent.name: record.parent for record in records}
    return found


def training_folder(out: Path) -> Path:
    """Where a training keeps what is not shipped: beside the checkpoint."""
    return out.absolute().with_name(f"{out.absolute().name}.training")


def default_output() -> Path:
    """Where a newly trained checkpoint goes if the user names no folder."""
    clone = PACKAGE.parent
    if (clone / "setup.cfg").is_file() and (clone / "checkpoints").is_dir():
        return clone / "checkpoints" / "mine"
    return data_home() / "checkpoints" / "mine"


def _xdg(variable: str, fallback: str) -> Path:
    # The XDG specification: an unset, empty or relative value is ignored.
    value = os.environ.get(variable, "")
    base = Path(value) if os.path.isabs(value) else _home() / fallback
    return base / APP


def _home() -> Path:
    # HOME as well: a relative one would name a folder in whatever is the current one.
    if os.path.isabs(home := os.environ.get("HOME", "")):
        return Path(home)
    try:
        import pwd

        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except (ImportError, KeyError):
        return Path("/nonexistent")
