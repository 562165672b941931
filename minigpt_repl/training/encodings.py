"""Bytes of a text file -> its text: by a mark, as UTF-8, or by what it looks like.

Whoever knows the encoding names it. Knows bytes and names of encodings; no corpus.
"""

import codecs

from charset_normalizer import from_bytes

from minigpt_repl.errors import CorpusError, UsageError
from minigpt_repl.suggest import quoted

LOOKED_AT = 1 << 18
"""Bytes that are looked at to find an encoding."""

# Longest first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def check_encoding(name: str) -> str:
    """The name of an encoding that there is.

    Raises:
        UsageError: if there is none of that name.
    """
    try:
        found = codecs.lookup(name)
        "".encode(found.name)  # some turn bytes into bytes
    except (LookupError, ValueError) as error:
        raise UsageError(
            f"no encoding {quoted(name)}: utf-8, utf-16, cp1252, shift_jis, gbk and "
            "the others of Python are known"
        ) from error
    return found.name


def decoded(data: bytes, name: str, encoding: str | None = None) -> tuple[str, str]:
    """A file's text and the encoding that it was read in.

    Args:
        data: the file's bytes.
        name: of the file, for errors.
        encoding: as the user named it; `None` to find it.

    Raises:
        CorpusError: if it is no text, or not of that encoding.
    """
    found = encoding or _marked(data)
    if found is None:
        try:
            return _checked(data.decode("utf-8"), name), "utf-8"
        except UnicodeDecodeError as error:
            found = _looks_like(data)
            if found is None:
                raise CorpusError(
                    f"{name} is not UTF-8 text: byte {error.start} is "
                    f"0x{data[error.start]:02x}; name its encoding with --encoding"
                ) from error
    try:
        return _checked(data.decode(found), name), found
    except UnicodeError as error:
        told = str(getattr(error, "reason", error))
        start = getattr(error, "start", 0)
        hint = "name another" if encoding else "name its encoding"
        raise CorpusError(
            f"{name} is not {found} text: at byte {start}, {told}; {hint} with "
            "--encoding"
        ) from error


def _marked(data: bytes) -> str | None:
    return next((name for mark, name in _MARKS if data.startswith(mark)), None)


def _looks_like(data: bytes) -> str | None:
    if b"\0" in data:
        return None  # of no encoding that writes a character in one byte or two
    replaced = data.decode("utf-8", "replace")
    bad = replaced.count("\N{REPLACEMENT CHARACTER}")
    if sum(not character.isascii() for character in replaced) > 2 * bad:
        return None  # UTF-8 that was damaged: any other would make a muddle of it
    end = data.rfind(b"\n", 0, LOOKED_AT) + 1 if len(data) > LOOKED_AT else 0
    best = from_bytes(data[: end or LOOKED_AT]).best()
    if best is None:
        return None
    # Of those that read it alike the one that is most used.
    return "cp1252" if "cp1252" in best.could_be_from_charset else best.encoding


def _checked(text: str, name: str) -> str:
    if "\0" in text:
        place = len(text[: text.index("\0")].encode("utf-8", "surrogatepass"))
        raise CorpusError(f"{name} is not text: byte {place} is 0x00")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
