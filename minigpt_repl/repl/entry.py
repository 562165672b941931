"""One run of the program: settings from all layers, then a prompt, lines or texts,
or a comparison.

The model's modules are imported only when a text is wanted.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from minigpt_repl import paths
from minigpt_repl.config import (
    Options,
    default_config_text,
    prepare,
    read_environment,
    read_settings_file,
    tell,
)
from minigpt_repl.engine.request import Engine
from minigpt_repl.errors import EXIT_OK, EXIT_RUNTIME, UsageError
from minigpt_repl.files import open_user_file, read_user_file, write_user_file
from minigpt_repl.repl.context import Session
from minigpt_repl.repl.output import is_dumb
from minigpt_repl.repl.signals import Signals
from minigpt_repl.report import JsonWriter
from minigpt_repl.sampling.registry import all_samplers
from minigpt_repl.shown import shown_line, shown_path

if TYPE_CHECKING:
    from minigpt_repl.compare.comparison import Comparison
    from minigpt_repl.engine.remote import RemoteEngine
    from minigpt_repl.engine.worker import Warming
    from minigpt_repl.repl.plain import PlainLoop
    from minigpt_repl.repl.screen import Spinner


SEVERAL = 8
"""Texts together that a session on a terminal is prepared for: `:again 5`."""

WIDE = 16
"""Texts that a search may keep and still begin at once, whatever was prepared."""


def run(options: Options) -> int:
    """Do what the options say, with the standard streams of this process; returns the
    exit code.

    Raises:
        MiniGPTError: what went wrong, in one line.
        KeyboardInterrupt: after ^C.
    """
    if options.print_config:
        sys.stdout.write(default_config_text())
        return EXIT_OK
    _check(options)
    directory, settings = prepare(options)
    session = Session(settings)
    if _is_interactive(options):
        return _run_terminal(options, directory, session)
    with _make_loop(options, directory, session) as loop:
        _run_plain(options, loop)
    return EXIT_RUNTIME if loop.has_failed else EXIT_OK


def _run_terminal(options: Options, directory: Path, session: Session) -> int:
    from minigpt_repl.engine.texts import is_drawn
    from minigpt_repl.repl.terminal import Terminal

    settings = session.settings
    in_use = settings.sampler

    def open_warming_engine(folder: str) -> "RemoteEngine":
        # Called when the prompt is there: only then are plugins looked for.
        empty = settings.request("")
        warm, wide = [], []
        for spec in dict.fromkeys((in_use, *all_samplers())):
            values = settings.parameters(spec)
            text = replace(empty, sampler=spec.name, parameters=values)
            warm.append((text, 1))
            if spec.search is not None and spec.search.rows is not None:
                values = {**values, spec.search.rows: WIDE}
                wide.append((replace(text, parameters=values), 1))
        if is_drawn(in_use.name, empty.parameters):
            warm.append((empty, SEVERAL))
        warm += wide
        return open_engine(folder, replace(options, debug=False), warm)

    terminal = Terminal(
        session,
        open_warming_engine,
        str(directory),
        history=None if options.no_history else paths.state_home() / "history",
        debug=options.debug,
    )
    return terminal.run(options.commands)


def run_comparison(
    options: Options,
    specs: tuple[str, ...],
    count: str,
    as_json: bool,
    markdown: str | None,
    html: str | None,
) -> None:
    """Continue one prompt with several strategies, and print or write the texts.

    Raises:
        MiniGPTError: what went wrong, in one line.
        KeyboardInterrupt: after ^C; what there was of the texts is written first.
    """
    from minigpt_repl.compare.comparison import finish, make_plan, run_plan
    from minigpt_repl.compare.export import comparison_to_json, render
    from minigpt_repl.compare.spec import (
        all_strategies,
        parse_count,
        parse_strategies,
    )
    from minigpt_repl.formats import encode

    texts = parse_count(count)
    directory, settings = prepare(options)
    strategies = parse_strategies(specs, settings)
    with _engine(directory, options) as (engine, signals):
        text = read_prompt(options.prompt or "")
        with _spinner():
            if not strategies:
                strategies = all_strategies(settings, engine.info.has_draft)
            plan = make_plan(settings, strategies, text, texts)
            comparison = finish(run_plan(engine, plan))
        for name, suffix in ((markdown, ".md"), (html, ".html")):
            if name is not None:
                write_user_file(Path(name), render([comparison], suffix, engine))
                tell(f"wrote {name}")
        if as_json:
            sys.stdout.write(f"{encode(comparison_to_json(comparison))}\n")
        else:
            _print(comparison, str(settings.value("color")))
        sys.stdout.flush()
        if signals.interrupts:
            raise KeyboardInterrupt


def run_replay(options: Options, path: Path) -> None:
    """Make the texts of an exported comparison again; fails at the first token that
    differs."""
    from minigpt_repl.compare.export import read_recorded, replay, warnings

    recorded = read_recorded(read_user_file(path), path.name)
    directory, _ = prepare(options)
    with _engine(directory, options) as (engine, _):
        for one in recorded:
            for warning in warnings(one, engine.info):
                tell(warning)
            for line in replay(engine, one):
                click.echo(shown_line(line))


def run_score(options: Options, path: Path, lists_tokens: bool) -> None:
    """Print what the model thinks of a text: each token's surprisal, then a summary."""
    from minigpt_repl.engine.inspection import score

    text = sys.stdin.read() if str(path) == "-" else read_user_file(path)
    directory, _ = prepare(options)
    with _engine(directory, options) as (engine, _):
        scored = score(engine, text)
        if lists_tokens:
            for token_id, bits in zip(scored.token_ids, scored.bits, strict=True):
                shown = shown_line(engine.info.text.visible(token_id))
                click.echo(f"{bits:.3f}\t{shown}")
        click.echo(scored.summary)


