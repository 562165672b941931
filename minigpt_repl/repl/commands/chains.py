"""The chain of rules in use, seen and rearranged: `:chain`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.text import Text

from minigpt_repl.compare.pieces import next_token_place, visible, visible_all
from minigpt_repl.compare.spec import read_whole
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import EngineInfo
from minigpt_repl.errors import UsageError
from minigpt_repl.files import read_user_file, user_path
from minigpt_repl.repl.commands.setting import switch_to_chain
from minigpt_repl.repl.completion import file_words, stage_words, value_words
from minigpt_repl.repl.context import Context, Steps, current_ids
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Notice, Say
from minigpt_repl.repl.tables import NAME, FittingTable, Row
from minigpt_repl.sampling import chain
from minigpt_repl.sampling.chain import STAGES
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.presets import read_preset
from minigpt_repl.sampling.registry import SamplerSpec, as_chain, read_sampler
from minigpt_repl.settings import Settings
from minigpt_repl.shown import (
    as_share,
    did_you_mean,
    percent,
    plain,
    quoted,
    shortened,
    shown_path,
)

if TYPE_CHECKING:
    import numpy as np

SHOWN_TOKENS = 10
LARGEST_PRESET = 1024 * 1024
"""Bytes of a preset that is read."""
USAGE = ":chain add STAGE [at N], :chain move STAGE N or :chain drop STAGE"


def chain_words(context: Context, typed: str) -> Iterator[str]:
    """For `:chain`: what to do, then the stage, its value and its place."""
    settings = context.session.settings
    has = [stage.name for stage in settings.sampler.stages]
    done = typed.split()
    last = "" if not done or typed[-1].isspace() else done.pop()
    if not done:
        yield from ("add", "move", "drop")
    elif done[0] == "add" and len(done) == 1:
        yield from stage_words(settings, last, has)
    elif done[0] == "add" and done[-1] == "at":
        yield from map(str, range(1, len(has) + 2))
    elif done[0] == "add" and "at" not in done:
        stage = chain.find_stage(done[1])
        if stage is not None and stage.parameters and len(done) == 2:
            yield from value_words(stage.parameters[0], settings)
        yield "at"
    elif done[0] in ("move", "drop") and len(done) == 1:
        yield from has
    elif done[0] == "move" and len(done) == 2:
        yield from map(str, range(1, len(has) + 1))


def _is_last(text: str) -> bool:
    """Whether a stage chooses the token, so that none can stand behind it."""
    stage = chain.find_stage(chain.parse(text)[0].name)
    return stage is not None and stage.is_last


@command("load-preset", usage="FILE", complete=file_words)
def load_preset(context: Context, arguments: str) -> Steps:
    """Use the chain of a preset file of SillyTavern or llama.cpp's server.

    It is JSON with names such as `temp` and `rep_pen`, or `temperature` and
    `repeat_penalty`. What is off there is left out; what is not known here is named.
    `:sampler llama.cpp` and `:sampler transformers` are what those do by default.
    """
    path = user_path(arguments, ":load-preset FILE")
    content = read_user_file(path, LARGEST_PRESET)
    preset = read_preset(content, shown_path(path))
    after, _ = context.session.settings.set({"sampler": as_chain(preset.text)})
    session = yield from switch_to_chain(context, after)
    if preset.unknown:
        names = shortened(", ".join(map(plain, preset.unknown)), 1000)
        yield Notice(f"not known here: {names}")
    return session


@command(
    "chain",
    usage="[add STAGE [at N] | move STAGE N | drop STAGE]",
    complete=chain_words,
)
def show_chain(context: Context, arguments: str) -> Steps:
    """Show what each rule of the chain leaves of the next token, or rearrange it.

    The rules apply in this order, each to what the ones before it left. `:chain add
    typical_p=0.9 at 2` puts one in; `:chain move typical_p 1` and `:chain drop
    typical_p` do as they say, and `:undo` takes it back. `:sampler` lists
    the rules, `:set` changes their values.
    """
    settings = context.session.settings
    if arguments:
        texts = _edited(_texts_of(settings), arguments)
        after, _ = settings.set({"sampler": as_chain(chain.SEPARATOR.join(texts))})
        before = settings.sampler.text(settings.parameters())
        session = yield from switch_to_chain(context, after)
        edit = (len(session.nodes), before)
        return replace(session, edits=(*session.edits, edit))
    spec, values = settings.sampler, settings.parameters()
    if not spec.stages:
        spec, values = _as_chain(settings)
    ids, info = current_ids(context), context.engine.info
    logits = inspection.next_logits(context.engine, ids)
    place = inspection.next_place(ids, context.engine)
    lefts = inspection.chain_left(spec, values, logits, place)
    node = context.session.node
    where = next_token_place("" if node is None else node.text)
    yield Notice(f"{spec.text(values)}, {where}")
    for stage in spec.stages:
        if "chance" in stage.needs:
            yield Notice(f"{stage.name} acts now and then; it is shown as it acts")
    for stage, left in zip(spec.stages, lefts, strict=True):
        if left.is_rescued.any():
            yield Notice(
                f"{stage.name} would leave nothing: the most probable token is kept"
            )
    logits_of_all = (logits, *(left.logits for left in lefts))
    shares = [inspection.probabilities(each) for each in logits_of_all]
    yield Say(_stages_table(context, spec, values, shares))
    yield Say("")
    yield Say(stages_work_out(spec, shares, info))
    return context.session


def _stages_table(
    context: Context,
    spec: SamplerSpec,
    values: dict[str, Value],
    shares: Sequence["np.ndarray"],
) -> FittingTable:
    """A line for each stage: what is left, and the likeliest that it removed."""
    rows: list[Row] = []
    for number, (stage, before, after) in enumerate(
        zip(spec.stages, shares[:-1], shares[1:], strict=True), start=1
    ):
        kept = after > 0
        removed = inspection.top_ids(before * ~kept, 1)
        words = visible_all(removed, context.engine.info)
        mass = as_share(float(before[kept].sum()))
        text = Text(chain.stage_text(stage, values), style=NAME)
        cells = (f"{int(kept.sum()):,}", mass, words[0] if words else "")
        rows.append((str(number), text, *cells))
    headings = ("", "stage", "tokens left", "of the mass", "likeliest removed")
    return FittingTable(headings, rows, right="tokens left of the mass", whole=2)


def stages_work_out(
    spec: SamplerSpec, shares: Sequence["np.ndarray"], info: EngineInfo
) -> FittingTable:
    """The model's distribution and what each stage of a chain made of it, a column
    each."""
    rows: list[Row] = []
    for token_id in inspection.top_ids(shares[0], SHOWN_TOKENS):
        is_kept = shares[-1][token_id] > 0
        word = Text(visible(token_id, info), style=NAME if is_kept else "")
        rows.append((word, *(percent(share[token_id]) for share in shares)))
    counts = [f"{int((share > 0).sum()):,}" for share in shares]
    rows.append(("tokens left", *counts))
    headings = ("token", "model", *(stage.name for stage in spec.stages))
    return FittingTable(headings, rows, right=" ".join(headings[1:]), whole=2)


def _as_chain(settings: Settings) -> tuple[SamplerSpec, dict[str, Value]]:
    """The sampler in use as a chain of the same rule."""
    spec, typed = read_sampler(as_chain(chain.SEPARATOR.join(_texts_of(settings))))
    values = {name: spec.parameter(name).parse(each) for name, each in typed.items()}
    return spec, spec.check(values)


def _texts_of(settings: Settings) -> list[str]:
    """The stages of the chain in use, each as the user would type it; of another
    sampler, the rules that it is made of."""
    spec, values = settings.sampler, settings.parameters()
    if spec.stages:
        return [chain.stage_text(stage, values) for stage in spec.stages]
    if spec.name not in STAGES:
        raise UsageError(
            f"{spec.name} is no rule of a chain; write :sampler STAGE + STAGE ..."
        )
    texts = []
    # KerasHub's samplers apply the temperature first.
    if values.get("temperature", 1.0) != 1.0:
        texts.append(f"temperature={values['temperature']}")
    main = next(iter(STAGES[spec.name].parameters), None)
    texts.append(spec.name if main is None else f"{spec.name}={values[main.name]}")
    for other in values.keys() - {"temperature", main and main.name}:
        if values[other] is not None:
            raise UsageError(
                f"{spec.name} with {other} is no chain: :set {other} off first"
            )
    return texts


def _edited(texts: list[str], arguments: str) -> list[str]:
    """The stages after `add`, `move` or `drop`."""
    names = [chain.parse(text)[0].name for text in texts]
    verb, _, rest = arguments.partition(" ")
    words = chain.words(rest)
    if verb == "add" and words:
        number = None
        if len(words) > 2 and words[-2] == "at":
            number = _number(words[-1])
            words = words[:-2]
        if len(words) == 2 and "=" not in words[1]:
            words = ["=".join(words)]  # `add typical_p 0.9`
        if len(words) == 1:
            stage = chain.find_stage(chain.parse(words[0])[0].name)
            if stage is not None and stage.name in names:
                raise UsageError(
                    f"{stage.name} is in the chain already: :set {stage.name} VALUE "
                    f"changes it, :chain move {stage.name} N moves it"
                )
            return _with_stage(texts, words[0], number)
    if verb == "move" and len(words) == 2:
        moved = texts.pop(_place_of(words[0], names))
        return _with_stage(texts, moved, _number(words[1]))
    if verb == "drop" and len(words) == 1:
        del texts[_place_of(words[0], names)]
        if not texts:
            raise UsageError("a chain has at least one stage; :sampler NAME ends it")
        return texts
    raise UsageError(f"{USAGE}; got {quoted(arguments)}")


def _place_of(name: str, names: Sequence[str]) -> int:
    for place, each in enumerate(names):
        if chain.plain(each) == chain.plain(name):
            return place
    has, near = ", ".join(names), did_you_mean(name, names)
    raise UsageError(f"the chain has no stage {quoted(name)}: it has {has}{near}")


def _with_stage(texts: list[str], text: str, number: int | None) -> list[str]:
    """With one more, as the stage of that number, or behind all that can be."""
    count = len(texts) + 1
    if number is None:
        is_before = texts and _is_last(texts[-1]) and not _is_last(text)
        number = count - 1 if is_before else count
    if not 1 <= number <= count:
        raise UsageError(f"a place in the chain is 1..{count}; got {number}")
    return [*texts[: number - 1], text, *texts[number - 1 :]]


def _number(word: str) -> int:
    number = read_whole(word)
    if number is None:
        raise UsageError(f"a place in the chain is a whole number; got {quoted(word)}")
    return number
