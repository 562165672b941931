"""The samplers, as data: one entry is the whole feature.

Help, completion, `--sampler` choices, validation, the README's tables and the
parametrised tests all derive from these entries. An entry names the class of its
sampler, which the engine imports. A chain of rules is a sampler too, made of its name:
see `chain` and `stage`.

A package adds a sampler through an entry point of the group
`minigpt_repl.samplers` that loads a `SamplerSpec`; a program calls `register()`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.sampling import chain, rules
from minigpt_repl.sampling.chain import STAGES
from minigpt_repl.sampling.parameters import Limits, Parameter, Value, format_values
from minigpt_repl.sampling.presets import DEFAULTS as DEFAULT_CHAINS
from minigpt_repl.sampling.stage import Stage, share, told
from minigpt_repl.shown import did_you_mean, quoted

ENTRY_POINT_GROUP = "minigpt_repl.samplers"


@dataclass(frozen=True)
class Search:
    """How a sampler searches whose loop keeps more than the last token.

    It runs step by step, can't go on past the model's context, and is made alone.

    Attributes:
        state: names of the loop's variables, in the order of KerasHub's loop.
        shows: what it tells of each step: `hypotheses`, `candidates` or `drafts`.
        against: what a probability is weighed against, for candidates.
        rows: name of the structural parameter that says how many texts it keeps, or
            `None` for one. A program for more serves as well: the sampler's `kept`,
            a variable, says how many.
        ranked: which of the variables ranks the texts, where the engine's loop has to
            leave out all but the best; `None` where the sampler itself keeps `kept`.
    """

    state: tuple[str, ...]
    shows: str
    rows: str | None = None
    ranked: str | None = None
    against: str = ""

    def kept(self, values: Mapping[str, Value], tokens: int) -> int:
        """How many texts it keeps, where so many tokens may be chosen.

        Of more candidates some would be tokens that are never chosen.
        """
        return 1 if self.rows is None else min(int(values[self.rows] or 1), tokens)

    def size(self, values: Mapping[str, Value], tokens: int) -> int:
        """Rows of its program: even, four sizes from 8 to 16, from 16 to 32 ...

        So that there are few, and none takes much more time than one of its own size.
        """
        if self.rows is None:
            return 1
        kept = self.kept(values, tokens)
        step = 1 << max(1, kept.bit_length() - 3)
        return min(-(-kept // step) * step, tokens)


@dataclass(frozen=True)
class SamplerSpec:
    """A decoding strategy.

    Attributes:
        name: canonical name, as in `keras_hub.samplers`.
        aliases: further names. Case, `-` and `_` do not matter anywhere.
        summary: one line, without a full stop.
        story: three sentences for `:explain`: the rule, what it is good for,
            what it costs.
        sampler: import path `module:Class` of a `keras_hub.samplers.Sampler`.
        parameters: what the user can set; given to the class as keywords.
        is_random: whether the seed matters.
        rule: the limits of the tokens that it chooses from; see `rules`.
        takes_rows: whether it chooses for all rows of a batch at once, in a program
            of XLA: its parameters have the shape `(rows, 1)` and its
            `seed_generator` gives `(rows, 2)`. Others choose for a row at a time.
        search: how it searches, where it does not go token by token.
        stages: the rules of a chain, in order; empty for any other sampler.
        formula: the rule in a line.
        origin: where it is from.
        use: when to use it, and when not.
    """

    name: str
    aliases: tuple[str, ...]
    summary: str
    story: str
    sampler: str
    parameters: tuple[Parameter, ...]
    is_random: bool
    rule: rules.Rule = rules.no_limits
    takes_rows: bool = False
    search: Search | None = None
    stages: tuple[Stage, ...] = ()
    formula: str = ""
    origin: str = ""
    use: str = ""

    @property
    def needs_draft(self) -> bool:
        """Whether it asks a draft model."""
        return self.search is not None and "draft_cache" in self.search.state

    @property
    def needs_history(self) -> bool:
        """Whether it looks at the tokens so far."""
        return any(stage.kind == "history" for stage in self.stages)

    @property
    def learns(self) -> bool:
        """Whether it follows its own choices."""
        return any(stage.learns is not None for stage in self.stages)

    def kept(self, ns: Any, probabilities: Any, values: Mapping[str, Value]) -> Any:
        """Which tokens its rule leaves to choose from, bool `(..., vocabulary)`.

        Args:
            ns: `numpy` or `keras.ops`.
            probabilities: of the same shape, temperature applied.
            values: its parameters.
        """
        return rules.kept(ns, probabilities, self.rule(ns, probabilities, values))

    def load_class(self) -> type:
        """The sampler's class; imports KerasHub."""
        module, _, name = self.sampler.partition(":")
        return getattr(import_module(module), name)  # type: ignore[no-any-return]

    def shape(self, values: Mapping[str, Value]) -> tuple[Value, ...]:
        """The values that shape its graph: each needs a graph of its own."""
        return tuple(values[p.name] for p in self.parameters if not p.is_live)

    def make(self, values: Mapping[str, Any], seed: int | None = None) -> Any:
        """The sampler with its parameters, and a seed if it is random."""
        if self.stages:
            return self.load_class()(self.name, seed=seed, values=values)
        seeds = {"seed": seed} if self.is_random and seed is not None else {}
        return self.load_class()(**values, **seeds)

    def bound_to_the_engine(self, values: Mapping[str, Value]) -> tuple[str, ...]:
        """Its rules that work in this program's loop only, not in a KerasHub model's.

        Those are given words, the end of a document or what they learned.

        Args:
            values: the parameters that were asked for, without defaults.
        """
        needing = {s.name for s in self.stages if {"end_id", "learned"} & set(s.needs)}
        named = [p.name for p in self.parameters if p.tokens and values.get(p.name)]
        needing |= {name.partition(".")[0] for name in named}
        return tuple(stage.name for stage in self.stages if stage.name in needing)

    def text(self, values: Mapping[str, Value]) -> str:
        """As the user would type it: `top_k:k=10,temperature=1`, or a chain."""
        if self.stages:
            texts = (chain.stage_text(stage, values) for stage in self.stages)
            return chain.SEPARATOR.join(texts)
        pairs = format_values(values, sep=",")
        return f"{self.name}:{pairs}" if pairs else self.name

    def brief(self, values: Mapping[str, Value]) -> str:
        """As the user would type it, without what is the default."""
        if self.stages:
            return self.text(values)
        usual = self.defaults()
        return self.text({n: v for n, v in values.items() if v != usual[n]})

    def parameter(self, name: str) -> Parameter:
        """The parameter of that name.

        Raises:
            UsageError: if this sampler has none of that name.
        """
        wanted = chain.find_name(self.stages, name) or name
        for parameter in self.parameters:
            if parameter.name == wanted:
                return parameter
        names = [parameter.name for parameter in self.parameters]
        owners = [s.name for s in all_samplers() if name in s.parameter_names]
        has = f"{self.name} has {', '.join(names)}" if names else "it has no parameters"
        where = f"; {name} belongs to {', '.join(owners)}" if owners else ""
        if self.stages and (rule := chain.find_stage(name)):
            where = f"; {rule.name} is a rule: {self.name} + {rule.name} stacks them"
        hint = where or did_you_mean(name, names)
        raise UsageError(f"{self.name} has no parameter {quoted(name)}: {has}{hint}")

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

    def defaults(self) -> dict[str, Value]:
        """Default value of each parameter."""
        return {parameter.name: parameter.default for parameter in self.parameters}

    def check(
        self, values: Mapping[str, Value], limits: Limits | None = None
    ) -> dict[str, Value]:
        """All its parameters: the given values, checked, and defaults.

        Raises:
            UsageError: for an unknown name, a wrong type or a value out of range.
        """
        checked = self.defaults()
        for name, value in values.items():
            checked[name] = self.parameter(name).check(value, limits)
        return checked


