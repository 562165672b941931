"""Receives one file over HTTP, going on where a transfer broke.

Knows HTTP (RFC 9110: ranges in section 14, their conditions in 13.1.5); not where
the file is put, nor what is in it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import requests

from minigpt_repl.errors import CorpusError
from minigpt_repl.training.part_file import PartFile, Version
from minigpt_repl.training.progress import Progress

# Small: when a transfer breaks, what has come of its last block is lost.
_BLOCK = 1 << 14
_RETRIED_STATUS = (408, 416, 425, 429, 500, 502, 503, 504)
_WEB_PAGE = re.compile(rb"\s*(<!--.*?-->\s*)*<(!doctype\s+html|html)", re.I | re.S)
_WEB_PAGE_NAMES = (".html", ".htm", ".xhtml")


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        connect_s: seconds for the connection.
        read_s: seconds without a byte until the transfer counts as broken.
        tries: transfers in a row that may break without bringing anything.
        pause_s: seconds before the second try; doubled each time after.
    """

    connect_s: float = 15
    read_s: float = 30
    tries: int = 5
    pause_s: float = 1


class _BrokenTransferError(Exception):
    """A transfer that may work if it is tried again."""


@dataclass(frozen=True)
class HttpTransfer:
    """One file on its way from a URL into a part file."""

    url: str
    part: PartFile
    progress: Progress
    patience: Patience
    sleep: Callable[[float], None]

    def receive(self) -> Version:
        """Fetch what is missing, trying again as long as something comes.

        Returns:
            The version of which the part now holds every byte.

        Raises:
            CorpusError: if it can't be had; what has come stays in the part.
        """
        known = self.part.version
        if known and known.url == self.url and known.size == self.part.size:
            return known  # an earlier run ended just before the renaming
        tries = 0
        with requests.Session() as session:
            while True:
                before = self.part.size
                try:
                    return self._request(session)
                except _BrokenTransferError as error:
                    tries = 1 if self.part.size > before else tries + 1
                    if tries >= self.patience.tries:
                        raise self._failure(str(error)) from error
                    self.progress.say(f"download: {error}; trying again")
                    self.sleep(self.patience.pause_s * 2 ** (tries - 1))

    def _request(self, session: requests.Session) -> Version:
        known = self.part.version
        have = self.part.size
        headers = {"Accept-Encoding": "identity"}
        if have and known and known.url == self.url and known.validator:
            headers["Range"] = f"bytes={have}-"
            headers["If-Range"] = known.validator
        try:
            with session.get(
                self.url,
                headers=headers,
                stream=True,
                timeout=(self.patience.connect_s, self.patience.read_s),
            ) as response:
                if response.status_code == 206 and known and "Range" in headers:
                    version = self._continued(response, known)
                elif response.status_code == 200:
                    version = self._begun(response)
                else:
                    raise self._refusal(response)
                return self._store(response, version)
        except (requests.exceptions.SSLError, requests.exceptions.InvalidURL) as error:
            raise self._failure(_reason(error)) from error
        except requests.RequestException as error:
            raise _BrokenTransferError(_reason(error)) from error

    def _begun(self, response: requests.Response) -> Version:
        """The whole file is coming."""
        length = response.headers.get("Content-Length", "")
        version = self._version_of(
            response, int(length) if length.isdecimal() else None
        )
        resumable = version.validator and version.size
        self.part.start_anew(version if resumable else None)
        return version

    def _continued(self, response: requests.Response, known: Version) -> Version:
        """The rest is coming: of the same version, if it begins where we stopped."""
        given = response.headers.get("Content-Range", "").strip()
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", given)
        total = int(match[2]) if match else None
        version = self._version_of(response, total)
        same_content = version.validator in (None, known.validator)
        begins_here = match is not None and int(match[1]) == self.part.size
        if not (begins_here and same_content and total == known.size):
            self.part.start_anew()
            raise _BrokenTransferError("the file has changed on the server")
        return known

    def _refusal(self, response: requests.Response) -> Exception:
        status = f"the server answered {response.status_code} {response.reason}"
        if response.status_code == 416:
            self.part.start_anew()
        if response.status_code in _RETRIED_STATUS:
            return _BrokenTransferError(status.strip())
        return self._failure(status.strip())

    def _store(self, response: requests.Response, version: Version) -> Version:
        self.progress.start("download", version.size, "bytes")
        got = self.part.size
        for block in response.iter_content(_BLOCK):
            if got == 0:
                self._refuse_web_page(response, block)
            self.part.write(block)
            got += len(block)
            self.progress.advance(got)
        if version.size is None:
            # Without a length or chunks, a broken connection looks like the end.
            framed = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
            if not framed and not self.part.must_be_zip:
                raise self._failure(
                    "the server does not say how long the file is, so nobody can tell "
                    "whether all of it came"
                )
        elif got != version.size:
            if got > version.size:
                self.part.start_anew()
            raise _BrokenTransferError(f"{got} of {version.size} bytes came")
        return replace(version, size=got)

    def _refuse_web_page(self, response: requests.Response, start: bytes) -> None:
        kind = response.headers.get("Content-Type", "").lower()
        wanted = self.part.target.name.lower().endswith(_WEB_PAGE_NAMES)
        if not wanted and ("text/html" in kind or _WEB_PAGE.match(start)):
            raise self._failure("the server sent a web page instead of the file")

    def _version_of(self, response: requests.Response, size: int | None) -> Version:
        headers = response.headers
        return Version(
            self.url, size, headers.get("ETag"), headers.get("Last-Modified")
        )

    def _failure(self, reason: str) -> CorpusError:
        kept = ""
        if self.part.size and self.part.version:
            kept = f"; {self.part.size:,} bytes are kept, run it again to go on"
        return CorpusError(f"can't fetch {self.url}: {reason}{kept}")


def _reason(error: requests.RequestException) -> str:
    """The innermost cause, in a line."""
    if isinstance(error, requests.exceptions.Timeout):
        return "the server does not answer"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the transfer broke off"
    cause: object = error
    while isinstance(cause, BaseException):
        inner = getattr(cause, "reason", None) or (cause.args[0] if cause.args else "")
        if not inner or inner is cause:
            break
        cause = inner
    text = " ".join(str(cause).split())
    return re.sub(r"^<.*?>: ", "", text) or type(error).__name__
