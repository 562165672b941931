"""Who may know whom, what is loaded when, and who may print or use the network."""

import ast
import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from processes import python
from recorded import make_recorded

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "minigpt_repl"
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("tensorflow", "keras", "keras_hub", "numpy", "h5py", "jax", "torch")
SCREEN = ("click", "prompt_toolkit", "rich")

LAYERS = (
    ("errors", "glossary", "paths", "shown", "version"),
    ("files", "formats"),
    ("models", "sampling"),
    ("lm", "engine"),
    ("settings", "report"),
    ("config", "compare", "training", "doctor"),
    ("repl", "notebook"),
    ("cli", "__init__"),
    ("__main__",),
)
"""From the bottom up: a unit imports what is in its own files or below its layer."""

KINDS = tuple(
    f"minigpt_repl.models.{name}"
    for name in (
        "backbone",
        "causal_lm",
        "text.bytelevel",
        "text.wordpiece",
    )
)
"""Kinds of models and of tokens: the rest knows `LanguageModel` and `TextCodec`."""

FORBIDDEN = {
    "models": SCREEN,
    "sampling": (*SCREEN, "keras_hub.models", *KINDS),
    "engine": (*SCREEN, *KINDS),
    "training": ("prompt_toolkit",),
    "models/text": (*SCREEN, *HEAVY),
    "repl": (*(name for name in HEAVY if name != "numpy"), *KINDS),
    "compare": (*(name for name in HEAVY if name != "numpy"), *KINDS),
}
"""What no module of a folder may import, not even inside a function."""


@cache
def imports_of(path: Path) -> set[str]:
    """Full names of what a module imports, wherever in it, types excepted."""
    names: set[str] = set()
    skipped: set[ast.AST] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped.update(inner for child in node.body for inner in ast.walk(child))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def name_of(path: Path) -> str:
    """The full name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def arrows() -> dict[str, set[str]]:
    """Which modules of the package each of them imports."""
    names = {name_of(path): path for path in MODULES}

    def owner(name: str) -> str | None:
        while name and name not in names:
            name = name.rpartition(".")[0]
        return name or None

    return {
        module: {owner(name) for name in imports_of(path)} - {None, module}
        for module, path in names.items()
    }


def unit_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def test_arrows_point_down_only():
    level = {unit: place for place, units in enumerate(LAYERS) for unit in units}
    assert {unit_of(module) for module in arrows()} <= level.keys()
    wrong = [
        f"{module} imports {other}"
        for module, others in arrows().items()
        for other in others
        if unit_of(other) != unit_of(module)
        and level[unit_of(other)] >= level[unit_of(module)]
    ]
    assert wrong == []


def test_no_two_modules_import_each_other_on_any_way():
    left = dict(arrows())
    while ends := [module for module, others in left.items() if not others & {*left}]:
        for module in ends:
            del left[module]
    assert left == {}


def test_no_two_modules_have_one_name():
    names = Counter(path.stem for path in MODULES if path.stem != "__init__")
    twice = {name for name, count in names.items() if count > 1}
    assert twice == set()


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_what_a_folder_knows_nothing_of(folder):
    modules = sorted((PACKAGE / folder).rglob("*.py"))
    assert modules
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules
        for name in imports_of(path)
        if any(is_within(name, package) for package in FORBIDDEN[folder])
    ]
    assert wrong == []


def test_nothing_below_the_front_end_draws_or_reads_keys():
    may = {"repl", "compare", "training", "cli", "notebook", "__main__"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in MODULES
        if unit_of(name_of(path)) not in may
        for name in imports_of(path)
        if any(is_within(name, package) for package in SCREEN)
    ]
    assert wrong == []


def test_only_the_ends_of_the_program_choose_exit_codes():
    may = {"__main__.py", "cli.py", "errors.py", "training/setup_model.py"}
    may |= {"repl/entry.py", "repl/terminal.py"}
    users = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if any(".EXIT_" in name for name in imports_of(path))
    }
    assert users <= may


def test_every_module_says_what_it_is():
    silent = [
        str(path.relative_to(ROOT))
        for path in MODULES
        if path.read_text().strip()
        and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_nothing_is_printed_past_the_streams_that_were_given():
    printing = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "breakpoint", "pprint")
    ]
    assert printing == []


def test_no_code_is_run_from_data():
    forbidden = ("eval", "exec")
    unsafe = ("pickle", "marshal", "shelve", "dill", "joblib")
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            is_name = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if is_name and node.func.id in forbidden:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
        found += [
            f"{path.relative_to(ROOT)} imports {name}"
            for name in imports_of(path)
            if any(is_within(name, module) for module in unsafe)
        ]
    assert found == []


LOADED = """
import sys
from minigpt_repl.__main__ import main
code = main(sys.argv[1:])
sys.stderr.write(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))
sys.exit(code)
"""


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("--version",), ("doctor", "--help"), ("--print-config",)],
    ids=" ".join,
)
def test_help_and_version_load_nothing_heavy(arguments):
    result = python(LOADED, *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout
    loaded = set(result.stderr.split())
    assert not loaded & {*HEAVY, "prompt_toolkit", "rich"}


def test_importing_the_package_and_the_command_line_is_light():
    code = "import sys, minigpt_repl, minigpt_repl.cli; print(*sys.modules)"
    loaded = {name.partition(".")[0] for name in python(code).stdout.split()}
    assert "minigpt_repl" in loaded
    assert not loaded & {*HEAVY, "prompt_toolkit", "rich"}


def test_no_front_end_loads_model_code():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for folder in ("repl", "compare")
        for path in sorted((PACKAGE / folder).rglob("*.py"))
        if path.name != "__init__.py"
    ]
    code = f"""
