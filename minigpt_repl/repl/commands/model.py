"""`:model`: which checkpoint is loaded, and another one in its place."""

import os
from pathlib import Path

from minigpt_repl.errors import UsageError
from minigpt_repl.files import user_path
from minigpt_repl.models.record import check_folder
from minigpt_repl.repl.command import Desk, Steps, command
from minigpt_repl.repl.commands.show import model_facts
from minigpt_repl.repl.outputs import Notice, Say, SwitchModel
from minigpt_repl.repl.tables import facts_table
from minigpt_repl.repl.words import folder_words
from minigpt_repl.sampling.parameters import format_value
from minigpt_repl.suggest import plain


@command("model", usage="[DIR]", complete=folder_words)
def model(desk: Desk, arguments: str) -> Steps:
    """Show the checkpoint, or load another one without leaving.

    If the other one can't be loaded, the present one stays. Texts and settings
    stay too; a setting that is beyond the new model's vocabulary is taken back.
    """
    if not arguments:
        yield Say(facts_table(model_facts(desk.engine.info)))
        return desk.session
    if desk.sources:
        raise UsageError(
            ":model DIR can't be used in a sourced file; type it, "
            "or run the file with --script"
        )
    path = Path(os.path.abspath(user_path(arguments, ":model DIR")))
    check_folder(path)
    info = yield SwitchModel(str(path))
    settings, changes = desk.session.settings.fitted_to(
        {"vocabulary": info.vocabulary_size}
    )
    yield Notice(
        f"model: {plain(info.directory)} ({info.parameter_count:,} parameters, "
        f"{info.vocabulary_size:,} words, context {info.context_length})"
    )
    for change in changes:
        before, after = format_value(change.before), format_value(change.after)
        yield Notice(f"{change.name}: {before} -> {after}, the vocabulary is smaller")
    return desk.session.with_settings(settings)
