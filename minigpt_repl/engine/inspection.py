"""What the model thought of a token, and what each sampler's rule made of it.

Works on logits that the engine gave, `(vocabulary,)` for one place in a text or
`(tokens, vocabulary)` for a text; probabilities are float64 of the same shape. numpy is
imported where it is used, so that a prompt need not wait for it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from minigpt_repl.engine.request import Engine, Generation, TokenScore
from minigpt_repl.engine.texts import spans
from minigpt_repl.engine.wording import Wording
from minigpt_repl.errors import EngineError
from minigpt_repl.models.text.codec import TextCodec
from minigpt_repl.sampling import chain, rules
from minigpt_repl.sampling.history import NO_WORDS
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import SamplerSpec, choose_sampler, find_sampler
from minigpt_repl.sampling.stage import Left

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
    """What a chain knows of places in a text, besides the model's logits.

    Attributes:
        seen: the tokens before each, int `(places, length)`, the last one at the end
            and -1 where there is none.
        seeds: int `(places, 2)`, the seed and the number of the token; without them
            what acts at random is taken to act.
        wording: the model's words, for rules that name some.
        learned: float `(places, 1)`, what a chain had learned from its own choices;
            without it nothing.
    """

    seen: "np.ndarray"
    seeds: "np.ndarray | None" = None
    wording: Wording | None = None
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
    """The places of the tokens of a generated text, as they were chosen.

    Args:
        generation: the text.
        engine: of its model: what its rules see is what it sees.
    """
    import numpy as np

    ids = generation.whole_ids
    first = len(generation.started.prompt_ids)
    context_length = engine.info.context_length
    seen = [
        ids[start:place]
        for start, begin, end in spans(len(ids), context_length)
        for place in range(max(begin, first), min(end, len(ids)))
    ]
    steps = range(len(generation.tokens))
    seeds = np.array([(generation.seed, step) for step in steps], np.int64)
    wording = Wording(engine.info.text, engine.encode)
    return TokenContexts(
        _at_the_end(seen, context_length), seeds.reshape(-1, 2), wording
    )


def next_place(
    token_ids: Sequence[int], engine: Engine, seed: int | None = None
) -> TokenContexts:
    """The place behind a text, which the first token of a new one takes."""
    import numpy as np

    size = engine.info.context_length
    start = spans(len(token_ids), size)[-1][0]
    seeds = None if seed is None else np.array([[seed, 0]])
    wording = Wording(engine.info.text, engine.encode)
    return TokenContexts(_at_the_end([token_ids[start:]], size), seeds, wording)


def _at_the_end(rows: Sequence[Sequence[int]], length: int) -> "np.ndarray":
    import numpy as np

    result = np.full((len(rows), length), -1, np.int32)
    for row, ids in zip(result, rows, strict=True):
        row[length - len(ids) :] = ids
    return result


def chain_left(
    spec: SamplerSpec,
    values: Mapping[str, Value],
    logits: "np.ndarray",
    where: TokenContexts | None = None,
) -> list[Left]:
    """What each stage of a chain leaves, its logits of the shape of `logits`.

    Args:
        spec: a chain.
        values: its parameters.
        logits: `(places, vocabulary)`, or `(vocabulary,)`.
        where: the places; without it nothing came before and no word is known.
    """
    import numpy as np

    rows = np.atleast_2d(np.asarray(logits, dtype=np.float64))
    where = where or TokenContexts(np.full((len(rows), 1), -1))
    numbers = _numbers(spec, values, rows.shape[-1], where)
    if spec.learns and len(rows) > 1 and where.learned is None:
        where = replayed(spec, values, rows, where)
    return [
        each._replace(logits=each.logits.reshape(np.shape(logits)))
        for each in _steps(spec, numbers, rows, where)
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

    last = spec.stages[-1] if spec.stages else None
    if last is None or last.learns is None:
        return where
    numbers = _numbers(spec, values, rows.shape[-1], where)
    learned = np.zeros((len(rows), 1))
    for place, token_id in enumerate(where.seen[1:, -1]):
        here = replace(where.at(place), learned=learned[place : place + 1])
        entering = rows[place : place + 1]
        left = [entering, *(x.logits for x in _steps(spec, numbers, entering, here))]
        before, behind = (probabilities(each)[:, token_id, None] for each in left[-2:])
        learned[place + 1] = learned[place]
        if behind > 0:
            own = chain.own_values(last, numbers)
            learned[place + 1] = last.learns(
                np, learned[place : place + 1], before, behind, **own
            )
    return replace(where, learned=learned)


def _numbers(
    spec: SamplerSpec, values: Mapping[str, Value], size: int, where: TokenContexts
) -> Mapping[str, Any]:
    """A chain's parameters as its rules want them."""
    import numpy as np

    if where.wording is not None:
        return where.wording.values(spec, values, size)
    words = {p.name: np.array(NO_WORDS[p.tokens]) for p in spec.parameters if p.tokens}
    return {**values, **words}


