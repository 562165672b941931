"""Training recipes as data: what is fed, what is trained, how it is stepped.

A recipe names everything that decides the result apart from the text, the seed and the
length of the run. The learning rate of each step is plain arithmetic on the three.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from minigpt_repl.errors import UsageError
from minigpt_repl.shown import did_you_mean, quoted

Feeding = Literal["cut", "packed"]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained."""

    name: str
    summary: str

    # What is fed. `cut`: the first window of each line, in batches shuffled 256 at a
    # time, the rest thrown away, as the reference does; `packed`: every token once an
    # epoch, truly shuffled.
    feeding: Feeding = "packed"
    # The last share of the run, which feeds only the windows that begin behind `[BOS]`,
    # as a prompt does.
    beginnings: float = 0.0
    batch_size: int = 64  # windows in a step
    epochs: int = 2  # when nothing else is asked for

    # The model.
    num_layers: int = 2
    num_heads: int = 3
    hidden_dim: int = 256
    intermediate_dim: int = 128  # of the feedforward layers
    context_length: int = 128  # tokens in a window, and positions of the model
    vocabulary_size: int = 5000  # the most words or pieces that are learned
    # As many rows in the embedding even where WordPiece learns fewer words, as in the
    # reference.
    all_rows: bool = False
    activation: str = "relu"
    normalize_first: bool = False  # pre-norm blocks and a final norm
    # Normalized queries and keys, turned by their positions, not learned positions.
    rotary: bool = False
    tie_weights: bool = False  # the head is the embedding's transpose
    dropout: float = 0.0
    # The last kernel of attention and of the feedforward begins at zero, so that a
    # block adds nothing at first.
    zero_outputs: bool = False
    # Of the first values, normally distributed; `None` for Keras' own uniform ones.
    embedding_stddev: float | None = 0.02

    # The steps.
    optimizer: Literal["adam", "muon"] = "muon"
    learning_rate: float = 8e-3  # its peak
    # Constant, or flat and then linear to zero.
    schedule: Literal["constant", "trapezoid"] = "trapezoid"
    warmup_steps: int = 100  # linear
    decay_fraction: float = 0.5  # the share of the run that a trapezoid's descent takes
    weight_decay: float = 0.1  # of matrices that are not embeddings
    beta_2: float = 0.98  # of Adam's second moment
    clip_norm: float | None = 1.0  # bound of the global gradient norm
    # Perplexity from one pass over the logits (`trainable.py`) instead of Keras'
    # cross-entropy and a second softmax in its metric.
    fused_loss: bool = True
    mixed_precision: bool = True  # bfloat16 products, float32 weights

    def changed(self, **fields: Any) -> "Recipe":
        """A copy with the fields that are not `None` replaced.

        Raises:
            UsageError: if heads and width do not fit together.
        """
        given = {name: value for name, value in fields.items() if value is not None}
        recipe = replace(self, **given)
        head_dim = recipe.hidden_dim // recipe.num_heads
        if head_dim == 0 or (recipe.rotary and head_dim % 2):
            kind = "an even number of" if recipe.rotary else "some"
            raise UsageError(
                f"each head needs {kind} dimensions; a width of {recipe.hidden_dim} "
                f"gives {recipe.num_heads} heads {head_dim} each"
            )
        return recipe


