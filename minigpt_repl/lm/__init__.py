"""The language model as KerasHub classes.

Importing this package registers them, which
`keras_hub.models.CausalLM.from_preset()` needs before it can load a checkpoint.
"""

from minigpt_repl.lm.backbone import MiniGPTBackbone
from minigpt_repl.lm.causal_lm import MiniGPTCausalLM
from minigpt_repl.lm.preprocessor import MiniGPTCausalLMPreprocessor
from minigpt_repl.lm.tokenizer import MiniGPTTokenizer

__all__ = [
    "MiniGPTBackbone",
    "MiniGPTCausalLM",
    "MiniGPTCausalLMPreprocessor",
    "MiniGPTTokenizer",
]
