#!/usr/bin/env python3
"""Shows that texts of all kinds come back as they were written.

Writes small texts, learns the vocabulary of each as `minigpt-setup` does, encodes and
decodes it, and prints a row for each. Ends with 1 if any differs.
"""

import sys
import tempfile
from pathlib import Path

from minigpt_repl.engine.quiet import quiet

FAMILY = "👨\u200d👩\u200d👧\u200d👦"
NAMES = [a + b + c for a in "ABCDEFGHJKLMNPRSTVWZ" for b in "aeiou" for c in "dlmnrst"]
TEXTS = {
    "source code": ("utf-8", 'def f(x):\n    if x == 1:\n\treturn "a,  b"\n\n' * 30),
    "table": ("utf-8", "name,age\nAna,3\nBo,14\n" * 30),
    "HTML": ("utf-8", '<p class="a" >https://example.com/x?y=1</p>\n' * 30),
    "chat": ("utf-8", "[10:02] Ana: on my way :)\n[10:03] Bo: ok, C U\n" * 30),
    "Korean chat": ("utf-8", "[민수] ㅋㅋㅋ\n[지영] 밥 먹었어? ㅠㅠ\n" * 30),
    "German": ("utf-8", "Der alte Mann saß am Fluß; die Stadt schlief.\n" * 30),
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
    "UTF-16 with a mark": ("utf-16", "Der alte Mann saß am Fluß.\n" * 30),
}


def shown(name: str, encoding: str, text: str, folder: Path) -> tuple[str, bool]:
    """A row for a text, and whether all of it came back."""
    from minigpt_repl.models.minigpt import text_of
    from minigpt_repl.training.corpus import load_corpus
    from minigpt_repl.training.prepared_text import learned
    from minigpt_repl.training.progress import SilentProgress
    from minigpt_repl.training.resume import StageCache

    path = folder / "text.txt"
    path.write_bytes(text.encode(encoding))
    corpus = load_corpus(str(path), tokenizer=None)
    assert corpus.tokenizer == "bpe"
    pieces = [*corpus.train, *corpus.valid]
    vocabulary = learned(
        *("bpe", pieces, "", 5000, True, SilentProgress(), StageCache(folder / name))
    )
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
    kind = corpus.document or "one text"
    example = repr(pieces[0].split("\n")[0][:40])
    return f"{name:<20}{kind:<11}{'yes' if is_whole else 'NO':<6}{example}", is_whole


def main() -> int:
    """Print the table; returns the exit code."""
    print(f"{'text':<20}{'document':<11}{'same':<6}comes out as")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, (encoding, text) in TEXTS.items():
            row, is_whole = shown(name, encoding, text, Path(folder))
            print(row)
            wrong += not is_whole
    return 1 if wrong else 0


if __name__ == "__main__":
    with quiet():
        code = main()
    sys.exit(code)
