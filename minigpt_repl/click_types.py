"""Kinds of options and groups that click does not have, for `cli.py`.

They complete names in the shell from the tables of samplers and settings.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from minigpt_repl.sampling.registry import all_samplers
from minigpt_repl.settings import SESSION_PARAMETERS
from minigpt_repl.suggest import did_you_mean, quoted


class SamplerName(click.ParamType[str]):
    """A sampler's name; the settings check it, so that all spellings work."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names that begin with what was typed, each with its summary."""
        return [
            CompletionItem(spec.name, help=spec.summary)
            for spec in all_samplers()
            if spec.name.startswith(incomplete)
        ]


class Assignment(click.ParamType[tuple[str, str]]):
    """A setting and its value, as `k=10` or `top_p.p=0.5`."""

    name = "k=v"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """The name and the text of the value."""
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not (name.strip() and equals):
            self.fail(f"--set takes NAME=VALUE, such as k=10; got {value!r}")
        return name.strip(), text.strip()

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Settings of the session and of the samplers."""
        names = [parameter.name for parameter in SESSION_PARAMETERS]
        for spec in all_samplers():
            names += [name for name in spec.parameter_names if name not in names]
        return [
            CompletionItem(f"{name}=") for name in names if name.startswith(incomplete)
        ]


class Group(click.Group):
    """A group that imports some of its subcommands only when they are asked for.

    Args:
        lazy: import path `module:attribute` of those, by name.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the subcommands."""
        return sorted([*super().list_commands(ctx), *self._lazy])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand of that name, or `None`."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._lazy[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but helps who typed a prompt in place of a command."""
        names = self.list_commands(ctx)
        if args and args[0] not in names:
            raise click.UsageError(
                f"no command {quoted(args[0])}: there are {', '.join(names)}"
                f"{did_you_mean(args[0], names)}; a text to continue goes after -p"
            )
        return super().resolve_command(ctx, args)
