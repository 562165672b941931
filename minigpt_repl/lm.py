"""The language model as KerasHub classes, under the name that version 0.1.0 gave it.

Importing this module registers them, which
`keras_hub.models.CausalLM.from_preset()` needs before it can load a checkpoint.
"""

from minigpt_repl.models.backbone import MiniGPTBackbone
from minigpt_repl.models.causal_lm import (
    MiniGPTBytePairTokenizer,
    MiniGPTCausalLM,
    MiniGPTCausalLMPreprocessor,
    MiniGPTTokenizer,
)

__all__ = [
    "MiniGPTBackbone",
    "MiniGPTBytePairTokenizer",
    "MiniGPTCausalLM",
    "MiniGPTCausalLMPreprocessor",
    "MiniGPTTokenizer",
]
