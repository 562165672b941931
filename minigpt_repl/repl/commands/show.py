"""`:show`: what holds now, and where it came from."""

from collections.abc import Callable, Iterable, Iterator

from minigpt_repl.engine.request import EngineInfo
from minigpt_repl.errors import UsageError
from minigpt_repl.repl.command import Desk, Steps, command
from minigpt_repl.repl.continuation import stats_line
from minigpt_repl.repl.outputs import Notice, Output, Say
from minigpt_repl.repl.tables import (
    facts_table,
    history_table,
    origins_table,
    stats_table,
)
from minigpt_repl.suggest import did_you_mean, plain, quoted


def _subjects(desk: Desk, typed: str) -> Iterable[str]:
    return SUBJECTS


@command("show", usage="settings|model|history|stats", complete=_subjects)
def show(desk: Desk, arguments: str) -> Steps:
    """Show the settings, the model, the texts so far or their figures.

    `settings` tells where each value came from: default, config, environment,
    flag or :set.
    """
    names = [name for name in SUBJECTS if arguments and name.startswith(arguments)]
    if len(names) != 1:
        got = f"got {quoted(arguments)}" if arguments else "got nothing"
        near = did_you_mean(arguments, SUBJECTS)
        allowed = ", ".join(SUBJECTS)
        raise UsageError(f":show takes one of {allowed}; {got}{near}")
    yield from SUBJECTS[names[0]](desk)
    return desk.session


def model_facts(info: EngineInfo) -> Iterator[tuple[str, str]]:
    """What there is to say of a loaded checkpoint, by name."""
    yield "folder", info.directory
    yield "checkpoint", info.checkpoint_sha256[:12]
    yield "parameters", f"{info.parameter_count:,}"
    yield "vocabulary", f"{info.vocabulary_size:,} words"
    yield "context", f"{info.context_length} tokens"
    yield "case", "lower case only" if info.lowercase else "kept"
    yield "draft model", "yes" if info.has_draft else "no"
    yield "loaded in", f"{info.load_s:.1f} s"
    for name, value in info.training.items():
        if isinstance(value, (str, int, float)):
            yield _fact(name, value)
        elif name == "metrics" and isinstance(value, dict):
            yield from (_fact(metric, number) for metric, number in value.items())


def _fact(name: str, value: object) -> tuple[str, str]:
    shown = f"{value:.4g}" if isinstance(value, float) else plain(str(value))
    return name.replace("_", " "), shown


def _settings(desk: Desk) -> Iterator[Output]:
    yield Say(origins_table(desk.session.settings))


def _model(desk: Desk) -> Iterator[Output]:
    yield Say(facts_table(model_facts(desk.engine.info)))


def _history(desk: Desk) -> Iterator[Output]:
    if desk.session.nodes:
        yield Say(history_table(desk.session, desk.width))
    else:
        yield Notice("no texts yet: type a prompt")


def _stats(desk: Desk) -> Iterator[Output]:
    node = desk.session.node
    if node is None:
        yield Notice("no texts yet: type a prompt")
        return
    yield Say(stats_table(desk.session))
    yield Notice(f"text {node.id}: {stats_line(node.generation)}")


SUBJECTS: dict[str, Callable[[Desk], Iterator[Output]]] = {
    "settings": _settings,
    "model": _model,
    "history": _history,
    "stats": _stats,
}
