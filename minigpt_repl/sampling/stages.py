"""The rules of a chain, each written once: its function is the whole feature.

A rule makes of the logits of the next token, `(rows, vocabulary)`, other logits; what
it removes gets minus infinity. The same function serves numpy and compiled graphs: its
first argument is the array namespace, `numpy` or `keras.ops`. Its signature's keywords
are its parameters, numbers or arrays `(rows, 1)`. What it sees depends on its kind:

- truncation: probabilities, what earlier rules removed at 0; it answers which tokens
  it keeps, as bool.
- shape: logits.
- history: logits, and the tokens so far, int `(rows, length)`, the last one at the
  end and -1 where there is none.

A rule that would leave nothing leaves the most probable token.

Knows no KerasHub, no model and no words.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minigpt_repl.sampling import rules
from minigpt_repl.sampling.parameters import Parameter

MINUS_INFINITY = float("-inf")


@dataclass(frozen=True)
class Stage:
    """A rule that can be part of a chain.

    Attributes:
        name: what the user types.
        kind: `truncation`, `shape` or `history`; see the module.
        summary: one line, without a full stop.
        story: three sentences for `:explain`, from its function's docstring.
        formula: the first line of it.
        origin: paper or program that it is from.
        parameters: the first one is the main one, which `name=value` sets.
        function: from the array namespace, what its kind sees, and its parameters.
        oracle: whose code its golden values were made with.
        is_chance: whether it acts on some tokens only, drawn at random; its function
            then takes a number from 0 to 1, `chance`, below which it is to act.
    """

    name: str
    kind: str
    summary: str
    story: str
    formula: str
    origin: str
    parameters: tuple[Parameter, ...]
    function: Callable[..., Any]
    oracle: str
    is_chance: bool = False

    def apply(
        self, ns: Any, logits: Any, values: dict[str, Any], seen: Any, chance: Any
    ) -> Any:
        """The logits that it leaves.

        Args:
            ns: `numpy` or `keras.ops`.
            logits: `(rows, vocabulary)`.
            values: its parameters by name.
            seen: the tokens so far, as the module says.
            chance: uniform numbers `(rows, 1)` for a rule that acts at random.
        """
        if self.kind == "truncation":
            if self.is_chance:
                values = {**values, "chance": chance}
            shares = probabilities(ns, logits)
            kept = self.function(ns, shares, **values) & (shares > 0)
            changed = ns.where(kept, logits, MINUS_INFINITY)
        elif self.kind == "history":
            changed = self.function(ns, logits, seen, **values)
        else:
            changed = self.function(ns, logits, **values)
        is_left = ns.any(changed > MINUS_INFINITY, axis=-1, keepdims=True)
        only_best = ns.where(best(ns, logits), logits, MINUS_INFINITY)
        return ns.where(is_left, changed, only_best)


STAGES: dict[str, Stage] = {}
"""Every rule by its name, in the order in which they are shown."""


def _stage(
    kind: str,
    summary: str,
    origin: str,
    oracle: str,
    *parameters: Parameter,
    is_chance: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function as a rule under its name."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        formula, _, story = (function.__doc__ or "").partition("\n\n")
        STAGES[name] = Stage(
            name=name,
            kind=kind,
            summary=summary,
            story=" ".join(story.split()),
            formula=formula.strip().removesuffix("."),
            origin=origin,
            parameters=parameters,
            function=function,
            oracle=oracle,
            is_chance=is_chance,
        )
        return function

    return enter


def probabilities(ns: Any, logits: Any) -> Any:
    """softmax(logits) along the last axis."""
    weights = ns.exp(logits - ns.max(logits, axis=-1, keepdims=True))
    return weights / ns.sum(weights, axis=-1, keepdims=True)


def best(ns: Any, scores: Any) -> Any:
    """bool of the same shape: the highest score alone, of equal ones the lowest id."""
    place = ns.argmax(scores, axis=-1)[..., None]
    return ns.arange(scores.shape[-1]) == place


def entropy(ns: Any, shares: Any) -> Any:
    """-sum p ln p along the last axis, which stays with length 1."""
    terms = shares * ns.log(ns.where(shares > 0, shares, 1.0))
    return -ns.sum(terms, axis=-1, keepdims=True)


def _share(name: str, default: float, help: str, **more: Any) -> Parameter:
    more = {"minimum": 0, "maximum": 1, **more}
    return Parameter(name, float, default, help, **more)


def _window() -> Parameter:
    return Parameter(
        "window",
        int,
        None,
        "how many of the last tokens count; off for all that the model sees",
        minimum=1,
        maximum="context",
        optional=True,
    )


# Truncation


@_stage(
    "truncation",
    "the k most probable tokens",
    'Fan et al. 2018, "Hierarchical Neural Story Generation", arXiv:1805.04833, 5.4',
    "llama.cpp",
    Parameter("k", int, 40, "tokens kept", minimum=1, maximum="vocabulary"),
)
def top_k(ns: Any, shares: Any, k: Any) -> Any:
    """rank <= k.

    Top-k keeps the k most probable tokens, of equal ones those with the lowest ids.
    It cuts off the tail that makes random sampling wander.
    llama.cpp keeps exactly k as here, transformers all that equal the last one.
    """
    return rules.kept(ns, shares, rules.top("k")(ns, shares, {"k": k}))


@_stage(
    "truncation",
    "the fewest tokens that together reach probability p",
    'Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", '
    "arXiv:1904.09751, 3.1",
    "transformers",
    _share("p", 0.9, "probability kept", exclusive_minimum=True),
)
def top_p(ns: Any, shares: Any, p: Any) -> Any:
    """Sum of the more probable ones <= p.

    Top-p keeps the fewest tokens whose probabilities add up to p.
    It keeps few tokens where the model is sure and many where it is not.
    The token that crosses p stays, as everywhere.
    """
    return rules.kept(ns, shares, ((shares, _all_at_one(ns, p)),))


@_stage(
    "truncation",
    "the tokens at least p times as probable as the best",
    'Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling", arXiv:2407.01082',
    "transformers, llama.cpp",
    _share("p", 0.05, "smallest part of the best token's probability"),
)
def min_p(ns: Any, shares: Any, p: Any) -> Any:
    """probability >= p * highest.

    Min-p keeps the tokens that are at least p times as probable as the best one.
    Where the model is sure it keeps few, and at high temperatures it still cuts
    off what makes no sense.
    It needs no sorting and no sum.
    """
    return shares >= _number(ns, p) * ns.max(shares, axis=-1, keepdims=True)


@_stage(
    "truncation",
    "the tokens whose surprise is nearest to the expected",
    'Meister et al. 2023, "Locally Typical Sampling", arXiv:2202.00666',
    "transformers",
    _share("p", 0.9, "probability kept", exclusive_minimum=True),
)
def typical_p(ns: Any, shares: Any, p: Any) -> Any:
    """The nearest by |-ln p - entropy|, until they sum to p.

    Typical sampling keeps the tokens whose surprisal is nearest to the entropy,
    until their probabilities add up to p.
    Where the model is unsure it may remove the most probable token.
    The token that crosses p stays, as in transformers and llama.cpp.
    """
    surprisal = -ns.log(ns.where(shares > 0, shares, 1.0))
    distance = abs(surprisal - entropy(ns, shares))
    order = ns.where(shares > 0, 1 / (1 + distance), 0.0)
    return rules.kept(ns, order, ((shares, _all_at_one(ns, p)),))


@_stage(
    "truncation",
    "the tokens of at least probability epsilon",
    'Hewitt et al. 2022, "Truncation Sampling as Language Model Desmoothing", '
    "arXiv:2210.15191, 4.1",
    "transformers",
    _share("epsilon", 0.0003, "smallest probability kept"),
)
def epsilon_cutoff(ns: Any, shares: Any, epsilon: Any) -> Any:
    """probability >= epsilon.

    Epsilon sampling keeps the tokens whose probability is at least epsilon.
    It is the simplest cut of the tail.
    Where the model is unsure, good tokens may fall below it too.
    """
    return shares >= _number(ns, epsilon)


@_stage(
    "truncation",
    "as epsilon_cutoff, with a lower bar where the model is unsure",
    'Hewitt et al. 2022, "Truncation Sampling as Language Model Desmoothing", '
    "arXiv:2210.15191, 4.2",
    "transformers",
    _share("epsilon", 0.0003, "smallest probability kept where the model is sure"),
)
def eta_cutoff(ns: Any, shares: Any, epsilon: Any) -> Any:
    """probability >= min(epsilon, sqrt(epsilon) * exp(-entropy)).

    Eta sampling keeps the tokens whose probability is at least epsilon, or less
    where the entropy is high.
    So it does not remove good tokens where many are possible.
    Both bars are those of the paper and of transformers.
    """
    epsilon = _number(ns, epsilon)
    bar = epsilon**0.5 * ns.exp(-entropy(ns, shares))
    return shares >= ns.minimum(epsilon + 0 * bar, bar)


@_stage(
    "shape",
    "the tokens within n standard deviations of the best logit",
    'Tang et al. 2024, "Top-nsigma: Not All Logits Are You Need", arXiv:2411.07641',
    "llama.cpp",
    Parameter("n", float, 1.0, "standard deviations", minimum=0, maximum=100),
)
def top_n_sigma(ns: Any, logits: Any, n: Any) -> Any:
    """logit >= highest - n * standard deviation of the logits.

    Top-n-sigma keeps the tokens whose logit is within n standard deviations of
    the highest one.
    What it keeps does not depend on the temperature.
    Only tokens that are still there count for the deviation, as in llama.cpp.
    """
    is_there = logits > MINUS_INFINITY
    count = ns.sum(ns.where(is_there, 1.0, 0.0), axis=-1, keepdims=True)
    highest = ns.max(logits, axis=-1, keepdims=True)
    below = ns.where(is_there, highest - logits, 0.0)
    mean = ns.sum(below, axis=-1, keepdims=True) / count
    squares = ns.where(is_there, (below - mean) ** 2, 0.0)
    deviation = (ns.sum(squares, axis=-1, keepdims=True) / count) ** 0.5
    is_near = below <= _number(ns, n) * deviation
    return ns.where(is_there & is_near, logits, MINUS_INFINITY)


@_stage(
    "truncation",
    "the tokens above a bar that rises with the best one's square",
    "BlinkDL, RWKV-LM, 2022: the top-a of its chat",
    "worked by hand",
    _share("a", 0.2, "the bar where the best token is certain"),
)
def top_a(ns: Any, shares: Any, a: Any) -> Any:
    """probability >= a * highest^2.

    Top-a keeps the tokens whose probability is at least a times the square of
    the highest.
    Where the model is sure it removes nearly all others, where it is not nearly none.
    It is the forerunner of min-p.
    """
    return shares >= _number(ns, a) * ns.max(shares, axis=-1, keepdims=True) ** 2


@_stage(
    "truncation",
    "now and then, none of the likely tokens but the least likely of them",
    "p-e-w 2024, text-generation-webui #6335: Exclude Top Choices",
    "llama.cpp",
    _share("probability", 0.5, "how often it acts"),
    _share("threshold", 0.1, "from which probability a token is a likely one"),
    is_chance=True,
)
def xtc(ns: Any, shares: Any, probability: Any, threshold: Any, chance: Any) -> Any:
    """All but the least probable of those with probability >= threshold are removed.

    XTC acts on a part of the tokens, drawn at random: of all tokens that are likely
    it then keeps the least likely one only.
    So a sensible but not the usual way is taken.
    Where fewer than two tokens are likely, or the threshold is above 0.5, it does
    nothing.
    """
    threshold = _number(ns, threshold)
    is_likely = (shares >= threshold) & (shares > 0)
    removed = is_likely & ns.logical_not(_last(ns, shares, is_likely))
    is_acting = (threshold <= 0.5) & (chance < _number(ns, probability))
    return ns.logical_not(removed & is_acting)


@_stage(
    "truncation",
    "the best tokens, until they hold a part of the entropy",
    'Potraghloo et al. 2025, "Top-H Decoding", arXiv:2509.02510',
    "transformers",
    _share("h", 0.4, "part of the entropy kept", exclusive_minimum=True),
)
def top_h(ns: Any, shares: Any, h: Any) -> Any:
    """Sum of -p ln p of a token and the more probable ones <= h * entropy.

    Top-h keeps the most probable tokens as long as their part of the entropy is at
    most h.
    Where the model is sure it keeps few, and it grows with the entropy.
    As in transformers it looks at the 100 most probable tokens only.
    """
    first = rules.kept(ns, shares, rules.top("k")(ns, shares, {"k": 100}))
    shares = ns.where(first, shares, 0.0)
    shares = shares / ns.sum(shares, axis=-1, keepdims=True)
    terms = -shares * ns.log(ns.where(shares > 0, shares, 1.0))
    bound = _number(ns, h) * ns.sum(terms, axis=-1, keepdims=True)
    kept = rules.kept(ns, shares, ((terms, bound),))
    total = ns.sum(ns.where(kept, terms, 0.0), axis=-1, keepdims=True)
    # The token that crosses the bound is not kept: the last one, of the lowest.
    is_last = _last(ns, shares, kept)
    return kept & ((total <= bound * (1 + 1e-6)) | ns.logical_not(is_last))


@_stage(
    "truncation",
    "the most probable token alone",
    "greedy search",
    "worked by hand",
)
def greedy(ns: Any, shares: Any) -> Any:
    """The highest probability.

    At the end of a chain it takes the most probable token that is left.
    The seed then does not matter.
    Without it a chain draws.
    """
    return best(ns, shares)


@_stage(
    "truncation",
    "any token, as often as the chain says",
    "ancestral sampling",
    "worked by hand",
)
def random(ns: Any, shares: Any) -> Any:
    """All of them.

    At the end of a chain it draws from what is left.
    That is what a chain does anyway.
    It may be written to say so.
    """
    return shares > 0


# Shape


@_stage(
    "shape",
    "sharper below 1, flatter above; 0 leaves the best token alone",
    'Ackley et al. 1985, "A Learning Algorithm for Boltzmann Machines"',
    "transformers, llama.cpp",
    Parameter(
        "temperature",
        float,
        1.0,
        "below 1 sharpens the distribution, above 1 flattens it; 0 means greedy",
        minimum=0,
        maximum=100,
        smallest=0.001,
    ),
)
def temperature(ns: Any, logits: Any, temperature: Any) -> Any:
    """logit / temperature.

    Temperature divides the logits: below 1 the likely becomes likelier, above 1
    the distribution flattens.
    Before a truncation rule it changes what that rule keeps, as in transformers;
    behind it, as in llama.cpp, it does not.
    At 0 the most probable token alone is left.
    """
    return _divided(ns, logits, _number(ns, temperature))


@_stage(
    "shape",
    "a temperature between two bounds that follows the entropy",
    "kalomaze 2023, koboldcpp #464; the mapping of llama.cpp",
    "llama.cpp",
    Parameter("temperature", float, 1.0, "the middle", minimum=0, maximum=100),
    Parameter("range", float, 0.5, "half the way between the bounds", 0, 100),
    Parameter("exponent", float, 1.0, "how the entropy is bent", 0, 100),
)
def dynamic_temperature(
    ns: Any, logits: Any, temperature: Any, range: Any, exponent: Any
) -> Any:
    """low + (high - low) * (entropy / ln count) ** exponent, from middle +- range.

    Dynamic temperature is low where the model is sure and high where it is not.
    Its bounds are temperature - range and temperature + range; the entropy, as a
    part of the highest that the tokens still there could have, says where between.
    With range 0 it is the plain temperature.
    """
    middle, range = _number(ns, temperature), _number(ns, range)
    low = ns.maximum(0.0, middle - range)
    shares = probabilities(ns, logits)
    is_there = ns.where(logits > MINUS_INFINITY, 1.0, 0.0)
    count = ns.sum(is_there, axis=-1, keepdims=True)
    highest = ns.log(ns.maximum(count, 2.0))
    part = ns.minimum(ns.maximum(entropy(ns, shares) / highest, 0.0), 1.0)
    return _divided(
        ns, logits, low + (middle + range - low) * part ** _number(ns, exponent)
    )


# History


@_stage(
    "history",
    "tokens that came already become less likely, by a factor",
    'Keskar et al. 2019, "CTRL", arXiv:1909.05858, 4.1',
    "transformers, llama.cpp",
    Parameter(
        "penalty",
        float,
        1.1,
        "divides positive logits and multiplies negative ones; 1 is none",
        minimum=0,
        maximum=100,
        exclusive_minimum=True,
    ),
    _window(),
)
def repetition_penalty(
    ns: Any, logits: Any, seen: Any, penalty: Any, window: Any
) -> Any:
    """logit / penalty if it is positive, logit * penalty if not, of tokens seen.

    The repetition penalty makes every token less likely that is in the text already.
    It does not matter how often, and the prompt counts too.
    transformers looks at the whole text, llama.cpp at the last 64 tokens: see window.
    """
    penalty = _number(ns, penalty)
    punished = ns.where(logits > 0, logits / penalty, logits * penalty)
    return ns.where(_counts(ns, logits, seen, window) > 0, punished, logits)


@_stage(
    "history",
    "tokens that came already become less likely, by a fixed amount",
    "the API of OpenAI, 2021",
    "llama.cpp",
    Parameter("penalty", float, 0.5, "taken off the logit", -100, 100),
    _window(),
)
def presence_penalty(ns: Any, logits: Any, seen: Any, penalty: Any, window: Any) -> Any:
    """logit - penalty, of tokens seen.

    The presence penalty takes a fixed amount off the logit of every token that is
    in the text already.
    It does not matter how often; a negative one favours what was said.
    llama.cpp looks at the last 64 tokens unless told otherwise: see window.
    """
    is_seen = _counts(ns, logits, seen, window) > 0
    return ns.where(is_seen, logits - _number(ns, penalty), logits)


@_stage(
    "history",
    "tokens become less likely each time that they come",
    "the API of OpenAI, 2021",
    "llama.cpp",
    Parameter("penalty", float, 0.5, "taken off the logit, each time", -100, 100),
    _window(),
)
def frequency_penalty(
    ns: Any, logits: Any, seen: Any, penalty: Any, window: Any
) -> Any:
    """logit - penalty * how often it was seen.

    The frequency penalty takes an amount off the logit of a token for each time
    that it is in the text.
    So common words, which any text needs, suffer most.
    llama.cpp looks at the last 64 tokens unless told otherwise: see window.
    """
    return logits - _number(ns, penalty) * _counts(ns, logits, seen, window)


@_stage(
    "history",
    "no sequence of so many tokens comes twice",
    'Paulus et al. 2017, "A Deep Reinforced Model", arXiv:1705.04304, 2.5',
    "transformers",
    Parameter("size", int, 3, "tokens of the sequence", minimum=1, maximum=1000),
)
def no_repeat_ngram(ns: Any, logits: Any, seen: Any, size: Any) -> Any:
    """Tokens are removed that would end a sequence of `size` tokens seen before.

    It removes every token that would make a sequence of that many tokens come twice.
    It ends loops for certain, and forbids names and phrases that have to come again.
    The prompt counts too, as in transformers.
    """
    longest = _longest_repeats(ns, logits, seen, None)
    return ns.where(longest >= _number(ns, size) - 1, MINUS_INFINITY, logits)


@_stage(
    "history",
    "the longer a repetition gets, the less likely it goes on",
    "p-e-w 2024, text-generation-webui #5677: Don't Repeat Yourself",
    "llama.cpp",
    Parameter("multiplier", float, 0.8, "how strong it is", 0, 100),
    Parameter("base", float, 1.75, "growth with each token", 1, 10),
    Parameter("allowed_length", int, 2, "tokens that may repeat freely", 0, 1000),
    _window(),
)
def dry(
    ns: Any,
    logits: Any,
    seen: Any,
    multiplier: Any,
    base: Any,
    allowed_length: Any,
    window: Any,
) -> Any:
    """logit - multiplier * base ** (length - allowed_length), for length >= allowed.

    DRY looks for the longest end of the text that came before, and makes the token
    less likely that followed it then.
    Short repetitions cost nothing, and each further token costs more.
    There are no sequence breakers here, which llama.cpp has for the marks of a chat.
    """
    longest = _longest_repeats(ns, logits, seen, window)
    base, allowed = _number(ns, base), _number(ns, allowed_length)
    most = 88.7228391 / ns.log(ns.maximum(base, 1.000001))  # float32 has no more
    over = ns.minimum(ns.maximum(longest - allowed, 0.0), most)
    penalty = _number(ns, multiplier) * base**over
    return ns.where((longest >= allowed) & (longest > 0), logits - penalty, logits)


def _all_at_one(ns: Any, p: Any) -> Any:
    # At 1 everything is kept, however the sum is rounded.
    p = _number(ns, p)
    return ns.where(p >= 1, 2.0, p)


def _last(ns: Any, shares: Any, mask: Any) -> Any:
    """bool: of the tokens in a mask the least probable one, the last of equal ones."""
    lowest = ns.min(ns.where(mask, shares, 2.0), axis=-1, keepdims=True)
    ids = ns.arange(shares.shape[-1])
    candidates = ns.where(mask & (shares == lowest), ids, -1)
    return ids == ns.max(candidates, axis=-1, keepdims=True)


def _divided(ns: Any, logits: Any, by: Any) -> Any:
    """Logits divided; by 0, the highest alone is left."""
    # Their differences, because large logits overflow at a small temperature.
    below = logits - ns.max(logits, axis=-1, keepdims=True)
    is_zero = by <= 0
    only_best = ns.where(best(ns, logits), below, MINUS_INFINITY)
    return ns.where(is_zero, only_best, below / ns.where(is_zero, 1.0, by))


def _within(ns: Any, seen: Any, window: Any) -> Any:
    """The tokens so far, those before the window as -1."""
    if window is None:
        return seen
    from_end = seen.shape[-1] - ns.arange(seen.shape[-1])
    return ns.where(from_end <= window, seen, -1)


def _counts(ns: Any, logits: Any, seen: Any, window: Any) -> Any:
    """How often each token was seen, float like the logits."""
    seen = _within(ns, seen, window)
    ones = ns.where(seen >= 0, 1.0, 0.0)
    return _at_tokens(ns, "add", ones, seen, logits.shape)


def _longest_repeats(ns: Any, logits: Any, seen: Any, window: Any) -> Any:
    """How much of the text's end each token has followed before; -1 for nothing.

    For each place of the text, the length of the longest sequence before it with
    which the text ends too; of a token that stands at several places, the longest.
    """
    seen = _within(ns, seen, window)
    length = seen.shape[-1]
    zeros = ns.zeros_like(seen)

    def grow(step: Any, before: Any, is_same: Any, lengths: Any) -> tuple[Any, ...]:
        # `before` is shifted by one more place in each step.
        before = ns.concatenate([zeros[..., :1] - 1, before[..., :-1]], axis=-1)
        end = ns.take(seen, ns.array([length - 1]) - step, axis=-1)
        is_same = is_same & (before == end) & (end >= 0)
        return step + 1, before, is_same, lengths + ns.where(is_same, 1, 0)

    state = (0, seen, zeros == 0, zeros)
    if hasattr(ns, "while_loop"):
        state = ns.while_loop(
            lambda step, before, is_same, lengths: ns.any(is_same) & (step < length),
            grow,
            state,
        )
    else:
        while ns.any(state[2]) and state[0] < length:
            state = grow(*state)
    lengths = ns.where(seen >= 0, _number(ns, state[3]) + 1.0, 0.0)
    return _at_tokens(ns, "max", lengths, seen, logits.shape) - 1


def _at_tokens(ns: Any, how: str, amounts: Any, seen: Any, shape: Any) -> Any:
    """Amounts `(rows, length)` added up or maximised at their tokens, float `shape`."""
    rows, size = shape
    # Where there is no token the amount is 0, and any token will do.
    places = ns.maximum(seen, 0) + size * ns.arange(rows)[:, None]
    flat, amounts = ns.reshape(places, (-1,)), ns.reshape(amounts, (-1,))
    if not hasattr(ns, "segment_sum"):
        result = ns.zeros(rows * size)
        (ns.add if how == "add" else ns.maximum).at(result, flat, amounts)
    else:
        segments = ns.segment_sum if how == "add" else ns.segment_max
        amounts = ns.cast(amounts, "float32")
        result = ns.maximum(segments(amounts, flat, rows * size), 0.0)
    return ns.reshape(result, shape)


def _number(ns: Any, value: Any) -> Any:
    return ns.cast(value, "float32") if hasattr(ns, "cast") else value
