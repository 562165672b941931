"""The settings of a session: a frozen value in layers, each with its origin.

A setting's value comes from the strongest layer that has it. Changing one makes a new
`Settings`; nothing is changed when any part of a change is not allowed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from minigpt_repl.engine.request import SEEDS, EngineInfo, Request
from minigpt_repl.errors import UsageError, no_draft
from minigpt_repl.formats import NoiseKind, Record, StopRule
from minigpt_repl.sampling import chain
from minigpt_repl.sampling.parameters import Limits, Parameter, Value
from minigpt_repl.sampling.registry import (
    SamplerSpec,
    all_names,
    all_samplers,
    find_sampler,
    read_sampler,
)
from minigpt_repl.shown import did_you_mean, quoted

ORIGINS = ("default", "config", "environment", "flag", "set")
"""Where a value may come from, the weakest first."""

ENDS = "ends"
"""The limit that is there where the model learned how a document ends."""

DRAFT = "draft"
"""The limit that is 0 where there is no draft model to speculate with."""

DEFAULT_SAMPLER = "top_k"

SESSION_PARAMETERS = (
    Parameter(
        "seed",
        int,
        None,
        "seed of the random choices; off draws a fresh one for each text",
        minimum=0,
        maximum=SEEDS - 1,
        optional=True,
    ),
    Parameter("length", int, 80, "new tokens a text", minimum=1, maximum=100_000),
    Parameter(
        "stop",
        str,
        "none",
        "sentence: end at the first sentence end after half the length; end: where "
        "the document does, the default of a model that learned it",
        choices=("none", "sentence", "end"),
    ),
    Parameter(
        "noise",
        str,
        "own",
        "shared: samplers draw by the same noise, token for token, so that texts of "
        "one seed differ by their rules only",
        choices=("own", "shared"),
    ),
    Parameter("chat", bool, False, "each prompt goes on from the conversation so far"),
    Parameter("raw", bool, False, "show tokens joined by spaces, as the model sees"),
    Parameter("stats", bool, True, "a line of figures after each text"),
    Parameter(
        "color", str, "auto", "when to colour", choices=("auto", "always", "never")
    ),
    Parameter("keys", str, "emacs", "editing keys", choices=("emacs", "vi")),
)

LENGTH_ELSEWHERE = {
    "max_length",
    "max_new_tokens",
    "max_tokens",
    "n",
    "n_predict",
    "num_predict",
}
"""What other programs call a text's new tokens."""


def limits_of(model: Record | EngineInfo) -> Limits:
    """What a checkpoint sets bounds to: numbers of tokens, whether texts end, and
    whether a draft can be made."""
    ends = {ENDS: 1} if model.has_ends else {}
    return {"vocabulary": model.vocabulary_size, DRAFT: int(model.has_draft), **ends}


@dataclass(frozen=True)
class Change:
    """A setting before and after."""

    name: str
    before: Value
    after: Value


