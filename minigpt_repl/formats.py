"""The shape of every file and message: what is written, what is accepted.

A struct is the whole of a shape: its fields, their ranges, its version. What is read
is not trusted: the first thing that is not as it must be gives one line that names the
file and the field.

A change that could break a reader raises the version of its struct. Strings that
come from a file are cut and quoted when an error repeats them.
"""

import hashlib
import re
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from minigpt_repl.errors import MiniGPTError
from minigpt_repl.shown import HIDDEN, plain, quoted

NEWEST = 1
"""The version of the structs that have one."""

LARGEST_WHOLE = 2**31 - 1
LONGEST_SAID = 80
"""Characters that an error repeats of what is wrong with a field."""


def says(description: str, **limits: Any) -> Meta:
    """What a field means and allows, for its JSON Schema and for who reads it here."""
    return Meta(description=description, **limits)


Whole = Annotated[int, Meta(ge=0, le=LARGEST_WHOLE)]
Positive = Annotated[int, Meta(ge=1, le=LARGEST_WHOLE)]
Seconds = Annotated[float, Meta(ge=0)]
Figure = float | None
"""`None` where there is none, and for what JSON can't hold: NaN and the infinite."""
Value = int | float | str | bool | None
"""A parameter of a sampler, or a setting."""

StopReason = Literal["length", "stop", "context", "interrupted", "picked", "not_finite"]
"""Why a text ended: the length was reached, the stop rule held, the model's
context was full (searches), someone stopped it, someone picked its only token
(`:step`), or the model's logits were no finite numbers."""
StopRule = Literal["none", "sentence", "end"]
Stop = Annotated[StopRule, says("the rule to end early")]
NoiseKind = Literal["own", "shared"]
DocumentKind = Literal["file", "paragraph", "line"]
Noise = Annotated[
    NoiseKind, says("shared where draws hang on seed, place and token only")
]
Sha256 = Annotated[
    str,
    says(
        "of weights, configuration and vocabulary; empty if unknown",
        pattern="^([0-9a-f]{64})?$",
    ),
]
Piece = Annotated[str, says("the word piece as in the vocabulary")]
OfTheModel = says("natural, at temperature 1, over the ids that have a word", le=1e-6)
LogProbability = Annotated[float, OfTheModel] | None
Share = Annotated[float, says("from 0 to 1, at temperature 1", ge=0, le=1)]
Rank = Annotated[Positive, says("1 for the most probable token")] | None
Prompt = Annotated[str, says("as it was given")]
Length = Annotated[int, says("new tokens asked for", ge=1, le=100_000)]
Cropped = Annotated[
    Whole, says("tokens dropped from the left of a prompt that was too long")
]
Rows = Annotated[Positive, says("texts that were made together")]
TokensOfRows = Annotated[Whole, says("new tokens of all of them; 0 if not counted")]
NewText = Annotated[str, says("in readable form, to be put right after the prompt")]


class Document(Struct, frozen=True):
    """A whole file or message, and what to call it where a file is none."""

    what: ClassVar[str]


