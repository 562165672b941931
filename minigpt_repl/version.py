"""The version of this program. A file of its own, so that any part may name it."""

__version__ = "0.2.0.dev0"
