"""History: rules that look at the tokens so far, or make words that are named rarer.

What a rule is, says `stage`. Words are token ids before a rule sees them: `pushes`,
float `(rows, sequences, 1 + length)`, holds an amount and then a sequence of token ids,
-1 in front of one that is shorter.
"""

from typing import Any

from minigpt_repl.sampling.parameters import Parameter
from minigpt_repl.sampling.rules import while_loop
from minigpt_repl.sampling.stage import MINUS_INFINITY, cast, number, stage

BREAKER_TOKENS = 8
"""Most tokens of one breaker."""

NO_WORDS = {
    "pushes": [[[-1.0, -1.0]]],
    "bans": [[[-1.0, -1.0]]],
    "breakers": [[0.0]],
}
"""For each kind of `Parameter.tokens`, what a rule gets where there are none."""

_WINDOW = Parameter(
    "window",
    int,
    None,
    "how many of the last tokens count; off for all that the model sees",
    minimum=1,
    maximum="context",
    optional=True,
)


@stage(
    "tokens that came already become less likely, by a factor",
    'Keskar et al. 2019, "CTRL", arXiv:1909.05858, 4.1',
    Parameter(
        "penalty",
        float,
        1.1,
        "divides positive logits and multiplies negative ones; 1 is none",
        minimum=0,
        maximum=100,
        exclusive_minimum=True,
    ),
    _WINDOW,
)
def repetition_penalty(
    ns: Any, logits: Any, seen: Any, penalty: Any, window: Any
) -> Any:
    """logit / penalty if it is positive, logit * penalty if not, of tokens seen.

    The repetition penalty makes every token less likely that is in the text already.
    It does not matter how often, and the prompt counts too.
    transformers looks at the whole text, llama.cpp at the last 64 tokens: see window.

    Use it mildly, 1.05 to 1.2, against loops. Not strongly or on long texts: the words
    that every text needs become rare.
    """
    punished = ns.where(logits > 0, logits / penalty, logits * penalty)
    return ns.where(_counts(ns, logits, seen, window) > 0, punished, logits)


@stage(
    "tokens that came already become less likely, by a fixed amount",
    "the API of OpenAI, 2021",
    Parameter("penalty", float, 0.5, "taken off the logit", -100, 100),
    _WINDOW,
)
def presence_penalty(ns: Any, logits: Any, seen: Any, penalty: Any, window: Any) -> Any:
    """logit - penalty, of tokens seen.

    The presence penalty takes a fixed amount off the logit of every token that is
    in the text already.
    It does not matter how often; a negative one favours what was said.
    llama.cpp looks at the last 64 tokens unless told otherwise: see window.

    Use it to bring in new words and subjects. Not where names have to come again.
    """
    is_seen = _counts(ns, logits, seen, window) > 0
    return ns.where(is_seen, logits - penalty, logits)


@stage(
    "tokens become less likely each time that they come",
    "the API of OpenAI, 2021",
    Parameter("penalty", float, 0.5, "taken off the logit, each time", -100, 100),
    _WINDOW,
)
def frequency_penalty(
    ns: Any, logits: Any, seen: Any, penalty: Any, window: Any
) -> Any:
    """logit - penalty * how often it was seen.

    The frequency penalty takes an amount off the logit of a token for each time
    that it is in the text.
    So common words, which any text needs, suffer most.
    llama.cpp looks at the last 64 tokens unless told otherwise: see window.

    Use it against a word that comes too often. Not on long texts without a window:
    articles and commas vanish.
    """
    return logits - penalty * _counts(ns, logits, seen, window)


@stage(
    "no sequence of so many tokens comes twice",
    'Paulus et al. 2017, "A Deep Reinforced Model", arXiv:1705.04304, 2.5',
    Parameter("size", int, 3, "tokens of the sequence", minimum=1, maximum=1000),
    can_empty=True,
)
def no_repeat_ngram(ns: Any, logits: Any, seen: Any, size: Any) -> Any:
    """Tokens are removed that would end a sequence of `size` tokens seen before.

    It removes every token that would make a sequence of that many tokens come twice.
    It ends loops for certain, and forbids names and phrases that have to come again.
    The prompt counts too, as in transformers.

    Use it against loops where nothing has to come twice. Not for verse, lists and long
    stories with names.
    """
    longest = _longest_repeats(ns, logits, seen, None, None)
    return ns.where(longest >= number(ns, size) - 1, MINUS_INFINITY, logits)


