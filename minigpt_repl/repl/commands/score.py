"""A text that is scored, not made: `:score`."""

from minigpt_repl.engine.scoring import as_generation, score
from minigpt_repl.errors import UsageError
from minigpt_repl.repl.context import Context, Steps
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Notice


@command("score", usage="TEXT")
def score_text(context: Context, arguments: str) -> Steps:
    """Tell how little the model expects a text of yours.

    It becomes the current text: `:heat` shows every token's surprisal, `:why N` tells
    about one, and `:continue` goes on from it.
    """
    if not arguments:
        raise UsageError(":score takes a text")
    scored = score(context.engine, arguments)
    yield Notice(f"{scored.summary}; :heat and :why N look into it")
    made = as_generation(scored, arguments, context.engine)
    return context.session.add("", made)
