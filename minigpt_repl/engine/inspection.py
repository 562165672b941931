"""What the model thought of a token, and what each sampler's rule made of it.

Works on logits that the engine gave, `(vocabulary,)` for one place in a text or
`(tokens, vocabulary)` for a text; probabilities are float64 of the same shape. numpy is
imported where it is used, so that a prompt need not wait for it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from minigpt_repl.engine.request import (
    Engine,
    Generation,
    Request,
    Started,
    Token,
    TokenScore,
)
from minigpt_repl.engine.texts import spans
from minigpt_repl.engine.wording import Wording
from minigpt_repl.errors import EngineError, UsageError
from minigpt_repl.formats import Timings
from minigpt_repl.models.text.codec import TextCodec
from minigpt_repl.sampling import chain, rules
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import SamplerSpec, choose_sampler, find_sampler
from minigpt_repl.sampling.stage import Left
from minigpt_repl.shown import as_perplexity, in_bits, in_bits_a_byte

if TYPE_CHECKING:
    import numpy as np


def next_logits(engine: Engine, token_ids: Sequence[int]) -> "np.ndarray":
    """The scores of the token behind a text, `(vocabulary,)`.

    Raises:
        EngineError: if they are not finite numbers.
    """
    logits: np.ndarray = engine.logits(token_ids)[-1]
    if not math.isfinite(logits.max()):  # NaN if one is; reserved ids are -inf
        raise EngineError(
            "the model's scores are not finite numbers: its weights may be damaged"
        )
    return logits


def probabilities(logits: "np.ndarray", temperature: float = 1.0) -> "np.ndarray":
    """softmax(logits / temperature) along the last axis, in float64.

    Temperature 0 is its limit: all probability on the highest logit. Logits of
    minus infinity, as reserved ids have, get 0.
    """
    import numpy as np

    scores = np.asarray(logits, dtype=np.float64)
    if temperature <= 0:
        result = np.zeros_like(scores)
        best = scores.argmax(axis=-1, keepdims=True)
        np.put_along_axis(result, best, 1.0, axis=-1)
        return result
    shifted = np.exp((scores - scores.max(axis=-1, keepdims=True)) / temperature)
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def top_ids(distribution: "np.ndarray", count: int) -> list[int]:
    """The most probable ids of one place, best first; equal ones by id."""
    order = (-distribution).argsort(kind="stable")
    return [int(i) for i in order[:count] if distribution[i] > 0]


def temperature_of(values: Mapping[str, Value]) -> float:
    """A sampler's temperature; 1 if it has none."""
    value = values.get("temperature", 1.0)
    return 1.0 if value is None else float(value)


@dataclass(frozen=True)
class TokenContexts:
    """What a chain knows of places in a text, besides the model's logits."""

    # The tokens before each, int (places, length), the last one at the end and -1 where
    # there is none.
    seen: "np.ndarray"
    # int (places, 2), the seed and the number of the token; without them what acts at
    # random is taken to act.
    seeds: "np.ndarray | None"
    wording: Wording  # the model's words, for rules that name some
    # float (places, 1), what a chain had learned from its own choices, if anything.
    learned: "np.ndarray | None" = None

    def at(self, place: int) -> "TokenContexts":
        """One of them."""
        one = slice(place, place + 1)
        return replace(
            self,
            seen=self.seen[one],
            seeds=None if self.seeds is None else self.seeds[one],
            learned=None if self.learned is None else self.learned[one],
        )


def generation_places(generation: Generation, engine: Engine) -> TokenContexts:
    """The places of the tokens of a generated text, as its model chose them."""
    ids, first = generation.whole_ids, len(generation.started.prompt_ids)
    return _contexts(ids, range(first, len(ids)), engine, generation.seed)


def next_place(
    token_ids: Sequence[int], engine: Engine, seed: int | None = None
) -> TokenContexts:
    """The place behind a text, which the first token of a new one takes."""
    end = len(token_ids)
    return _contexts(token_ids, range(end, end + 1), engine, seed)


def _contexts(
    ids: Sequence[int], places: range, engine: Engine, seed: int | None
) -> TokenContexts:
    import numpy as np

    size = engine.info.context_length
    seen = np.full((len(places), size), -1, np.int32)
    for start, first, end in spans(len(ids), size):
        for place in range(max(first, places.start), min(end, places.stop)):
            seen[place - places.start, size - (place - start) :] = ids[start:place]
    seeds = None
    if seed is not None:
        seeds = np.array([(seed, n) for n in range(len(places))], np.int64)
        seeds = seeds.reshape(-1, 2)
    return TokenContexts(seen, seeds, Wording(engine.info.text, engine.encode))