def all_samplers() -> tuple[SamplerSpec, ...]:
    """Every sampler, the built-in ones first, plugins after them."""
    _load_plugins()
    return tuple(_SPECS.values())


def all_names() -> tuple[str, ...]:
    """Samplers and rules of chains by their names, each once."""
    return tuple(dict.fromkeys((*(spec.name for spec in all_samplers()), *STAGES)))


def find_sampler(name: str) -> SamplerSpec:
    """The sampler of that name or alias: `top_k`, `topk`, `Top-K` alike.

    The name of a chain is its rules without values: `min_p + temperature`.

    Raises:
        UsageError: if there is none; names the nearest and all there are.
    """
    if (spec := _named(name)) is not None:
        return spec
    names = name.split("+")
    if len(names) > 1 or chain.find_stage(name) is not None:
        return _chain(chain.stages_of([each.strip() for each in names]))
    # Plugins are looked for only when they are needed: it costs the prompt 50 ms.
    _load_plugins()
    if (spec := _named(name)) is not None:
        return spec
    samplers = [spec.name for spec in all_samplers()]
    near = did_you_mean(name.replace("-", "_"), all_names())
    raise UsageError(
        f"no sampler {quoted(name)}: there are {', '.join(samplers)}, and rules "
        f"for a chain, which :sampler lists{near}"
    )


