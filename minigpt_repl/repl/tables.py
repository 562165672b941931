"""Tables as the commands show them, and how rich draws them, with colour or without.

Cells are `Text`, never plain strings: rich would read `[BOS]` as markup. `draw` is
the last of the places where a string of others leaves: whatever a table or a text
holds, no character of it steers the terminal.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from minigpt_repl.compare.pieces import (
    FAINT,
    beginning_in_a_line,
    maker,
    part_of_time,
)
from minigpt_repl.engine.request import Generation
from minigpt_repl.repl.context import Session
from minigpt_repl.sampling.chain import STAGES
from minigpt_repl.sampling.parameters import (
    Limits,
    Parameter,
    format_value,
    format_values,
)
from minigpt_repl.sampling.registry import all_samplers
from minigpt_repl.settings import DEFAULT_SAMPLER, SESSION_PARAMETERS, Settings
from minigpt_repl.shown import in_seconds, in_tokens_per_second, shown

NAME = "bold cyan"
STRONG = "bold"
Row = Sequence[Text | str]
LEAST_CELL = 18
"""Columns under which words are broken so often that lines read better."""


class FittingTable:
    """Rows under headings: a table without lines where there is room for one,
    else each row as a few indented lines.

    Args:
        rows: the cells; a `str` is shown as it is, its controls made visible. Those
            that a row lacks at its end are empty.
        right: headings of the columns that are aligned to the right, by spaces.
        whole: how many columns, from the left, are not broken into lines.
    """

    def __init__(
        self,
        headings: Sequence[str],
        rows: Iterable[Row],
        right: str = "",
        whole: int = 1,
    ) -> None:
        self._headings = headings
        self.rows = []
        for row in rows:
            cells = [
                Text(shown(each)) if isinstance(each, str) else each for each in row
            ]
            missing = [Text()] * (len(headings) - len(cells))
            self.rows.append([*cells, *missing])
        self._right = right.split()
        self.whole = whole

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        if options.max_width >= self._least_width():
            yield self._table()
        else:
            yield from self._stacked()

    def _least_width(self) -> int:
        widths: list[int] = [
            max([cell_len(heading), *(cell.cell_len for cell in cells)])
            for heading, *cells in zip(self._headings, *self.rows, strict=True)
        ]
        kept, broken = widths[: self.whole], widths[self.whole :]
        gaps = 2 * len(self._headings)
        return sum(kept) + sum(min(width, LEAST_CELL) for width in broken) + gaps

    def _table(self) -> Table:
        table = Table(
            box=None,
            pad_edge=False,
            header_style=FAINT,
            show_header=any(self._headings),
        )
        for index, heading in enumerate(self._headings):
            table.add_column(
                heading,
                justify="right" if heading in self._right else "left",
                no_wrap=index < self.whole,
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*row)
        return table

    def _stacked(self) -> Iterator[RenderableType]:
        # What stands under the first heading is the row's name, and needs no label.
        first = next((place for place, each in enumerate(self._headings) if each), 0)
        labels = [
            f"{heading}: " if heading and place != first else ""
            for place, heading in enumerate(self._headings)
        ]
        if self._headings[first]:
            yield Text(self._headings[first], FAINT)
        for row in self.rows:
            cells = [
                Text.assemble((label, FAINT), cell) if cell.plain else cell
                for label, cell in zip(labels, row, strict=True)
            ]
            yield Text("  ").join(cell for cell in cells[: self.whole] if cell.plain)
            rest = [cell for cell in cells[self.whole :] if cell.plain]
            for is_short, group in groupby(rest, _is_short):
                cells = list(group)
                for line in [Text("  ").join(cells)] if is_short else cells:
                    yield Padding(line, (0, 0, 0, 4))


def _is_short(cell: Text) -> bool:
    return cell.cell_len <= LEAST_CELL


def samplers_table(settings: Settings) -> FittingTable:
    """Every sampler with its parameters, the one in use marked."""
    rows = []
    for spec in settings.samplers():
        is_current = spec.name == settings.sampler.name
        mark = Text("*" if is_current else " ", style=STRONG)
        name = Text(spec.name, style=NAME if is_current else "")
        pairs = format_values(settings.parameters(spec), shows_off=True)
        rows.append((mark, name, pairs, spec.summary))
    return FittingTable(("", "sampler", "parameters", "it takes"), rows, whole=2)


def rules_table(limits: Limits) -> FittingTable:
    """Every rule of chains with its parameters."""
    rows = []
    for stage in STAGES.values():
        defaults = {each.name: each.default for each in stage.parameters}
        pairs = format_values(defaults, shows_off=True)
        rows.append((Text(stage.name, style=NAME), pairs, stage.summary))
    return FittingTable(("rule of a chain", "parameters", "it leaves"), rows)


def settings_table(
    settings: Settings, keys: Iterable[str] | None = None
) -> FittingTable:
    """Settings with value, default, range and meaning: those of some keys, or the
    sampler, its parameters and the session's settings."""
    rows: list[Row] = []
    if keys is None:
        keys = current_keys(settings)
        names = (settings.sampler.name, DEFAULT_SAMPLER, ":sampler lists them")
        meaning = "how the next token is chosen"
        rows.append((Text("sampler", style=NAME), *names, meaning))
    for key in keys:
        rows.append((*_setting_cells(settings, key), settings.parameter(key).help))
    headings = ("setting", "value", "default", "allowed", "meaning")
    return FittingTable(headings, rows, whole=3)


