"""Messages between the service and its worker: a JSON header and raw bytes behind it, each with its length in front.

    4 bytes header length | 4 bytes body length | header (UTF-8 JSON) | body

Numbers travel as raw arrays in the body; nothing is pickled, so a message can do nothing but be read.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

from basewise.core.errors import BasewiseError

LENGTHS = struct.Struct("<II")
MOST_BYTES = 1 << 28
"""A message larger than this is taken for a broken stream."""


def pack(header: dict[str, Any], body: bytes = b"") -> bytes:
    """One message."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return LENGTHS.pack(len(text), len(body)) + text + body


def sizes(head: bytes) -> tuple[int, int]:
    """(header bytes, body bytes) from the first eight bytes; BasewiseError where they cannot be true."""
    header, body = LENGTHS.unpack(head)
    if header + body > MOST_BYTES:
        raise BasewiseError(f"a message of {header + body:,} bytes came", "start the service again")
    return header, body


def header_of(text: bytes) -> dict[str, Any]:
    """The header as a dict."""
    value: dict[str, Any] = json.loads(text.decode("utf-8", "surrogatepass"))
    return value


def read(file: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """The next message of a blocking stream; None at its end, also in the middle of a message or where the other side was killed."""
    try:
        head = file.read(LENGTHS.size)
        if head is None or len(head) < LENGTHS.size:
            return None
        header, body = sizes(head)
        rest = file.read(header + body)
    except OSError:
        # a socket with unread messages is reset, not closed, when its process dies
        return None
    if rest is None or len(rest) < header + body:
        return None
    return header_of(rest[:header]), rest[header:]