@dataclass(frozen=True)
class Settings:
    """All settings of a session.

    Keys of a layer are `sampler`, the names in `SESSION_PARAMETERS`, and
    `top_k.k` for a sampler's parameter, so that each sampler keeps its own, a chain
    as well: `min_p + xtc.xtc.threshold`.

    Attributes:
        layers: for each origin, the values that it gives.
        limits: bounds that the checkpoint knows, such as `vocabulary`.
    """

    layers: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    limits: Limits = field(default_factory=dict)

    @property
    def sampler(self) -> SamplerSpec:
        """The sampler in use."""
        return find_sampler(str(self.value("sampler")))

    def value(self, name: str) -> Value:
        """Value of any key that `names` gives."""
        origin = self.origin(name)
        return self.layers[origin][name] if origin != "default" else self._default(name)

    def origin(self, name: str) -> str:
        """Where that value comes from: the strongest of `ORIGINS` that has it."""
        having = (o for o in reversed(ORIGINS) if name in self.layers.get(o, {}))
        return next(having, "default")

    def parameters(self, sampler: SamplerSpec | None = None) -> dict[str, Value]:
        """A value for each parameter of a sampler; of the one in use if `None`."""
        spec = sampler or self.sampler
        return {
            name: self.value(f"{spec.name}.{name}") for name in spec.parameter_names
        }

    def request(self, prompt: str) -> Request:
        """The request that these settings make of a prompt."""
        seed = self.value("seed")
        return Request(
            prompt=prompt,
            sampler=self.sampler.name,
            parameters=self.parameters(),
            length=int(self.value("length") or 0),
            seed=None if seed is None else int(seed),
            stop=cast(StopRule, self.value("stop")),
            noise=cast(NoiseKind, self.value("noise")),
        )

    def set(
        self, values: Mapping[str, str], origin: str = "set"
    ) -> tuple["Settings", tuple[Change, ...]]:
        """New settings with the typed values, and what they change.

        A bare parameter name means the sampler in use; `top_p.p` means that
        sampler's. `sampler` switches the sampler, before the rest is read; its value
        may be a chain, or a sampler with values.

        Raises:
            UsageError: if any name or value is not allowed; nothing is changed.
        """
        pending = dict(values)
        if "sampler" in pending:
            spec, typed = read_sampler(pending.pop("sampler"))
            own = {f"{spec.name}.{name}": text for name, text in typed.items()}
            pending = {"sampler": spec.name} | own | pending
        settings, changes = self, []
        for name, text in pending.items():
            key = name if name == "sampler" else settings.key(name)
            after = settings.put(key, text, origin)
            changes.append(Change(name, settings.value(key), after.value(key)))
            settings = after
        return settings, tuple(changes)

    def put(self, key: str, value: Value, origin: str) -> "Settings":
        """New settings with a value of a full key, as text or of the type it has. The
        sampler may be a chain with values of its own.

        Raises:
            UsageError: if it is not allowed.
        """
        if key != "sampler":
            if isinstance(value, str):
                value = parameter_of(key).parse(value, self.limits)
            return self._with(origin, key, checked(key, value, self.limits))
        if not isinstance(value, str):
            raise UsageError(f"sampler must be a name; got {quoted(value)}")
        spec, typed = read_sampler(value)
        checked("sampler", spec.name, self.limits)
        settings = self._with(origin, "sampler", spec.name)
        for name, text in typed.items():
            settings = settings.put(f"{spec.name}.{name}", text, origin)
        return settings

    def unset(self, name: str) -> tuple["Settings", Change]:
        """New settings without what `:set` gave to a name.

        Raises:
            UsageError: if there is no such setting.
        """
        key = name if name == "sampler" else self.key(name)
        layer = {k: v for k, v in self.layers.get("set", {}).items() if k != key}
        after = replace(self, layers={**self.layers, "set": layer})
        return after, Change(name, self.value(key), after.value(key))

    def reset(self) -> "Settings":
        """New settings without anything that `:set` gave."""
        return replace(self, layers={**self.layers, "set": {}})

    def fitted_to(self, limits: Limits) -> tuple["Settings", tuple[Change, ...]]:
        """The same settings on another checkpoint; what is beyond its limits is
        dropped from its layer, so that a weaker one or the default holds."""
        layers = {
            origin: {key: v for key, v in layer.items() if _fits(key, v, limits)}
            for origin, layer in self.layers.items()
        }
        after = Settings(layers, dict(limits))
        return after, self.changes_to(after)

    def changes_to(self, after: "Settings") -> tuple[Change, ...]:
        """The settings whose value is another in `after`."""
        every = (Change(key, self.value(key), after.value(key)) for key in self.names())
        return tuple(change for change in every if change.before != change.after)

    def key(self, name: str) -> str:
        """The full key of what a user typed: `length`, `k`, `top_p.p`.

        Raises:
            UsageError: if there is no such setting; says which samplers have
                one of that name, or the nearest name.
        """
        of_chain = chain.find_name(self.sampler.stages, name)
        if of_chain is not None:
            return f"{self.sampler.name}.{of_chain}"
        if "." in name:
            sampler, _, parameter = name.partition(".")
            spec = find_sampler(sampler)
            return f"{spec.name}.{spec.parameter(parameter).name}"
        session_names = [parameter.name for parameter in SESSION_PARAMETERS]
        if name in session_names:
            return name
        spec = self.sampler
        if name in spec.parameter_names:
            return f"{spec.name}.{name}"
        if any(name in other.parameter_names for other in all_samplers()):
            spec.parameter(name)  # raises: names the samplers that have it
        if name in all_names():
            raise UsageError(f"{name} is no setting: write sampler={name}")
        names = ["sampler", *session_names, *spec.parameter_names]
        wanted = "length" if name.lower() in LENGTH_ELSEWHERE else name
        near = did_you_mean(wanted, names)
        raise UsageError(
            f"no setting {quoted(name)}: there are {', '.join(names)}{near}"
        )

    def names(self) -> Iterator[str]:
        """Every key: `sampler`, the session's, then each sampler's parameters."""
        yield "sampler"
        yield from (parameter.name for parameter in SESSION_PARAMETERS)
        for spec in self.samplers():
            yield from (f"{spec.name}.{name}" for name in spec.parameter_names)

    def samplers(self) -> tuple[SamplerSpec, ...]:
        """Every sampler; the chain in use comes first."""
        in_use = self.sampler
        return (in_use, *all_samplers()) if in_use.stages else all_samplers()

    def parameter(self, name: str) -> Parameter:
        """What a setting allows; `name` as the user typed it."""
        return parameter_of(self.key(name))

    def _default(self, key: str) -> Value:
        """The default; the limit where a tiny checkpoint has less to offer."""
        if key == "sampler":
            return DEFAULT_SAMPLER
        parameter = parameter_of(key)
        if key == "stop" and ENDS in self.limits:
            return "end"
        default, limit = parameter.default, self.limits.get(str(parameter.maximum))
        if isinstance(default, int) and limit is not None:
            return min(default, limit)
        return default

    def _with(self, origin: str, key: str, value: Value) -> "Settings":
        layer = {**self.layers.get(origin, {}), key: value}
        return replace(self, layers={**self.layers, origin: layer})


def parameter_of(key: str) -> Parameter:
    """What the setting of a full key allows."""
    sampler, dot, name = key.partition(".")
    if dot:
        return find_sampler(sampler).parameter(name)
    return next(p for p in SESSION_PARAMETERS if p.name == key)


def checked(key: str, value: Value, limits: Limits) -> Value:
    """The same value of a full key, if a checkpoint allows it.

    Raises:
        UsageError: if it does not.
    """
    if key != "sampler":
        value = parameter_of(key).check(value, limits)
    elif limits.get(DRAFT) == 0 and find_sampler(str(value)).needs_draft:
        raise UsageError(no_draft(str(value)))
    if (key, value) == ("stop", "end") and limits and ENDS not in limits:
        raise UsageError(
            "stop = end: this model did not learn where a document ends; "
            "stop takes none or sentence"
        )
    return value


def _fits(key: str, value: Value, limits: Limits) -> bool:
    try:
        checked(key, value, limits)
    except UsageError:
        return False
    return True
