"""What there is to say of a text, how it was made and ended; and how rich draws texts.

They stand one below the other, or are coloured by the surprisal of their tokens. Each
view asks for the room when it is drawn, so it fits any terminal and a pipe alike. What
colour says is said by a mark too.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minigpt_repl.compare.spec import Strategy, text_seed
from minigpt_repl.engine.request import (
    EngineInfo,
    Event,
    Finished,
    Generation,
    HypothesesChanged,
    Request,
    Started,
    TokenChosen,
)
from minigpt_repl.shown import (
    and_more,
    in_seconds,
    in_tokens_per_second,
    percent,
    plain,
    shown,
    shown_line,
)

if TYPE_CHECKING:
    import numpy as np

SHOWN_WORDS = 8
SHOWN_SEEDS = 8
NOT_FINITE = (
    "the model's scores are not finite numbers, so the text ends here; "
    "its weights may be damaged"
)

REASONS = {
    "length": "length reached",
    "stop": "sentence ended",
    "context": "context full",
    "interrupted": "interrupted",
    "picked": "picked by hand",
    "not_finite": "scores not finite",
}
"""Why a text ended, in words."""

OWN_TEXT = "your text"

STRATEGIES = ("cyan", "yellow", "green", "magenta", "blue", "red")
"""Colours of strategies by their places, the same in texts, tables and plots."""
FAINT = "dim"
CURSOR = "▍"
SAME = "same for every seed"
WIDEST_LABEL = 1 / 3
"""Part of the screen that what stands before texts, figures or dots may take."""
GAP = 2
SHOWN_PROMPT = 3
"""Lines of a prompt that are shown while texts grow: its end."""

LEVELS = (1.0, 3.0, 6.0, 10.0)
"""Bits at which the next level begins."""

LEVEL_NAMES = ("under 1 bit", "1 to 3", "3 to 6", "6 to 10", "10 bits or more")
STYLES = ("green", "cyan", "yellow", "magenta", "bold red")
"""From the terminal's own palette, so that they suit a dark and a light one."""


def maker(generation: Generation) -> str:
    """The sampler that made a text, or that it is the user's own."""
    return OWN_TEXT if generation.is_own_text else generation.request.sampler


def display_pieces(generation: Generation, info: EngineInfo) -> list[str]:
    """What each new token added to the readable form, with the space before it.

    Put together they are the text, to be put right after the prompt.
    """
    return info.text.parts(
        generation.request.prompt, generation.started.prompt_ids, generation.token_ids
    )


def visible(token_id: int, info: EngineInfo) -> str:
    """A token on one line, its space and its controls made visible."""
    return shown_line(info.text.visible(token_id))


def listed(token_ids: Sequence[int], shares: "np.ndarray", info: EngineInfo) -> str:
    """Tokens on one line, each with its probability of `shares`, `(vocabulary,)`."""
    return "  ".join(
        f"{visible(i, info)} {percent(float(shares[i]))}" for i in token_ids
    )


@dataclass
class PartialText:
    """What there is of a text while it is made: nothing, some of it, or all."""

    is_raw: bool = False  # it is shown as the model's pieces
    seed: int | None = None  # once it is drawn
    text: str | None = None  # what there is to show; `None` before the first token
    is_revised: bool = False  # a search makes it, so that it may change till its end
    generation: Generation | None = None  # the whole, once it has ended

    @property
    def has_begun(self) -> bool:
        """Whether it has ended, and not before its first token."""
        return self.generation is not None and self.generation.has_begun

    def follow(self, event: Event) -> bool:
        """Take an event; returns whether there is something new to see."""
        match event:
            case Started():
                self.seed = event.seed
                return False
            case HypothesesChanged():
                self.is_revised = True
                if self.is_raw:
                    return False
                self.text = event.text
            # The tokens that a search has settled on are in its text already.
            case TokenChosen() if not self.is_revised:
                delta = event.raw_delta if self.is_raw else event.delta
                self.text = (self.text or "") + delta
            case Finished(made):
                self.generation = made
                self.text = f" {made.raw_text}" if self.is_raw else made.text
            case _:
                return False
        return True


def ending(text: str, length: int) -> str:
    """The end of a text, cut at a word, with dots for what is left out."""
    if len(text) <= length:
        return text
    tail = text[-length:]
    _, space, rest = tail.partition(" ")
    return f"... {rest if space else tail}"


def ending_in_a_line(text: str) -> str:
    """As `ending`, short, with a space for each break of a line and each gap."""
    return ending(" ".join(text.split()), 60)


