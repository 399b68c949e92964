"""A disk that fills up is retention's job before it is an outage: on small file systems that are really full, topics that may lose their
oldest records make room, producers go on, and nothing is lost that a topic is to keep. Takes root, loop devices, and mkfs of both.
"""

import os
import struct
import tempfile
import time

import raw
from broken_disks import CREATE_TOPICS, KAFKA_STORAGE_ERROR, NONE, Client, Mounted, logged, no_panic, varint
from cases import case, checked, equal, main
from launcher import Ringlog

NOT_ENOUGH_TIME, LIST_OFFSETS = 7, 2
VALUE_BYTES = 500 << 10
SEGMENT_BYTES = 2 << 20
# Retention looks by itself thirty seconds after the start, and every five minutes from then on: later than a case gives up.
SETTINGS = {"log.segment.bytes": SEGMENT_BYTES, "auto.create.topics.enable": "false"}
# A producer sends again what was refused, for so long (librdkafka does so for five minutes).
PATIENCE_SECONDS = 20
HOUR_MS = 3_600_000
# XFS is not made smaller; a file of ours takes what is more than there is to be room.
MEGABYTES = {"ext4": 96, "xfs": 320}
ROOM_BYTES = 80 << 20


def batch(millis):
    """One record of 500 KiB with this time."""
    value = b"y" * VALUE_BYTES
    record = bytes([0, 0, 0, 1]) + varint(len(value)) + value + b"\0"
    records = varint(len(record)) + record
    part = struct.pack(">hiqqqhii", 0, 0, millis, millis, -1, -1, -1, 1) + records
    return struct.pack(">qiibI", 0, 9 + len(part), -1, 2, raw.crc32c(part)) + part


class Producer:
    """Sends one batch after the other, each until it is acknowledged; remembers where each is."""

    def __init__(self, broker):
        self.broker, self.client = broker, Client(broker)
        self.offsets, self.refused = {}, 0

    def send(self, topic, batch):
        body = raw.produce_body(batch, topic=topic)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            code, offset = raw.produced(self.client.connection.ask(raw.frame(raw.header(raw.PRODUCE, 3) + body)))
            if code == NONE:
                self.offsets.setdefault(topic, []).append(offset)
                return
            if code not in (KAFKA_STORAGE_ERROR, NOT_ENOUGH_TIME):
                raise AssertionError(f"{topic}: error {code}")
            self.refused += 1
            if time.monotonic() > deadline:
                raise AssertionError(f"{topic}: no room is made: {code}\n{self.broker.log_tail()}")
            time.sleep(0.05)


def configure(client, topic, configs):
    """Creates a topic with configs (CreateTopics v2)."""
    body = struct.pack(">i", 1) + raw.string(topic) + struct.pack(">ihii", 1, 1, 0, len(configs))
    body += b"".join(raw.string(name) + raw.string(str(value)) for name, value in configs.items())
    reader = client.ask(CREATE_TOPICS, 2, body + struct.pack(">ib", 30000, 0))
    reader.take("i"), reader.take("i"), reader.string()
    equal(reader.take("h"), NONE, f"create {topic}")


def kept(client, topic, acknowledged, what):
    """What is there of a topic: whole batches from some offset on to the end, each offset acknowledged among them. Their count."""
    found, offset = {}, start_of(client, topic)
    while True:
        error, mark, batches = client.fetch(topic, 0, offset, 4 << 20)
        equal(error, NONE, f"{what}: fetch {topic} at {offset}")
        for base, one in batches:
            equal((base, len(one) > VALUE_BYTES), (offset, True), f"{what}: {topic}, the next batch")
            found[base] = one
            offset += 1
        if offset >= mark:
            break
    lost = [one for one in acknowledged if one >= min(found) and one not in found]
    equal(lost, [], f"{what}: {topic}, acknowledged and lost behind the log's start")
    equal(acknowledged[-1] in found, True, f"{what}: {topic}, the last acknowledged")
    checked(len(found))
    return found


