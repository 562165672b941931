"""What goes into an engine and what comes out: plain frozen values.

They are pickled between the engine's process and the terminal's, so nothing here
holds a tensor.
"""

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from minigpt_repl.errors import EngineError, MiniGPTError
from minigpt_repl.formats import NoiseKind, StopReason, StopRule, Timings
from minigpt_repl.models.text.codec import TextCodec
from minigpt_repl.sampling.parameters import Value

if TYPE_CHECKING:
    import numpy as np

SEEDS = 2**31
"""Seeds are 0 to one less; after the last comes the first."""


def draw_seed() -> int:
    """A fresh seed, for a text that was given none."""
    return random.SystemRandom().randrange(SEEDS)


@dataclass(frozen=True)
class Request:
    """One text to generate."""

    prompt: str  # the user's text; "" begins with nothing
    sampler: str  # its canonical name
    parameters: Mapping[str, Value]  # a value for each that the sampler has
    length: int = 80  # of new tokens at most
    seed: int | None = None  # of the random choices; `None` draws a fresh one
    # `none`; `sentence` to end at the first sentence end after half the length; `end`
    # to end where the document does.
    stop: StopRule = "none"
    # Token ids to continue, without the start token; used in place of `prompt` where
    # the exact tokens matter (`:continue`, `:step`).
    prompt_ids: tuple[int, ...] | None = None
    # Whether each token of the finished text carries its `TokenScore`. Costs a pass
    # over the text at its end.
    with_scores: bool = False
    # Whether samplers report what they weighed: hypotheses, candidates, drafts.
    with_details: bool = False
    # `own`, or `shared`: what is drawn hangs on the seed, the place in the text and the
    # token only, so that samplers are compared by the same noise.
    noise: NoiseKind = "own"
    top: int = 0  # alternatives that each score tells, the most probable tokens


@dataclass(frozen=True)
class TokenScore:
    """A token under the model at temperature 1, over the ids that have a word."""

    logprob: float  # natural logarithm of its probability
    rank: int  # 1 for the most probable token
    entropy: float  # of the whole distribution, in nats
    kept_mass: float  # probability of the tokens that the sampler's rule kept
    # The most probable tokens, best first, as id, piece and probability; as many as the
    # request asked for.
    top: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True)
class Token:
    """One new token: its id, its word piece as in the vocabulary, its score."""

    id: int
    text: str
    score: TokenScore | None = None


@dataclass(frozen=True)
class Started:
    """The prompt is packed; the first event of every generation."""

    prompt_ids: tuple[int, ...]  # that the model sees, without the start token
    seed: int  # in use, drawn if the request had none
    cropped: int = 0  # tokens dropped from the left of the prompt
    unknown_words: tuple[str, ...] = ()  # that the model has no tokens for


@dataclass(frozen=True)
class TokenChosen:
    """A token is final."""

    index: int  # its number among the new tokens
    token: Token
    delta: str  # the display text that it makes certain
    raw_delta: str = ""  # what it adds to the raw text


@dataclass(frozen=True)
class Hypothesis:
    """One beam."""

    token_ids: tuple[int, ...]  # its new tokens so far
    logprob: float  # their total log-probability
    score: float = 0.0  # what it is ranked by: `total`, adjusted to its length
    has_ended: bool = False  # the stop rule holds for it; it is then not extended
    group: int = 0  # of the groups of diverse beam search the one that it is in
    penalty: float = 0.0  # taken off for tokens that earlier groups had chosen

    @property
    def total(self) -> float:
        """What it survived by."""
        return self.logprob - self.penalty


@dataclass(frozen=True)
class HypothesesChanged:
    """Beam search took a step: the survivors, best first, and the best one's text.

    Those that have ended are among them, and are not extended.
    """

    survivors: tuple[Hypothesis, ...]
    text: str


@dataclass(frozen=True)
class CandidatesWeighed:
    """Contrastive search chose a token. Rows are (id, probability, similarity,
    score) of each candidate, best score first."""

    index: int
    rows: tuple[tuple[int, float, float, float], ...]


@dataclass(frozen=True)
class DraftVerified:
    """Speculative decoding took a round: tokens drafted, how many of them were
    accepted from the left, and the target's own token that follows them."""

    index: int
    drafted: tuple[int, ...]
    accepted: int
    next_id: int


