"""How a token is chosen: parameters, rules, chains, samplers, searches, registry."""

from typing import Any


def __getattr__(name: str) -> Any:
    # On demand: it imports KerasHub.
    if name == "Chain":
        from minigpt_repl.sampling.samplers import Chain

        return Chain
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
