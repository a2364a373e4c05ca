"""What hostile bytes do to the host: nothing but a reason."""

from __future__ import annotations

import contextlib
import json
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sia_flow.sandbox.frames import FrameError, FrameReader
from sia_flow.sandbox.strict_json import Caps, HostileJsonError, parse

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.booleans())
def test_honest_json_is_read_as_json_reads_it(value, escaped):
    data = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    assert parse(data) == json.loads(data)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_the_one_error(data):
    value = None
    with contextlib.suppress(HostileJsonError):
        value = parse(data)
    assert json.loads(json.dumps(value, allow_nan=False, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[" * 100_000, "deeper"),
        (b"[" * 100_000 + b"]" * 100_000, "deeper"),
        (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "deeper"),
        (b"[" + b"[]," * 60_000 + b"[]]", "nodes"),
        (b"[" + b"1," * 60_000 + b"1]", "nodes"),
        (b"9" * 4300, "integer"),
        (b"1e999", "finite"),
        (b"NaN", "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b'{"passed": false, "passed": true}', "twice"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'["\xff\xfe"]', "UTF-8"),
        (b"{'a': 1}", "not JSON"),
        (b"", "not JSON"),
        (b'"' + b"x" * (256 << 10) + b'"', "bytes"),
    ],
)
def test_hostile_json_is_refused(data, said):
    with pytest.raises(HostileJsonError, match=said):
        parse(data)


def test_brackets_inside_of_strings_do_not_count():
    value = ["[[[[[[" * 10, 'a "quoted" [[[', "\\[", '\\\\"[[']
    assert parse(json.dumps(value).encode(), Caps(depth=1)) == value


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield FrameReader(ours, {b"C": 10}, {b"S": 0, b"A": 16}), theirs


def frame(tag, body, size=None):
    return struct.pack("=I", (len(body) if size is None else size) + 1) + tag + body


def test_frames_arrive_whole_however_they_are_cut(pair):
    reader, theirs = pair
    for byte in frame(b"S", b"") + frame(b"C", b"hello"):
        theirs.send(bytes([byte]))
        found = reader.next()
        if found is not None and found.tag == b"C":
            assert found.body == b"hello"
            return
    pytest.fail("the frame did not arrive")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (frame(b"C", b"", 11), "RESULT_TOO_BIG"),
        (frame(b"A", b"", 1 << 30), "RESULT_TOO_BIG"),
        (frame(b"A", b"", 8), "BAD_RESULT"),
        (frame(b"T", b"x"), "BAD_RESULT"),
        (struct.pack("=I", 0) + b"C", "BAD_RESULT"),
    ],
)
def test_a_wrong_length_is_refused_before_the_body(pair, data, status):
    reader, theirs = pair
    theirs.send(data)
    with pytest.raises(FrameError) as caught:
        reader.next()
    assert caught.value.status == status


def test_a_closed_socket_is_noticed_and_half_a_frame_is_none(pair):
    reader, theirs = pair
    theirs.send(frame(b"C", b"hello")[:-1])
    assert reader.next() is None
    assert not reader.closed
    theirs.close()
    assert reader.next() is None
    assert reader.closed