@stage(
    "the longer a repetition gets, the less likely it goes on",
    "p-e-w 2024, text-generation-webui #5677: Don't Repeat Yourself",
    Parameter("multiplier", float, 0.8, "how strong it is", 0, 100),
    Parameter("base", float, 1.75, "growth with each token", 1, 10),
    Parameter("allowed_length", int, 2, "tokens that may repeat freely", 0, 1000),
    _WINDOW,
    Parameter(
        "breakers",
        str,
        r'\n : " *',
        "texts over which no repetition goes on, spaces between them",
        optional=True,
        tokens="breakers",
    ),
    can_empty=True,
)
def dry(
    ns: Any,
    logits: Any,
    seen: Any,
    multiplier: Any,
    base: Any,
    allowed_length: Any,
    window: Any,
    breakers: Any,
) -> Any:
    """logit - multiplier * base ** (length - allowed_length), for length >= allowed.

    DRY looks for the longest end of the text that came before, and makes the token
    less likely that followed it then.
    Short repetitions cost nothing, and each further token costs more.
    No repetition goes on over a breaker: a token with one in it, which costs nothing,
    or the tokens that one is written with; llama.cpp also knows breakers that begin
    within a longer token.

    Use it against loops of whole phrases; it leaves single words alone. Not where a
    refrain is wanted.
    """
    longest = _longest_repeats(ns, logits, seen, window, breakers)
    allowed = number(ns, allowed_length)
    most = 88.7228391 / ns.log(ns.maximum(base, 1.000001))  # float32 has no more
    over = ns.minimum(ns.maximum(longest - allowed, 0.0), most)
    penalty = multiplier * base**over
    is_breaker = breakers[..., : logits.shape[-1]] > 0
    is_repeat = (longest >= allowed) & (longest > 0) & ~is_breaker
    return ns.where(is_repeat, logits - penalty, logits)


@stage(
    "words become more likely by a positive amount, less by a negative one",
    "the API of OpenAI, 2021; of sequences as in transformers",
    Parameter(
        "words",
        str,
        None,
        "words and what is added, such as king:2, old man:-1; #12 is the token 12",
        optional=True,
        tokens="pushes",
    ),
    can_empty=True,
)
def logit_bias(ns: Any, logits: Any, seen: Any, words: Any) -> Any:
    """logit + amount, of the token that completes a word.

    A logit bias adds an amount to the logit of a token, each time.
    Of a word of several tokens the last one is pushed, where the text ends in those
    before it, as in transformers; llama.cpp has tokens only.
    A word is pushed as it is written: with a capital it is another one.

    Use it to lead a text towards a subject or away from it. Not with large amounts: the
    word then comes every time.
    """
    return logits + _pushed(ns, logits, seen, words)


@stage(
    "the words that are named never come",
    "bad words of transformers, banned strings of koboldcpp",
    Parameter(
        "words",
        str,
        None,
        "words such as king, old man; #12 is the token 12",
        optional=True,
        tokens="bans",
    ),
    can_empty=True,
)
def ban(ns: Any, logits: Any, seen: Any, words: Any) -> Any:
    """The token that would complete a word is removed.

    A ban removes a word: its token, or of a word of several tokens the last one,
    where the text ends in those before it.
    Longer words that begin with the same tokens go with it.
    A word is banned as it is written: with a capital it is another one.

    Use it for words that must not come. Not for meanings: other words have them too.
    """
    is_named = _pushed(ns, logits, seen, words) < 0
    return ns.where(is_named, MINUS_INFINITY, logits)


@stage(
    "the text does not end before so many new tokens",
    "transformers",
    Parameter("tokens", int, 20, "new tokens before the end", 0, 100_000),
    can_empty=True,
)
def min_length(
    ns: Any, logits: Any, seen: Any, tokens: Any, made: Any, end_id: Any
) -> Any:
    """The end token is removed while the text has fewer new tokens.

    A minimum length removes the end of a document until the text has as many new
    tokens, which are counted without the prompt.
    Only a model that learned an end has one.
    From then on it does nothing.

    Use it where texts end too soon. Not far above the usual length: what is not allowed
    to end wanders.
    """
    is_end = ns.arange(logits.shape[-1]) == end_id
    return ns.where(is_end & (made < tokens), MINUS_INFINITY, logits)


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


