"""HPACK decoding, by the examples of RFC 7541 (appendix C) and by what must be refused."""

import pytest

from mlaas.modelserver.grpc.hpack import TABLE_SIZE, Decoder, HpackError, huffman

FIRST = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]
SECOND = [*FIRST, ("cache-control", "no-cache")]
THIRD = [
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/index.html"),
    (":authority", "www.example.com"),
    ("custom-key", "custom-value"),
]


@pytest.mark.parametrize(
    "blocks",
    [
        (  # C.3, without Huffman coding
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ),
        (  # C.4, with it
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ),
    ],
)
def test_requests_of_the_rfc(blocks):
    decoder = Decoder(1 << 16)
    assert [decoder.decode(bytes.fromhex(block)) for block in blocks] == [FIRST, SECOND, THIRD]


def test_the_table_evicts_the_oldest():
    """C.5 keeps 256 bytes; here they are asked for with a size update at the start of the first block."""
    decoder = Decoder(1 << 16)
    first = decoder.decode(
        bytes.fromhex(
            "3fe101"
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
            "6e1768747470733a2f2f7777772e6578616d706c652e636f6d"
        )
    )
    assert first[0] == (":status", "302")
    assert first[3] == ("location", "https://www.example.com")
    second = decoder.decode(bytes.fromhex("4803333037c1c0bf"))
    assert second == [(":status", "307"), *first[1:]]
    with pytest.raises(HpackError, match="index 66"):
        decoder.decode(b"\xc2")  # :status 302 is gone


def test_generation_says_whether_the_table_changed():
    decoder = Decoder(1 << 16)
    decoder.decode(bytes.fromhex("828684"))
    decoder.decode(bytes.fromhex("040c2f73616d706c652f70617468"))  # a literal without indexing
    assert decoder.generation == 0
    decoder.decode(bytes.fromhex("400a637573746f6d2d6b65790d637573746f6d2d686561646572"))
    assert decoder.generation == 1


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("80", "index 0"),
        ("be", "index 62"),
        ("ff8080808080808001", "number"),
        ("40", "cut off"),
        ("400a6375", "cut off"),
        ("8220", "table size"),
        ("3fe21f", "table size"),
        ("0081ff00", None),  # eight ones are padding that is too long
        ("0084ffffffff00", "end symbol"),
        ("008100", "padded"),
    ],
)
def test_what_is_refused(block, said):
    with pytest.raises(HpackError, match=said):
        Decoder(1 << 16).decode(bytes.fromhex(block))


def test_the_advertised_table_size_is_allowed():
    assert TABLE_SIZE == 4096
    assert Decoder(1 << 16).decode(bytes.fromhex("3fe11f")) == []


def test_a_list_that_grows_out_of_the_table_is_bounded():
    decoder = Decoder(16 * 1024)
    decoder.decode(b"\x40\x01a" + b"\x7f\xa1\x1e" + b"v" * 4000)
    with pytest.raises(HpackError, match="16384"):
        decoder.decode(b"\xbe" * 100)


def test_every_byte_survives_huffman_coding():
    assert huffman(bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff")) == "www.example.com"
    assert huffman(bytes.fromhex("9d29ad171863c78f0b97c8e9ae82ae43d3")) == "https://www.example.com"
    assert huffman(bytes.fromhex("d07abe941054d444a8200595040b8166e082a62d1bff")) == "Mon, 21 Oct 2013 20:13:21 GMT"
