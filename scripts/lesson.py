"""Gives the lesson of docs/lesson.md in a real terminal, and writes what came.

`python scripts/lesson.py` needs the extra `docs` (pexpect, pyte). Words, lines and
pictures are here, transcripts and pictures are what the screen of a pseudo-terminal
held: with seed 7 and the shipped model they come out the same again, but for speeds.
"""

from tour import ROOT, picture, transcript

DOCS = ROOT / "docs"

LESSON = (
    (
        "# A lesson from the terminal: why is my text repetitive?\n\n"
        "An hour, for a course or a reading group, with nothing but `minigpt-repl` on "
        "the projector. What is indented is what came on the screen; **Ask** is for the "
        "room, before the next command. [lesson.ipynb](lesson.ipynb) is the same lesson "
        "as a notebook; `:tour --export lesson.html` prints a handout.\n\n"
        "Begin with a seed, so that everyone sees the same texts:",
        (":set seed 7 length 40",),
    ),
    (
        "## 1. What is wrong with this text? (10 minutes)\n\n"
        "Greedy search takes the most probable token, every time. Could anything be more "
        "sensible? **Ask** for a guess at the text, then:",
        (":sampler greedy", "the little boy"),
    ),
    (
        "It goes round. `:heat` colours each token by its surprisal, how many bits of "
        "news it was to the model:\n\n![A text by its surprisal](lesson-heat.svg)\n\n"
        "**Ask.** From which token on could you have written it yourself?",
        (),
    ),
    (
        "## 2. Where does a loop come from? (15 minutes)\n\n"
        "One choice inside the loop, the sixth token from the end:",
        (":why -6",),
    ),
    (
        "The same question with the phrase there no, one and two times before. Watch the "
        "first line:",
        (
            ":score the little boy was a little",
            ":next 2 greedy",
            ":score the little boy was a little boy, and he was a little",
            ":next 2 greedy",
        ),
    ),
    (
        "A repetition makes the next one more probable. Who always takes the most "
        "probable token walks in and does not come out. **Ask.** Is that a fault of the "
        "model? What in ordinary prose makes it right to expect a phrase again?\n\n"
        "## 3. Did the search find the wrong text? (10 minutes)\n\n"
        "Greedy search looks one token ahead. Beam search keeps several texts:",
        (":beams -- the little boy",),
    ),
    (
        "**Ask** two of the room to play the second and the third beam: what would they "
        "have to say to survive? With twenty beams and forty tokens:",
        (":compare greedy beam:num_beams=20 -- the little boy",),
    ),
    (
        "The more probable text goes round as well. The loop is no accident of the "
        "search: the most probable text is a repetitive one, and people do not write the "
        "most probable text.\n\n"
        "## 4. What does chance change? (15 minutes)\n\n"
        "Draw a token in place of taking the first. By hand first: `:step the old king` "
        "is one key a token. Enter lets the rule choose, a digit picks, a word that you "
        "type is the next one, the left arrow goes back. Let the room write:\n\n"
        "![One token at a time](lesson-step.svg)\n\n"
        "What each rule cuts off, with the cut marked:",
        (":explain top_p:p=0.3",),
    ),
    (
        "Five texts each, so that one lucky text decides nothing. **Ask** which of the "
        "rows of dots lie apart, before reading what the last lines say:",
        (":set length 30", ":compare greedy random top_k n=5 -- the little boy"),
    ),
    (
        "`:sweep temperature 0.2..1.4/5` draws the same from cold to hot.\n\n"
        "## 5. Is there a way out without chance? (10 minutes)\n\n"
        "If likeness to what is there is the trouble, weigh it:",
        (":explain contrastive",),
    ),
    (
        "Or take something off what was there. `:explain` works a rule on the last text:",
        (
            ":sampler greedy",
            "the little boy",
            ":explain repetition_penalty=1.2",
            ":compare contrastive repetition_penalty=1.2 + greedy "
            "no_repeat_ngram=3 + greedy -- the little boy",
        ),
    ),
    (
        "**Ask.** Which of the three forbids something that good prose does?\n\n"
        "## What to take home\n\n"
        "- Repetition feeds itself, and the most probable text is repetitive: more "
        "search makes it worse.\n"
        "- Chance breaks the loop, a cut of the tail keeps it from wandering off.\n"
        "- Penalties break it without chance, and have a price of their own.\n"
        "- Low perplexity is not quality, and neither is a low count of repetitions.\n\n"
        "Every text above can be made again: its prompt, settings and seed are on the "
        "screen. `:export --session texts.html` keeps the hour as a page, `:save` as a "
        "file to go on from.",
        (),
    ),
)


def main() -> None:
    """Write the document and its pictures."""
    words = "\n\n".join(part.strip("\n") for part in transcript(LESSON).split("\n\n"))
    heat = picture(
        (":set seed 7 length 40", ":sampler greedy", "the little boy", ":heat"), 90, 14
    )
    step = picture(
        (":set seed 7", ":step the old king"),
        90,
        24,
        keys=("\r", "3", "\r", "\r", "k", "n"),
        sign="Enter takes",
    )
    made = "<!-- Made by scripts/lesson.py. -->\n\n"
    (DOCS / "lesson.md").write_text(f"{made}{words}\n", encoding="utf-8")
    (DOCS / "lesson-heat.svg").write_text(heat, encoding="utf-8")
    (DOCS / "lesson-step.svg").write_text(step, encoding="utf-8")


if __name__ == "__main__":
    main()