def run_doctor(options: Options) -> bool:
    """Print what `doctor` finds, line by line; returns whether all is well."""
    from minigpt_repl.doctor import examine
    from minigpt_repl.engine.worker import quiet

    config = read_settings_file(options)
    directory = paths.find_checkpoint(options.checkpoint, config.checkpoint)
    problems = (*config.problems, *read_environment(os.environ).problems)
    is_well = True
    # It asks TensorFlow for its devices, in this process.
    with contextlib.nullcontext() if options.debug else quiet():
        for finding in examine(
            directory,
            not options.no_verify,
            problems,
            lambda folder: open_engine(folder, options),
        ):
            is_well = is_well and not finding.advice
            click.echo(shown_line(str(finding)))
    return is_well


def open_engine(
    directory: str,
    options: Options,
    warm: "Sequence[Warming]" = (),
) -> "RemoteEngine":
    """The engine of a checkpoint's folder; it is started when it is needed."""
    from minigpt_repl.engine.remote import RemoteEngine

    return RemoteEngine(
        directory, verify=not options.no_verify, warm=warm, shows_log=options.debug
    )


def _check(options: Options) -> None:
    if options.prompt is None and options.count != 1:
        raise UsageError(
            "-n makes several texts of one prompt: give the prompt with -p"
        )
    if options.top and not options.wants_json:
        raise UsageError("--top N tells alternatives in JSON: add --json or --jsonl")
    of_pipes = {
        "--json": options.as_json,
        "--jsonl": options.jsonl,
        "--only-new": options.only_new,
        "--keep-going": options.keep_going,
    }
    given = [name for name, is_given in of_pipes.items() if is_given]
    if given and _is_interactive(options):
        raise UsageError(f"{given[0]} needs -p, --script or lines on standard input")


def _is_interactive(options: Options) -> bool:
    is_asked = options.prompt is None and options.script is None
    return is_asked and sys.stdin.isatty() and sys.stdout.isatty()


def _run_plain(options: Options, loop: "PlainLoop") -> None:
    """Run the sources in their order: -e, then --script, then -p or stdin."""
    from minigpt_repl.repl.plain import Lines, read_lines

    with contextlib.ExitStack() as stack:
        sources = [Lines("-e", iter(options.commands))]
        if options.script is not None:
            name = shown_path(options.script)
            file = stack.enter_context(open_user_file(Path(options.script)))
            sources.append(Lines(name, read_lines(file, name)))
        elif options.prompt is None:
            sources.append(Lines("stdin", read_lines(sys.stdin.buffer, "stdin")))
        for source in sources:
            if not loop.run(source):
                return
    if options.prompt is not None:
        from minigpt_repl.repl.continuation import continue_times

        prompt = read_prompt(options.prompt)
        loop.run_steps(lambda context: continue_times(context, prompt, options.count))


def read_prompt(flag: str) -> str:
    """The prompt that a flag gives; `-` reads standard input."""
    if flag != "-":
        # A byte that is no UTF-8 came as a surrogate, which nothing can encode.
        return flag.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    from minigpt_repl.repl.plain import LONGEST_INPUT, too_long

    text = sys.stdin.buffer.read(LONGEST_INPUT + 1)
    if len(text) > LONGEST_INPUT:
        raise too_long("the prompt on standard input")
    return text.decode("utf-8", "replace").rstrip("\r\n")


def _make_loop(options: Options, directory: Path, session: Session) -> "PlainLoop":
    from minigpt_repl.repl.plain import PlainDisplay, PlainLoop

    writer = JsonWriter(sys.stdout, options.jsonl) if options.wants_json else None
    can_wrap = sys.stdout.isatty() and not is_dumb(os.environ)
    page = PlainDisplay(
        sys.stdout,
        sys.stderr,
        only_new=options.only_new,
        hide_texts=options.wants_json,
        width=shutil.get_terminal_size().columns,
        size=shutil.get_terminal_size if can_wrap else None,
        # An object of `--json` may come while the sign is there.
        spinner=None if options.wants_json else _spinner(),
    )
    return PlainLoop(
        session,
        lambda folder: open_engine(folder, options),
        str(directory),
        page,
        watch=writer.watch if writer else None,
        top=options.top,
        keep_going=options.keep_going,
    )


def _spinner() -> "Spinner":
    """Tell a terminal that we are at work: TensorFlow alone takes seconds."""
    from minigpt_repl.repl.screen import Spinner

    # A terminal on one side only is none, and gets no escape byte.
    sides = (sys.stdin, sys.stdout, sys.stderr)
    is_seen = all(side.isatty() for side in sides) and not is_dumb(os.environ)
    return Spinner(sys.stderr, (lambda: "working; ^C stops") if is_seen else None)


def _print(comparison: "Comparison", color: str) -> None:
    from rich.console import Group

    from minigpt_repl.compare.comparison_view import TextsView, below_texts, notes
    from minigpt_repl.repl.output import wants_color
    from minigpt_repl.repl.tables import draw

    has_color = wants_color(color, os.environ, sys.stdout.isatty())
    draw(
        Group(TextsView(comparison), *below_texts(comparison)),
        sys.stdout,
        shutil.get_terminal_size().columns,
        has_color=has_color,
    )
    for note in notes(comparison):
        tell(note)


@contextlib.contextmanager
def _engine(directory: Path, options: Options) -> Iterator[tuple[Engine, Signals]]:
    """An engine; the first ^C ends a text within a step, and what is there is kept."""
    with (
        contextlib.closing(open_engine(str(directory), options)) as engine,
        Signals(engine.stop, leaving=()) as signals,
        signals.stopping(),
    ):
        yield engine, signals
