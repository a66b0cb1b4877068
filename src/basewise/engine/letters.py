"""The bytes of tokens and the letters they make: a token may end within a letter, and a constraint must know what may follow.

Text alone does not say: a tokenizer decodes bytes that are no letter yet to U+FFFD, whichever bytes they are.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import Any

FIRST_OF = {2: 0x80, 3: 0x800, 4: 0x10000}
"""The first letter of so many bytes; a lower one in as many bytes is not UTF-8."""
PLANES = (range(0xD800), range(0xE000, 0x40000), range(0xE0000, 0xE0200))
"""Where letters lie: not among the surrogates; the planes from 4 on are empty or private but for the tags."""


def bytes_of(tokenizer: Any) -> Callable[[int], bytes]:
    """What tells a token's bytes, for a tokenizer of transformers or tokenizers: of byte-level ones, of those that fall back on
    bytes (<0xE6>), else of the token's text."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    spelt = getattr(backend, "id_to_token", None) or tokenizer.convert_ids_to_tokens
    way = str(getattr(backend, "decoder", ""))
    level, fallback = "ByteLevel" in way, "ByteFallback" in way
    table = _byte_level() if level else {}

    def found(token: int) -> bytes:
        piece = str(spelt(int(token)) or "")
        if level and all(letter in table for letter in piece):
            return bytes(table[letter] for letter in piece)
        if fallback and len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        return piece.encode()

    return found


def _byte_level() -> dict[str, int]:
    """The byte of each letter of byte-level vocabularies (Radford et al. 2019): those that cannot be printed are moved up."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in shown]
    return {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(moved)}


def whole_letters(data: bytes) -> tuple[str, bytes] | None:
    """(the letters, the bytes of one that has begun, at most 3); None for bytes that are not UTF-8 whatever follows."""
    reader = codecs.getincrementaldecoder("utf-8")()
    try:
        letters = reader.decode(data)
    except UnicodeDecodeError:
        return None
    return letters, reader.getstate()[0]


def letters_from(begun: bytes) -> Iterator[str]:
    """Letters whose UTF-8 begins with these 1 to 3 bytes, those of planes that are empty or private left out; none where there are none."""
    size = 2 if begun[0] < 0xE0 else 3 if begun[0] < 0xF0 else 4
    missing = size - len(begun)
    low = begun[0] & (0x7F >> size)
    for byte in begun[1:]:
        low = low << 6 | byte & 0x3F
    low, high = max(low << 6 * missing, FIRST_OF[size]), low + 1 << 6 * missing
    for part in PLANES:
        yield from map(chr, range(max(low, part.start), min(high, part.stop)))
