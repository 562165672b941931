"""A training text is found and cleaned in any form people have it in."""

import errno
import gzip
import io
import os
import random
import struct
import textwrap
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt_repl.errors import CorpusError, UsageError
from minigpt_repl.training import sources
from minigpt_repl.training.corpus import check_encoding, load_corpus, public_name
from minigpt_repl.training.documents import (
    is_wrapped,
    paragraphs,
    split_for_validation,
    strip_gutenberg,
)
from minigpt_repl.training.progress import Progress

LINES = [f"Paragraph {number} tells of things that were done." for number in range(200)]
TEXT = "\n".join(LINES) + "\n"

WRAPPED = (
    "The lamp on the table by the window had been lit since the\n"
    "afternoon, for the clouds were low and the well-\n"
    "known hills could not be seen at all.\n"
    "\n"
    '"Nothing," said the captain, and he put the letter back into his\n'
    "pocket without a further look at it.\n"
    "\n"
    "So they waited.\n"
)
UNWRAPPED = [
    "The lamp on the table by the window had been lit since the afternoon, for the "
    "clouds were low and the well-known hills could not be seen at all.",
    '"Nothing," said the captain, and he put the letter back into his pocket without '
    "a further look at it.",
    "So they waited.",
]


def make_zip(path, **members):
    """A zip; `__` in a name stands for `/`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/") + ".txt", text)
    return path


def one_line(raised):
    return "\n" not in str(raised.value)


def failure(source, **options):
    """The message that a source is refused with."""
    with pytest.raises(CorpusError) as raised:
        load_corpus(str(source), **options)
    assert one_line(raised)
    return str(raised.value)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/home/ann/novel.txt", "novel.txt"),
        ("/home/ann/books/", "books"),
        ("/home/ann/books/*.txt", "*.txt"),
        ("file:///home/ann/my%20novel.txt", "my novel.txt"),
        ("https://ann:pw@example.org:80/a.zip?key=1#x", "https://example.org:80/a.zip"),
    ],
)
def test_a_record_names_a_source_but_not_where_it_lay(source, name):
    assert public_name(source) == name


def test_a_record_names_the_folder_one_is_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert public_name(".") == tmp_path.name


class TestForms:
    def test_file(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text(TEXT)
        corpus = load_corpus(str(path))
        assert sorted(corpus.train.texts + corpus.valid.texts) == sorted(LINES)
        assert corpus.lines_read == 200
        assert corpus.source == str(path)

    def test_every_form_gives_the_same_lines(self, tmp_path):
        (tmp_path / "folder").mkdir()
        plain = tmp_path / "folder" / "a.txt"
        plain.write_text(TEXT)
        packed = tmp_path / "a.txt.gz"
        packed.write_bytes(gzip.compress(TEXT.encode()))
        forms = [
            plain,
            tmp_path / "folder",
            tmp_path / "folder" / "*.txt",
            packed,
            make_zip(tmp_path / "a.zip", a=TEXT),
            plain.as_uri(),
        ]
        corpora = [load_corpus(str(form)) for form in forms]
        assert (
            len({(corpus.train.texts, corpus.valid.texts) for corpus in corpora}) == 1
        )

    def test_an_archive_is_known_by_its_content(self, tmp_path):
        path = make_zip(tmp_path / "a.txt", a=TEXT)
        assert len(load_corpus(str(path)).train.texts) == 190

    def test_a_folder_is_read_in_order_of_names(self, tmp_path):
        (tmp_path / "sub").mkdir()
        for name, text in [("b", "second"), ("a", "first"), ("sub/c", "third")]:
            lines = [f"the {text} file's line number {n}" for n in range(30)]
            (tmp_path / f"{name}.txt").write_text("\n".join(lines))
        (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00")
        (tmp_path / ".hidden.txt").write_bytes(b"\xff\xd8")
        corpus = load_corpus(str(tmp_path))
        order = [line.split()[1] for line in corpus.train.texts]
        assert order == sorted(order, key=["first", "second", "third"].index)
        assert set(order) == {"first", "second", "third"}

    def test_all_text_is_read_whatever_it_is_called_and_it_is_said(self, tmp_path):
        told = []

        class Teller(Progress):
            def say(self, text):
                told.append(text)

        folder = tmp_path / "mixed"
        folder.mkdir()
        contents = {
            "a.py": b"def f(x):\n    return x\n",
            "b.csv": "name,f\xfcr\nAna,3\n".encode("cp1252"),
            "LICENSE": b"free for all\n",
            "notes.org": "* \u8001\u4eba\n".encode("utf-16"),
            "logo.png": b"\x89PNG\r\n\x1a\n\x00\x00",
            "empty.dat": b"",
            ".git": b"hidden\n",
        }
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        packed = tmp_path / "mixed.zip"
        with zipfile.ZipFile(packed, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        for place in (folder, packed):
            told.clear()
            opened = sources.open_source(str(place), Teller())
            names = [document.name.split("/")[-1] for document in opened.documents]
            assert sorted(names) == ["LICENSE", "a.py", "b.csv", "notes.org"]
            assert told[0].startswith("files: 4 read (") and "1 .csv" in told[0]
            assert told[1] == "left out, no text: empty.dat, logo.png"

    def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(self, tmp_path):
        path = tmp_path / "book [1].txt"
        path.write_text(TEXT)
        assert load_corpus(str(path)).lines_read == 200

    def test_the_hash_is_of_the_file_or_of_all_files(self, tmp_path):
        import hashlib

        path = tmp_path / "a.txt"
        path.write_text(TEXT)
        assert (
            load_corpus(str(path)).sha256 == hashlib.sha256(TEXT.encode()).hexdigest()
        )
        before = load_corpus(str(tmp_path)).sha256
        (tmp_path / "b.txt").write_text(TEXT)
        assert load_corpus(str(tmp_path)).sha256 != before

    def test_lines_hashes_tell_lines_apart(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text(TEXT)
        first = load_corpus(str(path))
        assert first.train.sha256 == load_corpus(str(path)).train.sha256
        assert first.train.sha256 != first.valid.sha256
        fewer = load_corpus(str(path), min_length=44)
        assert 0 < len(fewer.train.texts) < len(first.train.texts)
        assert fewer.train.sha256 != first.train.sha256


class TestSimpleBooks:
    LONG = "a" * 513
    # 511 characters, 513 bytes: the reference counts bytes.
    ACCENTS = "é" * 2 + "b" * 509
    TRAIN = f"{LONG}\n{'c' * 512}\n\n{ACCENTS}\nshort\n"
    VALID = f"short\n{'d' * 600}\n"

    def zip(self, tmp_path, top="simplebooks/"):
        path = tmp_path / "x.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in [("train", self.TRAIN), ("valid", self.VALID)]:
                archive.writestr(f"{top}simplebooks-92-raw/{name}.txt", text)
            archive.writestr(f"{top}simplebooks-2-raw/train.txt", "other\n" * 99)
        return path

    def test_lines_longer_than_512_bytes_of_each_split(self, tmp_path):
        corpus = load_corpus(str(self.zip(tmp_path)))
        assert corpus.train.texts == (self.LONG, self.ACCENTS)
        assert corpus.valid.texts == ("d" * 600,)
        assert corpus.min_length == 512
        assert corpus.lines_read == 7

    def test_equals_the_reference_filter(self, tmp_path):
        """TensorFlow's own reading and length, as the example does it."""
        import tensorflow as tf

        path = tmp_path / "train.txt"
        path.write_text(self.TRAIN, encoding="utf-8")
        lines = tf.data.TextLineDataset(str(path)).filter(
            lambda line: tf.strings.length(line) > 512
        )
        corpus = load_corpus(str(self.zip(tmp_path)))
        assert list(corpus.train.texts) == [
            line.decode() for line in lines.as_numpy_iterator()
        ]

    @pytest.mark.parametrize(
        "given", ["", "simplebooks", "simplebooks/simplebooks-92-raw"]
    )
    def test_unpacked_folders_are_recognised(self, tmp_path, given):
        with zipfile.ZipFile(self.zip(tmp_path)) as archive:
            archive.extractall(tmp_path / "unpacked")
        corpus = load_corpus(str(tmp_path / "unpacked" / given))
        assert corpus.valid.texts == ("d" * 600,)

    def test_the_filter_can_be_changed(self, tmp_path):
        corpus = load_corpus(str(self.zip(tmp_path)), min_length=511)
        assert len(corpus.train.texts) == 3

    def test_a_split_without_a_long_line_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr(self, "VALID", "short\n", raising=False)
        message = failure(self.zip(tmp_path))
        assert "0 to validate with" in message and "longer than 512 bytes" in message
        assert "--min-length" in message


