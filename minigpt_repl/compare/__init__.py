"""The same prompt through several strategies: run, shown, exported, replayed.

Knows the engine's interface and rich; no terminal loop, no TensorFlow.
"""
