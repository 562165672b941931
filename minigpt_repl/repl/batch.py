"""Several texts of one prompt, as `-p TEXT -n N` makes them."""

from dataclasses import replace

from minigpt_repl.models.text.normalize import normalize_text
from minigpt_repl.repl.command import Desk, Steps
from minigpt_repl.repl.continuation import continue_text

SEEDS = 2**31
"""Seeds are 0 to one less; after the last comes the first."""


def continue_times(desk: Desk, prompt: str, count: int) -> Steps:
    """Continue a prompt `count` times; text i uses the first seed plus i.

    With no seed set the first text draws one, so that the others follow from it.
    The prompt is text, never a command, and may be empty.
    """
    session = desk.session
    prompt = normalize_text(prompt)
    request = session.settings.request(prompt)
    for _ in range(count):
        session = yield from continue_text(
            replace(desk, session=session), request, shown=prompt
        )
        made = session.nodes[-1].generation
        if made.stop_reason == "interrupted":
            break
        request = replace(request, seed=(made.seed + 1) % SEEDS)
    return session