def _longest_repeats(
    ns: Any, logits: Any, seen: Any, window: Any, breakers: Any
) -> Any:
    """How much of the text's end each token has followed before; -1 for nothing.

    For each place of the text, the length of the longest sequence before it with
    which the text ends too; of a token that stands at several places, the longest.
    No sequence goes on over a breaker; see `_breaks`.
    """
    seen = _within(ns, seen, window)
    length = seen.shape[-1]
    ends = seen  # -1 where no sequence goes on
    if breakers is not None:
        ends = ns.where(_breaks(ns, logits, seen, breakers), -1, seen)
    zeros = ns.zeros_like(seen)

    def grow(step: Any, before: Any, is_same: Any, lengths: Any) -> tuple[Any, ...]:
        # `before` is shifted by one more place in each step.
        before = ns.concatenate([zeros[..., :1] - 1, before[..., :-1]], axis=-1)
        end = ns.take(ends, ns.array([length - 1]) - step, axis=-1)
        is_same = is_same & (before == end) & (end >= 0)
        return step + 1, before, is_same, lengths + ns.where(is_same, 1, 0)

    def is_open(step: Any, before: Any, is_same: Any, lengths: Any) -> Any:
        return ns.any(is_same) & (step < length)

    *_, lengths = while_loop(ns, is_open, grow, (0, seen, zeros == 0, zeros))
    lengths = ns.where(seen >= 0, number(ns, lengths) + 1.0, 0.0)
    return _at_tokens(ns, "max", lengths, seen, logits.shape) - 1


def _breaks(ns: Any, logits: Any, seen: Any, breakers: Any) -> Any:
    """At which places a breaker ends, bool `(rows, length)`.

    `breakers` is float `(rows, vocabulary + n * BREAKER_TOKENS)`: a mark on each token
    that is one, then sequences of token ids that are one together, -1 in front of
    shorter ones.
    """
    size = logits.shape[-1]
    masks = breakers[..., :size] + ns.zeros_like(logits)
    found = ns.take_along_axis(masks, ns.maximum(seen, 0), axis=-1) > 0
    if breakers.shape[-1] <= size:
        return found
    shape = (breakers.shape[0], -1, BREAKER_TOKENS)
    sequences = ns.reshape(breakers[..., size:], shape)  # (rows, n, tokens)
    fits = sequences[..., -1:] >= 0  # (rows, n, 1), then of each place
    before = number(ns, seen)[:, None]
    for place in range(BREAKER_TOKENS - 1, -1, -1):
        wanted = sequences[..., place, None]
        fits = fits & ((wanted < 0) | (wanted == before))
        nothing = ns.zeros_like(before[..., :1]) - 2.0
        before = ns.concatenate([nothing, before[..., :-1]], axis=-1)
    return found | ns.any(fits, axis=1)


def _pushed(ns: Any, logits: Any, seen: Any, pushes: Any) -> Any:
    """What is added to each logit, float like the logits."""
    rows, length = seen.shape
    amounts, words = pushes[..., 0], pushes[..., 1:]
    before, last = words[..., :-1], words[..., -1]  # (rows, sequences, tokens)
    nothing = ns.zeros((rows, before.shape[-1])) - 2.0
    end = ns.concatenate([nothing, number(ns, seen)], axis=-1)[:, None, length:]
    fits = ns.all((before < 0) | (before == end), axis=-1) & (last >= 0)
    # Of every row, also where the words are given once for all.
    amounts = ns.where(fits, amounts, 0.0)
    last = ns.where(fits, last, -1.0)
    return _at_tokens(ns, "add", amounts, cast(ns, last, "int32"), logits.shape)


def _at_tokens(ns: Any, how: str, amounts: Any, seen: Any, shape: Any) -> Any:
    """Amounts `(rows, length)` added up or maximised at their tokens, float `shape`.

    Args:
        ns: the array namespace.
        how: `add`, or `max` of what is positive.
        amounts: 0 where there is no token.
        seen: the tokens, -1 for none.
        shape: `(rows, vocabulary)`.
    """
    rows, size = shape
    places = ns.maximum(seen, 0) + size * ns.arange(rows)[:, None]
    flat, amounts = ns.reshape(places, (-1,)), ns.reshape(amounts, (-1,))
    if not hasattr(ns, "segment_sum"):
        result = ns.zeros(rows * size)
        (ns.add if how == "add" else ns.maximum).at(result, flat, amounts)
    elif how == "add":
        result = ns.segment_sum(ns.cast(amounts, "float32"), flat, rows * size)
    else:
        result = ns.segment_max(ns.cast(amounts, "float32"), flat, rows * size)
        result = ns.maximum(result, 0.0)  # it gives minus infinity for no token
    return ns.reshape(result, shape)