def choose_sampler(
    name: str, values: Mapping[str, Value], limits: Limits | None = None
) -> tuple[SamplerSpec, dict[str, Value]]:
    """The sampler that does what is asked, and all its parameters, checked.

    At temperature 0 that is greedy, whatever the sampler.

    Raises:
        UsageError: as `find_sampler` and `SamplerSpec.check`.
    """
    spec = find_sampler(name)
    checked = spec.check(values, limits)
    if checked.get("temperature") == 0 and not spec.stages:
        return find_sampler("greedy"), {}
    return spec, checked


def read_sampler(text: str) -> tuple[SamplerSpec, dict[str, str]]:
    """What a user typed: a sampler, or a chain, and the values that it names.

    Raises:
        UsageError: for what the grammar does not allow, or an unknown name.
    """
    typed = chain.parse(DEFAULT_CHAINS.get(text.strip().lower(), text))
    spec = find_sampler(chain.SEPARATOR.join(stage.name for stage in typed))
    values: dict[str, str] = {}
    for place, stage in enumerate(typed):
        owner = spec if not spec.stages else _chain((spec.stages[place],))
        pairs = list(stage.values)
        if stage.main is not None:
            if not owner.parameters:
                owner.parameter(stage.main)  # raises: it has none
            pairs.append((owner.parameters[0].name, stage.main))
        for name, value in pairs:
            full = owner.parameter(name).name
            if full in values:
                raise UsageError(f"{name} is given twice")
            values[full] = value
    return spec, values


def as_chain(text: str) -> str:
    """The same as a chain: one stage alone, such as top_k, may be a sampler's name."""
    spec = read_sampler(text)[0]
    if spec.stages:
        return text
    # Beside it stands one that changes nothing.
    stage = STAGES.get(spec.name)
    if stage is not None and stage.is_last:
        return f"temperature=1{chain.SEPARATOR}{text}"
    return f"{text}{chain.SEPARATOR}random"


def _of_each(stages: tuple[Stage, ...], tell: Callable[[Stage], str]) -> str:
    """What there is to tell of each rule, behind its name where they are several."""
    if len(stages) == 1:
        return tell(stages[0])
    return "\n".join(f"{stage.name}: {tell(stage)}" for stage in stages)


@lru_cache
def _chain(stages: tuple[Stage, ...]) -> SamplerSpec:
    return SamplerSpec(
        name=chain.SEPARATOR.join(stage.name for stage in stages),
        aliases=(),
        summary="; then ".join(stage.summary for stage in stages),
        story=_of_each(
            stages, lambda stage: f"{stage.story} {stage.formula} ({stage.origin})."
        ),
        sampler="minigpt_repl.sampling.samplers:Chain",
        parameters=chain.parameters_of(stages),
        is_random=all(stage.is_random for stage in stages),
        takes_rows=True,
        use=_of_each(stages, lambda stage: stage.use),
        stages=stages,
    )


def register(spec: SamplerSpec) -> None:
    """Add a sampler, which then appears everywhere.

    Raises:
        UsageError: if one of its names is taken.
    """
    for name in (spec.name, *spec.aliases):
        if _named(name) is not None:
            raise UsageError(f"a sampler named {quoted(name)} is registered already")
    _SPECS[spec.name] = spec


def _named(name: str) -> SamplerSpec | None:
    wanted = chain.plain(name)
    for spec in _SPECS.values():
        if wanted in map(chain.plain, (spec.name, *spec.aliases)):
            return spec
    return None


