"""What rich draws, as text."""

import io

from rich.console import Console


def drawn(*contents: object, width: int = 80, **options) -> str:
    """What they look like, one below the other; without colour unless asked for."""
    file = io.StringIO()
    options = {"color_system": None} | options
    console = Console(file=file, width=width, **options)
    for content in contents:
        console.print(content)
    return file.getvalue()
