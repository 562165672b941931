"""A file from a URL is whole or not there, whatever the server does."""

import errno
import gzip
import io
import os
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from minigpt_repl.errors import CorpusError, MiniGPTError
from minigpt_repl.training.corpus import load_corpus
from minigpt_repl.training.download import cache_path, fetch, is_url
from minigpt_repl.training.http_transfer import Patience

BOOK = "".join(f"Line {number} of a book. " for number in range(9000)).encode()
SHARED = Path(__file__).parents[3] / "shared" / "corpus" / "simplebooks-like.zip"
HASTE = Patience(connect_s=5, read_s=0.3, tries=3, pause_s=0)


def zipped(name="book.txt", text=BOOK):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return file.getvalue()


class Server:
    """Serves `content`; `misbehave` is a list of what goes wrong, one a request."""

    def __init__(self):
        self.content = BOOK
        self.etag = '"one"'
        self.headers = {}
        self.misbehave = []
        self.requests = []
        self.released = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self):
                server.answer(self)

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        serve = self.http.serve_forever
        threading.Thread(target=serve, args=(0.01,), daemon=True).start()

    def url(self, name="book.txt"):
        return f"http://127.0.0.1:{self.http.server_port}/some/{name}?x=1"

    def answer(self, handler):
        self.requests.append(dict(handler.headers))
        trouble = self.misbehave.pop(0) if self.misbehave else "none"
        if isinstance(trouble, int):
            return handler.send_error(trouble)
        if trouble == "hang":
            self.released.wait(10)
            return None
        start = self.start_of(handler)
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        if start:
            whole = len(self.content)
            given = f"bytes {start}-{whole - 1}/{whole}"
            handler.send_header("Content-Range", given)
        if trouble != "no length":
            handler.send_header("Content-Length", str(len(body)))
        if self.etag:
            handler.send_header("ETag", self.etag)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if trouble in ("half", "half, then hang", "no length"):
            body = body[: len(body) // 2]
        handler.wfile.write(body)
        handler.wfile.flush()
        if trouble == "half, then hang":
            self.released.wait(10)
        return None

    def start_of(self, handler):
        wanted = handler.headers.get("Range")
        if not wanted or handler.headers.get("If-Range") != self.etag:
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))


@pytest.fixture
def server():
    server = Server()
    yield server
    server.released.set()
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(autouse=True)
def keras_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "keras"


class Recorder:
    """A progress that remembers what it was told."""

    def __init__(self):
        self.told = []

    def start(self, stage, total, unit):
        self.told.append(("start", stage, total, unit))

    def advance(self, done, **figures):
        self.told.append(("advance", done))

    def finish(self):
        self.told.append(("finish",))

    def say(self, text):
        self.told.append(("say", text))


def hasty(url, progress=None):
    return fetch(url, progress, HASTE, sleep=lambda seconds: None)


def went_on_at(server):
    """First byte that the last request asked for."""
    wanted = server.requests[-1].get("Range", "bytes=0-")
    return int(wanted.removeprefix("bytes=").removesuffix("-"))


def files(keras_home):
    return sorted(path.name for path in (keras_home / "datasets").iterdir())


def test_the_file_lands_where_keras_would_put_it(server, keras_home):
    path = hasty(server.url())
    assert path == keras_home / "datasets" / "book.txt"
    assert path.read_bytes() == BOOK
    assert files(keras_home) == ["book.txt", "book.txt.source.json"]


def test_the_place_is_that_of_get_file(server, keras_home, monkeypatch):
    """Keras itself finds the file there, and does not fetch it again."""
    import keras

    path = hasty(server.url())
    home = "keras.src.utils.file_utils.config.keras_home"
    monkeypatch.setattr(home, lambda: str(keras_home))
    assert keras.utils.get_file(origin=server.url()) == str(path)
    assert len(server.requests) == 1


def test_a_folder_that_keras_unpacked_is_left_alone(keras_home):
    (keras_home / "datasets" / "book.zip").mkdir(parents=True)
    assert cache_path("http://host/book.zip").name == "book.zip_archive"


def test_without_keras_home_it_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_path("http://host/a.zip") == tmp_path / ".keras" / "datasets" / "a.zip"


def test_a_second_call_asks_nobody(server):
    hasty(server.url())
    assert hasty(server.url()).read_bytes() == BOOK
    assert len(server.requests) == 1


def test_another_url_of_that_name_is_another_file(server):
    hasty(server.url())
    server.content, server.etag = b"other " * 99, '"two"'
    other = server.url().replace("/some/", "/other/")
    assert hasty(other).read_bytes() == server.content


