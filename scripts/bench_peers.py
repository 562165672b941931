"""Other programs that generate text, for `bench.py --peers`.

Each is a model of the shipped checkpoint's shape, or the nearest to it that the
program has, with random weights: only its speed is of interest. A peer is measured
where its Python package is installed.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import click

from minigpt_repl.engine.worker import quiet

NEW_TOKENS = 127
BOS = 2

Timed = Callable[[], float]
"""Runs a contender once; returns its tokens per second."""


class Peer(Protocol):
    """One other program."""

    samplers: Mapping[str, Mapping[str, Any]]
    """This project's name of each sampler that it has, and its own options."""
    description: str

    def timed(self, name: str, rows: int = 1) -> Timed:
        """The contender for one sampler and so many texts at once."""


def find_peers(causal_lm: Any) -> dict[str, Peer]:
    """The peers that are installed; for each other one a line on what to install."""
    found: dict[str, Peer] = {}
    for name, load, packages in (
        ("transformers", Transformers, "torch transformers"),
        ("llama.cpp", LlamaCpp, "gguf llama-cpp-python"),
    ):
        try:
            found[name] = load(causal_lm)
        except ImportError as error:
            click.echo(f"no {name}: {error} (pip install {packages})", err=True)
    return found


def nearest_heads(backbone: Any) -> int:
    """The number of heads; 4 where theirs would not divide the width evenly.

    KerasHub's heads may leave a few columns over; the peers' may not.
    """
    return next(n for n in (backbone.num_heads, 4) if backbone.hidden_dim % n == 0)


class Transformers:
    """Hugging Face transformers: a GPT-2, whole texts as `generate()` gives them."""

    samplers: Mapping[str, Mapping[str, Any]] = {
        "greedy": {"do_sample": False},
        "random": {"do_sample": True, "top_k": 0},
        "top_k": {"do_sample": True, "top_k": 10},
        "top_p": {"do_sample": True, "top_k": 0, "top_p": 0.5},
        "beam": {"do_sample": False, "num_beams": 10},
    }

    def __init__(self, causal_lm: Any) -> None:
        import torch
        import transformers

        backbone = causal_lm.backbone
        config = transformers.GPT2Config(
            vocab_size=backbone.vocabulary_size,
            n_positions=backbone.max_sequence_length,
            n_embd=backbone.hidden_dim,
            n_layer=backbone.num_layers,
            n_head=nearest_heads(backbone),
            n_inner=backbone.intermediate_dim,
            activation_function="relu",
            bos_token_id=BOS,
            eos_token_id=None,
            pad_token_id=0,
        )
        self._torch = torch
        self._model = transformers.GPT2LMHeadModel(config).eval()
        self.description = (
            f"transformers {transformers.__version__}, torch {torch.__version__}, "
            f"GPT-2 with {config.n_layer} layers, {config.n_head} heads, "
            f"{config.n_embd} wide, {config.n_inner} in between, random weights"
        )

    def timed(self, name: str, rows: int = 1) -> Timed:
        """The contender for one sampler and so many texts at once."""
        options = self.samplers[name]
        ids = self._torch.tensor([[BOS]] * rows)
        # One thread is its best for one text, two are for many.
        threads = 1 if rows == 1 else 2

        def timed() -> float:
            self._torch.set_num_threads(threads)
            clock = time.perf_counter()
            with self._torch.inference_mode():
                self._model.generate(
                    ids,
                    attention_mask=self._torch.ones_like(ids),
                    max_new_tokens=NEW_TOKENS,
                    min_new_tokens=NEW_TOKENS,
                    **options,
                )
            return rows * NEW_TOKENS / (time.perf_counter() - clock)

        return timed


