#!/usr/bin/env python3
"""Writes docs/schemas: the JSON Schemas of the files and messages of minigpt-repl."""

import json
from pathlib import Path

from minigpt_repl.formats import PUBLISHED, schema

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"


def text_of(name: str) -> str:
    """The content of a schema's file."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for each in PUBLISHED:
        (FOLDER / f"{each}.json").write_text(text_of(each), encoding="utf-8")