def test_progress_counts_bytes(server):
    recorder = Recorder()
    hasty(server.url(), recorder)
    assert recorder.told[0] == ("start", "download", len(BOOK), "bytes")
    assert recorder.told[-2:] == [("advance", len(BOOK)), ("finish",)]


@pytest.mark.parametrize("trouble", ["half", "half, then hang"])
def test_a_broken_transfer_goes_on_where_it_broke(server, trouble):
    server.misbehave = [trouble]
    recorder = Recorder()
    assert hasty(server.url(), recorder).read_bytes() == BOOK
    assert 0.4 * len(BOOK) < went_on_at(server) <= 0.5 * len(BOOK)
    assert server.requests[1]["If-Range"] == server.etag
    assert any(kind == "say" for kind, *_ in recorder.told)


def test_the_next_run_goes_on_too(server, keras_home):
    server.misbehave = ["half", "hang", "hang", "hang"]
    with pytest.raises(CorpusError, match="run it again to go on") as raised:
        hasty(server.url())
    assert "\n" not in str(raised.value)
    assert not (keras_home / "datasets" / "book.txt").exists()
    server.misbehave = []
    assert hasty(server.url()).read_bytes() == BOOK
    assert 0.4 * len(BOOK) < went_on_at(server) <= 0.5 * len(BOOK)
    assert files(keras_home) == ["book.txt", "book.txt.source.json"]


def test_a_file_that_changed_meanwhile_is_not_spliced(server):
    server.misbehave = ["half", 503, 503, 503]
    with pytest.raises(CorpusError, match="503"):
        hasty(server.url())
    server.content, server.etag = BOOK.upper(), '"two"'
    assert hasty(server.url()).read_bytes() == BOOK.upper()


def test_a_server_that_ignores_if_range_is_seen_through(server, monkeypatch):
    """It sends the rest of another version as if it were the same."""
    server.misbehave = ["half", 503, 503, 503]
    with pytest.raises(CorpusError):
        hasty(server.url())
    server.content, server.etag = BOOK.upper(), '"two"'
    kept = (cache_path(server.url()).parent / "book.txt.part").stat().st_size
    first = iter([kept])
    monkeypatch.setattr(server, "start_of", lambda handler: next(first, 0))
    assert hasty(server.url()).read_bytes() == BOOK.upper()


def test_without_a_validator_it_begins_anew(server):
    server.etag = None
    server.misbehave = ["half"]
    assert hasty(server.url()).read_bytes() == BOOK
    assert "Range" not in server.requests[1]


def test_a_part_with_no_note_is_not_trusted(server, keras_home):
    (keras_home / "datasets").mkdir(parents=True)
    (keras_home / "datasets" / "book.txt.part").write_bytes(b"of something else")
    assert hasty(server.url()).read_bytes() == BOOK


def test_a_part_that_was_whole_is_only_renamed(server, keras_home):
    """The run was killed between the last byte and the renaming."""
    server.misbehave = ["half", 503, 503, 503]
    with pytest.raises(CorpusError):
        hasty(server.url())
    (keras_home / "datasets" / "book.txt.part").write_bytes(BOOK)
    asked = len(server.requests)
    assert hasty(server.url()).read_bytes() == BOOK
    assert len(server.requests) == asked


def test_a_server_that_hangs_is_given_up(server):
    server.misbehave = ["hang"] * 3
    with pytest.raises(CorpusError, match="does not answer"):
        hasty(server.url())


def test_a_server_that_refuses_is_one_line(server, keras_home):
    with pytest.raises(CorpusError, match="refused") as raised:
        hasty("http://127.0.0.1:1/book.txt")
    assert "\n" not in str(raised.value)
    assert files(keras_home) == []


def test_a_missing_file_is_not_asked_for_again(server):
    server.misbehave = [404]
    with pytest.raises(CorpusError, match="404 Not Found"):
        hasty(server.url())
    assert len(server.requests) == 1


def test_a_missing_file_does_not_cost_what_has_come(server):
    server.misbehave = ["half", 404]
    with pytest.raises(CorpusError, match="bytes are kept"):
        hasty(server.url())
    assert hasty(server.url()).read_bytes() == BOOK
    assert "Range" in server.requests[-1]


@pytest.mark.parametrize("name", ["book.zip", "book.txt"])
@pytest.mark.parametrize("honest", [True, False], ids=["text/html", "octet-stream"])
def test_a_web_page_is_refused(server, keras_home, name, honest):
    server.content = b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>"
    if honest:
        server.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(CorpusError, match="a web page instead"):
        hasty(server.url(name))
    assert files(keras_home) == []