_OLD = "minigpt_repl.decoding"
"""Where version 0.1.0 had this package."""
_plugins_loaded = False


def _load_plugins() -> None:
    global _plugins_loaded
    if _plugins_loaded:
        return
    _plugins_loaded = True
    from importlib.metadata import entry_points

    failures: list[MiniGPTError] = []
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            register(entry_point.load())
        except Exception as error:  # noqa: BLE001, a plugin may raise anything
            reason = str(error)
            if isinstance(error, ImportError) and str(error.name).startswith(_OLD):
                reason = f"it is written for 0.1.0; {_OLD} is {__package__} now"
            failures.append(
                MiniGPTError(
                    f"the sampler plugin {entry_point.name!r} ({entry_point.value}) "
                    f"can't be used: {reason}: correct it or uninstall it"
                )
            )
    if failures:  # told once, when the others are there
        raise failures[0]


(_TEMPERATURE,) = STAGES["temperature"].parameters  # the same in a chain and alone


def _k(default: int | None, help: str, **more: Any) -> Parameter:
    return Parameter("k", int, default, help, minimum=1, maximum="vocabulary", **more)


def _beams(default: int, help: str) -> Parameter:
    return Parameter("num_beams", int, default, help, 1, 64, is_structural=True)


_LENGTH_PENALTY = Parameter(
    "length_penalty",
    float,
    1.0,
    "of texts that end: 0 prefers short ones, 1 the mean per token",
    minimum=-10,
    maximum=10,
)

_GUESSES = Parameter(
    "num_speculative_tokens",
    int,
    5,
    "tokens guessed a round",
    minimum=1,
    maximum=16,
    is_structural=True,
)

_LEVIATHAN = (
    'Leviathan et al. 2023, "Fast Inference from Transformers via Speculative '
    'Decoding", arXiv:2211.17192'
)


def _sampler(name: str, summary: str, text: str, **more: Any) -> SamplerSpec:
    """A sampler whose formula, story and use are the paragraphs of a text."""
    return SamplerSpec(name=name, summary=summary, **told(text), **more)


def _drawing(stage: Stage, **more: Any) -> SamplerSpec:
    """A sampler that draws from what one stage leaves, told in its words."""
    return SamplerSpec(
        name=stage.name,
        summary=f"one of {stage.summary}",
        story=stage.story,
        formula=stage.formula,
        origin=stage.origin,
        use=stage.use,
        is_random=True,
        takes_rows=True,
        **more,
    )


