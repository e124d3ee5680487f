"""What arrives on the wire need not be HTTP/2: every rule of RFC 9113 that a peer can break, and every limit."""

import gzip
import struct
from time import monotonic

import pytest
from tests.integration.modelserver.grpc.conftest import start
from tests.integration.modelserver.grpc.wire import INFER, Wire, grpc, infer_payload, request_block

from mlaas.modelserver.grpc import frames
from mlaas.modelserver.grpc.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITISED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Reason,
    frame,
)
from mlaas.modelserver.grpc.headers import LIST_LIMIT, literal
from mlaas.modelserver.grpc.limits import Limits
from mlaas.modelserver.grpc.status import Code

OPEN = frame(HEADERS, END_HEADERS, 1, request_block())
WHOLE = OPEN + frame(DATA, END_STREAM, 1, grpc())


@pytest.fixture
def wire(running):
    with Wire(running.port) as found:
        yield found


class TestGreeting:
    def test_http_1_is_told_what_speaks_here(self, running):
        with Wire(running.port, greet=False) as wire:
            wire.send(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            said = wire.raw()
        assert said.startswith(b"HTTP/1.1 400 ")
        assert b"gRPC" in said

    @pytest.mark.parametrize(
        "data", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40), b"PRI * HTTP/3.0\r\n\r\n"]
    )
    def test_anything_else_is_closed(self, running, data):
        with Wire(running.port, greet=False) as wire:
            wire.send(data)
            assert wire.goaway() is Reason.PROTOCOL_ERROR

    def test_byte_by_byte(self, running):
        with Wire(running.port, greet=False) as wire:
            for byte in PREFACE + frames.settings({}) + WHOLE:
                wire.send(bytes((byte,)))
            assert wire.status() == 0

    def test_closing_at_once_is_no_error(self, running):
        for data in (b"", PREFACE[:7], PREFACE, PREFACE + WHOLE[:30]):
            with Wire(running.port, greet=False) as wire:
                wire.send(data)
        with Wire(running.port) as wire:
            wire.works(1)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (struct.pack(">HBBBI", 1 << 11, 0, DATA, 0, 1), Reason.FRAME_SIZE_ERROR),
        (struct.pack(">HBBBI", 1 << 8, 0, PING, 0, 0), Reason.FRAME_SIZE_ERROR),
        (frame(DATA, 0, 0, b"x"), Reason.PROTOCOL_ERROR),
        (frame(DATA, 0, 5, b"x"), Reason.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 0, request_block()), Reason.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 2, request_block()), Reason.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + request_block()[:20]), Reason.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS | PADDED, 1), Reason.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS | PRIORITISED, 1, b"\0\0"), Reason.FRAME_SIZE_ERROR),
        (frame(HEADERS, END_HEADERS | PRIORITISED, 1, b"\0\0\0\1\0" + request_block()), Reason.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), Reason.COMPRESSION_ERROR),
        (frame(HEADERS, END_HEADERS, 1, b"\x00\x05ab"), Reason.COMPRESSION_ERROR),
        (frame(HEADERS, 0, 1, b"") + frame(PING, 0, 0, bytes(8)), Reason.PROTOCOL_ERROR),
        (frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, END_HEADERS, 3, b""), Reason.PROTOCOL_ERROR),
        (frame(CONTINUATION, END_HEADERS, 1, request_block()), Reason.PROTOCOL_ERROR),
        (frame(PRIORITY, 0, 0, bytes(5)), Reason.PROTOCOL_ERROR),
        (frame(RST_STREAM, 0, 0, bytes(4)), Reason.PROTOCOL_ERROR),
        (frame(RST_STREAM, 0, 7, bytes(4)), Reason.PROTOCOL_ERROR),
        (frame(RST_STREAM, 0, 1, bytes(3)), Reason.FRAME_SIZE_ERROR),
        (frame(SETTINGS, 0, 1), Reason.PROTOCOL_ERROR),
        (frame(SETTINGS, 0, 0, bytes(5)), Reason.FRAME_SIZE_ERROR),
        (frame(SETTINGS, frames.ACK, 0, bytes(6)), Reason.FRAME_SIZE_ERROR),
        (frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 31}), Reason.FLOW_CONTROL_ERROR),
        (frames.settings({frames.MAX_FRAME_SIZE: 100}), Reason.PROTOCOL_ERROR),
        (frames.settings({frames.ENABLE_PUSH: 2}), Reason.PROTOCOL_ERROR),
        (frame(PUSH_PROMISE, 0, 1, bytes(4)), Reason.PROTOCOL_ERROR),
        (frame(PING, 0, 1, bytes(8)), Reason.PROTOCOL_ERROR),
        (frame(PING, 0, 0, bytes(7)), Reason.FRAME_SIZE_ERROR),
        (frame(GOAWAY, 0, 1, bytes(8)), Reason.PROTOCOL_ERROR),
        (frames.window_update(0, 0), Reason.PROTOCOL_ERROR),
        (frames.window_update(9, 1), Reason.PROTOCOL_ERROR),
        (frame(WINDOW_UPDATE, 0, 0, bytes(3)), Reason.FRAME_SIZE_ERROR),
        (frames.window_update(0, (1 << 31) - 1), Reason.FLOW_CONTROL_ERROR),
    ],
)
def test_a_broken_connection_is_left_with_the_reason(wire, sent, reason):
    wire.send(sent)
    assert wire.goaway() is reason


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (frame(PRIORITY, 0, 1, bytes(4)), Reason.FRAME_SIZE_ERROR),
        (OPEN + frames.window_update(1, 0), Reason.PROTOCOL_ERROR),
        (OPEN + frames.window_update(1, (1 << 31) - 1), Reason.FLOW_CONTROL_ERROR),
        (frame(HEADERS, END_HEADERS, 1, request_block(connection="close")), Reason.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 1, request_block(te="gzip")), Reason.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 1, request_block(Upper="x")), Reason.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 1, request_block(x="a\nb")), Reason.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 1, request_block() + literal(":path", "/late")), Reason.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 1, literal(":method", "POST")), Reason.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 1, literal(":status", "200") + request_block()), Reason.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS | END_STREAM, 1, request_block(content_length="5")), Reason.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 1, request_block(content_length="+5")), Reason.PROTOCOL_ERROR),
        (
            frame(HEADERS, END_HEADERS, 1, request_block(content_length="6")) + frame(DATA, END_STREAM, 1, grpc()),
            Reason.PROTOCOL_ERROR,
        ),
        (OPEN + frame(HEADERS, END_HEADERS, 1, literal("x", "y")), Reason.PROTOCOL_ERROR),
        (OPEN + frame(HEADERS, END_HEADERS | END_STREAM, 1, literal(":path", "y")), Reason.PROTOCOL_ERROR),
    ],
)
def test_a_broken_stream_is_reset_and_the_connection_goes_on(wire, sent, reason):
    wire.send(sent)
    assert wire.reset() is reason
    wire.works(3)