def other_settings_table(settings: Settings) -> FittingTable:
    """The parameters of the samplers that are not in use."""
    rows = [_setting_cells(settings, key) for key in other_keys(settings)]
    return FittingTable(("others", "value", "default", "allowed"), rows, whole=3)


def _setting_cells(settings: Settings, key: str) -> tuple[Text, Text, str, str]:
    parameter = settings.parameter(key)
    value = settings.value(settings.key(key))
    is_changed = value != parameter.default
    return (
        Text(key, style=NAME),
        Text(format_value(value), style=STRONG if is_changed else ""),
        format_value(parameter.default),
        short_range(parameter, settings.limits),
    )


def origins_table(settings: Settings) -> FittingTable:
    """Every setting with its value and where it came from."""
    full_keys = {key: settings.key(key) for key in all_keys(settings)}
    rows = [
        (
            Text(key, style=NAME),
            format_value(settings.value(full)),
            origin_word(settings, full),
        )
        for key, full in {"sampler": "sampler", **full_keys}.items()
    ]
    return FittingTable(("setting", "value", "from"), rows, whole=3)


def history_table(session: Session, width: int) -> FittingTable:
    """Every text of the session, the current one marked."""
    rows = [
        (
            Text("*" if node.id == session.current else " ", style=STRONG),
            str(node.id),
            "" if node.parent is None else str(node.parent),
            maker(node.generation),
            "" if node.generation.is_own_text else str(node.generation.seed),
            beginning_in_a_line(node.text, max(20, width - 40)),
        )
        for node in session.nodes
    ]
    headings = ("", "text", "after", "sampler", "seed", "words")
    return FittingTable(headings, rows, right="text after seed", whole=5)


def stats_table(session: Session) -> FittingTable:
    """What each sampler has made in this session, and how fast."""
    by_maker: dict[str, list[Generation]] = {spec.name: [] for spec in all_samplers()}
    for node in session.nodes:
        by_maker.setdefault(maker(node.generation), []).append(node.generation)
    rows = []
    for name, made in by_maker.items():
        if not made:
            continue
        tokens = sum(len(generation.tokens) for generation in made)
        seconds = sum(map(part_of_time, made))
        # The soonest: the first of all may have waited for a compile.
        first = min(generation.timings.first_token_s for generation in made)
        rows.append(
            (
                Text(name, style=NAME),
                str(len(made)),
                str(tokens),
                in_tokens_per_second(tokens / seconds) if seconds > 0 else "",
                "" if made[0].is_own_text else in_seconds(first),
            )
        )
    headings = ("sampler", "texts", "tokens", "speed", "first token")
    return FittingTable(headings, rows, right="texts tokens speed", whole=3)


def facts_table(facts: Iterable[tuple[str, str]]) -> FittingTable:
    """Names and values, a line each."""
    rows = [(Text(name, style=NAME), value) for name, value in facts]
    return FittingTable(("", ""), rows)


def current_keys(settings: Settings) -> list[str]:
    """The session's settings and the parameters of the sampler in use."""
    session = [parameter.name for parameter in SESSION_PARAMETERS]
    return [*session, *settings.sampler.parameter_names]


def other_keys(settings: Settings) -> list[str]:
    """The parameters of the other samplers, such as `top_p.p`."""
    names = [
        f"{spec.name}.{name}"
        for spec in all_samplers()
        if spec.name != settings.sampler.name
        for name in spec.parameter_names
    ]
    # A chain in use may give one another meaning.
    return [name for name in names if settings.key(name) == name]


def all_keys(settings: Settings) -> list[str]:
    """Every setting but the sampler, as the user would type it."""
    return [*current_keys(settings), *other_keys(settings)]


def short_range(parameter: Parameter, limits: Limits) -> str:
    """The allowed values in few words, such as `1..4911 or off`."""
    words = parameter.range_text(limits) or parameter.allowed(limits)
    has_off = words.endswith("or off")
    return f"{words} or off" if parameter.optional and not has_off else words


def origin_word(settings: Settings, key: str) -> str:
    """Where a value came from, in the user's words."""
    origin = settings.origin(key)
    return ":set" if origin == "set" else origin


def draw(
    content: RenderableType,
    out: TextIO,
    width: int,
    height: int | None = None,
    has_color: bool = False,
) -> None:
    """Write what rich can draw; a text is not wrapped if there is no `height`."""
    console = Console(
        file=out,
        width=width,
        height=height,
        force_terminal=has_color,
        no_color=not has_color,
        color_system="auto" if has_color else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    is_line = height is None and isinstance(content, Text)
    console.print(_Shown(content), soft_wrap=is_line)


@dataclass(frozen=True)
class _Shown:
    """What rich draws of something, the controls in its strings made visible."""

    content: RenderableType

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        for text, style, control in console.render(self.content, options):
            yield Segment(text if control else shown(text), style, control)
