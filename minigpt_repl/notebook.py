"""A model in Python, for scripts and notebooks: `minigpt_repl.load()`.

    model = minigpt_repl.load()
    for piece in model.generate("the old king", "min_p=0.05 + temperature=0.8"):
        print(piece, end="", flush=True)

Samplers and chains are written as in the REPL. What the methods return shows itself in
Jupyter, as text elsewhere. The engine is a process of its own, so nothing of TensorFlow
is loaded here, and its log lines go to a file.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text as Line

from minigpt_repl.compare.choice import (
    Choice,
    Distribution,
    ScoredText,
    find_place,
    inspect,
    next_distribution,
    strategy_columns,
    why_chosen,
)
from minigpt_repl.compare.comparison import (
    Comparison,
    finish,
    make_plan,
    run_plan,
)
from minigpt_repl.compare.comparison_view import TextsView, below_texts, notes
from minigpt_repl.compare.page import fragment
from minigpt_repl.compare.pieces import HeatView
from minigpt_repl.compare.spec import (
    all_strategies,
    parse_count,
    parse_strategies,
    read_count,
)
from minigpt_repl.engine import inspection
from minigpt_repl.engine.remote import RemoteEngine
from minigpt_repl.engine.request import (
    Engine,
    Generation,
    Request,
    TokenChosen,
    finished,
)
from minigpt_repl.errors import UsageError
from minigpt_repl.paths import find_checkpoint
from minigpt_repl.settings import Settings, limits_of
from minigpt_repl.shown import quoted, shown

WIDTH = 88
"""Columns of what is shown as text."""
MOST_TOKENS = 1_000_000
"""Next tokens that are listed at most: more than a vocabulary has."""


def load(checkpoint: str | Path | None = None) -> "Model":
    """The model of a checkpoint's folder, or the one that comes with the program.

    `MINIGPT_CHECKPOINT` names another folder for it.

    Raises:
        CheckpointError: if there is no checkpoint, or a damaged one.
    """
    engine = RemoteEngine(find_checkpoint(checkpoint))
    try:
        return Model(engine)
    except BaseException:
        engine.close()
        raise


class Model:
    """A model that continues texts, and what there is to see of how it does.

    `close()`, or a `with` block, ends its process; so does the end of the program.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._info = engine.info

    def generate(
        self,
        prompt: str,
        sampler: str = "top_k",
        length: int = 80,
        seed: int | None = None,
        stop: str | None = None,
    ) -> "Text":
        """A continuation, made while it is read: in a `for` loop, piece by piece.

        Args:
            prompt: the text to go on from; `""` begins one.
            sampler: such as `top_k:k=5` or `min_p=0.05 + temperature=0.8`.
            length: new tokens.
            seed: of the random choices; without it one is drawn, see `Text.seed`.
            stop: `none`, `sentence` or `end`; the checkpoint's own if `None`.

        Raises:
            UsageError: for a sampler or a value that is not allowed.
        """
        settings = self._settings(sampler=sampler, length=length, seed=seed, stop=stop)
        request = replace(settings.request(_text("prompt", prompt)), with_scores=True)
        return Text(self._engine, request)

    def next(self, prompt: str, *samplers: str, count: int = 10) -> "Next":
        """The most probable next tokens, and what each sampler would leave of them.

        Raises:
            UsageError: for a sampler or a count that is not allowed.
        """
        strategies = parse_strategies(_texts(samplers), self._settings())
        count = read_count(str(count), MOST_TOKENS, "count must be")
        ids = self._engine.encode(_text("prompt", prompt))
        where = inspection.next_place(ids, self._engine)
        logits = inspection.next_logits(self._engine, ids)
        columns = strategy_columns(strategies, logits, where)
        return Next(next_distribution(logits, columns, self._info, count))

    def compare(
        self,
        prompt: str,
        *samplers: str,
        n: int = 1,
        length: int = 80,
        seed: int | None = None,
    ) -> "Compared":
        """The same prompt through several samplers, or all of them.

        Args:
            prompt: the text to go on from.
            samplers: as for `generate`.
            n: texts each; text i has the seed plus i.
            length: new tokens a text.
            seed: of the first text; without it one is drawn.

        Raises:
            UsageError: for a sampler or a value that is not allowed.
        """
        settings = self._settings(length=length, seed=seed)
        strategies = parse_strategies(_texts(samplers), settings) or all_strategies(
            settings, self._info.has_draft
        )
        count = parse_count(str(n))
        plan = make_plan(settings, strategies, _text("prompt", prompt), count)
        return Compared(finish(run_plan(self._engine, plan)), self._engine)

    def close(self) -> None:
        """End the engine's process."""
        self._engine.close()

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        name = Path(self._info.directory).name
        return f"<model {shown(name)!r}, {self._info.parameter_count:,} parameters>"

    def _settings(self, **given: object) -> Settings:
        typed = {name: str(v) for name, v in given.items() if v is not None}
        return Settings(limits=limits_of(self._info)).set(typed)[0]


