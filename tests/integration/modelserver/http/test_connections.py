"""What a connection takes and refuses: raw sockets, well-behaved and not."""

import contextlib
import json
import re
import socket
import struct
import threading
import time

import pytest
from tests.integration.modelserver.http.conftest import Wire, ended, message, start, stop

INFER = "/v2/models/iris/infer"
ROW = [5.1, 3.5, 1.4, 0.2]
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ROW}]}).encode()
POST = message("POST", INFER, BODY)


def infer(seconds=0.0, value=1.0, identity=""):
    document = {
        "id": identity,
        "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [value]}],
        "parameters": {"seconds": seconds},
    }
    return message("POST", "/v2/models/waiting/infer", json.dumps(document).encode())


@pytest.fixture
def wire(http):
    wire = http.wire()
    yield wire
    wire.close()


class TestKept:
    def test_many_requests_on_one_connection(self, wire):
        for _ in range(50):
            wire.send(POST)
            assert wire.answer().status == 200

    def test_connection_close(self, wire):
        wire.send(message("POST", INFER, BODY, {"Connection": "close"}))
        assert wire.answer().headers["connection"] == "close"
        assert wire.closed()

    def test_http_1_0_closes(self, wire):
        wire.send(message("POST", INFER, BODY, version="1.0"))
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert wire.closed()

    def test_http_1_0_without_a_host(self, wire):
        wire.send(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
        assert wire.answer().json() == {"live": True}

    def test_http_1_0_kept_alive(self, wire):
        for _ in range(2):
            wire.send(message("POST", INFER, BODY, {"Connection": "keep-alive"}, version="1.0"))
            assert wire.answer().headers["connection"] == "keep-alive"

    def test_absolute_form(self, wire):
        wire.send(message("GET", "http://localhost/v2/health/live"))
        assert wire.answer().status == 200

    def test_query_strings_are_ignored(self, wire):
        wire.send(message("GET", "/v2/health/live?a=%00&b"))
        assert wire.answer().status == 200

    def test_an_error_keeps_the_connection(self, wire):
        wire.send(message("POST", INFER, b"{"))
        assert wire.answer().status == 400
        wire.send(POST)
        assert wire.answer().status == 200

    def test_an_upgrade_is_answered_as_http_1_1(self, wire):
        headers = {
            "Connection": "Upgrade, HTTP2-Settings",
            "Upgrade": "h2c",
            "HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA",
        }
        wire.send(message("POST", INFER, BODY, headers))
        assert wire.answer().status == 200
        wire.send(POST)
        assert wire.answer().status == 200


class TestPipelined:
    def test_answers_come_in_order(self, wire):
        slow_then_fast = [infer(0.2, 1.0), infer(0.0, 2.0), POST, infer(0.05, 3.0), message("GET", "/v2/health/live")]
        wire.send(b"".join(slow_then_fast))
        found = [wire.answer() for _ in slow_then_fast]
        assert [answer.json()["outputs"][0]["data"] for answer in found[:4]] == [[2.0], [4.0], [0], [6.0]]
        assert found[4].json() == {"live": True}

    def test_hundreds_at_once(self, wire):
        wire.send(POST * 500)
        assert all(wire.answer().status == 200 for _ in range(500))

    def test_hundreds_behind_a_slow_one(self, wire):
        wire.send(infer(0.2) + POST * 300)
        assert wire.answer().json()["outputs"][0]["data"] == [2.0]
        assert all(wire.answer().status == 200 for _ in range(300))

    def test_nothing_after_a_close(self, wire):
        wire.send(message("POST", INFER, BODY, {"Connection": "close"}) + POST)
        assert wire.answer().status == 200
        assert wire.closed()

    def test_garbage_after_a_slow_one_is_answered_after_it(self, wire):
        wire.send(infer(0.1) + b"garbage\r\n\r\n")
        assert wire.answer().status == 200
        assert wire.answer().status == 400
        assert wire.closed()


class TestBodies:
    def test_in_pieces(self, wire):
        for start_of_piece in range(0, len(POST), 7):
            wire.send(POST[start_of_piece : start_of_piece + 7])
        assert wire.answer().status == 200

    def test_chunked(self, wire):
        parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:10], BODY[10:11], BODY[11:]))
        wire.send(message("POST", INFER, parts + b"0\r\n\r\n", {"Transfer-Encoding": "chunked"}))
        assert wire.answer().status == 200

    def test_chunked_with_extensions_and_trailers(self, wire):
        parts = b"%x;a=b\r\n%s\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(BODY), BODY)
        wire.send(message("POST", INFER, parts, {"Transfer-Encoding": "chunked"}))
        assert wire.answer().status == 200
        wire.send(POST)
        assert wire.answer().status == 200

    def test_continue(self, wire):
        whole = message("POST", INFER, BODY, {"Expect": "100-continue"})
        head, _, rest = whole.partition(b"\r\n\r\n")
        wire.send(head + b"\r\n\r\n")
        assert wire.answer().status == 100
        wire.send(rest)
        assert wire.answer().status == 200

    def test_continue_is_not_said_to_what_is_too_large(self, hasty):
        wire = hasty.wire()
        wire.send(message("POST", INFER, None, {"Expect": "100-continue", "Content-Length": str(2 << 20)}))
        assert wire.answer().status == 413
        assert wire.closed()

    def test_too_large(self, hasty):
        wire = hasty.wire()
        wire.send(message("POST", INFER, None, {"Content-Length": str(2 << 20)}) + bytes(1000))
        answer = wire.answer()
        assert answer.status == 413
        assert "1,048,576" in answer.error
        assert wire.closed()

    def test_too_large_while_it_is_still_sent(self, hasty):
        """The answer is read although the client sends on: the connection is not reset under it."""
        wire = hasty.wire()
        wire.send(message("POST", INFER, None, {"Content-Length": str(8 << 20)}))
        failed = []

        def send():
            try:
                wire.send(bytes(2 << 20))
            except OSError as error:
                failed.append(error)

        sender = threading.Thread(target=send)
        sender.start()
        assert wire.answer().status == 413
        sender.join()

    def test_chunks_too_large(self, hasty):
        wire = hasty.wire()
        wire.send(message("POST", INFER, None, {"Transfer-Encoding": "chunked"}))
        chunk = b"%x\r\n%s\r\n" % (1 << 19, bytes(1 << 19))
        wire.send(chunk * 2 + b"1\r\na\r\n")
        assert wire.answer().status == 413

    def test_a_bomb(self, hasty):
        import gzip

        packed = gzip.compress(bytes(64 << 20))
        assert len(packed) < 1 << 20
        answer = hasty("POST", INFER, packed, {"Content-Encoding": "gzip"})
        assert answer.status == 413
        assert "decompressed" in answer.error

    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    @pytest.mark.parametrize("data", [b"", b"nope", BODY], ids=["empty", "short", "plain"])
    def test_what_is_not_compressed(self, http, coding, data):
        assert http("POST", INFER, data, {"Content-Encoding": coding}).status == 400

    def test_cut_off_gzip(self, http):
        import gzip

        answer = http("POST", INFER, gzip.compress(BODY)[:-10], {"Content-Encoding": "gzip"})
        assert answer.status == 400
        assert "cut off" in answer.error

    def test_gzip_in_members(self, http):
        import gzip

        packed = gzip.compress(BODY[:20]) + gzip.compress(BODY[20:])
        assert http("POST", INFER, packed, {"Content-Encoding": "gzip"}).status == 200

    def test_raw_deflate(self, http):
        import zlib

        stream = zlib.compressobj(6, zlib.DEFLATED, -15)
        packed = stream.compress(BODY) + stream.flush()
        assert http("POST", INFER, packed, {"Content-Encoding": "deflate"}).status == 200

    def test_another_coding(self, http):
        assert http("POST", INFER, BODY, {"Content-Encoding": "br"}).status == 415
        assert http("POST", INFER, BODY, {"Content-Encoding": "identity"}).status == 200

    def test_plain_bytes_for_who_merely_could_read_gzip(self, http):
        answer = http("POST", INFER, BODY, {"Accept-Encoding": "gzip, deflate, br"})
        assert "content-encoding" not in answer.headers


