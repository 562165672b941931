"""The command line of `minigpt-repl`: its options, its subcommands, its completion.

What a run needs is imported where it is needed, so that `--help` answers at once.
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from minigpt_repl.config import (
    Options,
    default_config_text,
    prepare,
    read_config,
    read_environment,
    tell,
)
from minigpt_repl.errors import EXIT_OK, EXIT_RUNTIME
from minigpt_repl.files import read_user_file, write_user_file
from minigpt_repl.paths import find_checkpoint, known_checkpoints
from minigpt_repl.settings import Settings
from minigpt_repl.shown import did_you_mean, quoted, shown_line
from minigpt_repl.version import __version__


def complete_strategy(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Samplers and rules, each with its summary; after a colon parameters, after an
    equal sign values."""
    from minigpt_repl.repl.completion import spec_words, summary_of

    return [
        CompletionItem(word, help=summary_of(word))
        for word in spec_words(Settings(), incomplete)
        if word.startswith(incomplete)
    ]


def complete_setting(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[str]:
    """Settings of the session and of the samplers."""
    names = dict.fromkeys(key.rpartition(".")[2] for key in Settings().names())
    return [f"{name}=" for name in names if name.startswith(incomplete)]


def complete_checkpoint(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of checkpoints; the shell itself knows folders."""
    names = [name for name in known_checkpoints() if name.startswith(incomplete)]
    return [*map(CompletionItem, names), CompletionItem(incomplete, type="dir")]


def assignment(typed: str) -> tuple[str, str]:
    """The name and the text of a setting's value, of `k=10` or `top_p.p=0.5`."""
    name, equals, text = typed.partition("=")
    if not (name.strip() and equals):
        raise click.BadParameter(f"--set takes NAME=VALUE, such as k=10; got {typed!r}")
    return name.strip(), text.strip()


class Group(click.Group):
    """A group that helps who typed a prompt in place of a subcommand."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a better message."""
        names = self.list_commands(ctx)
        if args and args[0] not in names:
            raise click.UsageError(
                f"no command {quoted(args[0])}: there are {', '.join(names)}"
                f"{did_you_mean(args[0], names)}; a text to continue goes after -p"
            )
        return super().resolve_command(ctx, args)


_CHECKPOINT = click.option(
    "--checkpoint",
    metavar="DIR",
    type=click.Path(),
    shell_complete=complete_checkpoint,
    help="Folder or name of the model; else MINIGPT_CHECKPOINT, the config, default.",
)


@click.group(
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
    epilog="Without -p, --script and a terminal, each line of standard input is "
    "handled as if it had been typed.",
)
@_CHECKPOINT
@click.option("--no-verify", is_flag=True, help="Load it without checking its record.")
@click.option(
    "-p", "--prompt", metavar="TEXT", help="Continue TEXT and leave; - reads stdin."
)
@click.option(
    "--sampler",
    metavar="NAME",
    shell_complete=complete_strategy,
    help="Decoding strategy.",
)
@click.option(
    "--set",
    "assignments",
    type=assignment,
    multiple=True,
    metavar="K=V",
    shell_complete=complete_setting,
    help="A setting, as :set takes it; may be given again.",
)
@click.option("--seed", metavar="N", help="Seed; text i of -n uses N+i.")
@click.option("--length", metavar="N", help="New tokens a text.")
@click.option(
    "-n",
    "count",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    help="Texts to make of -p.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a text.")
@click.option("--jsonl", is_flag=True, help="As --json, and an object a token.")
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(0, 100),
    default=0,
    help="With --json: N alternatives and the entropy of each token.",
)
@click.option("--only-new", is_flag=True, help="Leave the prompt out.")
@click.option(
    "--script",
    metavar="FILE",
    type=click.Path(),
    help="Handle the lines of FILE as if typed, and leave.",
)
@click.option(
    "-e",
    "commands",
    multiple=True,
    metavar="LINE",
    help="Handle LINE first, such as ':set k 5'; may be given again.",
)
@click.option("--keep-going", is_flag=True, help="Go on after a line that fails.")
@click.option(
    "--config", metavar="FILE", type=click.Path(), help="Settings, in place of yours."
)
@click.option("--print-config", is_flag=True, help="Print a commented config file.")
@click.option(
    "--color",
    metavar="WHEN",
    type=click.Choice(["auto", "always", "never"]),
    help="auto, always or never.",
)
@click.option("--no-history", is_flag=True, help="Keep no history of what is typed.")
@click.option("--debug", is_flag=True, help="Show tracebacks and TensorFlow's log.")
@click.version_option(__version__, "--version", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, /, **flags: Any) -> int:
    """Continue texts with a small language model, and see how it chooses.

    Without -p it opens a prompt: type a text to have it continued, :help for the
    commands, ^D to leave.
    """
    ctx.obj = Options(**flags)
    if ctx.invoked_subcommand is not None:
        return EXIT_OK
    if ctx.obj.print_config:
        click.echo(default_config_text(), nl=False)
        return EXIT_OK
    from minigpt_repl.repl import entry

    return entry.run(ctx.obj)


@cli.command()
@_CHECKPOINT
@click.option("--no-verify", is_flag=True, help="Do not compare it with its record.")
@click.pass_obj
def doctor(options: Options, /, **given: Any) -> int:
    """Check all that a text needs, and say what to do.

    Looks at versions, devices, checkpoint, settings and folders, and makes 20
    tokens. Each line is ok, or says what to do.
    """
    from minigpt_repl.doctor import examine
    from minigpt_repl.engine.worker import quiet
    from minigpt_repl.repl.entry import open_engine
    from minigpt_repl.repl.screen import make_screen

    options = options.changed(**given)
    config = read_config(options.config)
    directory = find_checkpoint(options.checkpoint, config.checkpoint)
    problems = (*config.problems, *read_environment(os.environ).problems)
    code = EXIT_OK
    # It asks TensorFlow for its devices, in this process.
    with contextlib.nullcontext() if options.debug else quiet():
        findings = examine(
            directory,
            not options.no_verify,
            problems,
            lambda folder: open_engine(folder, options),
        )
        screen = make_screen()
        while True:
            with screen.spinner:  # the last ones take seconds
                finding = next(findings, None)
            if finding is None:
                return code
            code = EXIT_RUNTIME if finding.advice else code
            click.echo(shown_line(str(finding)))


@cli.command()
@click.argument(
    "specs", nargs=-1, metavar="[SPEC]...", shell_complete=complete_strategy
)
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
    options: Options,
    /,
    specs: tuple[str, ...],
    prompt: str,
    count: str,
    as_json: bool,
    markdown: str | None,
    html: str | None,
    **given: Any,
) -> int:
    """Continue one prompt with several strategies.

    SPEC is a sampler, with parameters if you like: top_k:k=10,temperature=0.8.
    Without one it is every sampler as it is set. The texts and their measures are
    printed side by side, or written as JSON, Markdown or HTML.
    """
    from minigpt_repl.compare.comparison import finish, make_plan, run_plan
    from minigpt_repl.compare.comparison_view import TextsView, below_texts, notes
    from minigpt_repl.compare.export import check_place, comparison_to_json, render
    from minigpt_repl.compare.spec import (
        all_strategies,
        parse_count,
        parse_strategies,
    )
    from minigpt_repl.formats import encode
    from minigpt_repl.repl.entry import opened_engine, read_prompt
    from minigpt_repl.repl.output import Say
    from minigpt_repl.repl.screen import make_screen, work_of

    options = options.changed(**given)
    texts = parse_count(count)
    directory, settings = prepare(options)
    strategies = parse_strategies(specs, settings)
    pages = [(markdown, ".md"), (html, ".html")]
    places = [(Path(name), suffix) for name, suffix in pages if name is not None]
    for path, suffix in places:
        check_place(path, suffix)
    with opened_engine(directory, options) as engine:
        color = str(settings.value("color"))
        screen = make_screen(color, work=lambda: work_of(engine))
        text = read_prompt(prompt)
        with screen.spinner:
            if not strategies:
                strategies = all_strategies(settings, engine.info.has_draft)
            plan = make_plan(settings, strategies, text, texts)
            comparison = finish(run_plan(engine, plan))
        for path, suffix in places:
            write_user_file(path, render([comparison], suffix, engine))
            tell(f"wrote {path}")
        if as_json:
            sys.stdout.write(f"{encode(comparison_to_json(comparison))}\n")
        else:
            for view in (TextsView(comparison), *below_texts(comparison)):
                screen.show(Say(view))
            for note in notes(comparison):
                tell(note)
        sys.stdout.flush()
    return EXIT_OK


