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
from minigpt_repl.training import sources
from minigpt_repl.training.corpus import load_corpus
from minigpt_repl.training.progress import SILENT
from minigpt_repl.training.sources import SIMPLEBOOKS_URL, cache_path, fetch, is_url

BOOK = "".join(f"Line {number} of a book. " for number in range(9000)).encode()
SHARED = Path(__file__).parents[3] / "shared" / "corpus" / "simplebooks-like.zip"


def zipped(name="book.txt", text=BOOK):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return file.getvalue()


class Server:
    """Serves `content`; `misbehave` is a list of what goes wrong, one a request."""

    def __init__(self):
        self.content = BOOK
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
        body = self.content
        handler.send_response(200)
        if trouble != "no length":
            handler.send_header("Content-Length", str(len(body)))
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


@pytest.fixture
def server():
    server = Server()
    yield server
    server.released.set()
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(sources, "TIMEOUT", 0.3)
    return tmp_path / "cache"


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


def fetched(url, progress=SILENT):
    return fetch(url, progress)


def files(folder):
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_the_file_is_kept_in_the_cache_and_asked_for_once(server, cache):
    path = fetched(server.url())
    assert path.read_bytes() == BOOK
    assert path.is_relative_to(cache)
    assert files(cache) == ["book.txt"]
    assert fetched(server.url()) == path
    assert len(server.requests) == 1


def test_simplebooks_lies_where_the_reference_example_has_it(tmp_path, monkeypatch):
    """Keras itself finds it there, and does not fetch it again."""
    import keras

    path = cache_path(SIMPLEBOOKS_URL)
    assert path == tmp_path / "keras" / "datasets" / "simplebooks.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(zipped())
    home = "keras.src.utils.file_utils.config.keras_home"
    monkeypatch.setattr(home, lambda: str(tmp_path / "keras"))
    assert keras.utils.get_file(origin=SIMPLEBOOKS_URL) == str(path)
    assert fetched(SIMPLEBOOKS_URL) == path
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_path(SIMPLEBOOKS_URL).is_relative_to(tmp_path / ".keras")


def test_a_folder_that_keras_unpacked_is_left_alone():
    unpacked = cache_path(SIMPLEBOOKS_URL)
    unpacked.mkdir(parents=True)
    assert cache_path(SIMPLEBOOKS_URL).name == "simplebooks.zip_archive"


def test_another_url_of_that_name_is_another_file(server):
    fetched(server.url())
    server.content = b"other " * 99
    other = server.url().replace("/some/", "/other/")
    assert fetched(other).read_bytes() == server.content


def test_progress_counts_bytes(server):
    recorder = Recorder()
    fetched(server.url(), recorder)
    assert recorder.told[0] == ("start", "download", len(BOOK), "bytes")
    assert recorder.told[-2:] == [("advance", len(BOOK)), ("finish",)]


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ("half", f"of {len(BOOK):,} bytes came"),
        ("half, then hang", "does not answer"),
        ("hang", "does not answer"),
        (404, "404: Not Found"),
        (503, "503"),
        ("no length", "how long"),
    ],
)
def test_a_broken_download_is_one_line_and_the_next_one_whole(
    server, cache, trouble, told
):
    server.misbehave = [trouble]
    with pytest.raises(CorpusError, match=told) as raised:
        fetched(server.url())
    assert "\n" not in str(raised.value)
    assert server.url() in str(raised.value)
    assert len(server.requests) == 1
    assert files(cache) == []
    assert fetched(server.url()).read_bytes() == BOOK


def test_a_server_that_refuses_is_one_line(cache):
    with pytest.raises(CorpusError, match="refused") as raised:
        fetched("http://127.0.0.1:1/book.txt")
    assert "\n" not in str(raised.value)
    assert files(cache) == []


@pytest.mark.parametrize("name", ["book.zip", "book.txt"])
@pytest.mark.parametrize("honest", [True, False], ids=["text/html", "octet-stream"])
def test_a_web_page_is_refused(server, cache, name, honest):
    server.content = b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>"
    if honest:
        server.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(CorpusError, match="a web page instead"):
        fetched(server.url(name))
    assert files(cache) == []


@pytest.mark.parametrize("name", ["book.zip", "book.gz"])
def test_what_is_no_archive_is_refused(server, cache, name):
    with pytest.raises(CorpusError, match=f"not a {name[5:]}"):
        fetched(server.url(name))
    assert files(cache) == []


def test_a_zip_of_unknown_length_is_taken_if_it_is_whole(server):
    whole = zipped()
    server.content = whole * 2  # half of it is the zip
    server.misbehave = ["no length"]
    assert fetched(server.url("book.zip")).read_bytes() == whole


@pytest.mark.parametrize(
    ("name", "whole"), [("book.zip", zipped()), ("book.gz", gzip.compress(BOOK))]
)
def test_a_cut_archive_of_unknown_length_is_not_taken(server, cache, name, whole):
    server.content = whole
    server.misbehave = ["no length"]
    with pytest.raises(CorpusError, match=f"not a {name[5:]}"):
        fetched(server.url(name))
    assert files(cache) == []


def test_a_zip_that_was_cut_later_is_fetched_again(server):
    server.content = zipped()
    path = fetched(server.url("book.zip"))
    path.write_bytes(server.content[:-30])
    assert fetched(server.url("book.zip")).read_bytes() == server.content


def test_a_full_disk_is_one_line(server, monkeypatch):
    def no_space(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(MiniGPTError, match="disk is full"):
        fetched(server.url())


def test_a_local_file_is_read_where_it_lies(tmp_path):
    source = tmp_path / "a book.txt"
    source.write_bytes(BOOK)
    assert fetched(source.as_uri()) == source
    with pytest.raises(CorpusError, match="No such file"):
        load_corpus((tmp_path / "no.txt").as_uri())


@pytest.mark.parametrize("url", ["ftp://host/a.txt", "s3://bucket/a.txt"])
def test_other_schemes_are_named_as_wrong(url):
    assert is_url(url)
    with pytest.raises(CorpusError, match="http://, https:// or file://"):
        fetched(url)


def test_a_url_without_a_file_name_is_refused():
    with pytest.raises(CorpusError, match="does not end in a file's name"):
        fetched("http://host/")


def test_a_corpus_can_be_a_url(server):
    server.content = gzip.compress(BOOK.replace(b". ", b".\n"))
    corpus = load_corpus(server.url("book.gz"))
    assert corpus.train.texts[0] == "Line 0 of a book."


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared corpus, not in CI")
def test_the_shared_corpus_comes_whole(server):
    """The layout and the size of SimpleBooks."""
    server.content = SHARED.read_bytes()
    corpus = load_corpus(server.url("simplebooks.zip"))
    assert (len(corpus.train.texts), len(corpus.valid.texts)) == (166_598, 908)
    assert corpus.min_length == 512