def beginning_in_a_line(text: str, length: int) -> str:
    """The start of a text, with dots for what is left out, on one line as above."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 3]}..."


def next_token_place(text: str) -> str:
    """Where a next token stands, in words: behind a text, or where one begins."""
    where = f"after: {ending_in_a_line(text)}" if text else "at the start"
    return f"the next token {where}"


def stats_line(generation: Generation) -> str:
    """One line: how the text was made, how fast, and why it ended."""
    timings, count = generation.timings, len(generation.tokens)
    parts = [
        describe_sampler(generation.request),
        f"seed {generation.seed}",
        count_tokens(count),
    ]
    if generation.accepted is not None:
        accepted, drafted = generation.accepted
        parts.append(f"{accepted} of {drafted} drafts accepted")
    if count:
        together = f" of {timings.rows} texts together" if timings.rows > 1 else ""
        parts.append(f"{in_tokens_per_second(generation.tokens_per_second)}{together}")
        parts.append(f"first after {in_seconds(timings.first_token_s)}")
    return " · ".join([*parts, _reason(generation)])


def rows_line(made: Sequence[Generation]) -> str:
    """One line: how texts were made together, how fast, and why they ended."""
    seeds = [generation.seed for generation in made]
    parts = [describe_sampler(made[0].request)]
    if seeds == [text_seed(seeds[0], place) for place in range(len(seeds))]:
        parts.append(f"seeds {seeds[0]}..{seeds[-1]}")
    count = sum(len(generation.tokens) for generation in made)
    parts += [f"{len(made)} texts together", count_tokens(count)]
    seconds = sum(map(part_of_time, made))
    if count and seconds > 0:
        parts.append(in_tokens_per_second(count / seconds))
        parts.append(f"first after {in_seconds(made[0].timings.first_token_s)}")
    reasons = Counter(map(_reason, made))
    is_one = len(reasons) == 1
    told = [reason if is_one else f"{n} {reason}" for reason, n in reasons.items()]
    return " · ".join([*parts, ", ".join(told)])


def _reason(generation: Generation) -> str:
    is_at_end = (generation.stop_reason, generation.request.stop) == ("stop", "end")
    return "its end" if is_at_end else REASONS[generation.stop_reason]


def describe_sampler(request: Request) -> str:
    """A sampler with its parameters, such as `top_k k=10 temperature=1`, or a chain."""
    strategy = Strategy.of(request)
    return f"{strategy.name} {strategy.words}".strip()


def part_of_time(generation: Generation) -> float:
    """Seconds of decoding; of texts that were made together each has its part."""
    return generation.timings.decode_s / generation.timings.rows


def notices_before(started: Started, shown: str) -> Iterator[str]:
    """What became of the prompt, if not all of it is seen."""
    if started.cropped:
        seen = len(started.prompt_ids)
        cropped = count_tokens(started.cropped)
        yield f"prompt cropped by {cropped}: the model sees the last {seen}"
    # In a chat, what earlier prompts had of them was said then.
    unknown = [w for w in started.unknown_words if w.lower() in shown.lower()]
    if unknown:
        words = ", ".join(plain(word) for word in unknown[:SHOWN_WORDS])
        yield f"unknown to the model: {words}{and_more(len(unknown) - SHOWN_WORDS)}"


def notices_after(generation: Generation) -> Iterator[str]:
    """What a reader of the text should know."""
    if generation.reprimed:
        more = len(generation.reprimed) - 1
        often = f", and {more} times more" if more > 1 else ", and again" * more
        yield (
            f"context full after {count_tokens(generation.reprimed[0])}{often}: "
            "the model went on from the last words only"
        )
    for rule, count in generation.rescued:
        often = f"{count} of {count_tokens(len(generation.tokens))}"
        yield f"{rule} would have left nothing at {often}: the most probable was kept"
    if generation.stop_reason == "not_finite":
        yield NOT_FINITE


def count_tokens(count: int) -> str:
    """A number of tokens in words."""
    return f"{count} token" if count == 1 else f"{count} tokens"


def notices_of(made: Sequence[Generation], wanted: int) -> Iterator[str]:
    """What there is to say of the texts, once for those of which it holds."""
    seeds: dict[str, list[int]] = {}
    for generation in made:
        for notice in notices_after(generation):
            seeds.setdefault(notice, []).append(generation.seed)
    for notice, those in seeds.items():
        if len(those) == len(made):
            yield notice
        else:
            names = ", ".join(map(str, those[:SHOWN_SEEDS]))
            yield f"seed {names}{and_more(len(those) - SHOWN_SEEDS)}: {notice}"
    stopped = [one for one in made if one.stop_reason == "interrupted"]
    if stopped or len(made) < wanted:
        count = sum(len(generation.tokens) for generation in made)
        begun = f"{len(made)} of {wanted} texts had begun"
        yield f"stopped after {count_tokens(count)}: {begun}"


def name_style(place: int) -> str:
    """How the name of a comparison's strategy is written."""
    return f"bold {STRATEGIES[place % len(STRATEGIES)]}"