def _steps(
    spec: SamplerSpec,
    numbers: Mapping[str, Any],
    rows: "np.ndarray",
    where: TokenContexts,
) -> list[Left]:
    import numpy as np

    return chain.steps(
        np,
        rows,
        spec.stages,
        numbers,
        where.seen,
        where.seeds,
        where.wording.text.end_id if where.wording else None,
        0.0 if where.learned is None else where.learned,
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
    candidate that they weigh.
    """
    import numpy as np

    if spec.stages:
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
    """One token at its place in a text, at temperature 1.

    Attributes:
        probability: of the token under the model.
        rank: 1 for the most probable one; also the smallest k of top-k that
            admits it.
        entropy: of the distribution, in nats.
        smallest_p: the smallest p of top-p that admits it: the probability of
            all tokens before it. 0 for the most probable one, which any p admits.
    """

    probability: float
    rank: int
    entropy: float
    smallest_p: float

    @property
    def surprisal(self) -> float:
        """-log2 p, in bits (Shannon 1948)."""
        return surprisal(math.log(self.probability)) if self.probability else math.inf


def comes_before(distribution: "np.ndarray", token_id: int) -> "np.ndarray":
    """Which tokens come before one, bool `(vocabulary,)`, as in `rules.before`."""
    import numpy as np

    rows = rules.before(np, distribution[None], np.array([[token_id]]))
    is_before: np.ndarray = rows[0]
    return is_before


def verdict(distribution: "np.ndarray", token_id: int) -> Verdict:
    """What a distribution `(vocabulary,)` says of one of its tokens."""
    is_before = comes_before(distribution, token_id)
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


def text_logits(logits: "np.ndarray", new_tokens: int) -> "np.ndarray":
    """Of `Engine.logits` of a whole text, the rows that chose its last tokens.

    Args:
        logits: `(tokens + 1, vocabulary)`, row i from before token i.
        new_tokens: how many tokens at the end.

    Returns:
        `(new_tokens, vocabulary)`.
    """
    return logits[len(logits) - 1 - new_tokens : len(logits) - 1]


def score_tokens(
    rows: "np.ndarray",
    token_ids: Sequence[int],
    kept: "np.ndarray",
    text: TextCodec | None = None,
    top: int = 0,
) -> tuple[TokenScore, ...]:
    """Scores of tokens as the engine gives them with `with_scores`.

    Args:
        rows: logits `(tokens, vocabulary)`, each from before its token.
        token_ids: the tokens.
        kept: the masks of what the rule kept, like `rows`.
        text: the model's tokens as text, for alternatives.
        top: how many of them to tell.
    """
    scores = []
    for row, token_id, mask in zip(rows, token_ids, kept, strict=True):
        distribution = probabilities(row)
        found = verdict(distribution, token_id)
        scores.append(
            TokenScore(
                logprob=math.log(max(found.probability, 5e-324)),
                rank=found.rank,
                entropy=found.entropy,
                kept_mass=float(distribution[mask].sum()),
                top=tuple(
                    (best, text.piece(best), float(distribution[best]))
                    for best in top_ids(distribution, top)
                    if text is not None
                ),
            )
        )
    return tuple(scores)


def has_scores(generation: Generation) -> bool:
    """Whether every token of a text has its score."""
    return all(token.score is not None for token in generation.tokens)


def scored(generation: Generation, engine: Engine) -> Generation:
    """The same text with a score for each token, by one call of the engine."""
    return with_scores(generation, engine.logits(generation.whole_ids), engine)


def with_scores(
    generation: Generation, logits: "np.ndarray", engine: Engine
) -> Generation:
    """The same text with a score for each token.

    Args:
        generation: a text, with scores or without.
        logits: `Engine.logits` of the prompt's tokens and the text's.
        engine: of its model.
    """
    request = generation.request
    spec, values = choose_sampler(request.sampler, request.parameters)
    rows = text_logits(logits, len(generation.tokens))
    where = generation_places(generation, engine)
    kept = kept_mask(spec, values, rows, where)
    text = engine.info.text
    scores = score_tokens(rows, generation.token_ids, kept, text, request.top)
    tokens = tuple(
        replace(token, score=score)
        for token, score in zip(generation.tokens, scores, strict=True)
    )
    return replace(generation, tokens=tokens)
