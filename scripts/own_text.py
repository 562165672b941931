#!/usr/bin/env python3
"""Shows that texts of all kinds come back as they were written.

Writes small texts, learns the vocabulary of each as `minigpt-setup` does, encodes and
decodes it, and prints a row for each: whether it comes back the same, and whether what
is typed of it, up to the end of a word, of marks or of white space, is read as the text
was. Ends with 1 if any is not.
"""

import os
import sys
import tempfile
import unicodedata
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from minigpt_repl.engine.worker import quiet

FAMILY = "👨\u200d👩\u200d👧\u200d👦"
NAMES = [a + b + c for a in "ABCDEFGHJKLMNPRSTVWZ" for b in "aeiou" for c in "dlmnrst"]
GERMAN = "Der alte Mann saß am Fluß; die Stadt schlief.\n" * 30
TYPED = 300
"""Characters of a text of which beginnings are typed."""

TEXTS = {
    "source code": ("utf-8", 'def f(x):\n    if x == 1:\n\treturn "a,  b"\n\n' * 30),
    "table": ("utf-8", "name,age\nAna,3\nBo,14\n" * 30),
    "HTML": ("utf-8", '<p class="a" >https://example.com/x?y=1</p>\n' * 30),
    "chat": ("utf-8", "[10:02] Ana: on my way :)\n[10:03] Bo: ok, C U\n" * 30),
    "Korean chat": ("utf-8", "[민수] ㅋㅋㅋ\n[지영] 밥 먹었어? ㅠㅠ\n" * 30),
    "German": ("utf-8", GERMAN),
    "Turkish": ("utf-8", "İpek ışıkta ILIK süt içti.\n" * 30),
    "emoji": ("utf-8", f"Hi {FAMILY} and 👍🏽!\n" * 30),
    "Persian": ("utf-8", "می\u200cخواهم بروم\n" * 30),
    "one line of 5 MB": ("utf-8", "the cat sat on the mat and " * 200_000),
    "32,033 names": ("utf-8", "\n".join((NAMES * 50)[:32_033]) + "\n"),
    "poem": ("utf-8", "The moon is up,\nthe owls are out\nand I am late.\n\n" * 30),
    "play in verse": (
        "utf-8",
        "ANA.\nWhat light is that upon the eastern hill tonight\n"
        "that makes the orchard seem as bright as noon?\n\n"
        "BO.\nIt is the mill that burns; they say the miller fled\n"
        "with all the money and the miller's wife besides.\n\n" * 20,
    ),
    "control in text": ("utf-8", "say [BOS] and <|endoftext|> and [PAD]\n" * 30),
    "cp1252": ("cp1252", "„Nein“, sagte der alte Mann – süß, für 5 €.\n" * 30),
    "GBK": ("gbk", "老人说：今天天气很好，我们去河边散步吧。\n" * 30),
    "UTF-16 with a mark": ("utf-16", GERMAN),
    "Chinese, one line": ("utf-8", "老人说今天天气很好我们去河边散步吧。" * 3000),
    "57 words": ("utf-8", " ".join(NAMES[:57])),
}
FILES = {
    "a.md": ("utf-8", "# Title\n\n* item **one**\n" * 30),
    "b/c.py": ("utf-8", "def f(x):\n    if x:\n        return x, 1\n\n" * 30),
    "d.txt": ("cp1252", GERMAN),
    "e.csv": ("utf-16", "name,age\r\nAna,3\r\n" * 30),
    "none.txt": ("utf-8", ""),
}
"""A folder of files of all kinds."""


def shown(
    name: str, files: Mapping[str, tuple[str, str]], folder: Path
) -> tuple[str, bool]:
    """A row for the text of some files, and whether all is well."""
    from minigpt_repl.models.causal_lm import text_of
    from minigpt_repl.training.corpus import load_corpus
    from minigpt_repl.training.documents import Lines
    from minigpt_repl.training.progress import SILENT
    from minigpt_repl.training.vocabulary import learned

    source = folder / name.replace(" ", "_")
    for path, (encoding, written) in files.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(written.encode(encoding))
    text = "".join(written for _, written in files.values()).replace("\r", "")
    corpus = load_corpus(str(source), tokenizer=None)
    assert corpus.tokenizer == "bpe"
    pieces = corpus.train.texts + corpus.valid.texts
    vocabulary = learned("bpe", Lines(pieces), 5000, True, SILENT)
    tokenizer = vocabulary.tokenizer()
    codec = text_of(tokenizer)
    same = all(
        "".join(codec.parts("", (), tokenizer(piece).tolist())) == piece
        for piece in pieces
    )
    # Nothing is lost but the white space between documents.
    kept = set("\n".join(pieces).split("\n"))
    lost = [line for line in text.split("\n") if line and line not in kept]
    if corpus.document is None:  # cut, with nothing between the parts
        lost = [] if sum(map(len, pieces)) == len(text) else [text]
    is_whole = same and not lost
    is_read = all(are_read_alike(codec, tokenizer, piece) for piece in pieces[:20])
    kind = corpus.document or "one text"
    told = "".join(f"{'yes' if well else 'NO':<6}" for well in (is_whole, is_read))
    example = repr(pieces[0].split("\n")[0][:40])
    return f"{name:<20}{kind:<11}{told}{example}", is_whole and is_read


def are_read_alike(codec: Any, tokenizer: Any, text: str) -> bool:
    """Whether prompts that end between words and marks are split as the text is."""
    ids = tokenizer(text).tolist()
    for end, (before, behind) in enumerate(pairwise(text[:TYPED]), 1):
        if before == "'" or kind_of(before) == kind_of(behind):
            continue  # in the middle of something: 's is a word
        taken, first_ids = codec.healing(text[:end])
        typed = text[:end].removesuffix(taken)
        known = tokenizer(typed).tolist() if typed else []
        is_known = ids[: len(known)] == known
        if not is_known or (first_ids and ids[len(known)] not in first_ids):
            return False
    return True


def kind_of(character: str) -> str:
    """White space, letters with their marks, numbers, or other marks."""
    if character.isspace():
        return "Z"
    kind = unicodedata.category(character)[0]
    return {"L": "L", "M": "L", "N": "N"}.get(kind, "P")


def main() -> int:
    """Print the table; returns the exit code."""
    print(f"{'text':<20}{'document':<11}{'same':<6}{'typed':<6}comes out as")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        rows = {name: {"text.txt": text} for name, text in TEXTS.items()}
        for name, files in {**rows, "a folder": FILES}.items():
            row, is_well = shown(name, files, Path(folder))
            print(row)
            wrong += not is_well
    return 1 if wrong else 0


if __name__ == "__main__":
    with quiet():
        code = main()
    sys.exit(code)
