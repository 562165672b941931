"""Calling a traced graph with nothing around it.

TensorFlow checks, casts and names the arguments of every call of a traced function,
and hands its operations from thread to thread, which takes longer than the work
itself. Where shapes and types never change and the work is small, none of it is
needed.
"""

from typing import Any

from tensorflow.python.eager import context
from tensorflow.python.eager.execute import execute


class Direct:
    """A function that runs a `tf.types.experimental.ConcreteFunction`.

    It takes tensors of exactly the shapes and types that were traced, as positional
    arguments, and gives the flat list of results.

    Args:
        concrete: what was traced.
        is_compiled: whether it is one XLA program, which starts no threads.
    """

    def __init__(self, concrete: Any, is_compiled: bool) -> None:
        self._concrete = concrete  # TensorFlow drops a function that nobody holds
        self._name = concrete.inference_fn.name.decode()
        self._count = len(concrete.inference_fn.function_type.flat_outputs)
        self._captured = tuple(concrete.captured_inputs)
        self._context = context.context()
        options = self._context.function_call_options.as_attrs()
        options["executor_type"] = "" if is_compiled else "SINGLE_THREADED_EXECUTOR"
        self._options = tuple(part for pair in options.items() for part in pair)

    def __call__(self, *tensors: Any) -> list[Any]:
        inputs = [*tensors, *self._captured]
        made: list[Any] = execute(
            self._name, self._count, inputs, self._options, self._context
        )
        return made