def _text(what: str, given: object) -> str:
    if not isinstance(given, str):
        raise UsageError(f"a {what} must be text; got {quoted(given)}")
    return given


def _texts(samplers: Sequence[object]) -> list[str]:
    return [_text("sampler", each) for each in samplers]


class _Shown:
    """Shows itself: as HTML in a notebook, by rich as text elsewhere."""

    def __init__(self, content: RenderableType, html: Callable[[], str]) -> None:
        self._content, self._repr_html_ = content, html

    def __rich__(self) -> RenderableType:
        return self._content

    def __repr__(self) -> str:
        out = io.StringIO()
        console = Console(file=out, width=WIDTH, color_system=None, emoji=False)
        console.print(self, markup=False, highlight=False)
        return shown(out.getvalue().rstrip())


class Text:
    """A continuation. It is made when it is first looked at, and only once.

    Iterate over it to get it piece by piece; `str()` is the prompt and all of it.
    """

    def __init__(self, engine: Engine, request: Request) -> None:
        self._engine, self._request = engine, request
        self._made: Generation | None = None

    def __iter__(self) -> Iterator[str]:
        if self._made is not None:
            yield self._made.text
            return
        given, last = "", None
        with closing(self._engine.generate(self._request)) as events:
            for last in events:
                if isinstance(last, TokenChosen) and last.delta:
                    given += last.delta
                    yield last.delta
        self._made = finished(last)
        if rest := self._made.text.removeprefix(given):
            yield rest

    @property
    def generation(self) -> Generation:
        """The text with everything that is known of it; makes it if need be."""
        if self._made is None:
            for _ in self:
                pass
        assert self._made is not None
        return self._made

    @property
    def seed(self) -> int:
        """The seed that was asked for, or the one that was drawn."""
        return self.generation.seed

    def why(self, token: int | str = "") -> "Why":
        """Why a token was chosen: its number from 1, or a word of the text; the most
        surprising one without either.

        Raises:
            UsageError: if there is no such token.
        """
        text = self._inspected()
        return Why(why_chosen(text, find_place(text, str(token))))

    def heat(self) -> "Heat":
        """The text by surprisal: how little the model expected each token."""
        return Heat(self._inspected(), self._engine)

    def __str__(self) -> str:
        return self._request.prompt + self.generation.text

    def __repr__(self) -> str:
        return shown(str(self))

    def _repr_html_(self) -> str:
        return fragment(self._engine, generation=self.generation)

    def _inspected(self) -> ScoredText:
        if not self.generation.tokens:
            raise UsageError("the text has no new tokens")
        return inspect(self._engine, self._request.prompt, self.generation)


class Next(_Shown):
    """The distribution of a next token."""

    def __init__(self, distribution: Distribution) -> None:
        self.distribution = distribution
        super().__init__(distribution, lambda: fragment(distribution=distribution))


class Why(_Shown):
    """Why a token was chosen."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        facts = Table.grid(padding=(0, 2))
        for name, value in choice.facts:
            facts.add_row(Line(name), Line(value))
        content = Group(facts, "", choice.distribution)
        super().__init__(content, lambda: fragment(choice=choice))


class Heat(_Shown):
    """A text by the surprisal of its tokens, in bits."""

    def __init__(self, text: ScoredText, engine: Engine) -> None:
        self.bits = tuple(text.bits)
        view = HeatView(text.prompt, text.pieces, self.bits)
        super().__init__(view, lambda: fragment(engine, generation=text.generation))


class Compared(_Shown):
    """Texts of several samplers, and their measures."""

    def __init__(self, made: Comparison, engine: Engine) -> None:
        self.comparison = made
        content = Group(TextsView(made), *below_texts(made), "", *notes(made))
        super().__init__(content, lambda: fragment(engine, comparison=made))

    @property
    def figures(self) -> dict[str, dict[str, float | None]]:
        """The mean of each measure, by the name of its strategy."""
        made = self.comparison
        figures = {}
        for name, column in zip(made.names, made.columns, strict=True):
            found = {each.key: column.figure(each) for each in made.measures}
            figures[name] = {
                k: each.mean if each else None for k, each in found.items()
            }
        return figures
