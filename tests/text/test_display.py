"""The readable form of lowercased, split tokens; sentences made for these tests."""

import io
import random
import re
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from displayed import display_text

from minigpt_repl.models.text.codec import normalize_text
from minigpt_repl.models.text.wordpiece import TextStream

CORPUS = Path(__file__).parents[2].parent / "shared/corpus/simplebooks-like.zip"
VALIDATION = "simplebooks/simplebooks-92-raw/valid.txt"

# What WordPiece takes for a token of its own: ASCII and Unicode punctuation, and
# Chinese characters; everything else runs to the next space.
_ASCII_MARKS = "!-/:-@\\[-`{-~"
_TOKEN = re.compile(f"[{_ASCII_MARKS}]|[^\\s{_ASCII_MARKS}]+")


def split(text: str) -> list[str]:
    """The tokens of a text, before words are cut into pieces."""
    tokens: list[str] = []
    for part in _TOKEN.findall(text):
        word = ""
        for character in part:
            if unicodedata.category(character)[0] == "P" or "一" <= character <= "鿿":
                tokens += [word, character] if word else [character]
                word = ""
            else:
                word += character
        tokens += [word] if word else []
    return tokens


READABLE = [
    "I'm sure I don't know what they've done; it's late, and we'll go.",
    '"Come in," said the boy, "and shut the door."',
    '"Where is it?" she asked. "I left it here." "Look again!"',
    "The boys' boat lay near the farmer's barn.",
    "'You are late,' he said, 'and I am tired.'",
    "\"He called me a 'friend' once,\" she said.",
    "It was a well-known, old-fashioned house--or so he thought--by the sea.",
    "He paid 1,250 crowns for 3.5 acres at 10:30 (a fair price).",
    "Mr. Gray met Mrs. Hill and Dr. Low at nine o'clock.",
    "J. R. Gray came at 4 p.m. with the dog.",
    "Wait... he is coming.",
    "It cost £5 [or so] & no more: take it or leave it!",
    "'Tis cold. Tell 'em to come.",
    "They gave bread an' cheese.",
    "“Come in,” she said. “Sit.”",
    "L'été, c'est fini; j'ai faim.",
    "나는 학교에 갔다. 비가 왔다!",
    "今日は、良い天気です。「はい」と言った。",
    "How big is it? 20 feet. Indeed!",
    "¿Qué? ¡No!",
]


@pytest.mark.parametrize("sentence", READABLE)
def test_readable_text_comes_back_as_it_was(sentence):
    """Spaces, sentence starts, `I` and the names behind titles."""
    assert display_text(split(sentence.lower())) == sentence


def test_pieces_are_joined():
    words = ["the", "bo", "##y", "'", "s", "un", "##like", "##ly", "hat", "."]
    assert display_text(words) == "The boy's unlikely hat."


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [
        ("i ##t is i", "It is I"),
        ("so i ##t is", "So it is"),
        ("he met mr ##s brown", "He met mrs brown"),
        ('" no ! " he said . " no ! " the door shut', None),
    ],
)
def test_capitals_wait_for_the_whole_word(tokens, shown):
    shown = shown or '"No!" he said. "No!" The door shut'
    assert display_text(tokens.split()) == shown


def test_an_interrupted_quotation_goes_on_in_lower_case():
    tokens = '" yes , " he said , " and now . " he said : " and then'
    assert display_text(tokens.split()) == (
        '"Yes," he said, "and now." He said: "And then'
    )


def test_the_case_of_a_cased_vocabulary_is_left_alone():
    tokens = '" Yes , " he said . i ##F mr . low'
    assert display_text(tokens.split(), lowercase=False) == (
        '"Yes," he said. iF mr. low'
    )


def test_what_has_no_word_is_visible():
    assert display_text(["the", "[UNK]", ",", "[#4950]"]) == "The \ufffd, [#4950]"


@pytest.mark.parametrize("words", [[], ["##"], ["##a"], [""], ["'"], ["-", "-"]])
def test_odd_texts_are_shown(words):
    assert display_text(words).lower() == "".join(
        w.removeprefix("##") or w for w in words
    )


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("he went .", True),
        ("he went !", True),
        ("did he go ?", True),
        ("he went", False),
        ("he went ,", False),
        ("", False),
        ("he met mr .", False),
        ("he met j .", False),
        ("he met me , and so did i .", True),
        ("don ' t .", True),
        ("it cost 3 .", False),
        ("it cost 3 . 5", False),
        ("well . .", False),
        ("well . . .", False),
        ("well . . . .", True),
        ('" he went . " " i went . "', True),
        ('" he went .', False),  # the quotation goes on, or closes next
        ('" he went . "', True),
        ('" he went , "', False),
        ('he went . "', False),  # opens the next one
        ("' he went . '", True),
        ("\" he said , ' i went . '", False),
        ("\" he said , ' i went . ' \"", True),
    ],
)
def test_where_a_sentence_ends(text, ends):
    for lowercase in (True, False):
        stream, found = TextStream(lowercase), False
        for word in text.split():
            found = stream.ends_sentence(word)
            stream.push(word)
        assert found is ends


def _gaps(text: str, tokens: list[str]) -> list[bool]:
    """For each token but the first, whether a space stands before it in a text."""
    gaps, at = [], 0
    for token in tokens:
        start = text.index(token, at)
        assert text[at:start].strip() == "", text[at:start]
        gaps.append(start > at)
        at = start + len(token)
    return gaps[1:]


def _pieces(word: str, vocabulary: set[str]) -> list[str]:
    """A word as WordPiece cuts it: the longest known piece, again and again."""
    pieces: list[str] = []
    rest = word
    while rest:
        mark = "##" if pieces else ""
        ends = range(len(rest), 0, -1)
        end = next((e for e in ends if mark + rest[:e] in vocabulary), 1)
        pieces.append(mark + rest[:end])
        rest = rest[end:]
    return pieces


def _long_lines() -> list[str]:
    with zipfile.ZipFile(CORPUS) as archive:
        data = io.TextIOWrapper(archive.open(VALIDATION), encoding="utf-8")
        lines = [normalize_text(line.strip()) for line in data if len(line) > 512]
    return [unicodedata.normalize("NFKC", line).casefold() for line in lines]


@pytest.mark.skipif(not CORPUS.is_file(), reason="needs the corpus in ../shared")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_spaces_of_real_text_come_back(seed):
    """Gaps before `##` pieces are not counted: they are right by definition."""
    lines = _long_lines()
    frequent = Counter(word for line in lines for word in split(line))
    vocabulary = {word for word, _ in frequent.most_common(4000)}
    vocabulary |= {"##" + word for word in vocabulary if word.isalpha()}
    gaps = errors = 0
    for line in random.Random(seed).sample(lines, 200):
        tokens = split(line)
        words = [piece for token in tokens for piece in _pieces(token, vocabulary)]
        shown = display_text(words, lowercase=False)
        pairs = list(zip(_gaps(line, tokens), _gaps(shown, tokens), strict=True))
        gaps += len(pairs)
        errors += sum(before != after for before, after in pairs)
    rate = 100 * errors / gaps
    assert rate <= 0.15, f"{errors} of {gaps} gaps are wrong: {rate:.3f}%"