@dataclass(frozen=True)
class Generation:
    """A finished text and all that is needed to have it again."""

    request: Request  # with the seed in use filled in
    started: Started  # what became of the prompt
    tokens: tuple[Token, ...]  # the new ones
    text: str  # display form of the new tokens, to be put right after the prompt
    raw_text: str  # the new tokens joined as the reference prints them
    stop_reason: StopReason
    timings: Timings
    # Numbers of the tokens at which the context was full, and the model went on from
    # the start token and the last tokens.
    reprimed: tuple[int, ...] = ()
    # Accepted and drafted tokens of speculative decoding.
    accepted: tuple[int, int] | None = None
    checkpoint_sha256: str = ""  # identifies the weights and the vocabulary
    # The rules of a chain that would have left nothing, so that the most probable token
    # was kept, and of how many tokens.
    rescued: tuple[tuple[str, int], ...] = ()

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Ids of the new tokens."""
        return tuple(token.id for token in self.tokens)

    @property
    def whole_ids(self) -> tuple[int, ...]:
        """Ids of the prompt, as far as the model saw it, and of the new tokens."""
        return (*self.started.prompt_ids, *self.token_ids)

    @property
    def seed(self) -> int:
        """The seed that was asked for, or the one that was drawn."""
        return self.started.seed

    @property
    def is_own_text(self) -> bool:
        """Whether it is a text of the user's that was scored: no sampler made it."""
        return self.stop_reason == "picked" and not self.timings.decode_s

    @property
    def has_begun(self) -> bool:
        """Whether it was not stopped before its first token."""
        return bool(self.tokens) or self.stop_reason != "interrupted"

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all texts made together by their time; 0 for empty ones."""
        timings = self.timings
        if not self.tokens or timings.decode_s <= 0:
            return 0.0
        return (timings.tokens or len(self.tokens)) / timings.decode_s


@dataclass(frozen=True)
class Finished:
    """The last event of every generation, also of a stopped one."""

    generation: Generation


Event = (
    Started
    | TokenChosen
    | HypothesesChanged
    | CandidatesWeighed
    | DraftVerified
    | Finished
)


RowEvent = tuple[int, Event]
"""The number of a request, and what happened to its text."""

RowEvents = Generator[RowEvent, None, None]
"""Of several texts, as they happen. Closed, they stop the work."""


def finished(last: Event | None) -> Generation:
    """The generation that the last event of a text carries.

    Raises:
        EngineError: if the engine ended the text without it.
    """
    if isinstance(last, Finished):
        return last.generation
    raise EngineError("the engine ended a text without finishing it; try again")


@dataclass(frozen=True)
class EngineInfo:
    """What an engine has loaded."""

    directory: str  # the checkpoint's folder
    checkpoint_sha256: str  # identifies the weights and the vocabulary
    vocabulary_size: int  # ids that have a word, reserved ones included
    context_length: int  # positions of the model
    parameter_count: int  # weights of the model
    lowercase: bool  # whether the tokenizer folds case
    has_draft: bool  # whether a draft model is there for speculative decoding
    # The tokens as text. The vocabulary is told by the sha256.
    text: TextCodec = field(compare=False)
    load_s: float = 0.0  # seconds that loading took
    # The checkpoint's record, as read from `training.json`.
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_ends(self) -> bool:
        """Whether the model learned where a document ends."""
        return self.text.end_id is not None


State = Literal["stopped", "starting", "loading", "warming", "ready", "failed"]
"""What an engine is at; `stopped` if its process is not there or ended by itself."""


@dataclass(frozen=True)
class Status:
    """How an engine is."""

    state: State = "stopped"
    info: EngineInfo | None = None  # what is loaded, if something is
    failure: MiniGPTError | None = None  # why the process ended, if it did


class Engine(Protocol):
    """Generates text. The engine in this process and the one in a child process
    have this interface, and so has every fake in the tests.

    Raises `EngineError` where the work can't be done; `UsageError` for a
    sampler or a parameter that is not allowed.
    """

    @property
    def info(self) -> EngineInfo:
        """What is loaded; waits until it is."""

    @property
    def status(self) -> Status:
        """How it is, told without waiting."""
        return Status("ready", self.info)

    def when_changed(self, call: Callable[[], None]) -> None:
        """Have that called, from another thread, whenever the status changes.

        By default it never does: an engine in this process is there at once.
        """
        return None

    def start(self) -> None:
        """Begin to load, if nothing is loaded; does not wait."""
        return None

    def generate(self, request: Request) -> Generator[Event, None, None]:
        """Events of one text, as they happen: `Started`, tokens, `Finished`.

        Closing the generator stops the work within one step of the model.
        """
        for _, event in self.generate_rows([request]):
            yield event

    def generate_rows(self, requests: Sequence[Request]) -> RowEvents:
        """Events of several texts, each with the number of its request.

        Texts of one prompt and sampler are made together, as rows of a batch, and
        grow together; each is the one that its seed gives alone. The `Finished` of
        all come at the end of a batch. One that ends does not end its neighbours;
        `stop` ends all of a batch, and no other is begun. Where chance plays no
        part the text is made once, and its events come for each seed.
        """

    def stop(self) -> None:
        """End the running generation within one step; it still yields
        `Finished`, with the stop reason `interrupted`. May be called from a
        signal handler or another thread."""

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text, without the start token."""

    def logits(self, token_ids: Sequence[int]) -> "np.ndarray":
        """Scores of the next token after nothing and after each of `token_ids`.

        Returns a float32 array of shape `(len(token_ids) + 1, vocabulary_size)`;
        reserved ids are minus infinity. Longer inputs than the context are
        scored in the windows in which they would be generated.
        """

    def warm(self, request: Request, rows: int = 1) -> None:
        """Trace and compile now what so many such texts need, so that they are fast."""

    def prepare(self, request: Request) -> None:
        """As `warm`, when nothing else is to do; does not wait, and never fails.

        By default nothing is done: an engine in this process has no time of its own.
        """
        return None

    def close(self) -> None:
        """Give back what the engine holds; further calls raise `EngineError`."""
