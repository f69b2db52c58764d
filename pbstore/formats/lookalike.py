"""What a file is by its first bytes, whatever it is called."""

from __future__ import annotations

import re
import struct

from pbstore.formats.safetensors_header import MAX_HEADER_BYTES

HEAD_BYTES = 512
"""As many first bytes tell."""
_POINTER = b"version https://git-lfs.github.com/spec/"
_SIZE = re.compile(rb"^size (\d{1,20})$", re.MULTILINE)
_MAGICS = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes (.bin, .pt)"),
    (b"GGUF", "a GGUF file (.gguf)"),
    (b"\x80\x02", "a pickle, as torch.save once wrote (.bin, .pt)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (.h5)"),
    (b"\x1f\x8b", "compressed by gzip (.gz)"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd (.zst)"),
)
_PAGE = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|\?xml|error)", re.IGNORECASE)


def looks_like_safetensors(head: bytes, file_bytes: int) -> bool:
    """Whether a file begins as safetensors files do: a length that may be, and an object of JSON."""
    if len(head) < 10 or head[8:9] != b"{":
        return False
    (length,) = struct.unpack_from("<Q", head)
    return 2 <= int(length) <= min(MAX_HEADER_BYTES, file_bytes - 8)


def what_it_is(head: bytes, file_bytes: int) -> str | None:
    """What a file really is that is none of the format of its name; None if that does not show.

    Args:
        head: Its first `HEAD_BYTES` bytes, or all.
        file_bytes: Bytes of the file.
    """
    if not file_bytes:
        return "an empty file"
    if head.startswith(_POINTER):
        size = _SIZE.search(head)
        real = f" of a file of {size[1].decode()} bytes" if size else ""
        return f"a git-lfs pointer{real}, not the file itself: fetch it with `git lfs pull`"
    if _PAGE.match(head):
        return "a web page or an error of a server, not the file itself: download it again"
    if not head.strip(b"\0"):
        return "zeros only: a download that was not finished"
    return next((name for magic, name in _MAGICS if head.startswith(magic)), _text(head))


def _text(head: bytes) -> str | None:
    """A short quotation, if a file is plain text."""
    try:
        text = head.decode() if len(head) < HEAD_BYTES else head[:-4].decode()
    except UnicodeDecodeError:
        return None
    return (
        f"text: {' '.join(text.split())[:60]!r}"
        if all(c.isprintable() or c.isspace() for c in text)
        else None
    )
