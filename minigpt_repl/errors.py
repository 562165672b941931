"""The errors that a user can cause, and the exit codes they end in.

Every error of this family is shown as one line, without a traceback. Anything
else that reaches the top is a defect of ours.
"""

EXIT_OK = 0
EXIT_RUNTIME = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class MiniGPTError(Exception):
    """What went wrong, in one line that a user can act on."""

    exit_code = EXIT_RUNTIME


class UsageError(MiniGPTError):
    """The user asked for something that does not exist or is out of range."""

    exit_code = EXIT_USAGE


class CheckpointError(MiniGPTError):
    """A checkpoint is missing, damaged or of another kind."""


class CorpusError(MiniGPTError):
    """A training text cannot be fetched, read or used."""


class EngineError(MiniGPTError):
    """The engine could not do what was asked, or its process ended."""


class EngineStopped(EngineError):
    """Someone stopped the engine before it had begun what was asked."""

    def __init__(self, message: str = "stopped before the first token") -> None:
        super().__init__(message)


def no_draft(*names: str) -> str:
    """That something needs a draft model where there is none, and the remedy."""
    need = "needs" if len(names) == 1 else "need"
    return (
        f"{', '.join(names)} {need} a draft model, and this checkpoint has none; "
        "minigpt-setup --draft makes one"
    )
