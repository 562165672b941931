"""`minigpt-repl compare` and `minigpt-repl replay`: the shell's way to comparisons.

`cli.py` adds the two commands to its group. Chooses no exit code: what goes wrong
is raised.
"""

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from minigpt_repl import shell
from minigpt_repl.engine.quiet import quiet
from minigpt_repl.engine.request import Engine
from minigpt_repl.files import read_user_file, write_user_file
from minigpt_repl.startup import Options, prepare

if TYPE_CHECKING:
    from minigpt_repl.compare.comparison import Comparison
    from minigpt_repl.settings import Settings

_CHECKPOINT = click.option(
    "--checkpoint",
    metavar="DIR",
    type=click.Path(),
    help="Folder of the model, as for minigpt-repl.",
)


@click.command()
@click.argument("specs", nargs=-1, metavar="[SPEC]...")
@click.option("-p", "--prompt", metavar="TEXT", required=True, help="- reads stdin.")
@click.option("--n", "-n", "count", default="1", metavar="N", help="Texts a strategy.")
@click.option("--seed", metavar="N", help="Of the first text; text i uses N+i.")
@click.option("--length", metavar="N", help="New tokens a text.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", metavar="FILE", help="Write Markdown to FILE.")
@click.option("--html", metavar="FILE", help="Write one self-contained page to FILE.")
@_CHECKPOINT
@click.pass_obj
def compare(
    options: Options | None,
    /,
    specs: tuple[str, ...],
    prompt: str,
    count: str,
    seed: str | None,
    length: str | None,
    as_json: bool,
    markdown: str | None,
    html: str | None,
    checkpoint: str | None,
) -> int:
    """Continue one prompt with several strategies.

    SPEC is a sampler, with parameters if you like: top_k:k=10,temperature=0.8.
    Without one it is every sampler as it is set. The texts and their measures are
    printed side by side, or written as JSON, Markdown or HTML.
    """
    from minigpt_repl.compare.comparison import finish, run_plan
    from minigpt_repl.compare.spec import (
        all_strategies,
        make_plan,
        parse_count,
        parse_strategies,
    )

    given = options or Options()
    chosen = replace(
        given,
        prompt=prompt,
        checkpoint=checkpoint or given.checkpoint,
        seed=seed or given.seed,
        length=length or given.length,
    )
    texts = parse_count(count)
    directory, session = prepare(chosen)
    settings = session.settings
    strategies = parse_strategies(specs, settings)
    with _engine(str(directory), chosen) as engine:
        if not strategies:
            strategies = all_strategies(settings, engine.info.has_draft)
        text = shell.read_prompt(prompt)
        plan = make_plan(settings, strategies, text, texts)
        with _stopping(engine):
            comparison = finish(run_plan(engine, plan))
        _write(comparison, engine, settings, as_json, markdown, html)
        if comparison.is_interrupted:
            raise KeyboardInterrupt
    return 0


@click.command()
@click.argument("file", metavar="FILE.json")
@_CHECKPOINT
@click.pass_obj
def replay(options: Options | None, /, file: str, checkpoint: str | None) -> int:
    """Run an exported comparison again; fail at the first token that differs."""
    from minigpt_repl.compare import replay as replaying

    given = options or Options()
    chosen = replace(given, checkpoint=checkpoint or given.checkpoint)
    path = Path(file)
    recorded = replaying.read_recorded(read_user_file(path), path.name)
    directory, _ = prepare(chosen)
    with _engine(str(directory), chosen) as engine, _stopping(engine):
        for one in recorded:
            for warning in replaying.warnings(one, engine.info):
                _tell(warning)
            for line in replaying.replay(engine, one):
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
    return 0


def _write(
    comparison: "Comparison",
    engine: Engine,
    settings: "Settings",
    as_json: bool,
    markdown: str | None,
    html: str | None,
) -> None:
    """To the files that were named, as JSON, or as a page of text."""
    from minigpt_repl.compare.render import comparison_to_json, render
    from minigpt_repl.formats import encode

    for name, suffix in ((markdown, ".md"), (html, ".html")):
        if name is not None:
            write_user_file(Path(name), render([comparison], suffix, engine.info))
            _tell(f"wrote {name}")
    if as_json:
        sys.stdout.write(f"{encode(comparison_to_json(comparison))}\n")
    elif markdown is None and html is None:
        _print(comparison, str(settings.value("color")))
    sys.stdout.flush()


def _print(comparison: "Comparison", color: str) -> None:
    from rich.console import Console

    from minigpt_repl.compare.view import NOT_QUALITY, FiguresView, TextsView
    from minigpt_repl.repl.theme import wants_color

    has_color = wants_color(color, os.environ, sys.stdout.isatty())
    console = Console(
        file=sys.stdout,
        width=shutil.get_terminal_size().columns,
        force_terminal=has_color,
        no_color=not has_color,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    console.print(TextsView(comparison))
    console.print()
    console.print(FiguresView(comparison))
    _tell(NOT_QUALITY)


@contextlib.contextmanager
def _engine(directory: str, options: Options) -> Iterator[Engine]:
    # What TensorFlow writes by itself goes nowhere; errors of ours are told.
    silence = contextlib.nullcontext() if options.debug else quiet()
    with silence:
        engine = shell.open_engine(directory, not options.no_verify)
        try:
            yield engine
        finally:
            engine.close()


@contextlib.contextmanager
def _stopping(engine: Engine) -> Iterator[None]:
    """Let the first ^C end a text within a step, so that what is there is kept."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        engine.stop()

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _tell(message: str) -> None:
    sys.stderr.write(f"minigpt-repl: {message}\n")
