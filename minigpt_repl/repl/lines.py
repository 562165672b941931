"""Lines as they come, joined where the user opened a block: `:{` ... `:}`.

The terminal loop, the plain loop and `:source` use it. Pure: knows no commands.
"""

from minigpt_repl.errors import UsageError

OPENING = ":{"
CLOSING = ":}"


class LineJoiner:
    """Gives back whole inputs, line by line.

    Attributes:
        is_open: whether a block was opened and not closed yet.
    """

    def __init__(self) -> None:
        self._block: list[str] | None = None

    @property
    def is_open(self) -> bool:
        return self._block is not None

    def feed(self, line: str) -> str | None:
        """The input that this line completes, or `None` while a block is open."""
        word = line.strip()
        if self._block is None:
            if word != OPENING:
                return line
            self._block = []
            return None
        if word != CLOSING:
            self._block.append(line)
            return None
        block, self._block = self._block, None
        return "\n".join(block)

    def end(self) -> None:
        """The input has ended.

        Raises:
            UsageError: if a block is still open.
        """
        if self._block is not None:
            self._block = None
            raise UsageError(
                f"{OPENING} was never closed; end the block with {CLOSING}"
            )
