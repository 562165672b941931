"""What the words and signs on the screen mean: an entry each, of two sentences.

`:help WORD` shows an entry, and pages link to it.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A word that is on the screen, what it means, and what to read from it."""

    names: tuple[str, ...]
    text: str

    @property
    def anchor(self) -> str:
        """Its name in an address inside a page."""
        return self.names[0].replace(" ", "-")


# An entry's first name is its own and its heading, further ones mean the same.
GLOSSARY = """
token: The piece of text that the model reads and writes at once: a word, the end of
one, or a punctuation mark. `·king` begins a word and `##ing` goes on with one.

vocabulary: All tokens that the model has. A few of them are marks, such as `[BOS]`
where a text begins: no rule keeps those, so that fewer are left where none is cut.

probability, model: How likely the model holds a token to come next, before any rule and
at temperature 1. All tokens of the vocabulary together have 100%; `-` is none at all,
`<0.1%` is a little.

logits, logit, scores, softmax: The numbers that the model gives to every token of the
vocabulary; softmax, e to the power of each divided by the sum of all, makes them
probabilities. Rules of a chain work on them: what a rule removes gets minus infinity,
temperature divides them.

bits, surprisal: The surprisal of a token is minus the logarithm of its probability, to
the base 2: 1 bit for 50%, 2 for 25%, 10 for 0.1%. A text that surprises the model
little has few bits a token.

log-probability, nats: The natural logarithm of a probability, which is added up over
the tokens of a text: 0 is certain, -0.69 is 50%, -2.3 is 10%. It is the surprisal with
the other sign and another base, 0.69 to a bit.

entropy: The surprisal that the model expects of its next token, in bits: 0 where it is
sure, 3 where it wavers as between 8 equal choices. It belongs to the place, surprisal
to the token that was taken there.

perplexity, ppl: 2 to the power of the mean surprisal in bits: among how many equally
likely tokens the model might as well have guessed. Lower is less surprised, which is
not better: what greedy and beam search find has the lowest, and repeats itself.

bits a byte: The surprisal of a whole text divided by its length in bytes. Unlike
perplexity it can be compared between models of different vocabularies.

rank: The place of a token among all of them, the most probable being 1. Greedy takes
only rank 1, top_k only ranks up to k.

kept, left, tokens kept: What a sampler's rule leaves to draw from: its tokens, or their
part of the model's probability. A column that tells what each of them then has is
renormalised, so that together they have 100%.

smallest k, smallest p: With no smaller k would `top_k`, and with no smaller p would
`top_p`, have kept the token, at temperature 1. `any`: it was the most probable one,
which every p keeps.

nucleus: The smallest set of the most probable tokens that have p of the probability
together. It is what top_p keeps: few tokens where the model is sure, many where it
wavers.

temperature, T: What the logits are divided by before the softmax: below 1 it sharpens
the distribution, above 1 it flattens it. At 0 only the most probable token is left,
which is greedy.

run, longest run: The longest stretch of tokens that a text repeats word for word from
earlier in itself. Above about 10 a reader notices that the text goes in circles.

n-gram, n-grams, 4-gram, 4-grams: So many tokens in a row, wherever in the text they
begin: a 4-gram is four. A text of 30 tokens has 27 of them, which overlap.

repeated, rep-4: The part of all 4-grams that had been in the text before, in percent.
Human text is near 0%; a text that goes in circles nears 100%.

distinct, distinct-1, distinct-2, distinct-3: The part of all n-grams that are different
from one another, of single tokens, pairs and triples. It is high for varied text, and
falls with the length of any text.

±, interval, told apart: Half the width of the 95% interval of a mean over several
texts: with other seeds it would be within that in 19 of 20 cases. Where the intervals
of two strategies overlap widely, nothing is told apart.

seed: The number that all random choices of a text follow from. The same model, prompt,
settings and seed make the same text again.

beam, beams, hypothesis, dropped: A text that beam search still follows, with the sum of
its tokens' log-probabilities. At each step every beam goes on with every token, and the
best num_beams of them survive.

similarity, cosine similarity: The greatest cosine similarity between the model's state
at a token and at an earlier one of the text: 1 is the same, 0 is unlike. Contrastive
search weighs it against the probability.

draft, drafts, accepted: A token that a small model guesses ahead for the large one to
check, several at a time. An accepted one costs no step of the large model; one that is
not is replaced by the large model's own.

strategy, SPEC: A sampler or a chain with the values of its parameters, as `:compare`
takes it: `top_k:k=5,temperature=0.8`. What is not named has the value of `:set`.

chain, rule, stage: Rules that are stacked with `+` and applied from left to right, each
to what those before it left. The last of a chain draws from what is left at the end.

context: How many tokens the model can see at once, with the one that begins a text;
`84/128` below the prompt tells how many of them the current text takes. When it is
full, the model goes on from the last words; a search ends.

tokens/s: New tokens divided by the seconds that it took to make them, without loading
or compiling. Texts that are made together share their seconds, so that several are
faster a token than one.

rows: Texts that are made together in one batch of the model. Their speed is that of all
of them, so compare it only between strategies of as many rows.

checkpoint: The folder that a trained model is in: its weights, its vocabulary, and how
it was made. `:model` tells which one is loaded.

warming, ready: What the engine is at: while it is warming it compiles the samplers that
are not in use yet. You can go on; a text that needs one of those waits for it.

first token, first ms: The time to the first new token, without what may be compiled
before it. Most of it is the reading of the prompt, so it does not grow with the length.

unknown: Words of the prompt that the vocabulary can't spell. The model sees `[UNK]` in
their place, and can't know what they are.

▸: The place where a text of a comparison parts from the others. Before it all have the
same tokens, which are shown faintly.

◂: The token that was chosen. It need not be the most probable one, which stands first.

seen, penalty: How often a token is in the text that a penalty looks at, and what that
takes off its logit. The prompt is part of that text.

cropped: Tokens that were dropped from the left of a prompt which is longer than the
context. The model sees the last ones, which matter most for what comes next.
"""


def _entry(paragraph: str) -> Entry:
    names, _, text = " ".join(paragraph.split()).partition(": ")
    return Entry(tuple(names.split(", ")), text)


ENTRIES = tuple(map(_entry, GLOSSARY.split("\n\n")))


def find_entry(word: str) -> Entry | None:
    """The entry of a name, in whatever case, or of its unique beginning."""
    by_name = {name.lower(): entry for entry in ENTRIES for name in entry.names}
    if word.lower() in by_name:
        return by_name[word.lower()]
    found = {by_name[name] for name in by_name if name.startswith(word.lower())}
    return found.pop() if len(found) == 1 else None


def terms() -> Iterable[str]:
    """The headings of all entries."""
    return (entry.names[0] for entry in ENTRIES)
