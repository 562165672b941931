"""Gives the lesson of docs/lesson.md in a real terminal, and writes what came.

The document is prose and frames; of each frame the lines that begin with `> ` are
typed, and the frame becomes what the screen of a pseudo-terminal then held. Its
pictures are made the same way. `python scripts/lesson.py` needs the extra `docs`
(pexpect, pyte); with the seed in it and the shipped model the same comes out again.
"""

import re

from tour import PROMPT, ROOT, picture, transcript

DOCS = ROOT / "docs"
FRAME = re.compile(r"^```\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def given(document: str) -> str:
    """The document with every frame as it comes out now, in one session."""
    frames = FRAME.findall(document)
    typed = [
        [
            row.removeprefix(PROMPT)
            for row in frame.splitlines()
            if row.startswith(PROMPT)
        ]
        for frame in frames
    ]
    made = iter(FRAME.findall(transcript([("", lines) for lines in typed])))
    return FRAME.sub(lambda frame: f"```\n{next(made)}```\n", document)


def main() -> None:
    """Write the document's frames and its pictures."""
    document = DOCS / "lesson.md"
    before = (":set seed 7 length 40", ":sampler greedy", "the little boy")
    heat = picture((*before, ":heat"), 90, 18)
    (DOCS / "lesson-heat.svg").write_text(heat, encoding="utf-8")
    step = picture(
        (":set seed 7", ":step the old king"),
        90,
        26,
        keys=("\r", "3", "\r", "\r", "k", "n"),
        sign="Enter takes",
    )
    (DOCS / "lesson-step.svg").write_text(step, encoding="utf-8")
    text = document.read_text(encoding="utf-8")
    document.write_text(given(text), encoding="utf-8")


if __name__ == "__main__":
    main()