class Published(Document, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """One that other programs read: no field but those that are named."""


class Strict(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of one."""


# What --json and --jsonl print.


class Alternative(Strict, frozen=True):
    """A token that might have come."""

    id: Whole
    text: Piece
    probability: Share


EntropyBits = (
    Annotated[Figure, says("of the model's distribution; with --top only")] | UnsetType
)
Alternatives = (
    Annotated[
        tuple[Alternative, ...], says("the most probable tokens; with --top only")
    ]
    | UnsetType
)


class Token(Strict, frozen=True):
    """One new token."""

    id: Whole
    text: Piece
    logprob: LogProbability
    rank: Rank
    entropy_bits: EntropyBits = UNSET
    top: Alternatives = UNSET


class SamplerUse(Strict, frozen=True):
    """A sampler with a value for each of its parameters."""

    name: str
    parameters: dict[str, Value]


class Timings(Strict, frozen=True):
    """Seconds: loading (0 if loaded before), to the first token, all decoding."""

    load_s: Seconds
    first_token_s: Seconds
    decode_s: Seconds
    rows: Rows = 1
    tokens: TokensOfRows = 0


class Generation(Published, frozen=True, tag="generation"):
    """A text of minigpt-repl --json."""

    what: ClassVar[str] = "a text of --json"

    schema_version: Literal[1]
    prompt: Prompt
    text: NewText
    tokens: tuple[Token, ...]
    sampler: SamplerUse
    seed: Whole
    length: Length
    stop: Stop
    stop_reason: StopReason
    cropped: Cropped
    unknown_words: Annotated[
        tuple[str, ...], says("words of the prompt that the vocabulary can't spell")
    ]
    timings: Timings
    checkpoint_sha256: Sha256
    noise: Noise = "own"


class TokenLine(Published, frozen=True, tag="token"):
    """A token of minigpt-repl --jsonl."""

    what: ClassVar[str] = "a token of --jsonl"

    schema_version: Literal[1]
    text_index: Annotated[Whole, says("which text of -n")]
    index: Annotated[Whole, says("which new token")]
    id: Whole
    text: Piece
    logprob: LogProbability
    rank: Rank
    delta: Annotated[
        str, says("the readable text that this token makes certain; may be empty")
    ]
    entropy_bits: EntropyBits = UNSET
    top: Alternatives = UNSET


# What compare --json and :export FILE.json write, and replay reads.


class ScoredToken(Strict, frozen=True):
    """One new token; its figures are at temperature 1, logarithms are natural."""

    id: Whole
    text: Piece
    logprob: LogProbability
    rank: Rank
    entropy: Figure
    kept_mass: Annotated[float, Meta(ge=0, le=1.000001)] | None


class TextTimings(Strict, frozen=True):
    """Seconds: to the first token, all decoding."""

    first_token_s: Seconds
    decode_s: Seconds
    rows: Rows = 1
    tokens: TokensOfRows = 0


class ComparedText(Strict, frozen=True):
    """One text of a strategy."""

    seed: Whole
    text: NewText
    stop_reason: StopReason
    cropped: Cropped
    tokens: tuple[ScoredToken, ...]
    timings: TextTimings


class Interval(Strict, frozen=True):
    """Mean over the texts; half the width of its 95% interval, null for one text."""

    mean: Figure
    half_interval: Annotated[float, Meta(ge=0)] | None


class ComparedStrategy(Strict, frozen=True):
    """What one sampler made of the prompt."""

    sampler: str
    parameters: dict[str, Value]
    measures: dict[str, Interval | None]
    texts: tuple[ComparedText, ...]
    same_for_every_seed: bool = False


class Comparison(Published, frozen=True, tag="comparison"):
    """A comparison of minigpt-repl compare --json and :export FILE.json."""

    what: ClassVar[str] = "a comparison: compare --json and :export FILE.json make them"

    schema_version: Literal[1]
    made_by: Literal["minigpt-repl"]
    prompt: Prompt
    prompt_ids: (
        Annotated[
            tuple[Whole, ...],
            says("the exact tokens that were continued, where they matter"),
        ]
        | None
    )
    seed: Annotated[
        Whole, says("of the first text of every strategy; text i has seed + i")
    ]
    count: Annotated[int, says("texts a strategy", ge=1, le=100)]
    length: Length
    stop: Stop
    varied: Annotated[str, says("the parameter that a sweep varies")] | None
    is_interrupted: Annotated[
        bool, says("whether it was stopped before all texts were made")
    ]
    checkpoint_sha256: Sha256
    versions: dict[str, str]
    strategies: tuple[ComparedStrategy, ...]
    noise: Noise = "own"


class SessionExport(Published, frozen=True, tag="session"):
    """:export --session: a comparison of one strategy for each text."""

    what: ClassVar[str] = Comparison.what

    schema_version: Literal[1]
    made_by: Literal["minigpt-repl"]
    comparisons: tuple[Comparison, ...]


# What :save writes and :load reads. The fields are those of `engine/request.py`.


class Score(Struct, frozen=True):
    """A token under the model, as the engine scored it."""

    logprob: Figure
    rank: Whole
    entropy: Figure
    kept_mass: Figure


class SavedToken(Struct, frozen=True):
    """One new token."""

    id: Whole
    text: str
    score: Score | None = None


class Request(Struct, frozen=True):
    """What was asked for; the seed in use is filled in."""

    prompt: str
    sampler: str
    parameters: dict[str, Value]
    length: Length
    seed: Whole
    stop: Stop
    prompt_ids: tuple[Whole, ...] | None
    with_scores: bool
    with_details: bool
    noise: Noise = "own"


class Started(Struct, frozen=True):
    """What became of the prompt."""

    prompt_ids: tuple[Whole, ...]
    seed: Whole
    cropped: Whole
    unknown_words: tuple[str, ...]


class SavedGeneration(Struct, frozen=True):
    """A finished text and all that is needed to have it again."""

    request: Request
    started: Started
    tokens: tuple[SavedToken, ...]
    text: str
    raw_text: str
    stop_reason: StopReason
    timings: Timings
    reprimed: tuple[Whole, ...]
    accepted: tuple[Whole, Whole] | None
    checkpoint_sha256: Sha256
    rescued: tuple[tuple[str, Whole], ...] = ()


class Turn(Struct, frozen=True):
    """One text in a session's tree."""

    id: Positive
    parent: Positive | None
    prompt: str
    generation: SavedGeneration


class Session(Document, frozen=True, tag_field="kind", tag="minigpt-repl session"):
    """A session of :save."""

    what: ClassVar[str] = "a saved session: :save makes them"

    version: Literal[1]
    settings: dict[str, Value]
    current: Positive | None
    turns: tuple[Turn, ...]


# What a checkpoint's folder holds beside what Keras writes.


class Record(Document, frozen=True):
    """A checkpoint's training.json: what it is made of and how it was made."""

    what: ClassVar[str] = "a checkpoint's record"

    vocabulary_size: Annotated[Positive, says("words, reserved ones included")]
    embedding_rows: Annotated[Positive, says("at least as many")]
    context_length: Annotated[Positive, says("positions of the model")]
    parameter_count: Annotated[int, says("weights of the model", ge=1)]
    lowercase: Annotated[
        bool, says("whether the tokenizer folds case, so that capitals are guessed")
    ]
    has_draft: Annotated[bool, says("whether a draft model is in the folder draft")]
    files: Annotated[
        dict[str, str], says("sha256 of each file, by its path inside the folder")
    ]
    training: Annotated[
        dict[str, Any],
        says("recipe, data, history, metrics, seed, versions, wall time"),
    ] = {}
    tokenizer: Annotated[
        Literal["wordpiece", "bpe"],
        says("words whose spaces are guessed, or bytes that come back as they were"),
    ] = "wordpiece"
    document: Annotated[
        DocumentKind | None, says("what has an end that the model learned")
    ] = None
    version: Literal[1] = 1

    @property
    def has_ends(self) -> bool:
        """Whether the model learned where a document ends."""
        return self.document is not None

    @property
    def sha256(self) -> str:
        """Identifies weights, configuration and vocabulary together."""
        lines = (f"{name} {digest}\n" for name, digest in sorted(self.files.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


class Progress(Struct, frozen=True):
    """How far an unfinished training came."""

    step: Whole
    progress: Annotated[float, Meta(ge=0, le=1)]


LONGEST_CONTEXT = 2**17
"""Tokens. Rotary positions have no weights by which to tell what is too long."""


class BackboneConfig(Struct, frozen=True):
    """What of a checkpoint's config.json decides how much is built."""

    vocabulary_size: Positive
    num_layers: Annotated[int, Meta(ge=1, le=1000)]
    num_heads: Positive
    hidden_dim: Positive
    intermediate_dim: Positive
    max_sequence_length: Annotated[int, Meta(ge=1, le=LONGEST_CONTEXT)]
    dropout: Annotated[float, Meta(ge=0, le=1)]
    activation: str
    normalize_first: bool
    tie_weights: bool
    rotary: bool = False


PUBLISHED: dict[str, Any] = {
    "generation": Generation,
    "token": TokenLine,
    "comparison": Comparison | SessionExport,
    "session": Session,
    "record": Record,
}
"""The shapes that have a JSON Schema, by the name of its file."""


class FormatError(MiniGPTError):
    """A file is not what it should be; the line names the file and the field."""


S = TypeVar("S", bound=Struct)
T = TypeVar("T", bound=Document)


def decode(text: str | bytes, name: str, *kinds: type[T]) -> T:
    """What the JSON text of a file holds, checked: one of the kinds, as it says itself.

    Raises:
        FormatError: if it is none of them, of a newer version, or damaged.
    """
    content = _json(text)
    if content is None:
        what = kinds[0].what.partition(":")[0]
        raise FormatError(f"{name} is not {what}: it is not JSON")
    kind = next((kind for kind in kinds if _is_of(content, kind)), None)
    if kind is None:
        raise FormatError(f"{name} is not {kinds[0].what}")
    version = content.get("schema_version", content.get("version"))
    if type(version) is int and version > NEWEST:
        raise FormatError(
            f"{name} is of version {quoted(version)}, this program reads up to "
            f"{NEWEST}: install a newer minigpt-repl"
        )
    return checked(content, kind, name)


def checked(content: Any, kind: type[S], name: str) -> S:
    """A struct made of a JSON value.

    Raises:
        FormatError: naming the file and the first field that is not as it must be.
    """
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise FormatError(f"{name} is damaged: {_fault(str(error))}") from None


def is_one(text: str | bytes, kind: type[Document]) -> bool:
    """Whether a file's content says that it is one, of any version."""
    return _is_of(_json(text), kind)


def encode(value: Struct, indent: bool = False) -> str:
    """A struct as JSON: on one line, or indented for people to read.

    Every reader takes it: NaN and the infinite are null. Every terminal, too:
    characters that a terminal obeys or hides are escaped.
    """
    # The hook is for numpy's numbers, which a training's figures may be.
    text = msgspec.json.encode(value, enc_hook=lambda number: number.item())
    if indent:
        text = msgspec.json.format(text, indent=1)
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text.decode())


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of a shape of `PUBLISHED`."""
    made = msgspec.json.schema(PUBLISHED[name])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


# JSON itself escapes what is below the space; no line of it has a tab.
_HIDDEN = re.compile(f"[{HIDDEN}]")


def _json(text: str | bytes) -> Any:
    """A JSON value; `None` if it is null or no JSON."""
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None


def _is_of(content: Any, kind: type[Document]) -> bool:
    if not isinstance(content, dict):
        return False
    config = kind.__struct_config__
    return config.tag is None or content.get(config.tag_field) == config.tag


def _fault(message: str) -> str:
    """What msgspec says, with the field first: `turns[0].id: expected int >= 1`."""
    said, place = message.replace("`", ""), ""
    if " - at $" in said:
        said, _, place = said.rpartition(" - at $")
    if missing := re.fullmatch(r"Object missing required field (\w+)", said):
        return f"{place}.{missing[1]} is missing".lstrip(".")
    said = said[0].lower() + (said if said.isprintable() else plain(said))[1:]
    said = said if len(said) <= LONGEST_SAID else f"{said[:LONGEST_SAID]}..."
    return f"{place}: {said}".lstrip(".: ")
