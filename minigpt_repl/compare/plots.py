"""Small plots as inline SVG: bars of a measure, the surprisal along a text.

Colours are left to the page's style. Text in them is escaped.
"""

import math
from collections.abc import Sequence
from html import escape

from minigpt_repl.compare import heat
from minigpt_repl.compare.measures import Interval

ROW = 22
LABEL = 112
BAR = 150
VALUE = 88
WIDTH = LABEL + BAR + VALUE
LONGEST_NAME = 17

SPARK_HEIGHT = 40
SPARK_TOP_BITS = 14.0


def bars_svg(
    names: Sequence[str], intervals: Sequence[Interval | None], labels: Sequence[str]
) -> str:
    """A bar from 0 for each name, with its 95% interval as a line."""
    known = [i for i in intervals if i is not None and math.isfinite(i.mean)]
    top = max((i.mean + (i.half or 0.0) for i in known), default=0.0) or 1.0
    height = ROW * len(names)
    parts = [
        f'<svg class="bars" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(_spoken(names, labels))}">'
    ]
    for row, (name, interval, label) in enumerate(
        zip(names, intervals, labels, strict=True)
    ):
        y = row * ROW
        shown = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
        parts.append(f'<text x="0" y="{y + 15}">{escape(shown)}</text>')
        if interval is not None and interval in known:
            parts.append(_bar(interval, y, top))
        parts.append(
            f'<text x="{WIDTH}" y="{y + 15}" class="value">{escape(label)}</text>'
        )
    return "".join([*parts, "</svg>"])


def surprisal_svg(bits: Sequence[float]) -> str:
    """A bar for each token of a text, coloured as in the text."""
    if not bits:
        return ""
    bars = []
    for place, value in enumerate(bits):
        height = max(1.0, min(value, SPARK_TOP_BITS) / SPARK_TOP_BITS * SPARK_HEIGHT)
        bars.append(
            f'<rect class="f{heat.level(value)}" x="{place}" width="0.8" '
            f'y="{SPARK_HEIGHT - height:.1f}" height="{height:.1f}"/>'
        )
    mean = sum(bits) / len(bits)
    return (
        f'<svg class="spark" viewBox="0 0 {len(bits)} {SPARK_HEIGHT}" '
        f'preserveAspectRatio="none" role="img" '
        f'aria-label="surprisal of each token, {mean:.1f} bits on average">'
        f"{''.join(bars)}</svg>"
    )


def _bar(interval: Interval, y: int, top: float) -> str:
    length = max(1.0, interval.mean / top * BAR)
    bar = (
        f'<rect class="bar" x="{LABEL}" y="{y + 4}" width="{length:.1f}" height="14"/>'
    )
    if not interval.half:
        return bar
    low = LABEL + max(0.0, (interval.mean - interval.half) / top * BAR)
    high = LABEL + (interval.mean + interval.half) / top * BAR
    middle = y + ROW / 2
    line = f'<path class="span" d="M{low:.1f} {middle}H{high:.1f}"/>'
    return bar + line


def _spoken(names: Sequence[str], labels: Sequence[str]) -> str:
    pairs = zip(names, labels, strict=True)
    return ", ".join(f"{name} {label}" for name, label in pairs)
