"""Writes the generated parts of README.md from the program's own tables.

`python scripts/readme.py` rewrites what stands between `<!-- begin NAME -->` and
`<!-- end NAME -->`; `--check` changes nothing and fails if anything would change.
"""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from minigpt_repl.repl.dispatch import all_commands
from minigpt_repl.sampling.parameters import Parameter, format_value
from minigpt_repl.sampling.registry import all_samplers
from minigpt_repl.settings import SESSION_PARAMETERS

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


def sampler_table() -> str:
    """The samplers with their parameters, defaults and ranges."""
    rows = ["| sampler | what it chooses | parameters |", "|---|---|---|"]
    for spec in all_samplers():
        parameters = "<br>".join(map(parameter_cell, spec.parameters)) or "none"
        rows.append(f"| `{spec.name}` | {spec.summary} | {parameters} |")
    return "\n".join(rows)


def setting_table() -> str:
    """The session's settings."""
    rows = ["| setting | default | allowed | meaning |", "|---|---|---|---|"]
    for setting in SESSION_PARAMETERS:
        default = format_value(setting.default)
        cells = (f"`{setting.name}`", default, setting.allowed(), setting.help)
        rows.append(f"| {' | '.join(map(escape, cells))} |")
    return "\n".join(rows)


def command_table() -> str:
    """Every command of the REPL."""
    import_module("minigpt_repl.repl.commands")
    rows = ["| command | what it does |", "|---|---|"]
    for entry in all_commands():
        names = ", ".join(f"`:{alias}`" for alias in entry.aliases)
        usage = f"`:{entry.name} {entry.usage}".rstrip() + "`"
        also = f" (also {names})" if names else ""
        rows.append(f"| {escape(usage)}{also} | {escape(entry.summary)} |")
    return "\n".join(rows)


def tree() -> str:
    """The modules, each with the first line of its docstring."""
    lines = ["```"]
    for folder in ("minigpt_repl", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py"), key=tree_order):
            name = path.relative_to(ROOT)
            if path.name == "__init__.py":
                name = name.parent / ""
            lines.append(f"{name!s:44} {first_line(path)}".rstrip())
    lines.append("```")
    return "\n".join(lines)


def tree_order(path: Path) -> tuple[str, bool, str]:
    """A folder's own line first, then its files, then its folders."""
    return str(path.parent), path.name != "__init__.py", path.name


def first_line(path: Path) -> str:
    """First line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n")[0]


def parameter_cell(parameter: Parameter) -> str:
    """One parameter: name, default, range."""
    default = format_value(parameter.default)
    return escape(f"`{parameter.name}` = {default} ({parameter.range_text()})")


def escape(text: str) -> str:
    """Text that may stand in a cell of a Markdown table."""
    return text.replace("|", "\\|")


PARTS: dict[str, Callable[[], str]] = {
    "samplers": sampler_table,
    "settings": setting_table,
    "commands": command_table,
    "tree": tree,
}


def rewritten(text: str) -> str:
    """README text with every generated part made anew."""
    for name, make in PARTS.items():
        text = replaced(text, name, make())
    return text


def replaced(text: str, name: str, made: str) -> str:
    """README text with other words between the marks of one part."""
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    before, found, rest = text.partition(begin)
    _, also_found, after = rest.partition(end)
    if not (found and also_found):
        sys.exit(f"README.md has no part named {name}")
    return f"{before}{begin}{made.rstrip()}\n{end}{after}"


def main() -> None:
    """Rewrite README.md, or with `--check` fail if it is out of date."""
    before = README.read_text(encoding="utf-8")
    after = rewritten(before)
    if "--check" in sys.argv:
        if before != after:
            sys.exit("README.md is out of date: run python scripts/readme.py")
    else:
        README.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
