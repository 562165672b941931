"""The part of a text's readable form that each of its tokens made, and how it ended.

Asks the model's codec; knows no model and no terminal.
"""

from collections.abc import Sequence

from minigpt_repl.engine.request import EngineInfo, Generation
from minigpt_repl.shown import shown_line

REASONS = {
    "length": "length reached",
    "stop": "sentence ended",
    "context": "context full",
    "interrupted": "interrupted",
    "picked": "picked by hand",
    "not_finite": "scores not finite",
}
"""Why a text ended, in words."""

OWN_TEXT = "your text"


def is_own_text(generation: Generation) -> bool:
    """Whether it is a text of the user's that was scored: no sampler made it, and it
    took no time to be made."""
    return generation.stop_reason == "picked" and not generation.timings.decode_s


def maker(generation: Generation) -> str:
    """The sampler that made a text, or that it is the user's own."""
    return OWN_TEXT if is_own_text(generation) else generation.request.sampler


def display_pieces(generation: Generation, info: EngineInfo) -> list[str]:
    """What each new token added to the readable form, with the space before it.

    Put together they are the text, to be put right after the prompt.
    """
    return info.text.parts(
        generation.request.prompt, generation.started.prompt_ids, generation.token_ids
    )


def visible(token_id: int, info: EngineInfo) -> str:
    """A token on one line, its space and its controls made visible."""
    return shown_line(info.text.visible(token_id))


def visible_all(token_ids: Sequence[int], info: EngineInfo) -> list[str]:
    """As `visible`, for several."""
    return [visible(token_id, info) for token_id in token_ids]
