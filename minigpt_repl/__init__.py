"""minigpt-repl: a terminal lab for decoding strategies.

Importing this package is cheap: nothing here loads TensorFlow. Import
`minigpt_repl.lm` to register the model's classes with KerasHub.
"""

__version__ = "0.2.0.dev0"
