"""A comparison as one HTML file that needs nothing else: no script, no font, no link.

Colours as in the terminal, light or dark as the reader's system is; readable on a
phone and printable. Everything that comes from a text is escaped.
"""

from collections.abc import Iterator, Sequence
from html import escape

from minigpt_repl.compare import heat
from minigpt_repl.compare.comparison import (
    Column,
    Comparison,
    figures,
    shared_words,
)
from minigpt_repl.compare.measures import MEASURES
from minigpt_repl.compare.pieces import display_pieces
from minigpt_repl.compare.plots import bars_svg, surprisal_svg
from minigpt_repl.compare.style import STYLE
from minigpt_repl.compare.view import (
    NOT_QUALITY,
    column_names,
    format_interval,
    split_words,
)
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import EngineInfo, Generation

TITLE = "Decoding strategies compared"

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="minigpt-repl">
<meta http-equiv="Content-Security-Policy" \
content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
<h1>{heading}</h1>
{legend}
{parts}
<footer>Made by minigpt-repl. <code>minigpt-repl replay</code> runs the JSON export \
of the same comparison again and tells the first token that differs.</footer>
</main>
</body>
</html>
"""


def comparisons_to_html(comparisons: Sequence[Comparison], info: EngineInfo) -> str:
    """A page with a part for each comparison.

    Args:
        comparisons: what to show.
        info: for the words of their tokens.
    """
    prompts = list(dict.fromkeys(c.plan.prompt for c in comparisons))
    title = f"{TITLE}: {' '.join(prompts[0].split())[:60]}" if prompts else TITLE
    return _PAGE.format(
        title=escape(title),
        style=STYLE,
        heading=TITLE,
        legend=_legend(),
        parts="\n".join(line for c in comparisons for line in _part(c, info)),
    )


def _legend() -> str:
    items = "".join(
        f'<li><span class="h{place}">{escape(name)}</span></li>'
        for place, name in enumerate(heat.LEVEL_NAMES)
    )
    return (
        '<p class="key">How little the model expected each token (surprisal):</p>'
        f'<ul class="legend">{items}</ul>'
    )


def _part(comparison: Comparison, info: EngineInfo) -> Iterator[str]:
    prompt = comparison.plan.prompt or "[BOS]"
    yield f'<section><h2 class="prompt">{escape(prompt)}</h2>'
    if comparison.is_interrupted:
        yield "<p>Stopped before all texts were made.</p>"
    shared = [
        shared_words([split_words(c.generations[i].text) for c in having])
        for i in range(comparison.plan.count)
        if (having := [c for c in comparison.columns if len(c.generations) > i])
    ]
    yield '<div class="texts">'
    for column in comparison.columns:
        yield _article(comparison, column, shared, info)
    yield "</div>"
    yield from _measures(comparison)
    yield _facts(comparison)
    yield "</section>"


def _article(
    comparison: Comparison, column: Column, shared: Sequence[int], info: EngineInfo
) -> str:
    parts = [
        f"<article><h3>{escape(column.strategy.sampler)} "
        f"<small>{escape(column.strategy.words)}</small></h3>"
    ]
    for index, generation in enumerate(column.generations):
        if comparison.plan.count > 1:
            parts.append(f'<p class="seed">seed {generation.seed}</p>')
        parts.append(f"<p>{_tokens(generation, shared[index], info)}</p>")
        bits = [_bits(generation, place) for place in range(len(generation.tokens))]
        parts.append(surprisal_svg(bits))
    return "\n".join([*parts, "</article>"])


def _tokens(generation: Generation, shared: int, info: EngineInfo) -> str:
    """Every token as a span: its surprisal as colour, its figures as a tooltip."""
    common = len("".join(split_words(generation.text)[:shared]))
    spans = []
    end = 0
    is_marked = shared == 0
    for place, piece in enumerate(display_pieces(generation, info)):
        end += len(piece)
        body = piece.lstrip()
        space = piece[: len(piece) - len(body)]
        classes = [f"h{heat.level(_bits(generation, place))}"]
        if end <= common:
            classes.append("same")
        elif not is_marked:
            classes.append("split")
            is_marked = True
        title = _tooltip(generation, place)
        spans.append(
            f'{escape(space)}<span class="{" ".join(classes)}" '
            f'title="{escape(title)}">{escape(body)}</span>'
        )
    return "".join(spans)


def _bits(generation: Generation, place: int) -> float:
    score = generation.tokens[place].score
    return 0.0 if score is None else inspection.surprisal(score.logprob)


def _tooltip(generation: Generation, place: int) -> str:
    score = generation.tokens[place].score
    if score is None:
        return f"token {place + 1}"
    return (
        f"token {place + 1}: {_bits(generation, place):.1f} bits, rank {score.rank}, "
        f"entropy {score.entropy:.1f} nats"
    )


def _measures(comparison: Comparison) -> Iterator[str]:
    names = column_names(comparison)
    columns = [dict(figures(column)) for column in comparison.columns]
    yield f'<h3>Measures</h3><p class="note">{NOT_QUALITY}</p>'
    yield '<div class="plots">'
    for measure in MEASURES:
        intervals = [column[measure] for column in columns]
        labels = [format_interval(measure, interval) for interval in intervals]
        plot = bars_svg(names, intervals, labels)
        caption = f"<b>{escape(measure.heading)}</b> {escape(measure.help)}"
        yield f"<figure><figcaption>{caption}</figcaption>{plot}</figure>"
    yield "</div>"


def _facts(comparison: Comparison) -> str:
    plan = comparison.plan
    facts = {
        "seed": str(plan.seed),
        "texts a strategy": str(plan.count),
        "length": f"{plan.length} tokens",
        "stop": plan.stop,
        "checkpoint": comparison.checkpoint_sha256,
        **comparison.versions,
    }
    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        for name, value in facts.items()
    )
    return f"<h3>How it was made</h3><dl>{items}</dl>"