class LlamaCpp:
    """llama.cpp: a GPT-2 in a GGUF file, through its Python API, token by token.

    `pip install llama-cpp-python` compiles it for the machine. A figure is the best
    of one and two threads: two share the reading of weights, but where something else
    runs, each waits for the other at every layer.
    """

    samplers: Mapping[str, Mapping[str, Any]] = {
        "greedy": {"top_k": 1},
        "random": {"top_k": 0, "top_p": 1.0},
        "top_k": {"top_k": 10, "top_p": 1.0},
        "top_p": {"top_k": 0, "top_p": 0.5},
    }

    def __init__(self, causal_lm: Any) -> None:
        import llama_cpp

        backbone = causal_lm.backbone
        size = backbone.max_sequence_length
        # The file may go once it is loaded: what is mapped of it stays.
        with tempfile.TemporaryDirectory() as folder, quiet():
            path = str(Path(folder) / "random.gguf")
            write_gguf(path, backbone)
            self._models = [
                llama_cpp.Llama(
                    path,
                    n_ctx=size,
                    n_batch=size,
                    n_threads=threads,
                    n_threads_batch=threads,
                    verbose=False,
                )
                for threads in (1, 2)
            ]
        self.description = (
            f"llama.cpp in llama-cpp-python {llama_cpp.__version__}, its Python API, "
            f"best of 1 and 2 threads, GPT-2 with {backbone.num_layers} layers, "
            f"{nearest_heads(backbone)} heads, {backbone.hidden_dim} wide, "
            f"{backbone.intermediate_dim} in between, random float32 weights"
        )

    def timed(self, name: str, rows: int = 1) -> Timed:
        """The contender for one sampler."""
        rule = {"min_p": 0.0, "temp": 1.0, "repeat_penalty": 1.0, **self.samplers[name]}

        def rate(model: Any) -> float:
            model.reset()
            made = NEW_TOKENS - 1  # its context holds one fewer
            clock = time.perf_counter()
            for number, _ in enumerate(model.generate([BOS], **rule), 1):
                if number == made:
                    break
            return made / (time.perf_counter() - clock)

        return lambda: max(map(rate, self._models))


def write_gguf(path: str, backbone: Any) -> None:
    """Write a GPT-2 of the backbone's shape with random float32 weights."""
    import gguf
    import numpy as np

    width, between = backbone.hidden_dim, backbone.intermediate_dim
    words = backbone.vocabulary_size
    file = gguf.GGUFWriter(path, "gpt2")
    file.add_context_length(backbone.max_sequence_length)
    file.add_embedding_length(width)
    file.add_block_count(backbone.num_layers)
    file.add_feed_forward_length(between)
    file.add_head_count(nearest_heads(backbone))
    file.add_layer_norm_eps(1e-5)
    file.add_file_type(gguf.LlamaFileType.ALL_F32)
    file.add_tokenizer_model("gpt2")
    file.add_tokenizer_pre("gpt-2")
    file.add_token_list([f"w{number}" for number in range(words)])
    file.add_token_types([gguf.TokenType.NORMAL] * words)
    file.add_token_merges(["w 1"])  # llama.cpp wants one at least
    file.add_bos_token_id(BOS)

    random = np.random.default_rng(1)

    def add(name: str, *shape: int) -> None:
        weights = random.normal(0, 0.02, shape).astype(np.float32)
        file.add_tensor(f"{name}.weight", weights)

    def add_norm(name: str) -> None:
        file.add_tensor(f"{name}.weight", np.ones(width, np.float32))
        file.add_tensor(f"{name}.bias", np.zeros(width, np.float32))

    add("token_embd", words, width)
    add("position_embd", backbone.max_sequence_length, width)
    for number in range(backbone.num_layers):
        block = f"blk.{number}"
        add_norm(f"{block}.attn_norm")
        add_norm(f"{block}.ffn_norm")
        for name, rows, columns in (
            ("attn_qkv", 3 * width, width),
            ("attn_output", width, width),
            ("ffn_up", between, width),
            ("ffn_down", width, between),
        ):
            add(f"{block}.{name}", rows, columns)
            file.add_tensor(f"{block}.{name}.bias", np.zeros(rows, np.float32))
    add_norm("output_norm")
    add("output", words, width)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