@cli.command()
@click.argument("file", metavar="FILE.json")
@_CHECKPOINT
@click.pass_obj
def replay(options: Options, /, file: str, **given: Any) -> int:
    """Run an exported comparison again; fail at the first token that differs."""
    from minigpt_repl.compare import export
    from minigpt_repl.repl.entry import opened_engine

    options, path = options.changed(**given), Path(file)
    recorded = export.read_recorded(read_user_file(path), path.name)
    directory, _ = prepare(options)
    with opened_engine(directory, options) as engine:
        for one in recorded:
            for warning in export.warnings(one, engine.info):
                tell(warning)
            for line in export.replay(engine, one):
                click.echo(shown_line(line))
    return EXIT_OK


@cli.command()
@click.argument("file", metavar="FILE")
@click.option("--tokens", is_flag=True, help="A line a token first: bits and token.")
@_CHECKPOINT
@click.pass_obj
def score(options: Options, /, file: str, tokens: bool, **given: Any) -> int:
    """Tell how little the model expects a text: perplexity and bits a byte.

    FILE is UTF-8 text; - reads standard input.
    """
    from minigpt_repl.engine.inspection import score as score_text
    from minigpt_repl.repl.entry import opened_engine

    options = options.changed(**given)
    text = sys.stdin.read() if file == "-" else read_user_file(Path(file))
    directory, _ = prepare(options)
    with opened_engine(directory, options) as engine:
        scored = score_text(engine, text)
        if tokens:
            for token_id, bits in zip(scored.token_ids, scored.bits, strict=True):
                visible = shown_line(engine.info.text.visible(token_id))
                click.echo(f"{bits:.3f}\t{visible}")
        click.echo(scored.summary)
    return EXIT_OK