def start_of(client, topic):
    """The log's first offset (ListOffsets v1)."""
    body = struct.pack(">ii", -1, 1) + raw.string(topic) + struct.pack(">iiq", 1, 0, -2)
    reader = client.ask(LIST_OFFSETS, 1, body)
    reader.take("i"), reader.string(), reader.take("i"), reader.take("i")
    equal(reader.take("h"), NONE, "ListOffsets")
    reader.take("q")
    return reader.take("q")


def with_disk(kind, check):
    """Runs the check on a new file system, and looks at all it has sent again after a restart."""
    with tempfile.TemporaryDirectory(prefix="ringlog-room-") as folder, Mounted(folder, kind, MEGABYTES[kind]) as disk:
        free = os.statvfs(disk.point)
        with open(disk.point / "filler", "wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, free.f_bavail * free.f_frsize - ROOM_BYTES)
        with Ringlog(SETTINGS, data=disk.point / "data") as broker:
            producer = Producer(broker)
            looks = check(producer)
            before = looks(producer.client, "full")
            no_panic(broker)
            # That the disk is full may be said, and no more than that.
            errors = [line for line in logged(broker).splitlines() if "ERROR" in line]
            if any(" is full, but for what is kept in reserve: " not in line for line in errors):
                raise AssertionError(broker.log_tail())
            print(f"   {kind}: {producer.refused} of {sum(map(len, producer.offsets.values()))} were refused at first", flush=True)
            broker.stop()
        with Ringlog(SETTINGS, data=disk.point / "data") as broker:
            equal(looks(Client(broker), "after a restart") == before, True, "what is there after a restart")
            broker.stop()


def by_size(producer):
    """Twice what the disk holds goes into a topic that is to keep a quarter of it, beside one that keeps everything."""
    configure(producer.client, "stream", {"retention.bytes": ROOM_BYTES // 4, "retention.ms": -1})
    configure(producer.client, "keep", {"retention.ms": -1})
    one = batch(1000)
    count = 2 * ROOM_BYTES // VALUE_BYTES
    for number in range(count):
        producer.send("stream", one)
        if number % 16 == 0:
            producer.send("keep", one)

    def looks(client, what):
        kept_all = kept(client, "keep", producer.offsets["keep"], what)
        equal(sorted(kept_all), producer.offsets["keep"], f"{what}: what is to be kept for ever")
        stream = kept(client, "stream", producer.offsets["stream"], what)
        if min(stream) == 0:
            raise AssertionError(f"{what}: nothing was deleted: the disk cannot have been full")
        if sum(map(len, stream.values())) < ROOM_BYTES // 4:
            raise AssertionError(f"{what}: more was deleted than retention.bytes allows: {len(stream)} batches are left")
        return kept_all, stream

    return looks


def by_time(producer):
    """The disk fills up with records that have expired, which nobody has looked at yet; then come as many that have not."""
    configure(producer.client, "stream", {"retention.ms": HOUR_MS})
    now = int(time.time() * 1000)
    for millis, share in ((now - 2 * HOUR_MS, 0.75), (now, 0.5)):
        one = batch(millis)
        first_new = len(producer.offsets.get("stream", []))
        for _ in range(int(ROOM_BYTES * share) // VALUE_BYTES):
            producer.send("stream", one)
    new = producer.offsets["stream"][first_new:]

    def looks(client, what):
        stream = kept(client, "stream", producer.offsets["stream"], what)
        equal([one for one in new if one not in stream], [], f"{what}: records that had not expired, and are gone")
        if min(stream) == 0:
            raise AssertionError(f"{what}: nothing was deleted: the disk cannot have been full")
        return stream

    return looks


@case
def a_full_ext4_loses_by_size(_):
    with_disk("ext4", by_size)


@case
def a_full_ext4_loses_by_time(_):
    with_disk("ext4", by_time)


@case
def a_full_xfs_loses_by_size(_):
    with_disk("xfs", by_size)


@case
def a_full_xfs_loses_by_time(_):
    with_disk("xfs", by_time)


if __name__ == "__main__":
    main("room", Ringlog(SETTINGS))