import sys
from importlib import import_module
for name in {modules}:
    import_module(name)
print(*sys.modules)
"""
    result = python(code)
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert "minigpt_repl" in loaded, result.stderr
    assert not loaded & {"tensorflow", "keras", "keras_hub"}


NO_NETWORK = """
import socket
def refuse(*arguments, **keywords):
    raise AssertionError(f"the network was asked for: {arguments}")
class Refusing(socket.socket):
    connect = connect_ex = sendto = refuse
socket.socket = Refusing
socket.create_connection = socket.getaddrinfo = socket.gethostbyname = refuse
"""
"""Python runs it at the start of the program and of the engine's process."""

TALK = """
import sys
from minigpt_repl.__main__ import main
from minigpt_repl.repl import entry
if sys.argv.pop(1) == "fake":
    import program
    entry.open_engine = program.open_fake_engine
sys.exit(main())
"""


def talk_without_network(engine: str, directory: Path, lines: str, place: Path) -> str:
    (place / "sitecustomize.py").write_text(NO_NETWORK)
    paths = [place, ROOT / "tests" / "cli", ROOT / "tests", ROOT]
    result = subprocess.run(
        [sys.executable, "-c", TALK, engine, "--checkpoint", str(directory)],
        capture_output=True,
        input=lines,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_no_network_unless_asked_for(tmp_path):
    directory = make_recorded(tmp_path / "model")
    lines = "the king\n:sampler greedy\n:again 2\n:show model\n:help\n"
    assert talk_without_network("fake", directory, lines, tmp_path).startswith(
        "the king "
    )


@pytest.mark.slow
def test_no_network_to_load_a_model(tmp_path, tiny_causal_lm):
    from minigpt_repl.models.checkpoint import save_checkpoint

    save_checkpoint(tmp_path / "model", tiny_causal_lm, {})
    lines = ":set length 5\nthe cat\n:sampler greedy\nthe dog\n"
    out = talk_without_network("real", tmp_path / "model", lines, tmp_path)
    assert [line[:7] for line in out.splitlines()] == ["the cat", "the dog"]
