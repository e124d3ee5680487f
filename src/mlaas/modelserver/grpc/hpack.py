"""HPACK, the header compression of HTTP/2 (RFC 7541): decoding. `generation` tells whether a block changed the table."""

from functools import lru_cache

_STATIC = """\
:authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|:status 204|:status 206|\
:status 304|:status 400|:status 404|:status 500|accept-charset|accept-encoding gzip, deflate|accept-language|accept-ranges|\
accept|access-control-allow-origin|age|allow|authorization|cache-control|content-disposition|content-encoding|\
content-language|content-length|content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host|\
if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|link|location|max-forwards|\
proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server|set-cookie|strict-transport-security|\
transfer-encoding|user-agent|vary|via|www-authenticate"""
"""Appendix A: names, and after a blank the values."""

STATIC = [(name, value) for name, _, value in (field.partition(" ") for field in _STATIC.split("|"))]

_LENGTHS = (
    "ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHFIBCCCCCCCCCCCCCCCCCCCC"
    "CCDCDIOIJBKABABABBBACCBBBABCBAABCCCCCKGJIXPRPPRRRSRSSSSSTSTTRSTSSSSQRSRSSTRQPRRSSQSRRT"
    "QRSSQQRQSRSSPRRRSRRSVVPORSRUVVVWWVTUOQVWWVWTQQVVXWWWPTPQRQQSRRUUTTVSVWVVWWWWWXWWWWWVZ"
)
"""Appendix B: the length in bits of each symbol's code, A for 5 to Z for 30. The code is canonical: codes of one length follow
one another in the order of the symbols, so the lengths are all there is to say."""

_END = 256
TABLE_SIZE = 4096
"""Bytes of the dynamic table (SETTINGS_HEADER_TABLE_SIZE, the default)."""

Field = tuple[str, str]


class HpackError(Exception):
    """A block that cannot be decoded; the table is of no use any more."""


class Decoder:
    """One connection's decoder. `limit` is for the size of a block's fields: names, values, and 32 for each."""

    __slots__ = ("_entries", "_limit", "_maximum", "_size", "generation")

    def __init__(self, limit: int) -> None:
        self._entries: list[Field] = []  # the newest is the last
        self._size = 0
        self._maximum = TABLE_SIZE
        self._limit = limit
        self.generation = 0

    def decode(self, block: bytes) -> list[Field]:
        """The fields of a block. Raises HpackError."""
        fields: list[Field] = []
        position, end, size = 0, len(block), 0
        try:
            while position < end:
                first = block[position]
                if first & 0x80:
                    index, position = _integer(block, position, 0x7F)
                    field = self._field(index)
                elif first & 0x40:
                    field, position = self._literal(block, position, 0x3F)
                    self._add(field)
                elif first & 0x20:
                    maximum, position = _integer(block, position, 0x1F)
                    if fields or maximum > TABLE_SIZE:
                        raise HpackError("a table size that is not allowed")
                    self._maximum = maximum
                    self._evict(0)
                    continue
                else:
                    field, position = self._literal(block, position, 0x0F)
                size += len(field[0]) + len(field[1]) + 32
                if size > self._limit:
                    raise HpackError(f"a list of more than {self._limit} bytes")
                fields.append(field)
        except IndexError:
            raise HpackError("a block that is cut off") from None
        return fields

    def _field(self, index: int) -> Field:
        if 0 < index <= 61:
            return STATIC[index - 1]
        place = index - 61
        if index == 0 or place > len(self._entries):
            raise HpackError(f"no field has the index {index}")
        return self._entries[-place]

    def _literal(self, block: bytes, position: int, mask: int) -> tuple[Field, int]:
        index, position = _integer(block, position, mask)
        if index:
            name = self._field(index)[0]
        else:
            name, position = _string(block, position)
        value, position = _string(block, position)
        return (name, value), position

    def _add(self, field: Field) -> None:
        size = len(field[0]) + len(field[1]) + 32
        self._evict(size)
        if size <= self._maximum:
            self._entries.append(field)
            self._size += size

    def _evict(self, needed: int) -> None:
        """Make room, oldest first."""
        self.generation += 1
        count = 0
        while self._size + needed > self._maximum and count < len(self._entries):
            name, value = self._entries[count]
            self._size -= len(name) + len(value) + 32
            count += 1
        if count:
            del self._entries[:count]


def _integer(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """(value, position after it). Raises IndexError where the block ends."""
    value = block[position] & mask
    position += 1
    if value < mask:
        return value, position
    shift = 0
    while True:
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 28:
            raise HpackError("a number that is too large")


def _string(block: bytes, position: int) -> tuple[str, int]:
    length, start = _integer(block, position, 0x7F)
    stop = start + length
    if stop > len(block):
        raise HpackError("a block that is cut off")
    data = block[start:stop]
    if block[position] & 0x80:
        return (_huffman_short if length <= 128 else huffman)(data), stop
    return data.decode("latin-1"), stop


def _codes() -> dict[tuple[int, int], int]:
    """(length, code) -> symbol."""
    codes = {}
    code = before = 0
    for length, symbol in sorted((ord(letter) - 60, symbol) for symbol, letter in enumerate(_LENGTHS)):
        code <<= length - before
        codes[length, code] = symbol
        code, before = code + 1, length
    return codes


_CODES = _codes()
_SHORT: list[tuple[int, int]] = [(0, 0)] * 256
"""By the next eight bits: (length, symbol) of the code they begin with, where it has at most eight bits."""
for (_length, _code), _symbol in _CODES.items():
    if _length <= 8:
        _SHORT[_code << 8 - _length : _code + 1 << 8 - _length] = [(_length, _symbol)] * (1 << 8 - _length)


def _long(bits: int, count: int) -> tuple[int, int]:
    """(length, symbol) of the code of more than eight bits that `count` bits begin with; (0, 0) where it needs more of them."""
    for length in range(9, min(count, 30) + 1):
        symbol = _CODES.get((length, bits >> count - length))
        if symbol == _END:
            raise HpackError("the end symbol in a string")
        if symbol is not None:
            return length, symbol
    return 0, 0


def huffman(data: bytes) -> str:
    """The text of a Huffman-coded string. Raises HpackError for padding that is none, and for the end symbol."""
    text = bytearray()
    bits = count = 0
    short = _SHORT
    for byte in data:
        bits = bits << 8 | byte
        count += 8
        while count >= 8:
            length, symbol = short[bits >> count - 8]
            if not length:
                length, symbol = _long(bits, count)
                if not length:
                    break
            text.append(symbol)
            count -= length
            bits &= (1 << count) - 1
    while count:
        length, symbol = short[bits << 8 - count & 0xFF] if count < 8 else (0, 0)
        if not length or length > count:
            break
        text.append(symbol)
        count -= length
        bits &= (1 << count) - 1
    if count >= 8 or bits != (1 << count) - 1:
        raise HpackError("a string that is not padded with ones")
    return text.decode("latin-1")


_huffman_short = lru_cache(1024)(huffman)
