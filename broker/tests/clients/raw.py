"""Damaged, odd and hostile frames over bare sockets: a clear error or a closed connection, and other clients notice nothing."""

import random
import socket
import struct

from cases import case, checked, equal, main
from launcher import broker as new_broker

PRODUCE, FETCH, METADATA, API_VERSIONS, CREATE_TOPICS = 0, 1, 3, 18, 19
NO_ERROR, CORRUPT_MESSAGE, INVALID_REQUIRED_ACKS, UNSUPPORTED_VERSION, INVALID_RECORD = 0, 2, 21, 35, 87
TOPIC = "raw"
CLOSED = "closed"
SILENT = "silent"
DAMAGED_FRAMES = 5000
# What thousands of damaged frames may leave behind: allocator slack, not buffers.
RESIDENT_GROWTH_MAX = 48 << 20


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def frame(body):
    return struct.pack(">i", len(body)) + body


def header(key, version, correlation=1):
    """Request header v1: up to the client id."""
    return struct.pack(">hhi", key, version, correlation) + string("raw")


def crc32c_of_byte(byte):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


CRC32C = [crc32c_of_byte(byte) for byte in range(256)]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC32C[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def batch(values, attributes=0, flip_crc=0, count=None):
    """A record batch v2 of short values (lengths below 64, so each varint is one byte)."""
    records = b""
    for index, value in enumerate(values):
        record = bytes([0, 0, 2 * index, 1, 2 * len(value)]) + value + b"\0"
        records += bytes([2 * len(record)]) + record
    count = len(values) if count is None else count
    checked_part = struct.pack(">hiqqqhii", attributes, len(values) - 1, 1000, 1000, -1, -1, -1, count) + records
    crc = crc32c(checked_part) ^ flip_crc
    return struct.pack(">qiibI", 0, 9 + len(checked_part), -1, 2, crc) + checked_part


def produce_body(records, acks=-1, topic=TOPIC, partition=0, topics=1, partitions=1, size=None):
    """Produce v3 to one partition; counts and sizes can be made to lie."""
    size = len(records) if size is None else size
    head = struct.pack(">hhi", -1, acks, 10000) + struct.pack(">i", topics) + string(topic)
    return head + struct.pack(">iii", partitions, partition, size) + records


def produce(records, correlation=1, **lies):
    return frame(header(PRODUCE, 3, correlation) + produce_body(records, **lies))


def produced(reply):
    """(error code, base offset) of a Produce v3 reply to one partition."""
    correlation, topics, name = struct.unpack_from(">iih", reply)
    return struct.unpack_from(">hq", reply, 10 + name + 8)


class Connection:
    """One socket; `ask` gives a reply's bytes without the length, CLOSED, or SILENT."""

    def __init__(self, broker):
        self.socket = socket.create_connection(("127.0.0.1", broker.port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def read(self, seconds=10):
        self.socket.settimeout(seconds)
        data = b""
        try:
            while len(data) < 4 or len(data) < 4 + struct.unpack_from(">i", data)[0]:
                wanted = 4 if len(data) < 4 else 4 + struct.unpack_from(">i", data)[0]
                got = self.socket.recv(wanted - len(data))
                if not got:
                    return CLOSED
                data += got
        except TimeoutError:
            return SILENT
        except ConnectionError:
            return CLOSED
        return data[4:]

    def send(self, data):
        try:
            self.socket.sendall(data)
        except ConnectionError:
            pass

    def ask(self, data, seconds=10):
        self.send(data)
        return self.read(seconds)

    def ask_then_end(self, data):
        """Sends, says that nothing more comes, and reads."""
        self.send(data)
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return CLOSED
        return self.read()


def healthy(broker):
    """A client of good manners is served: one message in, its offset back."""
    with Connection(broker) as connection:
        code, offset = produced(connection.ask(produce(batch([b"healthy"]))))
        equal(code, NO_ERROR, "a healthy client's produce")
        checked(1)
        return offset


def refused_by_closing(broker, data):
    with Connection(broker) as connection:
        equal(connection.ask_then_end(data), CLOSED, f"the connection, after {data[:120]!r}")
    healthy(broker)


@case
def the_topic_is_made(broker):
    body = struct.pack(">i", 1) + string(TOPIC) + struct.pack(">ihiiib", 1, 1, 0, 0, 10000, 0)
    with Connection(broker) as connection:
        reply = connection.ask(frame(header(CREATE_TOPICS, 2) + body))
    equal(reply[-4:-2] == b"\0\0" and reply[-2:] == b"\xff\xff", True, f"created, no message: {reply!r}")
    equal(healthy(broker), 0, "offset of the first message")


@case
def api_versions_answers_each_version(broker):
    for version in range(5):
        flexible = b"\0" + b"\4raw" + b"\2" + b"1" + b"\0" if version >= 3 else b""
        with Connection(broker) as connection:
            reply = connection.ask(frame(header(API_VERSIONS, version, 7 + version) + flexible))
        correlation, error = struct.unpack_from(">ih", reply)
        equal((correlation, error), (7 + version, NO_ERROR), f"ApiVersions v{version}")
        count = struct.unpack_from(">i", reply, 6)[0] if version < 3 else reply[6] - 1
        equal(count > 10, True, f"{count} APIs named by v{version}")


@case
def api_versions_of_the_future_falls_back(broker):
    with Connection(broker) as connection:
        reply = connection.ask(frame(header(API_VERSIONS, 99, 5) + b"\0garbage"))
        # KIP-511: version 0 of the reply, with the error and the versions of ApiVersions itself.
        equal(struct.unpack_from(">ihi", reply), (5, UNSUPPORTED_VERSION, 1), "reply")
        equal(struct.unpack_from(">hhh", reply, 10), (API_VERSIONS, 0, 4), "versions named")
        again = connection.ask(frame(header(API_VERSIONS, 0, 6)))
        equal(struct.unpack_from(">ih", again), (6, NO_ERROR), "second try on the same connection")


@case
def unknown_apis_close_the_connection(broker):
    for key in (-1, 9999, 32767):
        refused_by_closing(broker, frame(header(key, 0)))


@case
def versions_not_served_close_the_connection(broker):
    for key, version in ((PRODUCE, 0), (PRODUCE, 2), (PRODUCE, 99), (FETCH, 3), (METADATA, 99), (METADATA, -1), (CREATE_TOPICS, 1)):
        refused_by_closing(broker, frame(header(key, version) + bytes(100)))


@case
def lengths_out_of_bounds_close_the_connection(broker):
    for length in (-1, -(2**31), 2**31 - 1, 200 << 20):
        refused_by_closing(broker, struct.pack(">i", length) + b"x" * 100)


@case
def frames_too_short_for_a_header_close_the_connection(broker):
    for body in (b"", b"\0", b"\0\0\0", b"\0\x12\0\0\0\0\0"):
        refused_by_closing(broker, frame(body))


@case
def truncated_requests_close_the_connection(broker):
    whole = header(PRODUCE, 3) + produce_body(batch([b"cut"]))
    # From past the header up to the records' length field; each cut is a whole frame with too little in it.
    for size in range(13, len(whole) - len(batch([b"cut"]))):
        with Connection(broker) as connection:
            equal(connection.ask_then_end(frame(whole[:size])), CLOSED, f"cut to {size} bytes")
    healthy(broker)


@case
def frames_that_stop_half_way_are_forgotten(broker):
    whole = produce(batch([b"half"]))
    before = healthy(broker)
    for size in range(1, len(whole)):
        with Connection(broker) as connection:
            connection.send(whole[:size])
    equal(healthy(broker), before + 1, "offset after the halves")


@case
def counts_that_lie_close_the_connection(broker):
    records = batch([b"lie"])
    for lies in ({"topics": 2**31 - 1}, {"topics": 1000}, {"partitions": 2**31 - 1}, {"partitions": 7}, {"size": 2**31 - 1}):
        refused_by_closing(broker, produce(records, **lies))
    refused_by_closing(broker, frame(header(METADATA, 1) + struct.pack(">i", 2**31 - 1)))
    # Flexible versions count in varints: one that never ends, and one that promises four billion topics.
    for count in (b"\xff" * 10, b"\xff\xff\xff\xff\x0f"):
        refused_by_closing(broker, frame(header(METADATA, 9) + b"\0" + count))


@case
def damaged_batches_are_refused(broker):
    good = batch([b"good"])
    before = healthy(broker)
    damaged = {
        "wrong CRC": batch([b"bad"], flip_crc=1),
        "a flipped byte": good[:-2] + bytes([good[-2] ^ 1]) + good[-1:],
        "length beyond the records": good[:8] + struct.pack(">i", len(good)) + good[12:],
        "length below a header": good[:8] + struct.pack(">i", 10) + good[12:],
        "half a batch": good[:40],
    }
    for what, records in damaged.items():
        with Connection(broker) as connection:
            reply = connection.ask(produce(records))
            code = reply if reply in (CLOSED, SILENT) else produced(reply)[0]
            equal(code in (CORRUPT_MESSAGE, INVALID_RECORD), True, f"{what}: {code}")
    equal(healthy(broker), before + 1, "offset after the damaged batches")


@case
def acks_out_of_range_are_refused(broker):
    for acks in (5, -2, 2):
        with Connection(broker) as connection:
            reply = connection.ask(produce(batch([b"acks"]), acks=acks))
            equal(produced(reply)[0], INVALID_REQUIRED_ACKS, f"acks={acks}")
    healthy(broker)


@case
def unknown_partitions_and_topics_are_refused(broker):
    for where in ({"partition": 5}, {"partition": -1}, {"topic": "nowhere"}):
        with Connection(broker) as connection:
            equal(produced(connection.ask(produce(batch([b"x"]), **where)))[0], 3, f"produce to {where}")


@case
def pipelined_requests_are_answered_in_order(broker):
    count = 500
    requests = b""
    for correlation in range(count):
        if correlation % 5 == 4:
            requests += frame(header(API_VERSIONS, 0, correlation))
        else:
            requests += produce(batch([f"pipe {correlation}".encode()]), correlation)
    with Connection(broker) as connection:
        connection.send(requests)
        offsets = []
        for correlation in range(count):
            reply = connection.read()
            equal(struct.unpack_from(">i", reply)[0], correlation, "correlation id")
            if correlation % 5 != 4:
                code, offset = produced(reply)
                equal(code, NO_ERROR, f"produce {correlation}")
                offsets.append(offset)
    equal(offsets, list(range(offsets[0], offsets[0] + len(offsets))), "offsets in the order sent")
    checked(len(offsets))


@case
def requests_in_single_bytes_are_served(broker):
    with Connection(broker) as connection:
        for byte in produce(batch([b"slow"])):
            connection.send(bytes([byte]))
        equal(produced(connection.read())[0], NO_ERROR, "produce in single bytes")
    checked(1)


@case
def acks_0_gets_no_reply(broker):
    with Connection(broker) as connection:
        connection.send(produce(batch([b"zero"]), correlation=1, acks=0))
        reply = connection.ask(frame(header(API_VERSIONS, 0, 2)))
        equal(struct.unpack_from(">i", reply)[0], 2, "correlation id of the first reply")
        # acks=0 has no reply to carry an error: Kafka closes the connection so that the producer looks again.
        equal(connection.ask(produce(batch([b"zero"]), acks=0, partition=9)), CLOSED, "after an error with acks=0")
    healthy(broker)


@case
def memory_does_not_move_under_damaged_frames(broker):
    chance = random.Random(20)
    good = header(PRODUCE, 3) + produce_body(batch([b"fuzz"] * 5))
    others = [good, header(METADATA, 9) + b"\0\2\4raw\0\1\0\0\0", header(API_VERSIONS, 3) + b"\0\4raw\0021\0"]
    before = broker.resident_bytes()
    with Connection(broker) as steady:
        for number in range(DAMAGED_FRAMES):
            body = bytearray(chance.choice(others))
            for _ in range(chance.randint(1, 8)):
                # The key and version stay, so the damage reaches the decoders.
                body[chance.randrange(8, len(body))] = chance.randrange(256)
            # Kafka reserves a frame's memory when it hears its length, so the reference hears no large ones.
            lengths = (len(body) + 50,) if broker.name == "kafka" else (len(body) + 50, 90 << 20, chance.randrange(2**31))
            length = len(body) if number % 3 else chance.choice(lengths)
            with Connection(broker) as connection:
                connection.send(struct.pack(">i", length) + body)
            if number % 500 == 0:
                equal(produced(steady.ask(produce(batch([b"steady"]))))[0], NO_ERROR, "the steady client")
                checked(1)
    healthy(broker)
    growth = broker.resident_bytes() - before
    print(f"{DAMAGED_FRAMES} damaged frames: resident memory {before >> 20} MiB, moved by {growth >> 10} KiB")
    # The reference's heap comes and goes as its collector likes.
    if broker.name != "kafka":
        equal(growth < RESIDENT_GROWTH_MAX, True, f"growth of {growth} bytes is bounded")


if __name__ == "__main__":
    main("raw", new_broker({"auto.create.topics.enable": "false"}))
