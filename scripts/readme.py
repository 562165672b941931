"""Writes the generated parts of the documents from the program's own tables.

`python scripts/readme.py` rewrites, in README.md, docs/reference.md and
docs/architecture.md, what stands between `<!-- begin NAME -->` and `<!-- end NAME -->`;
`--check` changes nothing and fails if anything would change.
"""

import ast
import json
import sys
from collections.abc import Callable
from pathlib import Path

from minigpt_repl.glossary import ENTRIES
from minigpt_repl.sampling.chain import STAGES
from minigpt_repl.sampling.parameters import Parameter, format_value
from minigpt_repl.sampling.registry import all_samplers
from minigpt_repl.settings import SESSION_PARAMETERS

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "sampling" / "golden.json"

FILES_TO_READ = (
    "cli.py",
    "formats.py",
    "settings.py",
    "compare/comparison.py",
    "engine/decode.py",
    "engine/engine.py",
    "engine/search.py",
    "models/language_model.py",
    "repl/continuation.py",
    "repl/dispatch.py",
    "sampling/registry.py",
    "sampling/rules.py",
    "training/trainer.py",
)
"""What README.md names beside the packages; docs/architecture.md names all."""


def sampler_table() -> str:
    """The samplers with their parameters, defaults and ranges."""
    rows = ["| sampler | what it chooses | parameters |", "|---|---|---|"]
    for spec in all_samplers():
        parameters = "<br>".join(map(parameter_cell, spec.parameters)) or "none"
        rows.append(f"| `{spec.name}` | {spec.summary} | {parameters} |")
    return "\n".join(rows)


def rule_table() -> str:
    """The rules of chains, and whose code their golden values are from."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    peers = ("transformers", "llama.cpp")
    rows = ["| rule | it leaves | parameters | checked by |", "|---|---|---|---|"]
    for stage in STAGES.values():
        parameters = "<br>".join(map(parameter_cell, stage.parameters)) or "none"
        cases = [
            peer
            for peer in peers
            for case in golden[peer]["cases"]
            if case["rule"] == stage.name
        ]
        checked = "worked by hand"
        if cases:
            checked = f"{len(cases)} cases of {', '.join(dict.fromkeys(cases))}"
        rows.append(f"| `{stage.name}` | {stage.summary} | {parameters} | {checked} |")
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
    """Every command of the REPL, by what one wants to do."""
    from minigpt_repl.repl.commands.program import grouped_commands

    rows = ["| command | what it does |", "|---|---|"]
    for group, entries in grouped_commands().items():
        rows.append(f"| **{group}** | |")
        for entry in entries:
            names = ", ".join(f"`:{alias}`" for alias in entry.aliases)
            usage = f"`:{entry.name} {entry.usage}".rstrip() + "`"
            also = f" (also {names})" if names else ""
            rows.append(f"| {escape(usage)}{also} | {escape(entry.summary)} |")
    return "\n".join(rows)


def glossary_table() -> str:
    """The words on the screen."""
    rows = ["| word | what it means |", "|---|---|"]
    for entry in ENTRIES:
        rows.append(f"| {', '.join(entry.names)} | {escape(entry.text)} |")
    return "\n".join(rows)


def tree() -> str:
    """The packages, and the modules to read first."""
    package = ROOT / "minigpt_repl"
    wanted = {*package.rglob("__init__.py"), *(package / f for f in FILES_TO_READ)}
    return drawn([path for path in modules() if path in wanted])


def whole_tree() -> str:
    """Every module."""
    return drawn(modules())


def modules() -> list[Path]:
    """Modules and scripts, in the order of the trees."""
    return [
        path
        for folder in ("minigpt_repl", "scripts")
        for path in sorted((ROOT / folder).rglob("*.py"), key=tree_order)
    ]


def drawn(paths: list[Path]) -> str:
    """Modules, each with the first line of its docstring."""
    names = [
        f"{path.parent.relative_to(ROOT)}/"
        if path.name == "__init__.py"
        else str(path.relative_to(ROOT))
        for path in paths
    ]
    width = max(map(len, names))
    lines = [
        f"{name:{width}}  {first_line(path)}"
        for name, path in zip(names, paths, strict=True)
    ]
    return "\n".join(("```", *lines, "```"))


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
    allowed = parameter.range_text()  # words have no range
    return escape(f"`{parameter.name}` = {default}" + f" ({allowed})" * bool(allowed))


def escape(text: str) -> str:
    """Text that may stand in a cell of a Markdown table."""
    return text.replace("|", "\\|")


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"tree": tree},
    "docs/reference.md": {
        "commands": command_table,
        "samplers": sampler_table,
        "rules": rule_table,
        "settings": setting_table,
        "glossary": glossary_table,
    },
    "docs/architecture.md": {"tree": whole_tree},
}
"""For each document its generated parts."""


def rewritten(text: str, document: str) -> str:
    """A document's text with every generated part made anew."""
    for name, make in PARTS[document].items():
        text = replaced(text, document, name, make())
    return text


def replaced(text: str, document: str, name: str, made: str) -> str:
    """A document's text with other words between the marks of one part."""
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    before, found, rest = text.partition(begin)
    _, also_found, after = rest.partition(end)
    if not (found and also_found):
        sys.exit(f"{document} has no part named {name}")
    return f"{before}{begin}{made.rstrip()}\n{end}{after}"


def main() -> None:
    """Rewrite the documents, or with `--check` fail if one is out of date."""
    for document in PARTS:
        path = ROOT / document
        before = path.read_text(encoding="utf-8")
        after = rewritten(before, document)
        if "--check" not in sys.argv:
            path.write_text(after, encoding="utf-8")
        elif before != after:
            sys.exit(f"{document} is out of date: run python scripts/readme.py")


if __name__ == "__main__":
    main()