def test_data_after_the_end_is_refused(wire):
    wire.call(1, INFER, infer_payload(seconds=5.0))
    wire.send(frame(DATA, 0, 1, b"more"))
    assert wire.reset() is Reason.STREAM_CLOSED
    wire.works(3)


def test_a_stream_is_not_opened_twice(wire):
    wire.works(1)
    wire.send(OPEN)
    assert wire.goaway() is Reason.STREAM_CLOSED


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(HEADERS, END_HEADERS | END_STREAM, 1, request_block()), Code.INVALID_ARGUMENT),
        (OPEN + frame(DATA, END_STREAM, 1), Code.INVALID_ARGUMENT),
        (OPEN + frame(DATA, END_STREAM, 1, grpc()[:3]), Code.INVALID_ARGUMENT),
        (OPEN + frame(DATA, END_STREAM, 1, grpc(b"abc")[:-1]), Code.INVALID_ARGUMENT),
        (OPEN + frame(DATA, END_STREAM, 1, grpc() + grpc()), Code.INVALID_ARGUMENT),
        (OPEN + frame(DATA, END_STREAM, 1, grpc(b"\xff\xff")), Code.INVALID_ARGUMENT),
        (OPEN + frame(DATA, END_STREAM, 1, grpc(compressed=1)), Code.INVALID_ARGUMENT),
        (OPEN + frame(DATA, END_STREAM, 1, grpc(compressed=7)), Code.INVALID_ARGUMENT),
        (OPEN + frame(DATA, 0, 1, struct.pack(">BI", 0, 1 << 27)), Code.RESOURCE_EXHAUSTED),
        (frame(HEADERS, END_HEADERS, 1, request_block("/a.B/C")), Code.UNIMPLEMENTED),
        (frame(HEADERS, END_HEADERS, 1, request_block(grpc_encoding="snappy")), Code.UNIMPLEMENTED),
        (frame(HEADERS, END_HEADERS, 1, request_block(grpc_timeout="soon")), Code.INVALID_ARGUMENT),
        (frame(HEADERS, END_HEADERS, 1, request_block(x="y" * LIST_LIMIT)[:16000]), None),
    ],
)
def test_what_is_no_grpc_call_has_a_status(wire, sent, code):
    if code is None:  # a list that is too large takes several frames
        block = request_block(x="y" * LIST_LIMIT)
        sent = frame(HEADERS, 0, 1, block[:16000]) + frame(CONTINUATION, END_HEADERS, 1, block[16000:])
        code = Code.RESOURCE_EXHAUSTED
    wire.send(sent)
    fields, _ = wire.answer()
    assert (fields[":status"], int(fields["grpc-status"])) == ("200", code)
    assert fields["grpc-message"]
    wire.works(3)