def saved_fields(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's fields from a record or a state of any version.

    Before there was a choice, models had all rows and learned positions.
    """
    once = {"all_rows": True, "rotary": False, "zero_outputs": False}
    return {**once, **recipe}


TUTORIAL = Recipe(
    name="tutorial",
    summary="The KerasHub example as it is: the yardstick.",
    feeding="cut",
    all_rows=True,
    embedding_stddev=None,
    optimizer="adam",
    learning_rate=1e-3,
    schedule="constant",
    warmup_steps=0,
    weight_decay=0.0,
    beta_2=0.999,
    clip_norm=None,
    fused_loss=False,
    mixed_precision=False,
    epochs=5,
)

DEFAULT = Recipe(
    name="default",
    summary="No more parameters than the example's, every token fed, Muon.",
    num_layers=3,
    num_heads=4,
    intermediate_dim=768,
    activation="squared_relu",
    normalize_first=True,
    rotary=True,
    zero_outputs=True,
    tie_weights=True,
)

DRAFT = Recipe(
    name="draft",
    summary="A tenth of the size, to draft for speculative decoding.",
    num_layers=1,
    num_heads=1,
    hidden_dim=64,
    intermediate_dim=256,
    normalize_first=True,
    tie_weights=True,
)


_TINY = {
    **{"num_layers": 2, "num_heads": 2, "hidden_dim": 64, "intermediate_dim": 192},
    **{"dropout": 0.3, "batch_size": 8, "warmup_steps": 30},
}
_BOOK = {
    **{"num_layers": 2, "num_heads": 4, "hidden_dim": 128, "intermediate_dim": 384},
    **{"dropout": 0.3, "batch_size": 16},
}

SIZES: Mapping[int, Mapping[str, Any]] = {
    8_000: {**_TINY, "epochs": 100},
    30_000: {**_TINY, "epochs": 12},
    300_000: {**_BOOK, "epochs": 8},
    2_000_000: {"dropout": 0.1, "batch_size": 32, "epochs": 8},
}
"""What suits texts of up to so many tokens, as fields of a recipe, the smallest first.
A larger text has the recipe as it is. The second and the third were the best of those
that docs/training-log.md lists."""

PATIENCE = 8  # evaluations of a small text without a new best that end the run
SEEN_TOKENS = 3_000_000  # that a small text is read to at most, again and again


def fitted(recipe: Recipe, tokens: int, given: Mapping[str, Any]) -> Recipe:
    """The recipe in the size that a text of so many tokens can fill.

    The `given` fields were asked for by name, and stay.
    """
    if not is_small(tokens):
        return recipe
    fields = next(SIZES[most] for most in SIZES if tokens <= most)
    epochs = min(fields["epochs"], SEEN_TOKENS // max(tokens, 1))
    fields = {**fields, "epochs": max(recipe.epochs, epochs)}
    free = {name for name in fields if given.get(name) is None}
    return recipe.changed(**{name: fields[name] for name in free})


def is_small(tokens: int) -> bool:
    """Whether a text of so many tokens is soon learned by heart."""
    return tokens <= max(SIZES)


RECIPES = {recipe.name: recipe for recipe in (DEFAULT, TUTORIAL, DRAFT)}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UsageError: naming the nearest match and all there are.
    """
    if name not in RECIPES:
        near = did_you_mean(name, RECIPES)
        raise UsageError(
            f"no recipe {quoted(name)}: there are {', '.join(RECIPES)}{near}"
        )
    return RECIPES[name]


@dataclass(frozen=True)
class Length:
    """When a run ends: after so many steps or seconds, or what comes first of both.

    Seconds are counted across resumes.
    """

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = [each for each in (self.steps, self.seconds) if each is not None]
        if not given or min(given) <= 0:
            raise UsageError(f"a run must be longer than nothing, but {given} is not")

    @property
    def counted(self) -> tuple[str, float]:
        """What a run is counted in, and how much of it there is; per cent of two."""
        if self.steps and self.seconds:
            return "%", 100.0
        return ("steps", self.steps) if self.steps else ("seconds", self.seconds or 0.0)

    def progress(self, step: int, elapsed: float) -> float:
        """The share of the run that is over, from 0 to 1."""
        in_steps = step / self.steps if self.steps else 0.0
        in_seconds = elapsed / self.seconds if self.seconds else 0.0
        return min(max(in_steps, in_seconds), 1.0)


def learning_rate(recipe: Recipe, step: int, progress: float) -> float:
    """The rate of a step: a linear warm-up, times the recipe's schedule.

    The schedule goes by the share of the run that is over, so that one measured in
    minutes ends with the rate at zero as well.
    """
    rate = recipe.learning_rate
    if step < recipe.warmup_steps:
        rate *= (step + 1) / recipe.warmup_steps
    if recipe.schedule == "trapezoid":
        rate *= min(1.0, (1 - progress) / recipe.decay_fraction)
    return rate