def chain_left(
    spec: SamplerSpec,
    values: Mapping[str, Value],
    logits: "np.ndarray",
    where: TokenContexts,
) -> list[Left]:
    """What each stage of a chain leaves, its logits of the shape of `logits`.

    Args:
        spec: a chain.
        values: its parameters.
        logits: `(places, vocabulary)`, or `(vocabulary,)`.
        where: the places.
    """
    import numpy as np

    rows = np.atleast_2d(np.asarray(logits, dtype=np.float64))
    if len(rows) > 1 and where.learned is None:
        where = replayed(spec, values, rows, where)
    return [
        each._replace(logits=each.logits.reshape(np.shape(logits)))
        for each in _steps(spec, values, rows, where)
    ]


def replayed(
    spec: SamplerSpec,
    values: Mapping[str, Value],
    rows: "np.ndarray",
    where: TokenContexts,
) -> TokenContexts:
    """The places of a text, with what a chain learned from the tokens before each.

    From a token that it would not have chosen it learns nothing.
    """
    import numpy as np

    if not spec.learns:
        return where
    last = spec.stages[-1]
    assert last.learns is not None
    own = chain.own_values(last, values)
    learned = np.zeros((len(rows), 1))
    for place, token_id in enumerate(where.seen[1:, -1]):
        here = replace(where.at(place), learned=learned[place : place + 1])
        entering = rows[place : place + 1]
        left = [entering, *(x.logits for x in _steps(spec, values, entering, here))]
        before, behind = (probabilities(each)[:, token_id, None] for each in left[-2:])
        learned[place + 1] = learned[place]
        if behind > 0:
            learned[place + 1] = last.learns(np, here.learned, before, behind, **own)
    return replace(where, learned=learned)


def _steps(
    spec: SamplerSpec,
    values: Mapping[str, Value],
    rows: "np.ndarray",
    where: TokenContexts,
) -> list[Left]:
    import numpy as np

    numbers = where.wording.values(spec, values, rows.shape[-1])
    end_id = where.wording.text.end_id
    learned = 0.0 if where.learned is None else where.learned
    return chain.steps(
        np, rows, spec.stages, numbers, where.seen, where.seeds, end_id, learned
    )


def rule_temperature(spec: SamplerSpec, values: Mapping[str, Value]) -> float:
    """The temperature of what a sampler's rule sees; a chain sees the model's own."""
    return 1.0 if spec.stages else temperature_of(values)


def kept_distribution(
    spec: SamplerSpec,
    values: Mapping[str, Value],
    logits: "np.ndarray",
    where: TokenContexts | None = None,
) -> "np.ndarray":
    """The distribution that a sampler draws from, like `logits`; sums to 1.

    Temperature applied, ids that its rule removes at 0, the rest renormalised.
    The rule sees the distribution with the sampler's temperature applied.
    Temperature 0 means greedy, whatever the sampler.
    For samplers that do not draw (beam, contrastive) it is the share of each
    candidate that they weigh. A chain needs to know the places.
    """
    import numpy as np

    if spec.stages:
        assert where is not None
        return probabilities(chain_left(spec, values, logits, where)[-1].logits)
    temperature = temperature_of(values)
    rule = spec if temperature > 0 or not spec.is_random else find_sampler("greedy")
    shares = probabilities(logits, temperature or 1.0)
    left: np.ndarray = shares * rule.kept(np, shares, values)
    left /= left.sum(axis=-1, keepdims=True)
    return left


def kept_mask(
    spec: SamplerSpec,
    values: Mapping[str, Value],
    logits: "np.ndarray",
    where: TokenContexts | None = None,
) -> "np.ndarray":
    """Which ids a sampler's rule leaves to choose from, bool like `logits`."""
    return kept_distribution(spec, values, logits, where) > 0


@dataclass(frozen=True)
class Verdict:
    """One token at its place in a text, under a distribution."""

    probability: float
    rank: int  # 1 for the most probable one; also the smallest k that admits it
    entropy: float  # of the distribution, in nats
    # The smallest p of top-p that admits it: the probability of all tokens before it. 0
    # for the most probable one, which any p admits.
    smallest_p: float

    @property
    def surprisal(self) -> float:
        """-log2 p, in bits (Shannon 1948)."""
        return surprisal(math.log(self.probability)) if self.probability else math.inf


def verdict(distribution: "np.ndarray", token_id: int) -> Verdict:
    """What a distribution `(vocabulary,)` says of one of its tokens."""
    import numpy as np

    (is_before,) = rules.before(np, distribution[None], np.array([[token_id]]))
    return Verdict(
        probability=float(distribution[token_id]),
        rank=int(is_before.sum()) + 1,
        entropy=entropy(distribution),
        smallest_p=float(distribution[is_before].sum()),
    )


