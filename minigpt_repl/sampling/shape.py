"""Shape: rules that sharpen or flatten the distribution and remove nothing.

What a rule is, says `stage`.
"""

from typing import Any

from minigpt_repl.sampling.parameters import Parameter
from minigpt_repl.sampling.stage import (
    MINUS_INFINITY,
    best,
    entropy,
    probabilities,
    share,
    stage,
)


@stage(
    "sharper below 1, flatter above; 0 leaves the best token alone",
    'Ackley et al. 1985, "A Learning Algorithm for Boltzmann Machines"',
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

    Use it below 1 for safer text and above 1 for bolder, with a truncation. Not alone
    above 1: the tail grows.
    """
    return _divided(ns, logits, temperature)


@stage(
    "a temperature between two bounds that follows the entropy",
    "kalomaze 2023, koboldcpp #464; the mapping of llama.cpp",
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

    Use it where a text is to be bold at turns and safe within words. Not where it must
    be told what temperature a token had.
    """
    low = ns.maximum(0.0, temperature - range)
    shares = probabilities(ns, logits)
    is_there = ns.where(logits > MINUS_INFINITY, 1.0, 0.0)
    count = ns.sum(is_there, axis=-1, keepdims=True)
    highest = ns.log(ns.maximum(count, 2.0))
    part = ns.minimum(ns.maximum(entropy(ns, shares) / highest, 0.0), 1.0)
    return _divided(ns, logits, low + (temperature + range - low) * part**exponent)


def _average_kept(
    ns: Any, learned: Any, before: Any, behind: Any, target: Any, decay: Any
) -> Any:
    """How far the average probability of the tokens chosen is above the target."""
    return decay * learned + (1 - decay) * (before - target)


@stage(
    "tokens of about a probability, which follows the text to keep it at target",
    "MrJackSpade and ddh0 2025, llama.cpp #17927: Adaptive-P",
    share("target", 0.5, "probability that is aimed at"),
    Parameter("decay", float, 0.9, "how slowly the average forgets", 0, 0.99),
    is_last=True,
    learns=_average_kept,
)
def adaptive_p(ns: Any, logits: Any, target: Any, decay: Any, learned: Any) -> Any:
    """5 - 10 d^2 / (1 + d), with d = |probability - aim| / 0.3.

    Adaptive-p makes those tokens likely whose probability is near an aim, and draws.
    The aim is the target, less what the average of the tokens chosen is above it: so
    a text that was too sure becomes daring, and the other way round.
    It wants a min_p before it, since what is improbable stays possible.

    Use it against a text of nothing but likely words. Not where the likely word is the
    right one.
    """
    aim = ns.minimum(ns.maximum(target - learned, 0.0), 1.0)
    distance = abs(probabilities(ns, logits) - aim) / 0.3
    near = 5.0 - 10.0 * distance**2 / (1.0 + distance)
    return ns.where(logits > MINUS_INFINITY, near, MINUS_INFINITY)


def _divided(ns: Any, logits: Any, by: Any) -> Any:
    """Logits divided; by 0, the highest alone is left."""
    # Their differences, because large logits overflow at a small temperature.
    below = logits - ns.max(logits, axis=-1, keepdims=True)
    is_zero = by <= 0
    only_best = ns.where(best(ns, logits), below, MINUS_INFINITY)
    return ns.where(is_zero, only_best, below / ns.where(is_zero, 1.0, by))
