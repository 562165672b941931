"""What a document is, is found; none of it is changed; parts of few are put aside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt_repl.training.corpus import load_corpus
from minigpt_repl.training.documents import (
    cut,
    find_kind,
    split_documents,
    split_for_validation,
)

NAMES = "Ana\nBo\nIpek\nUmut\nJean-Luc\nO'Neil\n" * 9
CODE = 'def f(x):\n    if x == 1:\n        return "a,b"\n\n    return None\n' * 5
TABLE = "name,age,city\nAna,3,Rome\nBo,14,Oslo\n" * 9
CHAT = "[Ana] ㅋㅋㅋ\n[Bo] 뭐해\n[Ana] 밥 먹어\n" * 9
MARKUP = '<p class="a" >One</p>\n<a href="https://example.com/x?y=1">Two</a>\n' * 9
POEM = "The moon is up\nthe owls are out\nand I am late\n\nA dog is near\n\n" * 5
SONG = "The moon is up\nthe owls are out\nand I am late, my dear\n" * 5
BOOK = (
    "The lamp on the table by the window had been lit since the\n"
    "afternoon, for the clouds were low and the well-\n"
    "known hills could not be seen at all.\n\n"
) * 30
PLAY = (
    "ANA.\nWhat light is that upon the eastern hill tonight\n"
    "that makes the sleeping orchard seem as bright as noon?\n\n"
    "BO.\nIt is the mill that burns; they say the miller fled\n"
    "with all the money and the miller's wife besides.\n\n"
) * 20


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (NAMES, "line"),
        (SONG, "line"),
        (POEM, "paragraph"),
        (BOOK, "paragraph"),
        (PLAY, "paragraph"),
        (CODE, "file"),
        (TABLE, "file"),
        (CHAT, "file"),
        (MARKUP, "file"),
        ("word " * 9999, "file"),
        ("It was a long day; they said: go home, and went. " * 4 + "\n", "file"),
        (("It was a long day; they said: go home, and went. " * 4 + "\n") * 9, "line"),
    ],
)
def test_the_kind_is_found(text, kind):
    assert find_kind([text]) == kind


def test_several_files_are_documents():
    assert find_kind([NAMES, NAMES]) == "file"


def test_documents_are_as_they_were_written():
    assert split_documents([" a\n\tb \n\n\nc\n"], "line") == [" a", "\tb ", "c"]
    assert split_documents(["\n a\n\tb \n \n\nc\n"], "paragraph") == [" a\n\tb ", "c"]
    assert split_documents(["\n a\n", "  "], "file") == ["\n a\n"]


@given(st.text(alphabet="ab \n", max_size=400), st.integers(1, 50))
def test_a_cut_text_is_whole(text, size):
    parts = cut(text, size)
    assert "".join(parts) == text
    assert max(map(len, parts)) <= 1.5 * size


@given(st.lists(st.text(alphabet="ab \n", min_size=1, max_size=3000), max_size=4))
def test_few_documents_give_parts_of_each(documents):
    train, valid = split_for_validation(documents, may_cut=True)
    assert train.size + valid.size == sum(map(len, documents))
    assert sum(train.ends + valid.ends) == len(documents)
    assert len(train.ends) == len(train.texts)
    if sum(map(len, documents)) > 200:
        assert train.texts and valid.texts


def test_one_giant_line_is_cut(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("the cat sat on the mat " * 9000)
    corpus = load_corpus(str(path), tokenizer=None)
    assert corpus.document is None  # of one end nothing can be learned
    assert corpus.tokenizer == "bpe"
    assert len(corpus.valid.texts) == 3
    whole = sum(map(len, corpus.train.texts + corpus.valid.texts))
    assert whole == len(path.read_text())
    share = sum(map(len, corpus.valid.texts)) / whole
    assert 0.03 < share < 0.07


@pytest.mark.parametrize("text", [NAMES, CODE, TABLE, CHAT, PLAY, POEM])
def test_nothing_but_blank_lines_is_lost(tmp_path, text):
    path = tmp_path / "a.txt"
    path.write_text(text, encoding="utf-8")
    corpus = load_corpus(str(path), tokenizer="bpe")
    kept = set("\n".join(corpus.train.texts + corpus.valid.texts).split("\n"))
    assert {line for line in text.split("\n") if line.strip()} <= kept


def test_it_is_said_and_can_be_set(tmp_path):
    from minigpt_repl.training.progress import Progress

    told = []

    class Teller(Progress):
        def say(self, text):
            told.append(text)

    path = tmp_path / "a.txt"
    path.write_text(NAMES)
    corpus = load_corpus(str(path), progress=Teller(), tokenizer="bpe")
    assert corpus.document == "line" and all(corpus.train.ends)
    assert "54, each a line" in told[-1] and "--document" in told[-1]
    corpus = load_corpus(str(path), tokenizer="bpe", document="file")
    assert (
        corpus.document is None
        and len(corpus.train.texts) + len(corpus.valid.texts) > 1
    )
