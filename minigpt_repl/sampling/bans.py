"""Bans and pushes: rules that make tokens that the user names more or less likely.

What a rule is, says `stage`. Words are token ids before a rule sees them: `pushes`,
float `(rows, sequences, 1 + length)`, holds an amount and then a sequence of token ids,
-1 in front of one that is shorter.
"""

from typing import Any

from minigpt_repl.sampling.history import at_tokens
from minigpt_repl.sampling.parameters import Parameter
from minigpt_repl.sampling.stage import MINUS_INFINITY, cast, number, stage

NO_WORDS = {
    "pushes": [[[-1.0, -1.0]]],
    "bans": [[[-1.0, -1.0]]],
    "breakers": [[0.0]],
}
"""For each kind of `Parameter.tokens`, what a rule gets where there are none."""


@stage(
    "history",
    "words become more likely by a positive amount, less by a negative one",
    "the API of OpenAI, 2021; of sequences as in transformers",
    "transformers, llama.cpp",
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
    "history",
    "the words that are named never come",
    "bad words of transformers, banned strings of koboldcpp",
    "transformers",
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
    "history",
    "the text does not end before so many new tokens",
    "transformers",
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
    return at_tokens(ns, "add", amounts, cast(ns, last, "int32"), logits.shape)
