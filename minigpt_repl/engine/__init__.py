"""Texts being made: requests, the decode loop, scores, and the process that runs it."""