SMUGGLED = {
    "length and chunks": ["Content-Length: 5", "Transfer-Encoding: chunked"],
    "chunks and length": ["Transfer-Encoding: chunked", "Content-Length: 5"],
    "two lengths": ["Content-Length: 5", "Content-Length: 6"],
    "the same length twice": ["Content-Length: 5", "Content-Length: 5"],
    "a list of lengths": ["Content-Length: 5, 5"],
    "a signed length": ["Content-Length: +5"],
    "a negative length": ["Content-Length: -5"],
    "a hexadecimal length": ["Content-Length: 0x5"],
    "a huge length": ["Content-Length: 99999999999999999999999"],
    "an unknown coding": ["Transfer-Encoding: xchunked"],
    "chunked and more": ["Transfer-Encoding: chunked, identity"],
    "identity and chunked": ["Transfer-Encoding: identity, chunked"],
    "chunked twice": ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    "a space before the colon": ["Transfer-Encoding : chunked"],
    "a folded header": ["X-A: b", " Transfer-Encoding: chunked"],
    "a folded coding": ["Transfer-Encoding:", " chunked"],
    "a tab": ["Transfer-Encoding:\tchunked", "Content-Length: 5"],
    "a bare line feed": ["X-A: b\nTransfer-Encoding: chunked", "Content-Length: 5"],
    "a bare carriage return": ["X-A: b\rTransfer-Encoding: chunked", "Content-Length: 5"],
    "a zero byte": ["X-A: b\0", "Content-Length: 5"],
    "no name": [": x", "Content-Length: 5"],
    "two hosts": ["Host: other", "Content-Length: 5"],
    "two lengths of the header": [
        "Inference-Header-Content-Length: 1",
        "Inference-Header-Content-Length: 2",
        "Content-Length: 5",
    ],
}