def entropy(distribution: "np.ndarray") -> float:
    """-sum p ln p of one distribution, in nats (Shannon 1948)."""
    import numpy as np

    positive = distribution[distribution > 0]
    return abs(float((positive * np.log(positive)).sum()))


def surprisal(logprob: float) -> float:
    """-log2 p of a token, in bits, from its natural log-probability."""
    return -bits(logprob) or 0.0


def bits(nats: float) -> float:
    """A number of nats in bits: what is shown is in bits, what is kept in nats."""
    return nats / math.log(2)


def perplexity(entropy: float) -> float:
    """How many equally probable tokens have that entropy, in nats."""
    return math.exp(entropy)


def token_logits(engine: Engine, generation: Generation) -> "np.ndarray":
    """Logits `(tokens, vocabulary)` of a text, each from before its token."""
    return engine.logits(generation.whole_ids)[-1 - len(generation.tokens) : -1]


def score_token(
    logits: "np.ndarray",
    token_id: int,
    kept: "np.ndarray",
    text: TextCodec,
    top: int = 0,
) -> TokenScore:
    """The score of a token, with so many of the most probable ones beside it.

    What came before it gave `logits` `(vocabulary,)`, of which a rule `kept` some.
    """
    distribution = probabilities(logits)
    found = verdict(distribution, token_id)
    return TokenScore(
        logprob=math.log(max(found.probability, 5e-324)),
        rank=found.rank,
        entropy=found.entropy,
        kept_mass=float(distribution[kept].sum()),
        top=tuple(
            (best, text.piece(best), float(distribution[best]))
            for best in top_ids(distribution, top)
        ),
    )


def has_scores(generation: Generation) -> bool:
    """Whether every token of a text has its score."""
    return all(token.score is not None for token in generation.tokens)


def with_scores(generation: Generation, engine: Engine) -> Generation:
    """The same text with a score for each token, by one call of the engine."""
    request, text = generation.request, engine.info.text
    spec, values = choose_sampler(request.sampler, request.parameters)
    rows = token_logits(engine, generation)
    kept = kept_mask(spec, values, rows, generation_places(generation, engine))
    tokens = tuple(
        replace(token, score=score_token(row, token.id, mask, text, request.top))
        for token, row, mask in zip(generation.tokens, rows, kept, strict=True)
    )
    return replace(generation, tokens=tokens)


AT_ONCE = 1024
"""Tokens of a foreign text whose logits are asked for together."""

BEFORE = 64
"""Tokens in front of them that the model sees, beside those of its context."""


@dataclass(frozen=True)
class Scored:
    """A text that the model did not make, and how little it expected each token."""

    token_ids: tuple[int, ...]
    bits: tuple[float, ...]  # surprisals; infinite for what the vocabulary can't spell
    size: int  # bytes of the text in UTF-8

    @property
    def summary(self) -> str:
        """Tokens, perplexity and bits a byte in one line."""
        known = [bits for bits in self.bits if math.isfinite(bits)]
        unknown = len(self.bits) - len(known)
        parts = [f"{len(self.bits):,} tokens"]
        if known:
            mean = sum(known) / len(known)
            choices = as_perplexity(2**mean)
            parts[0] += f", {in_bits(mean)} a token, perplexity {choices}"
        if not unknown:
            parts[0] += f", {in_bits_a_byte(sum(known) / self.size)} bits a byte"
        else:
            parts.append(
                f"{unknown:,} unknown to the model, left out, so no bits a byte"
            )
        return "; ".join(parts)


def score(engine: Engine, text: str) -> Scored:
    """The surprisal of each token of a text, from its start.

    Raises:
        UsageError: if there is nothing in it.
    """
    ids = engine.encode(text)
    if not ids:
        raise UsageError("there is no text to score")
    surprisals = []
    for start in range(0, len(ids), AT_ONCE):
        part = ids[start : start + AT_ONCE]
        logits = engine.logits(ids[max(0, start - BEFORE) : start + AT_ONCE])
        for row, token_id in zip(logits[-1 - len(part) : -1], part, strict=True):
            surprisals.append(verdict(probabilities(row), token_id).surprisal)
    return Scored(ids, tuple(surprisals), len(text.encode("utf-8")))


def as_generation(scored: Scored, text: str, engine: Engine) -> Generation:
    """A text that was scored, as if the model had chosen it by itself."""
    info = engine.info
    return Generation(
        request=Request("", "random", {"temperature": 1.0}, len(scored.token_ids), 0),
        started=Started((), 0),
        tokens=tuple(Token(id, info.text.piece(id)) for id in scored.token_ids),
        text=text,
        raw_text=info.text.raw_text(scored.token_ids),
        stop_reason="picked",
        timings=Timings(0.0, 0.0, 0.0),
        checkpoint_sha256=info.checkpoint_sha256,
    )