class TestPlainText:
    def test_wrapped_paragraphs_are_joined(self):
        assert paragraphs(WRAPPED) == UNWRAPPED

    def test_one_paragraph_a_line_stays(self):
        lines = [line * 4 for line in UNWRAPPED]
        assert paragraphs("\n".join(lines)) == lines
        assert paragraphs("\n\n".join(lines)) == lines

    def test_verse_keeps_its_lines(self):
        verse = "The sea is grey\nThe sky is low\n\nAnd home is far\nAs gulls can go\n"
        assert paragraphs(verse) == [line for line in verse.split("\n") if line]

    def test_speeches_in_verse_and_long_messages_keep_their_lines(self):
        speech = (
            "ANA.\nWhat light is that upon the eastern hill tonight\n"
            "that makes the sleeping orchard seem as bright as noon?\n\n"
            "BO.\nIt is the mill that burns; they say the miller fled\n"
            "with all the money and the miller's wife besides.\n\n"
        )
        said = "the boat from the island will not come before Monday "
        chat = "\n".join(
            f"[10:{n:02}] Ana: {said[: 20 + n * 7 % 33].rstrip()}" + "\n" * (n % 9 == 8)
            for n in range(60)
        )
        for text in (speech * 5, chat):
            assert paragraphs(text) == [line for line in text.split("\n") if line]

    def test_prose_is_joined_however_wide_it_was_wrapped(self):
        rng = random.Random(3)
        words = ["so", "it", "was", "that", "they", "waited", "on", "a", "shore"]
        words += ["of", "no", "interest", "whatever"]
        for width in (50, 72, 80):
            prose = [" ".join(rng.choices(words, k=90)) for _ in range(9)]
            wrapped = "\n\n".join(textwrap.fill(each, width) for each in prose)
            assert paragraphs(wrapped) == prose

    def test_indented_lines_are_joined(self):
        indented = WRAPPED.replace("\n", "\n   ")
        assert paragraphs(indented) == UNWRAPPED

    def test_japanese_is_joined_without_a_space_korean_with_one(self):
        def block(text):
            return f"{text * 5}\n{text * 5}\n{text}\n"

        def inner(text):
            return f"{block(text)}\n{block(text)}"

        assert " " not in paragraphs(inner("昔々山の上の家に"))[0]
        assert " " in paragraphs(inner("산위의작은집에는"))[0]

    def test_gutenberg_header_and_footer_go(self):
        text = (
            "The licence says this and that.\n"
            "*** START OF THE PROJECT GUTENBERG EBOOK A VERY LONG\n"
            "TITLE ***\n\nThe book.\n\n"
            "*** END OF THE PROJECT GUTENBERG EBOOK A VERY LONG TITLE ***\nMore.\n"
        )
        assert strip_gutenberg(text).strip() == "The book."

    def test_older_gutenberg_marks_go(self):
        text = (
            "*** START OF THIS PROJECT GUTENBERG EBOOK X ***\nThe book.\n"
            "End of the Project Gutenberg EBook of X\n*** END OF THIS PROJECT"
        )
        assert strip_gutenberg(text).strip() == "The book."

    def test_other_text_is_left_alone(self):
        text = "*** A chapter ***\nHe saw the end of the project.\n"
        assert strip_gutenberg(text) == text

    def test_a_novel_file_gives_paragraphs(self, tmp_path):
        path = tmp_path / "novel.txt"
        body = "\n".join([WRAPPED] * 40).replace("\n", "\r\n")
        path.write_text(
            "\ufeffTitle\r\n*** START OF THE PROJECT GUTENBERG EBOOK N ***\r\n\r\n"
            f"{body}\r\n*** END OF THE PROJECT GUTENBERG EBOOK N ***\r\nlicence\r\n",
            encoding="utf-8",
            newline="",
        )
        corpus = load_corpus(str(path))
        assert set(corpus.train.texts) | set(corpus.valid.texts) == set(UNWRAPPED[:2])
        assert corpus.lines_read == 120

    def test_a_few_wide_lines_do_not_hide_the_wrapping(self):
        assert is_wrapped((WRAPPED * 30 + "x" * 200).split("\n"))

    def test_text_is_normalized(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text(
            "un\u00a0cafe\u0301 au lait dans la tasse\n" * 3, encoding="utf-8"
        )
        assert (
            load_corpus(str(path)).train.texts[0]
            == "un caf\u00e9 au lait dans la tasse"
        )


class TestSplit:
    def split(self, lines):
        halves = split_for_validation(lines)
        return [list(half.texts) for half in halves]

    @given(st.integers(0, 3000))
    def test_nothing_is_lost_or_doubled(self, count):
        lines = [str(number) for number in range(count)]
        train, valid = self.split(lines)
        assert sorted(train + valid, key=int) == lines
        if count >= 2:
            assert valid
            assert len(valid) <= max(1, 0.1 * count)

    def test_a_twentieth_in_blocks_of_neighbours(self):
        lines = [str(number) for number in range(20_000)]
        _, valid = self.split(lines)
        assert len(valid) == 1000
        assert valid[:50] == [str(number) for number in range(950, 1000)]


GERMAN = (
    "\u201eNein\u201c, sagte der alte Mann \u2013 s\u00fc\u00df, f\u00fcr 5 \u20ac.\n"
)
CHINESE = (
    "\u8001\u4eba\u8bf4\uff1a\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c"
    "\u6211\u4eec\u53bb\u6cb3\u8fb9\u6563\u6b65\u5427\u3002\n"
)


class Teller(Progress):
    def __init__(self):
        self.told = []

    def say(self, text):
        self.told.append(text)


class TestEncodings:
    @pytest.mark.parametrize(
        "encoding, text", [("cp1252", GERMAN), ("gbk", CHINESE), ("utf-16", GERMAN)]
    )
    def test_one_is_found_and_said(self, tmp_path, encoding, text):
        path = tmp_path / "a.txt"
        path.write_bytes((text * 30).encode(encoding))
        teller = Teller()
        corpus = load_corpus(str(path), progress=teller)
        (told,) = [each for each in teller.told if "encoding" in each]
        assert "--encoding" in told
        if encoding != "gbk":  # read as gb18030, which has all of it
            assert f"read as {encoding};" in told
        path.write_bytes((text * 30).encode())
        assert corpus.train.texts == load_corpus(str(path)).train.texts

    def test_utf8_needs_no_word(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text(GERMAN * 30, encoding="utf-8")
        teller = Teller()
        load_corpus(str(path), progress=teller)
        assert not [each for each in teller.told if "encoding" in each]

    def test_a_named_one_is_taken(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_bytes((CHINESE * 30).encode("big5", "replace"))
        corpus = load_corpus(str(path), encoding="big5")
        assert "\u5929\u5929" in corpus.train.texts[0]

    def test_files_of_several(self, tmp_path):
        (tmp_path / "a.txt").write_bytes((GERMAN * 30).encode("cp1252"))
        (tmp_path / "b.txt").write_bytes((GERMAN * 30).encode())
        teller = Teller()
        corpus = load_corpus(str(tmp_path), progress=teller)
        assert any("cp1252 (1 of 2 files)" in each for each in teller.told)
        assert set(corpus.train.texts) == {GERMAN.strip()}

    def test_an_unknown_name_is_refused(self):
        for name in ("no-such", "rot13", "hex"):
            with pytest.raises(UsageError, match="no encoding"):
                check_encoding(name)


class TestRefused:
    def test_missing(self, tmp_path):
        assert "there is no" in failure(tmp_path / "no.txt")
        assert "there is no" in failure(tmp_path / "*.txt")

    def test_empty(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_bytes(b"")
        assert "is empty" in failure(path)
        path.write_bytes(b"\xef\xbb\xbf \n\n")
        assert "is empty" in failure(path)
        assert "no text file" in failure(make_zip(tmp_path / "a.zip"))
        (tmp_path / "folder").mkdir()
        assert "no text file" in failure(tmp_path / "folder")

    def test_damaged_utf8_says_where(self, tmp_path):
        path = tmp_path / "a.txt"
        text = "caf\u00e9 \u00e0 la cr\u00e8me\n" * 9
        path.write_bytes(text.encode() + b"caf\xe9 au lait")
        message = failure(path)
        assert "a.txt is not utf-8 text" in message and "--encoding" in message
        assert f"byte 0xe9 in position {len(text.encode()) + 3}" in message

    def test_what_is_not_of_the_named_encoding_says_which_file(self, tmp_path):
        path = make_zip(tmp_path / "a.zip", good=TEXT, bad=b"\xff\xff")
        message = failure(path, encoding="gbk")
        assert "bad.txt is not gbk text" in message and "position 0" in message

    def test_binary(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_bytes(b"abc\0def\n" * 9)
        assert "character 3 is 0x00" in failure(path)

    def test_no_line_long_enough(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("short\n" * 30)
        told = failure(path)
        assert "of 30 that were read" in told and "longer than 16 bytes" in told

    def test_one_paragraph_only(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("one single paragraph of text\n")
        assert "it takes one of each" in failure(path)

    def test_a_few_bytes(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("ten bytes.")
        assert "it takes one of each" in failure(path, tokenizer="bpe")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_unreadable(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text(TEXT)
        path.chmod(0)
        assert "Permission denied" in failure(path)

    def test_a_read_error_is_one_line(self, tmp_path, monkeypatch):
        path = tmp_path / "a.txt"
        path.write_text(TEXT)

        def fails(path, mode):
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(type(path), "open", fails)
        assert f"can't read {path}: Input/output error" in failure(path)

    @pytest.mark.parametrize("cut", [10, 200, 600])
    def test_a_cut_zip(self, tmp_path, cut):
        path = make_zip(tmp_path / "a.zip", a=TEXT)
        path.write_bytes(path.read_bytes()[:-cut])
        assert f"can't read {path}: " in failure(path)

    def test_a_zip_with_a_wrong_byte(self, tmp_path):
        path = make_zip(tmp_path / "a.zip", a=TEXT)
        data = bytearray(path.read_bytes())
        data[200] ^= 0xFF
        path.write_bytes(data)
        assert f"can't read {path}: " in failure(path)

    @pytest.mark.parametrize("cut", [4, 100])
    def test_a_cut_gz(self, tmp_path, cut):
        path = tmp_path / "a.gz"
        path.write_bytes(gzip.compress(TEXT.encode())[:-cut])
        assert f"can't read {path}: " in failure(path)


class TestUnsafeArchives:
    @pytest.mark.parametrize(
        "name",
        ["../out.txt", "a/../../out.txt", "/etc/out.txt", "C:\\out.txt", "..\\out.txt"],
    )
    def test_names_that_lead_out_lead_nowhere(self, tmp_path, name):
        """Members are read; nothing is ever written by their names."""
        path = tmp_path / "folder" / "a.zip"
        path.parent.mkdir()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("good.txt", TEXT)
            archive.writestr(zipfile.ZipInfo(name), "a line of an evil name\n")
        assert load_corpus(str(path)).lines_read in (200, 201)
        assert [file.name for file in tmp_path.rglob("*")] == ["folder", "a.zip"]

    def test_a_link_is_the_text_of_its_target(self, tmp_path):
        path = make_zip(tmp_path / "a.zip", a=TEXT)
        member = zipfile.ZipInfo("link.txt")
        member.external_attr = 0o120777 << 16
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(member, "/etc/passwd/that/is/not/followed")
        corpus = load_corpus(str(path))
        assert (
            "/etc/passwd/that/is/not/followed"
            in corpus.train.texts + corpus.valid.texts
        )

    def test_a_zip_bomb(self, tmp_path):
        path = make_zip(tmp_path / "a.zip", bomb=b"a" * (11 << 20))
        assert "not safe" in failure(path)

    def test_a_zip_bomb_of_many_members(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sources, "MAX_BYTES", 10 * len(TEXT))
        members = {f"m{number}": TEXT for number in range(11)}
        assert "not safe" in failure(make_zip(tmp_path / "a.zip", **members))

    def test_a_zip_that_lies_about_its_size(self, tmp_path):
        """Eleven megabytes, said to be 100 bytes: no more than these are read."""
        path = make_zip(tmp_path / "a.zip", bomb=b"a" * (11 << 20))
        data = path.read_bytes()
        lie = data.replace(struct.pack("<I", 11 << 20), struct.pack("<I", 100))
        path.write_bytes(lie)
        assert f"can't read {path}: " in failure(path)

    def test_a_gz_bomb(self, tmp_path):
        path = tmp_path / "a.gz"
        path.write_bytes(gzip.compress(b"a" * (11 << 20)))
        assert "not safe" in failure(path)

    def test_an_encrypted_zip(self, tmp_path):
        path = make_zip(tmp_path / "a.zip", a=TEXT)
        data = bytearray(path.read_bytes())
        data[data.rindex(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(data)
        assert "encrypted" in failure(path)

    def test_random_damage_never_ends_in_a_traceback(self, tmp_path):
        whole = make_zip(tmp_path / "a.zip", a=TEXT, b=TEXT).read_bytes()
        path = tmp_path / "b.zip"
        for seed in range(150):
            data = bytearray(whole)
            position = zlib.crc32(bytes([seed])) % len(data)
            data[position] ^= 1 << seed % 8
            path.write_bytes(data)
            try:
                corpus = load_corpus(str(path))
            except CorpusError as error:
                assert "\n" not in str(error)
            else:
                assert set(corpus.train.texts + corpus.valid.texts) <= set(LINES)


def test_progress_tells_how_many_lines_are_kept(tmp_path):
    told = io.StringIO()

    class Teller:
        def start(self, stage, total, unit):
            print("start", stage, total, unit, file=told)

        def advance(self, done, **figures):
            print("advance", done, figures, file=told)

        def finish(self):
            print("finish", file=told)

        def say(self, text):
            print(text, file=told)

    path = tmp_path / "a.txt"
    path.write_text(TEXT + "short\n")
    load_corpus(str(path), progress=Teller())
    assert told.getvalue() == (
        "start filter lines 201 lines\nadvance 201 {'kept': 200}\nfinish\n"
    )
