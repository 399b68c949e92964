"""Requests about groups in Kafka's bytes: versions that ringlog and Apache Kafka 4 both serve, none of them flexible."""

import asyncio
import struct

import kafka_wire

FETCH_OFFSETS, COMMIT, COORDINATOR, JOIN, HEARTBEAT, LEAVE, SYNC = 9, 8, 10, 11, 12, 13, 14
METADATA, LIST_OFFSETS, PRODUCE, CREATE_TOPICS = 3, 2, 0, 19
VERSIONS = {FETCH_OFFSETS: 5, COMMIT: 7, COORDINATOR: 0, JOIN: 5, HEARTBEAT: 3, LEAVE: 3, SYNC: 3, METADATA: 1, LIST_OFFSETS: 1, PRODUCE: 3, CREATE_TOPICS: 2}
UNKNOWN_MEMBER, REBALANCING, ILLEGAL_GENERATION, MEMBER_ID_REQUIRED = 25, 27, 22, 79
NOBODY = b"\xff\xff"
# Where the body of a request of kafka_wire begins, whose client is called "recovery".
BODY = 4 + 2 + 2 + 4 + 2 + len("recovery")


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def sized(data):
    return struct.pack(">i", len(data)) + data


def array(items):
    return struct.pack(">i", len(items)) + b"".join(items)


class Reader:
    """Fields of an answer, one after another."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, form):
        (value,) = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def take(self, size):
        self.at += max(size, 0)
        return self.data[self.at - max(size, 0) : self.at]

    def string(self):
        return self.take(self.number("h")).decode()

    def sized(self):
        return self.take(self.number("i"))

    def array(self, item):
        return [item() for _ in range(self.number("i"))]


class Connection:
    """One connection, one request at a time."""

    def __init__(self, reader, writer):
        self.reader, self.writer, self.correlation = reader, writer, 0
        self.turn = asyncio.Lock()

    @classmethod
    async def open(cls, port):
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 26))

    async def ask(self, key, body):
        async with self.turn:
            self.correlation += 1
            head = struct.pack(">hhi", key, VERSIONS[key], self.correlation) + string("scale")
            self.writer.write(sized(head + body))
            size = int.from_bytes(await self.reader.readexactly(4), "big")
            reply = Reader(await self.reader.readexactly(size))
            assert reply.number("i") == self.correlation, "an answer to another request"
            return reply

    def abort(self):
        self.writer.transport.abort()


async def create(connection, topic, partitions):
    """Makes a topic: the error."""
    reply = await connection.ask(CREATE_TOPICS, kafka_wire.create_topic(0, topic, partitions, {})[BODY:])
    return kafka_wire.created(reply.data)


async def append(connection, topic, partitions, records):
    """Writes the same records to some partitions of a topic, durably: (partition, error, base offset) each."""
    reply = await connection.ask(PRODUCE, kafka_wire.produce(0, topic, partitions, records, -1)[BODY:])
    return kafka_wire.produced(reply.data)


async def find_coordinator(connection, group):
    """Until there is one: the topic that keeps groups is made when it is first asked for."""
    while (await connection.ask(COORDINATOR, string(group))).number("h") != 0:
        await asyncio.sleep(0.05)


async def join(connection, group, member, session_ms, rebalance_ms):
    """(error, generation, leader, member, ids of the members if this one leads)"""
    protocols = array([string("own") + sized(b"")])
    body = string(group) + struct.pack(">ii", session_ms, rebalance_ms) + string(member) + NOBODY + string("scale") + protocols
    reply = await connection.ask(JOIN, body)
    reply.number("i")
    error, generation = reply.number("h"), reply.number("i")
    reply.string()
    leader, member = reply.string(), reply.string()

    def row():
        member = reply.string()
        reply.string()
        reply.sized()
        return member

    return error, generation, leader, member, reply.array(row)


async def sync(connection, group, generation, member, assignments):
    """(error, assignment)"""
    rows = array([string(member) + sized(assignment) for member, assignment in assignments.items()])
    reply = await connection.ask(SYNC, string(group) + struct.pack(">i", generation) + string(member) + NOBODY + rows)
    reply.number("i")
    return reply.number("h"), reply.sized()


async def heartbeat(connection, group, generation, member):
    reply = await connection.ask(HEARTBEAT, string(group) + struct.pack(">i", generation) + string(member) + NOBODY)
    reply.number("i")
    return reply.number("h")


async def leave(connection, group, member):
    reply = await connection.ask(LEAVE, string(group) + array([string(member) + NOBODY]))
    reply.number("i")
    return reply.number("h")


async def commit(connection, group, generation, member, offsets):
    """`offsets` by topic and partition; the errors there are."""
    topics = [
        string(topic) + array([struct.pack(">iqi", partition, offset, -1) + NOBODY for partition, offset in partitions.items()])
        for topic, partitions in offsets.items()
    ]
    reply = await connection.ask(COMMIT, string(group) + struct.pack(">i", generation) + string(member) + NOBODY + array(topics))
    reply.number("i")
    rows = reply.array(lambda: (reply.string(), reply.array(lambda: (reply.number("i"), reply.number("h")))))
    return {error for _, partitions in rows for _, error in partitions} - {0}


async def committed(connection, group):
    """All offsets of a group, by topic and partition."""
    reply = await connection.ask(FETCH_OFFSETS, string(group) + struct.pack(">i", -1))
    reply.number("i")

    def row():
        index, offset, _epoch = reply.number("i"), reply.number("q"), reply.number("i")
        reply.string()
        assert reply.number("h") == 0, "an offset's error"
        return index, offset

    rows = reply.array(lambda: (reply.string(), dict(reply.array(row))))
    assert reply.number("h") == 0, "the answer's error"
    return dict(rows)


async def metadata(connection):
    """Partitions that can be used, by topic."""
    reply = await connection.ask(METADATA, struct.pack(">i", -1))
    reply.array(lambda: (reply.number("i"), reply.string(), reply.number("i"), reply.string()))
    reply.number("i")

    def partition():
        error, index, _leader = reply.number("h"), reply.number("i"), reply.number("i")
        reply.array(lambda: reply.number("i"))
        reply.array(lambda: reply.number("i"))
        return index if error == 0 else None

    def topic():
        assert reply.number("h") == 0, "a topic's error"
        name, _internal = reply.string(), reply.number("b")
        return name, [index for index in reply.array(partition) if index is not None]

    return dict(reply.array(topic))


async def ends(connection, topics):
    """The end of each partition, by topic and partition."""
    rows = [string(topic) + array([struct.pack(">iq", index, -1) for index in partitions]) for topic, partitions in topics.items()]
    reply = await connection.ask(LIST_OFFSETS, struct.pack(">i", -1) + array(rows))

    def partition():
        index, error, _time, offset = reply.number("i"), reply.number("h"), reply.number("q"), reply.number("q")
        assert error == 0, f"the end of partition {index}: error {error}"
        return index, offset

    return dict(reply.array(lambda: (reply.string(), dict(reply.array(partition)))))