@pytest.mark.parametrize("lines", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_ambiguous_requests_are_refused_and_the_connection_is_closed(http, lines):
    wire = http.wire()
    hidden = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    head = "\r\n".join([f"POST {INFER} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode("latin-1")
    wire.send(head + b"0\r\n\r\n" + hidden)
    answer = wire.answer()
    assert answer.status == 400, answer
    assert answer.headers["connection"] == "close"
    assert wire.closed()


def test_chunks_in_http_1_0_are_refused(http):
    wire = http.wire()
    wire.send(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert wire.answer().status == 400
    assert wire.closed()


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/3.0\r\nHost: a\r\n\r\n",
        b"GET /\r\n\r\n",
        b"NONSENSE / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["tls", "http2", "a space", "http3", "http0.9", "a method", "no host"],
)
def test_what_is_no_request(http, data):
    wire = http.wire()
    wire.send(data)
    assert wire.answer().status == 400
    assert wire.closed()


class TestHeaders:
    def test_too_long(self, hasty):
        wire = hasty.wire()
        wire.send(message("GET", "/v2", None, {"X-Long": "a" * 20_000}))
        assert wire.answer().status == 431
        assert wire.closed()

    def test_too_many(self, hasty):
        wire = hasty.wire()
        wire.send(message("GET", "/v2", None, {f"X-{number}": "a" * 80 for number in range(200)}))
        assert wire.answer().status == 431

    def test_without_an_end(self, hasty):
        wire = hasty.wire()
        wire.send(b"GET /v2 HTTP/1.1\r\nHost: a\r\n")
        wire.send(b"X-More: a\r\n" * 1000)
        assert wire.answer().status == 431
        assert wire.closed()

    def test_a_long_path(self, hasty):
        wire = hasty.wire()
        wire.send(message("GET", "/v2/models/" + "a" * 20_000))
        assert wire.answer().status == 431


class TestSlow:
    """Against the server with time-outs of a second."""

    def test_headers_byte_by_byte(self, hasty):
        wire = hasty.wire()
        started = time.monotonic()
        for byte in message("GET", "/v2", None, {"X-A": "b" * 100}):
            try:
                wire.send(bytes([byte]))
            except OSError:
                break
            if time.monotonic() - started > 6:
                pytest.fail("the server waits for ever")
            time.sleep(0.1)
        assert wire.answer().status == 408

    def test_nothing_at_all(self, hasty):
        assert hasty.wire().closed()

    def test_idle_after_a_request(self, hasty):
        wire = hasty.wire()
        wire.send(POST)
        assert wire.answer().status == 200
        assert wire.closed()

    def test_a_body_that_does_not_come(self, hasty):
        wire = hasty.wire()
        wire.send(POST[:-5])
        answer = wire.answer()
        assert answer.status == 408
        assert wire.closed()

    def test_a_large_body_that_does_not_come(self, hasty):
        wire = hasty.wire()
        wire.send(message("POST", INFER, None, {"Content-Length": str(1 << 20)}) + bytes(300_000))
        assert wire.answer().status == 408

    def test_a_client_that_does_not_read(self, hasty):
        """Its answers fill the buffers; the server stops reading, and in the end cuts the connection."""
        wire = hasty.wire(timeout=20)
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.socket.settimeout(0.5)
        request = message("GET", "/openapi.json") * 20

        def flood():
            end = time.monotonic() + 25
            while time.monotonic() < end:
                with contextlib.suppress(TimeoutError):
                    wire.send(request)
                time.sleep(0.02)

        with pytest.raises(ConnectionError):
            flood()
        assert hasty.get("/v2/health/live").status == 200  # nobody else notices

    def test_others_are_answered_meanwhile(self, hasty):
        slow = [hasty.wire() for _ in range(50)]
        for wire in slow:
            wire.send(POST[:20])
        assert hasty.post(INFER, BODY).status == 200
        for wire in slow:
            wire.close()


class TestHalfClosed:
    def test_the_answer_still_comes(self, wire):
        wire.send(POST)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.answer().status == 200
        assert wire.closed()

    def test_a_slow_answer_and_the_ones_after_it_still_come(self, wire):
        wire.send(infer(0.2) + POST)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.answer().status == 200
        assert wire.answer().status == 200
        assert wire.closed()

    def test_half_a_request(self, wire):
        wire.send(POST[:-3])
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.closed()

    def test_who_goes_away_stops_waiting(self, http):
        def counted():
            text = http.get("/metrics").body.decode()
            found = re.search(
                r'mlaas_inference_in_flight\{model="waiting",project="default",protocol="v2",version="1"\} (\S+)', text
            )
            return float(found[1]) if found else 0.0

        wire = http.wire()
        wire.send(infer(30.0))
        _until(lambda: counted() == 1)
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
        wire.close()
        _until(lambda: counted() == 0)
        assert 'code="499"' in http.get("/metrics").body.decode()


class TestStop:
    def test_what_is_in_progress_is_answered(self):
        process, port = start()
        busy, idle = Wire(port), Wire(port)
        idle.send(POST)
        assert idle.answer().status == 200
        busy.send(infer(0.5))
        time.sleep(0.1)  # the request is in the model, not in the socket
        started = time.monotonic()
        process.terminate()
        answer = busy.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert idle.closed()
        assert ended(process) == ""
        assert process.returncode == 0
        assert time.monotonic() - started < 4

    def test_what_hangs_is_cut_after_a_few_seconds(self):
        process, port = start()
        wire = Wire(port)
        wire.send(infer(60.0))
        time.sleep(0.1)
        started = time.monotonic()
        process.terminate()
        assert wire.closed()
        assert ended(process) == ""
        assert process.returncode == 0
        assert time.monotonic() - started < 8

    def test_access_log(self):
        process, port = start("--log")
        wire = Wire(port)
        wire.send(message("POST", INFER, BODY, {"Authorization": "Bearer secret"}))
        wire.answer()
        wire.send(message("GET", "/nope%0a"))
        wire.answer()
        wire.close()
        lines = stop(process).splitlines()
        assert re.fullmatch(rf'127\.0\.0\.1 \S+Z "POST {INFER}" 200 \d+ \d\.\d+', lines[0])
        assert '"GET /nope%0a" 404' in lines[1]
        assert "secret" not in "".join(lines)


def _until(condition, seconds=5.0):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds
        time.sleep(0.02)
