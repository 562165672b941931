"""Python code in a process of its own."""

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def python(code: str, *arguments: object, **options) -> subprocess.CompletedProcess:
    """Run it in the project's folder, or where `options` say; keeps what it wrote."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    options = {"capture_output": True, "text": True, "cwd": ROOT} | options
    return subprocess.run(command, **options)
