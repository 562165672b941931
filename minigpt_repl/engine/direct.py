"""Calling a traced graph with nothing around it, and without waiting for it.

TensorFlow checks, casts and names the arguments of every call of a traced function,
and hands its operations from thread to thread, which takes longer than the work
itself. Where shapes and types never change and the work is small, none of it is
needed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from tensorflow.python.eager import context
from tensorflow.python.eager.execute import execute
from tensorflow.python.eager.executor import Executor, new_executor


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
        function = concrete.inference_fn
        self._captured = tuple(concrete.captured_inputs)
        self._count = len(function.function_type.flat_outputs)
        self._context = context.context()
        options = self._context.function_call_options.as_attrs()
        if is_compiled:
            self._operation = function.name.decode()
            attributes = options
        else:
            # A function that is called by its name has its operations done in another
            # thread, which has to wake up. An operation that calls it does them here.
            self._operation = "StatefulPartitionedCall"
            attributes = {
                "Tin": [each.dtype.as_datatype_enum for each in concrete.inputs],
                "Tout": [each.dtype.as_datatype_enum for each in concrete.outputs],
                "f": function,
                "config": "",
                "config_proto": options["config_proto"],
                "executor_type": "SINGLE_THREADED_EXECUTOR",
            }
        self._attributes = tuple(part for pair in attributes.items() for part in pair)

    def __call__(self, *tensors: Any) -> list[Any]:
        inputs = [*tensors, *self._captured]
        made: list[Any] = execute(
            self._operation, self._count, inputs, self._attributes, self._context
        )
        return made


@contextmanager
def in_background() -> Iterator[None]:
    """Calls made inside return at once; they are done in order, in one thread.

    The tensors that they return wait for their values when those are read.
    """
    with context.executor_scope(_background()):
        yield


def finish_background() -> None:
    """Wait for all calls that were made `in_background`; their errors are dropped.

    Whoever reads what such a call made is told of its error.
    """
    try:
        _background().wait()
    except Exception:  # noqa: BLE001, see above
        _background().clear_error()


def let_go_of_functions() -> None:
    """Give back the memory of functions that nobody holds any more.

    TensorFlow keeps the graph of an operation that calls a function for as long as
    the process lives. Those in use are made again at their next call.
    """
    finish_background()
    context.context().clear_kernel_cache()


@cache
def _background() -> Executor:
    context.ensure_initialized()
    return new_executor(enable_async=True)