@pytest.mark.parametrize(
    ("replaced", "status"),
    [
        ({":method": "GET"}, "405"),
        ({"content-type": "application/json"}, "415"),
        ({"content-type": "application/grpc-web"}, "415"),
    ],
)
def test_what_is_no_grpc_request_has_an_http_status(wire, replaced, status):
    wire.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, request_block(**replaced)))
    assert wire.answer()[0][":status"] == status
    wire.works(3)


def test_settings_and_pings_are_acknowledged(wire):
    assert wire.until(SETTINGS).flags == 0
    assert wire.until(SETTINGS).flags == frames.ACK
    wire.send(frame(PING, 0, 0, b"12345678"), frame(200, 0, 0, b"unknown"), frames.settings({99: 1}))
    found = wire.until(PING)
    assert (found.flags, found.payload) == (frames.ACK, b"12345678")
    wire.works(1)


def test_padding_priority_and_continuation_are_read(wire):
    block = request_block()
    wire.send(
        frame(HEADERS, PADDED | PRIORITISED, 1, b"\x03" + b"\0\0\0\0\x10" + block[:20] + bytes(3)),
        frame(CONTINUATION, 0, 1, block[20:30]),
        frame(CONTINUATION, END_HEADERS, 1, block[30:]),
        frame(DATA, PADDED, 1, b"\x04" + grpc()[:2] + bytes(4)),
        frame(DATA, 0, 1, grpc()[2:]),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, literal("x-trailer", "y")),
    )
    assert wire.status() == 0


def test_a_compressed_message_is_unpacked_and_bounded(running):
    with Wire(running.port) as wire:
        packed = gzip.compress(infer_payload("identity_fp32", 2000))
        wire.send(
            frame(HEADERS, END_HEADERS, 1, request_block(INFER, grpc_encoding="gzip", grpc_accept_encoding="gzip")),
            frame(DATA, END_STREAM, 1, grpc(packed, 1)),
        )
        fields, data = wire.answer()
        assert fields["grpc-status"] == "0"
        assert fields["grpc-encoding"] == "gzip"
        assert data[0] == 1
        assert gzip.decompress(data[5:]).endswith(bytes(8000))
        bomb = gzip.compress(bytes(80 << 20))
        wire.send(frame(HEADERS, END_HEADERS, 3, request_block(INFER, grpc_encoding="gzip")))
        data = grpc(bomb, 1)
        for start in range(0, len(data), 16384):
            wire.send(frame(DATA, END_STREAM if start + 16384 >= len(data) else 0, 3, data[start : start + 16384]))
        assert wire.status(3) == Code.RESOURCE_EXHAUSTED
        wire.send(
            frame(HEADERS, END_HEADERS, 5, request_block(INFER, grpc_encoding="gzip")),
            frame(DATA, END_STREAM, 5, grpc(packed[:-9], 1)),
        )
        assert wire.status(5) == Code.INVALID_ARGUMENT


