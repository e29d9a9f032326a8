"""What server and node say to each other survives the way, and what is none of it is refused."""

import json
import socket
from dataclasses import replace

import pytest

from tests.node.rig import Rig
from tidemill.engine.local import LocalEngine
from tidemill.model.ids import AttemptId, NodeId, OwnerKind
from tidemill.model.lease import (
    BlobRef,
    BuildLease,
    Event,
    EventBatch,
    EventKind,
    LogBatch,
    LogBlock,
    NodeInfo,
    Outcome,
    OutcomeKind,
    TaskLease,
)
from tidemill.node.channel import codec
from tidemill.node.channel.frames import BadFrame, Document, Frame, FrameReader, encode

TASK = AttemptId(OwnerKind.TASK, 2**62, 999_999, 7)
BLOB = BlobRef(name="images/x.tar.gz", digest="d", url="file:///x%20y")


def over_the_wire(document: Document) -> Document:
    found: Document = json.loads(json.dumps(document))
    return found


@pytest.mark.parametrize(
    "lease",
    [
        TaskLease(
            attempt=TASK,
            log_key=1,
            image=BLOB,
            arguments='{"ü": "\\ud800"}',
            environment={"A": "b=c\n"},
            memory_mb=1,
            timeout_s=0.5,
            ttl_s=60.0,
        ),
        BuildLease(
            attempt=replace(TASK, kind=OwnerKind.BUILD),
            log_key=1,
            source=BLOB,
            upload_url="file:///u",
            memory_mb=1,
            timeout_s=2,
            max_unpacked_bytes=3,
            max_entries=4,
        ),
    ],
)
def test_a_lease_comes_as_it_went(lease: TaskLease | BuildLease) -> None:
    assert codec.read_lease(over_the_wire(codec.write_lease(lease))) == lease


def test_events_come_as_they_went() -> None:
    full = Outcome(
        kind=OutcomeKind.EXIT_CODE,
        exit_code=0,
        signal=0,
        message="m",
        started_at=0.0,
        ended_at=2.25,
        peak_memory_bytes=0,
        cpu_s=0.0,
        result="",
        result_error="e",
        planned=True,
    )
    bare = Outcome(kind=OutcomeKind.LOST, ended_at=1.0)
    events = (
        Event(number=1, attempt=TASK, kind=EventKind.STARTED, at=1.0),
        Event(number=2, attempt=TASK, kind=EventKind.ENDED, at=1.0, outcome=bare),
        Event(number=3, attempt=TASK, kind=EventKind.ENDED, at=1.0, outcome=replace(full, result="[]")),
    )
    batch = EventBatch(incarnation="i", events=events, log_head=9)
    assert codec.read_event_batch(over_the_wire(codec.write_event_batch(batch))) == batch
    assert codec.read_outcome(over_the_wire(codec.write_outcome(full))).exit_code == 0


def test_log_blocks_and_nodes_come_as_they_went() -> None:
    block = LogBlock(
        number=1,
        block_id="b",
        log_key=2,
        kind="t",
        owner=3,
        first_index=4,
        last_index=5,
        first_at=6.5,
        last_at=7.5,
        lines={"INFO": 8},
        data=bytes(range(256)),
        cut=True,
    )
    batch = LogBatch(incarnation="i", blocks=(block, replace(block, number=2, data=b""), replace(block, number=3)))
    frame = codec.write_log_batch(batch)
    (came,) = FrameReader().feed(encode(frame))
    assert codec.read_log_batch(came.document["ok"], came.tail) == batch
    info = NodeInfo(
        id=NodeId("local"),
        region="r",
        memory_mb=1,
        slots=2,
        incarnation="i",
        capabilities=frozenset({"launcher"}),
        images=frozenset({"a", "b"}),
    )
    assert codec.read_node(over_the_wire(codec.write_node(info))) == info


def test_frames_may_come_in_any_pieces() -> None:
    frames = [Frame({"a": "ü\ud800"}, b"\0\1"), Frame({}), Frame({"b": [1]}, b"x" * 70_000)]
    data = b"".join(encode(frame) for frame in frames)
    for size in (1, 3, 1000, len(data)):
        reader = FrameReader()
        found = [frame for at in range(0, len(data), size) for frame in reader.feed(data[at : at + size])]
        assert found == frames


@pytest.mark.parametrize("data", [b"\xff" * 8, b"\0\0\0\2\0\0\0\0[]", b"\0\0\0\1\0\0\0\0{"])
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(BadFrame):
        FrameReader().feed(data)


def test_a_node_survives_nonsense_on_its_socket(rig: Rig, engine: LocalEngine) -> None:
    engine.nodes()
    for data in (b"\xff" * 100, encode(Frame({"call": "launch"})), encode(Frame({"call": "events", "after": 3}))):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(rig.data / "node.sock"))
            connection.sendall(data)
            assert connection.recv(65536) == b"" or data[0] != 0xFF
    assert engine.nodes()
