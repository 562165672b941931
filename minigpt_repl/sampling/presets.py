"""Chains that other programs have: their defaults by name, and their preset files.

`read_preset` takes the JSON of SillyTavern's text completion and of a request to
llama.cpp's server. What it does not know it names; it reads no file itself.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from minigpt_repl.errors import UsageError
from minigpt_repl.sampling import chain
from minigpt_repl.sampling.chain import STAGES
from minigpt_repl.sampling.parameters import Value, format_value
from minigpt_repl.shown import quoted, shortened

DEFAULTS = {
    # common/common.h: penalties, dry, top_n_sigma, typ_p and xtc are off.
    "llama.cpp": "top_k=40 + top_p=0.95 + min_p=0.05 + temperature=0.8",
    # generation/configuration_utils.py, with do_sample; top_p is off.
    "transformers": "temperature=1 + top_k=50",
}
"""What the programs do unless told otherwise."""

FIELDS: dict[str, tuple[str, tuple[Value, ...]]] = {
    "repetition_penalty": ("rep_pen repeat_penalty repetition_penalty", (1,)),
    "repetition_penalty.window": ("rep_pen_range repeat_last_n", ()),
    "presence_penalty": ("presence_pen presence_penalty", (0,)),
    "frequency_penalty": ("freq_pen frequency_penalty", (0,)),
    "no_repeat_ngram": ("no_repeat_ngram_size", (0,)),
    "dry": ("dry_multiplier", (0,)),
    "dry.base": ("dry_base", ()),
    "dry.allowed_length": ("dry_allowed_length", ()),
    "dry.window": ("dry_penalty_last_n", ()),
    "dry.breakers": ("dry_sequence_breakers", ()),
    "top_n_sigma": ("nsigma top_n_sigma", (0, -1)),
    "top_k": ("top_k", (0, -1)),
    "top_a": ("top_a", (0,)),
    "typical_p": ("typical_p typical", (1,)),
    "epsilon_cutoff": ("epsilon_cutoff", (0,)),
    "eta_cutoff": ("eta_cutoff", (0,)),
    "top_p": ("top_p", (1,)),
    "min_p": ("min_p", (0,)),
    "xtc": ("xtc_probability", (0,)),
    "xtc.threshold": ("xtc_threshold", ()),
    "dynamic_temperature.range": ("dynatemp_range", ()),
    "dynamic_temperature.exponent": ("dynatemp_exponent", ()),
    "temperature": ("temp temperature", (1,)),
    "mirostat": ("mirostat_tau", ()),
    "mirostat.eta": ("mirostat_eta", ()),
    "adaptive_p": ("adaptive_target", (-1, 0)),
    "adaptive_p.decay": ("adaptive_decay", ()),
}
"""Our parameters, in llama.cpp's order of the stages: their names in the files, and the
values with which their stage does nothing."""

OFF = {ours: off for ours, (_, off) in FIELDS.items() if off}

MODES = (
    *("mirostat", "mirostat_mode", "temperature_last", "samplers"),
    *("dynatemp", "min_temp", "max_temp"),
)
"""Names that say which stages hold, or their order."""

ORDERS = ("sampler_priority", "sampler_order")
"""SillyTavern's orders for other backends, whose stages are not all here."""

STAGE_OF = {"typ_p": "typical_p", "penalties": "repetition_penalty"}
"""llama.cpp's names of stages where they are not ours."""
PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty")


class Preset(NamedTuple):
    """A preset file as the text of a chain, and its names that mean nothing here."""

    text: str
    unknown: tuple[str, ...]


def read_preset(content: str, name: str) -> Preset:
    """The chain of a preset file.

    Args:
        content: of the file.
        name: of the file, for errors.

    Raises:
        UsageError: if it is no JSON object, or a value is not allowed.
    """
    try:
        fields = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        raise UsageError(f"{name} is no preset: it is not JSON") from None
    if not isinstance(fields, dict):
        raise UsageError(f"{name} is no preset: it is no JSON object")
    unknown = tuple(_unknown(fields))
    try:
        fields |= _bounds(fields)
        values = _values(fields)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None
    texts = []
    for stage in _stages(values, fields):
        own = {key: v for key, v in values.items() if key.partition(".")[0] == stage}
        texts.append(chain.stage_text(STAGES[stage], own))
    if not texts:
        has = ", ".join(map(quoted, fields)) or "nothing"
        raise UsageError(
            f"{name} has no stage that does anything; it has {shortened(has)}"
        )
    return Preset(chain.SEPARATOR.join(texts), unknown)