class TestFlowControl:
    def test_answers_wait_for_the_windows(self, running):
        """A window of 10 bytes, then 7 more, then room for all: never more than was allowed."""
        with Wire(running.port, settings={frames.INITIAL_WINDOW_SIZE: 10}) as wire:
            wire.call(1, INFER, infer_payload("identity_fp32", 1000))
            assert len(wire.until(DATA, 1).payload) == 10
            wire.call(3)  # its 7 bytes fit
            assert wire.status(3) == 0
            wire.send(frames.window_update(1, 7))
            assert len(wire.until(DATA, 1).payload) == 7
            wire.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 60000}))
            fields, data = wire.answer(1)
            assert fields["grpc-status"] == "0"
            assert data.endswith(bytes(3900))

    def test_a_window_may_shrink_below_zero(self, running):
        with Wire(running.port, settings={frames.INITIAL_WINDOW_SIZE: 100}) as wire:
            wire.call(1, INFER, infer_payload("identity_fp32", 1000))
            assert len(wire.until(DATA, 1).payload) == 100
            wire.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}), frames.window_update(1, 100))
            wire.send(frame(PING, 0, 0, bytes(8)))
            for found in wire.read():
                assert found.kind != DATA
                if found.kind == PING:
                    break
            wire.send(frames.window_update(1, 100000))
            assert wire.answer(1)[0]["grpc-status"] == "0"

    def test_the_connections_window_is_shared(self, running):
        with Wire(running.port, settings={frames.INITIAL_WINDOW_SIZE: 0}) as wire:
            for stream in (1, 3):
                wire.call(stream, INFER, infer_payload("identity_fp32", 20000))
            wire.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 20}))
            got = {1: 0, 3: 0}
            for found in wire.read():
                if found.kind == DATA:
                    got[found.stream] += len(found.payload)
                    if sum(got.values()) == 65535:
                        break
            assert min(got.values()) >= 16384, "the streams take turns"
            wire.send(frames.window_update(0, 200000))
            ended = set()
            for found in wire.read():
                if found.kind == DATA:
                    got[found.stream] += len(found.payload)
                if found.kind == HEADERS and found.flags & END_STREAM:
                    ended.add(found.stream)
                    if ended == {1, 3}:
                        break
            assert got[1] == got[3] > 80000

    def test_more_than_the_stream_may_send_resets_it(self, wire):
        wire.send(frame(HEADERS, END_HEADERS, 1, request_block("/inference.GRPCInferenceService/ModelStreamInfer")))
        # Whole messages that the method does not take: the model waits, and 64 at most are worked on.
        one = grpc(infer_payload(seconds=30.0, size=4000))
        data = one * (3 * (1 << 20) // len(one))
        try:
            for start in range(0, len(data), 16384):
                wire.send(frame(DATA, 0, 1, data[start : start + 16384]))
        except ConnectionError:
            pass
        assert wire.reset() is Reason.FLOW_CONTROL_ERROR
        wire.works(3)

    def test_a_large_message_is_taken_in_steps(self, wire):
        data = grpc(infer_payload("identity_fp32", 1_000_000))
        wire.send(frame(HEADERS, END_HEADERS, 1, request_block(INFER)), frames.window_update(0, 1 << 24))
        sent, window = 0, 1 << 20
        while sent < len(data):
            step = min(16384, window, len(data) - sent)
            if not step:
                window += int.from_bytes(wire.until(WINDOW_UPDATE, 1).payload, "big")
                continue
            end = END_STREAM if sent + step == len(data) else 0
            wire.send(frame(DATA, end, 1, data[sent : sent + step]))
            sent += step
            window -= step
        wire.send(frames.window_update(1, 1 << 24))
        fields, answered = wire.answer(1)
        assert fields["grpc-status"] == "0"
        assert len(answered) > 4_000_000


class TestFloods:
    @pytest.mark.parametrize(
        "sent",
        [
            frame(PING, 0, 0, bytes(8)),
            frames.settings({}),
            frame(PRIORITY, 0, 1, bytes(5)),
            frame(99, 0, 0),
        ],
        ids=["ping", "settings", "priority", "unknown"],
    )
    def test_control_frames(self, wire, sent):
        _flood(wire, sent * 500, 20)
        assert wire.goaway() is Reason.ENHANCE_YOUR_CALM

    def test_rapid_reset(self, wire):
        block = request_block(INFER)
        payload = grpc(infer_payload(seconds=30.0))
        steps = []
        for stream in range(1, 8001, 2):
            steps.append(frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, payload))
            steps.append(frame(RST_STREAM, 0, stream, struct.pack(">I", Reason.CANCEL)))
        _flood(wire, b"".join(steps), 1)
        assert wire.goaway() is Reason.ENHANCE_YOUR_CALM

    def test_empty_data(self, wire):
        wire.send(OPEN)
        _flood(wire, frame(DATA, 0, 1) * 500, 10)
        assert wire.goaway() is Reason.ENHANCE_YOUR_CALM

    @pytest.mark.parametrize("payload", [b"", bytes(1000)])
    def test_continuation_without_end(self, wire, payload):
        wire.send(frame(HEADERS, 0, 1, b""))
        _flood(wire, frame(CONTINUATION, 0, 1, payload) * 100, 30)
        assert wire.goaway() is Reason.ENHANCE_YOUR_CALM

    def test_a_header_list_out_of_the_table(self, wire):
        big = b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000
        wire.send(frame(HEADERS, END_HEADERS, 1, big + b"\xbe" * 8000))
        assert wire.goaway() is Reason.COMPRESSION_ERROR

    def test_more_streams_than_allowed_are_refused(self, running):
        gen = start(Limits(streams=5))
        small = next(gen)
        try:
            with Wire(small.port) as wire:
                for stream in range(1, 13, 2):
                    wire.call(stream, INFER, infer_payload(seconds=0.3))
                assert wire.reset(11) is Reason.REFUSED_STREAM
                assert wire.status(1) == 0
                wire.works(13)
        finally:
            gen.close()


