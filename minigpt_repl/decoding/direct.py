"""Calling a traced graph with nothing around it.

TensorFlow checks, casts and names the arguments of every call of a traced function,
which takes longer than the call itself (90 of 120 microseconds, twice for every
token). Where shapes and types never change, none of it is needed.
"""

from collections.abc import Callable
from typing import Any


def direct(concrete: Any) -> Callable[..., list[Any]]:
    """A function that runs a `tf.types.experimental.ConcreteFunction`.

    It takes tensors of exactly the shapes and types that were traced, as
    positional arguments, and returns the flat list of results.
    """
    call = concrete.inference_fn.call_flat
    captured = tuple(concrete.captured_inputs)

    def run(*tensors: Any) -> list[Any]:
        return list(call(*tensors, *captured))

    return run