def label_width(labels: Sequence[str], room: int, least: int = 0) -> int:
    """Columns for labels: as many as they need, but no more than their part of the
    room, or `least` where that is more."""
    needed = max(map(len, labels), default=0)
    return min(needed, max(least, int(room * WIDEST_LABEL)))


def fitting(widths: Sequence[int], room: int) -> list[Sequence[int]]:
    """Places of columns in as few groups as fit into the room, about as long."""
    places = range(len(widths))
    for groups in places:
        size = -(-len(widths) // (groups + 1))
        cut = [places[start : start + size] for start in places[::size]]
        if all(sum(widths[i] + GAP for i in group) <= room for group in cut):
            return list(cut)
    return [[place] for place in places]


def spaced_words(text: str) -> list[str]:
    """Words with the white space before them."""
    return re.findall(r"\s*\S+", text)


@dataclass(frozen=True)
class Row:
    """A text and what tells it from the others."""

    label: str
    text: str
    is_growing: bool = False


@dataclass(frozen=True)
class RowsView:
    """Texts one below the other, after the prompt that they continue.

    If it `is_whole`, all of each is shown; else as many lines of each as the screen
    has room for: its last ones.
    """

    prompt: str
    rows: Sequence[Row]
    is_whole: bool = False

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        prompt = _wrapped(console, self.prompt, options.max_width)
        if not self.is_whole:
            prompt = prompt[-max(1, min(SHOWN_PROMPT, options.max_height // 4)) :]
        for line in prompt:
            line.stylize("bold")
            yield line
        rows, lines, left = self.rows, None, 0
        if not self.is_whole:
            room = max(1, options.max_height - 1 - len(prompt))
            if len(rows) > room:
                room = max(1, room - 1)
                left = len(rows) - room
                rows = sorted(rows, key=lambda row: not row.is_growing)[:room]
            lines = max(1, room // max(1, len(rows)))
        labels = [row.label for row in rows]
        indent = label_width(labels, options.max_width) + GAP
        for row in rows:
            label = Text(row.label, style=FAINT)
            label.truncate(indent - GAP, overflow="ellipsis", pad=True)
            text = row.text.strip() + CURSOR * row.is_growing
            wrapped = _wrapped(console, text, options.max_width - indent)
            for place, line in enumerate(wrapped[-lines:] if lines else wrapped):
                before = label if not place else " " * (indent - GAP)
                yield Text.assemble(before, " " * GAP, line)
        if left:
            yield Text(f"and {left} more", style=FAINT)


def _wrapped(console: Console, text: str, width: int) -> list[Text]:
    whole = Text(shown(text).expandtabs(1))
    return list(whole.wrap(console, max(1, width), overflow="fold"))


def level(bits: float) -> int:
    """0 for a token that was expected, up to 4 for one that was not."""
    return sum(bits >= bound for bound in LEVELS)


def digit(bits: float) -> str:
    """Whole bits, at most 9; 9 also for the infinite and for no number."""
    return str(int(bits)) if bits < 9 else "9"


@dataclass(frozen=True)
class HeatView:
    """A text by the surprisal of its tokens in bits, with a legend."""

    prompt: str
    pieces: Sequence[str]
    bits: Sequence[float]

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        has_color = console.color_system is not None and not console.no_color
        text = Text(shown(self.prompt), style="dim")
        for piece, bits in zip(map(shown, self.pieces), self.bits, strict=True):
            if has_color:
                text.append(piece, style=f"not dim {STYLES[level(bits)]}")
            else:
                text.append(f"{piece}{digit(bits)}")
        yield text
        yield Text("")
        if not has_color:
            yield Text(
                "the digit after a token is its surprisal in bits; 9 is 9 or more"
            )
            return
        legend = Text("surprisal ", style="dim")
        for name, style in zip(LEVEL_NAMES, STYLES, strict=True):
            legend.append("■ ", style=f"not dim {style}")
            legend.append(f"{name}  ", style="not dim default")
        yield legend