def _unknown(fields: Mapping[str, Any]) -> Iterator[str]:
    """The names that mean nothing here, also of the stages in a list of them."""
    known = {
        *MODES,
        *(theirs for names, _ in FIELDS.values() for theirs in names.split()),
    }
    for field in fields:
        if field in ORDERS:
            yield f"{field} (the order is llama.cpp's)"
        elif field not in known:
            yield field
    listed = fields.get("samplers")
    for each in listed if isinstance(listed, list) else []:
        if STAGE_OF.get(str(each), str(each)) not in OFF:
            yield f"{each} of samplers"


def _values(fields: Mapping[str, Any]) -> dict[str, Value]:
    """Our parameters of what a file has.

    Raises:
        UsageError: if a value is not allowed.
    """
    values = {
        ours: _converted(ours, theirs, fields[theirs])
        for ours, (names, _) in FIELDS.items()
        for theirs in names.split()
        if theirs in fields
    }
    return values | {"dynamic_temperature": values.get("temperature", 1.0)}


def _bounds(fields: Mapping[str, Any]) -> dict[str, float]:
    """SillyTavern's bounds of a dynamic temperature as midpoint and half-range."""
    if not fields.get("dynatemp"):
        return {}
    low, high = fields.get("min_temp"), fields.get("max_temp")
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)):
        raise UsageError("dynatemp needs min_temp and max_temp, which are numbers")
    return {"temp": (low + high) / 2, "dynatemp_range": (high - low) / 2}


def _converted(ours: str, theirs: str, value: Any) -> Value:
    """A value of a file as the parameter has it, checked unless it means off."""
    stage, _, rest = ours.partition(".")
    parameters = STAGES[stage].parameters
    parameter = next((p for p in parameters if p.name == rest), parameters[0])
    if not rest and value in OFF.get(stage, ()):
        return value  # type: ignore[no-any-return]
    if parameter.tokens:
        return _breakers(theirs, value)
    if theirs in ("epsilon_cutoff", "eta_cutoff") and isinstance(value, (int, float)):
        value = value / 10_000  # they are in units of 1e-4
    if parameter.name == "window" and isinstance(value, int) and value <= 0:
        return None
    if parameter.kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        return parameter.check(value)
    except UsageError as error:
        raise UsageError(f"{theirs}: {error}") from None


def _breakers(theirs: str, value: Any) -> str:
    """Breakers as text; SillyTavern has a list as JSON within JSON."""
    try:
        listed = msgspec.json.decode(value) if isinstance(value, str) else value
        texts = msgspec.convert(listed, list[str])
    except msgspec.MsgspecError:
        raise UsageError(
            f"{theirs} is a list of texts; got {format_value(str(value)[:60])}"
        ) from None
    return " ".join(text.replace("\n", r"\n") for text in texts)


def _stages(values: Mapping[str, Value], fields: Mapping[str, Any]) -> Iterator[str]:
    """The stages that do something, in their order."""
    mode = fields.get("mirostat_mode", fields.get("mirostat", 0))
    if mode in (1, 2):  # version 1 aims at the same
        if values.get("temperature", 1) != 1:
            yield "temperature"
        yield "mirostat"
        return
    names = [name for name in FIELDS if name in OFF]
    if isinstance(fields.get("samplers"), list) and "temp" not in fields:
        wanted = [STAGE_OF.get(str(each), str(each)) for each in fields["samplers"]]
        wanted = [n for w in wanted for n in (PENALTIES if w == PENALTIES[0] else (w,))]
        names = [name for name in wanted if name in names]
        names += ["adaptive_p"] * ("adaptive_p" not in names)
    has_both = "temperature" in names and "dry" in names
    if fields.get("temperature_last") is False and has_both:
        names.remove("temperature")
        names.insert(names.index("dry") + 1, "temperature")
    is_dynamic = values.get("dynamic_temperature.range", 0) != 0
    for name in names:
        if name == "temperature" and is_dynamic:
            yield "dynamic_temperature"
        elif values.get(name) is not None and values[name] not in OFF[name]:
            yield name
