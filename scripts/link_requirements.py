"""Links what a wheel requires from this environment into another one.

python scripts/link_requirements.py VENV WHEEL
"""

import email
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement


def requirements_of(wheel: Path) -> list[str]:
    """What the wheel's own metadata asks for."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    return metadata.get_all("Requires-Dist") or []


def closure(lines: list[str], extras: frozenset[str] = frozenset()) -> set[str]:
    """Names of the distributions that are asked for, directly or not."""
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(lines, extras)]
    while waiting:
        lines, extras = waiting.pop()
        for requirement in map(Requirement, lines):
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": e}) for e in {"", *extras}):
                continue
            key = (requirement.name, frozenset(requirement.extras))
            if key not in seen:
                seen.add(key)
                found.add(requirement.name)
                requires = distribution(requirement.name).requires or []
                waiting.append((requires, key[1]))
    return found


def main(venv: str, wheel: str) -> None:
    """Link the first part of each file's path, a package or a module."""
    (there,) = Path(venv).glob("lib/python*/site-packages")
    for name in sorted(closure(requirements_of(Path(wheel)))):
        package = distribution(name)
        for first in {path.parts[0] for path in package.files or []} - {".."}:
            link = there / first
            if first != "__pycache__" and not link.exists():
                link.symlink_to(Path(str(package.locate_file(first))).resolve())


if __name__ == "__main__":
    main(*sys.argv[1:])