_BUILT_IN = (
    _sampler(
        "greedy",
        "always the most probable token",
        """argmax p.

        Greedy search takes the most probable next token, every time.
        It is fast, and the same prompt always gives the same text.
        What looks best at each step soon repeats itself.

        Use it where one short right answer is wanted, and to see what the model
        prefers. Not for stories: it goes round in loops.
        """,
        aliases=("argmax",),
        origin="the plainest search",
        sampler="keras_hub.samplers:GreedySampler",
        parameters=(),
        is_random=False,
        rule=rules.best,
        takes_rows=True,
    ),
    _sampler(
        "beam",
        "the most probable whole text among several kept side by side",
        """max of the sum of ln p over whole texts, divided by length ** length_penalty
        where they end; num_beams are kept at each step.

        Beam search keeps the num_beams most probable texts, extends each by every token
        and keeps the best again.
        It finds texts of higher probability than greedy search does.
        It costs num_beams times the work, and probable text is often dull.

        Use it where the text is as good as determined: translation, summaries. Not for
        stories: the most probable text is dull and repeats itself.
        """,
        aliases=("beam_search",),
        origin='Lowerre 1976, "The Harpy Speech Recognition System"',
        sampler="minigpt_repl.sampling.beam_samplers:BeamSearch",
        parameters=(
            _beams(5, "texts kept side by side"),
            _TEMPERATURE,
            _LENGTH_PENALTY,
        ),
        is_random=False,
        rule=rules.top("num_beams"),
        search=Search(
            state=("prompt", "cache", "index", "mask", "log_probs"),
            shows="hypotheses",
            rows="num_beams",
            ranked="log_probs",
        ),
    ),
    _sampler(
        "diverse_beam",
        "beam search in groups, each of which avoids the tokens of the others",
        """in each group max of the sum of ln p - diversity_penalty * how often earlier
        groups chose the token at that step; what was taken off stays off.

        Diverse beam search splits its beams into num_groups groups, which choose one
        after another at each step; a token costs diversity_penalty for each time that
        an earlier group just chose it.
        So the texts that are kept differ from their first words on, where those of beam
        search differ in their last ones; with one group it is beam search.
        The first group knows no penalty, so the best text is often what beam search
        finds with as few beams as the group has.

        Use it to be given several ways to go on, which :beams lists. Not for one text:
        the best of the first group is all that is left then.
        """,
        aliases=("diverse_beam_search", "group_beam_search"),
        origin='Vijayakumar et al. 2016, "Diverse Beam Search", arXiv:1610.02424, with '
        "the Hamming diversity",
        sampler="minigpt_repl.sampling.beam_samplers:DiverseBeamSearch",
        parameters=(
            _beams(6, "texts kept side by side, of all groups"),
            Parameter(
                "num_groups",
                int,
                3,
                "groups; the first ones have a text more where they can't be equal",
                minimum=1,
                maximum=64,
            ),
            Parameter(
                "diversity_penalty",
                float,
                0.5,
                "taken off ln p for each earlier group's choice of the same token",
                minimum=0,
                maximum=100,
            ),
            _TEMPERATURE,
            _LENGTH_PENALTY,
        ),
        is_random=False,
        rule=rules.top("num_beams"),
        search=Search(
            state=("prompt", "cache", "index", "mask", "log_probs", "penalties"),
            shows="hypotheses",
            rows="num_beams",
        ),
    ),
    _sampler(
        "random",
        "any token, as often as the model says",
        """p(token) ** (1 / temperature), renormalised.

        Random sampling draws the next token from the whole distribution.
        It shows what the model really believes, tail included.
        Thousands of unlikely tokens together are likely, so the text wanders.

        Use it to see what the model believes, and for statistics. Not for texts to be
        read: the tail comes up too often.
        """,
        aliases=("sample", "multinomial"),
        origin="ancestral sampling",
        sampler="minigpt_repl.sampling.samplers:RandomSampler",
        parameters=(_TEMPERATURE,),
        is_random=True,
        takes_rows=True,
    ),
    _drawing(
        STAGES["top_k"],
        aliases=(),
        sampler="minigpt_repl.sampling.samplers:TopKSampler",
        parameters=(_k(10, "tokens kept"), _TEMPERATURE),
        rule=rules.top("k"),
    ),
    _drawing(
        STAGES["top_p"],
        aliases=("nucleus",),
        sampler="minigpt_repl.sampling.samplers:TopPSampler",
        parameters=(
            *STAGES["top_p"].parameters,
            _k(None, "keep at most this many tokens first", optional=True),
            _TEMPERATURE,
        ),
        rule=rules.top_p,
    ),
    _sampler(
        "contrastive",
        "a probable token whose meaning differs from what is there",
        """(1 - alpha) * p - alpha * greatest cosine similarity to an earlier token.

        Contrastive search weighs each of the k most probable tokens against its
        similarity to the text so far: (1 - alpha) * probability - alpha * similarity of
        the hidden states.
        It keeps the sense of greedy search and avoids its loops.
        Every step runs the model on all k candidates.

        Use it where the text must be the same each time and not loop. Not where speed
        matters, or where a list or a refrain has to repeat itself.
        """,
        aliases=("contrastive_search",),
        origin='Su et al. 2022, "A Contrastive Framework for Neural Text Generation", '
        "arXiv:2202.06417, equation 5",
        sampler="minigpt_repl.sampling.samplers:ContrastiveSampler",
        parameters=(
            _k(5, "candidates weighed", is_structural=True),
            share("alpha", 0.6, "weight of the penalty for similarity"),
            _TEMPERATURE,
        ),
        is_random=False,
        rule=rules.top("k"),
        search=Search(
            state=("prompt", "cache", "index", "logits", "hidden_states"),
            shows="candidates",
            rows="k",
            against="similarity",
        ),
    ),
    _sampler(
        "speculative",
        "greedy text, guessed ahead by a small draft model",
        """a draft is kept while draft = argmax p.

        Speculative decoding lets a small draft model guess several tokens, and the
        model checks them all in one pass.
        Guesses that agree with the model's own choice are kept, so the text is the
        greedy text.
        It pays when the draft is much faster and usually right.

        Use it for greedy text from a large model with a much smaller one beside it. Not
        with a small model: what the draft saves it costs.
        """,
        aliases=("speculative_decoding",),
        origin=_LEVIATHAN,
        sampler="minigpt_repl.sampling.search_samplers:SpeculativeDecoding",
        parameters=(
            _GUESSES,
            # No temperature: drafts are accepted if they are the model's own
            # first choice, and no temperature changes which one that is.
        ),
        is_random=False,
        rule=rules.best,
        search=Search(
            state=("prompt", "cache", "index", "draft_cache"), shows="drafts"
        ),
    ),
    _sampler(
        "speculative_sampling",
        "random text, guessed ahead by a small draft model",
        """a draft x from q is kept with probability min(1, p(x) / q(x)), else one is
        drawn from max(0, p - q).

        Speculative sampling lets a small draft model draw several tokens, and the model
        checks them all in one pass.
        In place of the first that is not kept one is drawn from what the draft gave too
        little, so what comes out is distributed exactly as if the model had drawn it,
        whatever the draft is like.
        It pays when the draft is much faster and much alike.

        Use it for random text from a large model with a much smaller one beside it. Not
        to get other text: it has the distribution of random.
        """,
        aliases=("lossless_speculative",),
        origin=_LEVIATHAN,
        sampler="minigpt_repl.sampling.search_samplers:SpeculativeSampling",
        parameters=(_GUESSES, _TEMPERATURE),
        is_random=True,
        search=Search(
            state=("prompt", "cache", "index", "draft_cache"), shows="drafts"
        ),
    ),
    _sampler(
        "contrastive_decoding",
        "the token that the model likes more than its draft model does",
        """argmax of ln p - ln q where p >= alpha * max p.

        Contrastive decoding takes, of the tokens that are plausible to the model, the
        one that its small draft model finds least likely beside it.
        What small models do badly, repeating themselves and staying general, they do
        more often than large ones, and so it is left out.
        It needs both models for each token, and what both know counts for nothing.

        Use it for text without chance that does not go round in circles. Not with a
        draft that is as good as the model: what is left is noise.
        """,
        aliases=(),
        origin='Li et al. 2023, "Contrastive Decoding: Open-ended Text Generation as '
        'Optimization", arXiv:2210.15097, with a beam of one',
        sampler="minigpt_repl.sampling.search_samplers:ContrastiveDecoding",
        parameters=(
            share(
                "alpha", 0.1, "share of the highest probability that a token must have"
            ),
            Parameter(
                "draft_temperature",
                float,
                1.0,
                "below 1 takes the draft model at its word, above 1 less so",
                minimum=0.01,
                maximum=100,
            ),
        ),
        is_random=False,
        rule=rules.plausible,
        search=Search(
            state=("prompt", "cache", "index", "draft_cache", "draft_logits"),
            shows="candidates",
            against="draft",
        ),
    ),
    _sampler(
        "prompt_lookup",
        "greedy text, guessed ahead from what the text said before",
        """a guess is kept while guess = argmax p.

        Prompt look-up guesses that the text goes on as it did the last time the same
        tokens were there, and the model checks the guesses in one pass.
        Guesses that agree with the model's own choice are kept, so the text is the
        greedy text, and no draft model is needed.
        It pays where a text repeats itself or its prompt; elsewhere a pass gives one
        token.

        Use it for greedy text that repeats: summaries, corrections, code. Not for
        stories, unless they go round in circles.
        """,
        aliases=("prompt_lookup_decoding",),
        origin="Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding",
        sampler="minigpt_repl.sampling.search_samplers:PromptLookup",
        parameters=(
            _GUESSES,
            Parameter(
                "ngram", int, 2, "tokens that are to be the same", minimum=1, maximum=8
            ),
        ),
        is_random=False,
        rule=rules.best,
        search=Search(state=("prompt", "cache", "index"), shows="drafts"),
    ),
)

_SPECS: dict[str, SamplerSpec] = {spec.name: spec for spec in _BUILT_IN}