def test_a_cancelled_call_is_cancelled_in_the_model(wire, running):
    waiting = running.predictor("waiting")
    before = waiting.cancelled
    wire.call(1, INFER, infer_payload(seconds=60.0))
    wire.works(3)
    wire.send(frame(RST_STREAM, 0, 1, struct.pack(">I", Reason.CANCEL)))
    wire.works(5)
    _eventually(lambda: waiting.cancelled == before + 1)


def test_a_lost_connection_cancels_its_calls(running):
    waiting = running.predictor("waiting")
    before = waiting.cancelled
    with Wire(running.port) as wire:
        for stream in range(1, 41, 2):
            wire.call(stream, INFER, infer_payload(seconds=60.0))
        wire.works(41)
    _eventually(lambda: waiting.cancelled == before + 20)
    assert running.server._memory.held == 0


def test_draining_finishes_what_is_begun():
    gen = start()
    running = next(gen)
    try:
        with Wire(running.port) as wire:
            wire.call(1, INFER, infer_payload(seconds=0.5))
            wire.works(3)
            closing = running.loop.create_task
            running.loop.call_soon_threadsafe(lambda: closing(running.server.close(20)))
            first = wire.until(GOAWAY)
            assert int.from_bytes(first.payload[:4], "big") == (1 << 31) - 1
            wire.call(5)  # under way when the GOAWAY came: still answered
            ping = wire.until(PING)
            wire.send(frame(PING, frames.ACK, 0, ping.payload))
            answered, last = {}, None
            for found in wire.read():
                if found.kind == HEADERS and found.flags & END_STREAM:
                    answered[found.stream] = dict(wire.decoder.decode(found.payload))["grpc-status"]
                if found.kind == GOAWAY:
                    last = int.from_bytes(found.payload[:4], "big")
            assert answered == {1: "0", 5: "0"}
            assert last == 5
    finally:
        gen.close()


def _flood(wire, data, times):
    try:
        for _ in range(times):
            wire.send(data)
    except ConnectionError:
        pass


def _eventually(condition):
    end = monotonic() + 10
    while not condition():
        assert monotonic() < end