def test_what_is_no_zip_is_refused(server, keras_home):
    with pytest.raises(CorpusError, match="not a zip"):
        hasty(server.url("book.zip"))
    assert files(keras_home) == []


def test_a_zip_of_unknown_length_is_taken_if_it_is_whole(server):
    whole = zipped()
    server.content = whole * 2  # half of it is the zip
    server.misbehave = ["no length"]
    assert hasty(server.url("book.zip")).read_bytes() == whole


def test_a_cut_zip_of_unknown_length_is_not_taken(server, keras_home):
    server.content = zipped()
    server.misbehave = ["no length"]
    with pytest.raises(CorpusError, match="not a zip"):
        hasty(server.url("book.zip"))
    assert files(keras_home) == []


def test_a_text_of_unknown_length_is_not_taken(server, keras_home):
    server.misbehave = ["no length"]
    with pytest.raises(CorpusError, match="how long"):
        hasty(server.url())
    assert "book.txt" not in files(keras_home)


def test_a_zip_put_there_by_keras_is_used_unless_it_is_cut(server, keras_home):
    server.content = zipped()
    path = keras_home / "datasets" / "book.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(server.content)
    hasty(server.url("book.zip"))
    assert server.requests == []
    path.write_bytes(server.content[:-30])
    assert hasty(server.url("book.zip")).read_bytes() == server.content


def test_a_file_that_was_cut_later_is_fetched_again(server):
    path = hasty(server.url())
    path.write_bytes(BOOK[:-1])
    assert hasty(server.url()).read_bytes() == BOOK


def test_two_processes_do_not_write_one_part(server):
    server.misbehave = ["half, then hang"]
    slow = Patience(read_s=5, tries=1)
    first = threading.Thread(target=lambda: fetch(server.url(), None, slow))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda arguments: None)
        first.start()
        while not cache_path(server.url()).with_name("book.txt.part").is_file():
            threading.Event().wait(0.01)
        while not server.requests:
            threading.Event().wait(0.01)
        with pytest.raises(CorpusError, match="another process"):
            hasty(server.url())
        server.released.set()
        first.join()


def test_a_full_disk_is_one_line(server, monkeypatch):
    def no_space(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(MiniGPTError, match="disk is full"):
        hasty(server.url())


class TestFileUrl:
    def test_is_copied_into_the_cache(self, tmp_path, keras_home):
        source = tmp_path / "a book.txt"
        source.write_bytes(BOOK)
        path = fetch(source.as_uri())
        assert path.read_bytes() == BOOK
        assert path.parent == keras_home / "datasets"

    def test_is_copied_again_only_if_it_changed(self, tmp_path):
        source = tmp_path / "book.txt"
        source.write_bytes(BOOK)
        path = fetch(source.as_uri())
        before = path.stat().st_mtime_ns
        assert fetch(source.as_uri()).stat().st_mtime_ns == before
        source.write_bytes(b"new")
        assert fetch(source.as_uri()).read_bytes() == b"new"

    def test_a_missing_file_is_one_line(self, tmp_path):
        with pytest.raises(CorpusError, match="No such file"):
            fetch((tmp_path / "no.txt").as_uri())


@pytest.mark.parametrize("url", ["ftp://host/a.txt", "s3://bucket/a.txt"])
def test_other_schemes_are_named_as_wrong(url):
    assert is_url(url)
    with pytest.raises(CorpusError, match="http://, https:// or file://"):
        fetch(url)


def test_a_url_without_a_file_name_is_refused():
    with pytest.raises(CorpusError, match="does not end in a file's name"):
        fetch("http://host/")


def test_a_corpus_can_be_a_url(server):
    server.content = gzip.compress(BOOK.replace(b". ", b".\n"))
    corpus = load_corpus(server.url("book.gz"))
    assert corpus.train[0] == "Line 0 of a book."


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared corpus, not in CI")
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_the_shared_corpus_comes_whole(server, scheme):
    """The layout and the size of SimpleBooks, with one broken transfer."""
    if scheme == "http":
        server.content = SHARED.read_bytes()
        server.misbehave = ["half"]
        url = server.url("simplebooks.zip")
    else:
        url = SHARED.as_uri()
    corpus = load_corpus(url)
    assert (len(corpus.train), len(corpus.valid)) == (166_598, 908)
    assert corpus.min_length == 512
