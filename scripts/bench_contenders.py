"""What `bench.py` times: the reference's ways of decoding, and this engine's.

Each function returns one that makes a text and returns its tokens per second.
"""

import io
import time
from collections.abc import Mapping
from typing import Any

from bench_peers import BOS, NEW_TOKENS, Timed

from minigpt_repl.sampling.registry import SamplerSpec


def plain_sampler(spec: SamplerSpec, values: Mapping[str, Any]) -> Any:
    """KerasHub's sampler as it is."""
    import keras_hub

    seed = {"seed": 1} if spec.is_random else {}
    names = [each.__name__ for each in spec.load_class().__mro__]
    name = next(name for name in names if hasattr(keras_hub.samplers, name))
    own = {"length_penalty"}  # of our subclasses
    plain = {key: value for key, value in values.items() if key not in own}
    return getattr(keras_hub.samplers, name)(**plain, **seed)


def example_loop(
    causal_lm: Any, spec: SamplerSpec, values: Mapping[str, Any], tokens: int
) -> Timed:
    """The reference example's loop, at its width of 128.

    The last `tokens` positions are filled: each costs the same as any other.
    """
    import tensorflow as tf

    width = causal_lm.backbone.max_sequence_length

    def forward(prompt: Any) -> Any:
        return causal_lm.backbone({"token_ids": prompt, "padding_mask": prompt})

    def next(prompt: Any, cache: Any, index: Any) -> tuple[Any, Any, Any]:
        hidden_states = forward(prompt)
        logits = causal_lm.logits(hidden_states)
        return logits[:, index - 1], hidden_states[:, index - 1], cache

    def timed() -> float:
        prompt = tf.fill((1, width), BOS)
        sampler = plain_sampler(spec, values)
        clock = time.perf_counter()
        sampler(
            next=next,
            prompt=prompt,
            index=width - tokens,
            hidden_states=forward(prompt),
        )
        return tokens / (time.perf_counter() - clock)

    return timed


def compiled_generate(
    causal_lm: Any, spec: SamplerSpec, values: Mapping[str, Any]
) -> Timed:
    """KerasHub's own `generate()`, with the cache and compiled as it sees fit."""
    import numpy as np

    width = causal_lm.backbone.max_sequence_length
    ids = np.zeros((1, width), "int32")
    ids[0, 0] = BOS
    inputs = {"token_ids": ids, "padding_mask": ids > 0}
    causal_lm.compile(sampler=plain_sampler(spec, values))
    function = causal_lm.make_generate_function()

    def timed() -> float:
        clock = time.perf_counter()
        # No sequence ends before the last position: [BOS] is not generated.
        made = function(inputs, stop_token_ids=[BOS])
        np.asarray(made["token_ids"])
        return (width - 1) / (time.perf_counter() - clock)

    return timed


def request(
    spec: SamplerSpec, values: Mapping[str, Any], length: int, seed: int = 1
) -> Any:
    """A request for `length` tokens after `[BOS]`."""
    from minigpt_repl.engine.request import Request

    return Request("", spec.name, values, length=length, seed=seed)


def streamed(
    engine: Any, spec: SamplerSpec, values: Mapping[str, Any], rows: int = 1
) -> Timed:
    """This engine, each token written as it comes; tokens of all rows count."""
    requests = [request(spec, values, NEW_TOKENS, seed) for seed in range(rows)]

    def timed() -> float:
        pages = [io.StringIO() for _ in requests]
        clock = time.perf_counter()
        for row, event in engine.generate_rows(requests):
            pages[row].write(getattr(event, "delta", ""))
        return rows * NEW_TOKENS / (time.perf_counter() - clock)

    return timed
