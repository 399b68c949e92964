"""Data directories move from Apache Kafka to ringlog and back: every record is the same, and producers go on where they were."""

import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from cases import case, checked, equal, main
from dumped import Dumped
from launcher import Kafka, Ringlog

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
MESSAGES = 1000
SMALL = {"segment.bytes": "1048576", "index.interval.bytes": "1024"}
TOPICS = {
    "plain": SMALL | {"retention.ms": "-1"},
    "append-time": SMALL | {"message.timestamp.type": "LogAppendTime"},
    "compacted": SMALL | {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.ms": "200"},
    "transactions": SMALL,
    "deleted-from": SMALL,
}
PARTITIONS = 2
KAFKA = {
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.num.partitions": 2,
    "log.cleaner.backoff.ms": 100,
    "log.initial.task.delay.ms": 100,
    "log.retention.check.interval.ms": 500,
}
WAIT_SECONDS = 60


class Home:
    """A folder whose `logs` are the data directory of one broker after the other."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ringlog-moving-"))
        self.logs = self.folder / "logs"
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for broker in self.running:
            broker.kill()
            broker.log.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def kafka(self):
        return self.started(Kafka(KAFKA, data=self.folder))

    def ringlog(self):
        return self.started(Ringlog({"auto.create.topics.enable": "false", "offsets.topic.num.partitions": 3}, data=self.logs))

    def started(self, broker):
        self.running.append(broker)
        broker.start()
        return broker

    def move(self, command, fails=None):
        """Runs `ringlog from-kafka` or `to-kafka`; gives the numbers it prints, or checks why it does not move."""
        binary = os.environ.get("RINGLOG_BINARY") or Ringlog({}, data=self.logs).command()[0]
        done = subprocess.run([binary, command, "--data", self.logs], capture_output=True, text=True, timeout=WAIT_SECONDS)
        if fails is not None:
            equal(done.returncode, 1, f"{command} refuses ({done.stdout})")
            equal(bool(re.search(fails, done.stderr)), True, f"{done.stderr} says {fails}")
            return None
        equal((done.returncode, done.stderr), (0, ""), command)
        return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)\b", done.stdout.splitlines()[0])}


def create(broker, topics=TOPICS):
    admin = AdminClient({"bootstrap.servers": broker.address})
    new = [NewTopic(name, PARTITIONS, 1, config=config) for name, config in topics.items()]
    for future in admin.create_topics(new).values():
        future.result(30)


def send(broker, topic, codec, idempotent=True, transaction=None, keys=None, first=0):
    """Sends numbered messages to every partition; with `transaction` ("commit", "abort", "open") within one."""
    settings = {
        "bootstrap.servers": broker.address,
        "enable.idempotence": idempotent,
        "compression.type": codec,
        "batch.num.messages": 50,
        "linger.ms": 5,
    }
    if transaction:
        settings["transactional.id"] = f"{topic}-{codec}-{transaction}"
    producer = Producer(settings)
    if transaction:
        producer.init_transactions(WAIT_SECONDS)
        producer.begin_transaction()
    failed = []
    for number in range(first, first + MESSAGES):
        key = f"k{number % keys if keys else number}"
        value = None if number % 11 == 0 else f"{codec}-{number}-{os.urandom(100).hex()}"
        for partition in range(PARTITIONS):
            callback = lambda error, _: error and failed.append(error)
            producer.produce(topic, value, key, partition, callback, headers=[("h", str(number)), ("none", None)])
        producer.poll(0)
    equal((producer.flush(WAIT_SECONDS), failed), (0, []), f"messages to {topic} left unsent")
    if transaction == "commit":
        producer.commit_transaction(WAIT_SECONDS)
    elif transaction == "abort":
        producer.abort_transaction(WAIT_SECONDS)
    return producer


def fill(broker):
    """Writes to all of TOPICS what a log can hold."""
    create(broker)
    for topic in ("plain", "append-time", "deleted-from"):
        for turn, codec in enumerate(CODECS):
            send(broker, topic, codec, idempotent=turn % 2 == 0, first=turn * MESSAGES)
    for transaction in ("commit", "abort", "commit"):
        for codec in ("none", "lz4"):
            if broker.transactions:
                send(broker, "transactions", codec, transaction=transaction)
            else:
                send(broker, "transactions", codec)
    if broker.transactions:
        end_transactions(broker)
    for turn in range(3):
        send(broker, "compacted", "none", keys=100, first=turn * MESSAGES)


GROUP = "mover"


def commit(broker, offset):
    """Commits an offset for a group, by itself."""
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": GROUP, "enable.auto.commit": False})
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        # A coordinator that is just being made says so in one of two ways.
        try:
            [done] = consumer.commit(offsets=[TopicPartition("plain", 1, offset)], asynchronous=False)
            if done.error is None:
                break
        except KafkaException:
            pass
        equal(time.monotonic() < deadline, True, "the group's offset is taken")
        time.sleep(0.1)
    consumer.close()


def committed_offset(broker):
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": GROUP, "enable.auto.commit": False})
    [found] = consumer.committed([TopicPartition("plain", 1)], WAIT_SECONDS)
    consumer.close()
    return found.offset


def delete_some(broker):
    admin = AdminClient({"bootstrap.servers": broker.address})
    deletion = admin.delete_records([TopicPartition("deleted-from", 0, 1234)])
    for future in deletion.values():
        equal(future.result(30).low_watermark, 1234, "where records begin")


def wait_for_compaction(home, broker):
    """Until the cleaner has left gaps in the offsets."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        # What is in the newest segment stays: another message, after segment.ms, leaves it behind.
        producer = Producer({"bootstrap.servers": broker.address})
        for partition in range(PARTITIONS):
            producer.produce("compacted", "v", "k0", partition)
        producer.flush(WAIT_SECONDS)
        if all(record_count(home.logs / f"compacted-{partition}") < 2 * MESSAGES for partition in range(PARTITIONS)):
            return
        time.sleep(0.3)
    raise AssertionError("the cleaner has left no gaps")


def batches(folder):
    """Every batch of a partition's segments: its header's fields of interest, and its bytes."""
    for path in sorted(pathlib.Path(folder).glob("*.log")):
        data = path.read_bytes()
        at = 0
        while at + 61 <= len(data):
            length = struct.unpack_from(">i", data, at + 8)[0] + 12
            if length < 61 or at + length > len(data):
                break
            attributes, _, _, _, producer = struct.unpack_from(">hiqqq", data, at + 21)
            count = struct.unpack_from(">i", data, at + 57)[0]
            yield {"base": struct.unpack_from(">q", data, at)[0], "control": bool(attributes & 0x20), "producer": producer,
                   "transactional": bool(attributes & 0x10), "count": count, "bytes": data[at : at + length]}
            at += length


def record_count(folder):
    return sum(batch["count"] for batch in batches(folder))


def watermarks(consumer, place):
    """Where a partition begins and ends. A broker that has just started may not lead it yet."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return consumer.get_watermark_offsets(place, 30)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > deadline:
                raise
            consumer.poll(0.1)


def end_transactions(broker):
    """Waits until the markers of transactions that have ended are written: Kafka answers before."""
    consumers = [
        Consumer({"bootstrap.servers": broker.address, "group.id": "moving", "isolation.level": f"read_{level}"})
        for level in ("committed", "uncommitted")
    ]
    deadline = time.monotonic() + WAIT_SECONDS
    for partition in range(PARTITIONS):
        place = TopicPartition("transactions", partition)
        while len({watermarks(consumer, place) for consumer in consumers}) > 1:
            if time.monotonic() > deadline:
                raise AssertionError(f"a transaction is open in {place}")
    for consumer in consumers:
        consumer.close()


def read(broker, committed):
    """All records of all topics, with everything a consumer is told of them, and where each partition begins and ends."""
    consumer = Consumer({
        "bootstrap.servers": broker.address,
        "group.id": "moving",
        "enable.partition.eof": True,
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed" if committed else "read_uncommitted",
        "check.crcs": True,
        # What is looked up waits behind a fetch that waits.
        "fetch.wait.max.ms": 10,
    })
    topics = sorted(name for name in consumer.list_topics(timeout=30).topics if not name.startswith("__"))
    places = [TopicPartition(topic, partition) for topic in topics for partition in range(PARTITIONS)]
    marks = {(place.topic, place.partition): watermarks(consumer, place) for place in places}
    consumer.assign([TopicPartition(topic, partition, low) for (topic, partition), (low, _) in marks.items()])
    records = {place: [] for place in marks}
    ended = set()
    deadline = time.monotonic() + WAIT_SECONDS
    while len(ended) < len(places):
        if time.monotonic() > deadline:
            raise AssertionError(f"{set(marks) - ended} were not read to their ends")
        for message in consumer.consume(1000, 0.2):
            place = (message.topic(), message.partition())
            if message.error():
                equal(message.error().name(), "_PARTITION_EOF", "consume")
                ended.add(place)
            else:
                one = message.offset(), message.timestamp(), message.key(), message.value(), message.headers()
                records[place].append(one)
    # Look-ups by time: of the first record, one in the middle, the last, and after it.
    times = {}
    for place, found in records.items():
        for which in {0, len(found) // 2, len(found) - 1} if found else ():
            times[place, found[which][1][1]] = None
    for (topic, partition), when in times:
        [answer] = consumer.offsets_for_times([TopicPartition(topic, partition, when)], 30)
        times[(topic, partition), when] = answer.offset
    consumer.close()
    return {"marks": marks, "records": records, "times": times}


def newest(records):
    """Each key's last record."""
    return {key: (offset, time, value, headers) for offset, time, key, value, headers in records}


def same(seen, expected, what):
    for part in expected:
        for key, value in expected[part].items():
            found = seen[part].get(key)
            if "compacted" in str(key) and part != "marks":
                # Kafka may have compacted once more between the reading and its end.
                if part == "times":
                    continue
                equal([one for one in found if one not in value], [], f"{what}: {part} of {key} that were not there")
                found, value = newest(found), newest(value)
            equal(found, value, f"{what}: {part} of {key}")
    checked(sum(map(len, seen["records"].values())))


def send_again(broker, topic, partition, batch):
    """Sends a batch that lies in the log once more, as its producer would; gives error code and base offset."""
    # Base offset 0, no leader epoch and no broker's time, as from a client.
    covered = bytearray(batch["bytes"][21:])
    covered[1] &= ~0x08
    records = struct.pack(">q", 0) + batch["bytes"][8:12] + struct.pack(">ibI", -1, 2, crc32c(covered)) + covered
    name = topic.encode()
    head = struct.pack(">hhi", 0, 7, 1) + struct.pack(">h", 4) + b"move"
    body = struct.pack(">hhi", -1, -1, 30000) + struct.pack(">i", 1) + struct.pack(">h", len(name)) + name
    body += struct.pack(">ii", 1, partition) + struct.pack(">i", len(records)) + records
    with socket.create_connection(("127.0.0.1", broker.port), 30) as connection:
        connection.sendall(struct.pack(">i", len(head + body)) + head + body)
        reply = b""
        while len(reply) < 4 or len(reply) < 4 + struct.unpack_from(">i", reply)[0]:
            got = connection.recv(4096)
            equal(bool(got), True, "the broker answers")
            reply += got
    # Length, correlation id, one topic, its name, one partition.
    at = 4 + 4 + 4 + 2 + len(name) + 4
    index, error, base = struct.unpack_from(">ihq", reply, at)
    equal(index, partition, "partition answered")
    return error, base


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def crc_entry(byte):
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    return byte


CRC_TABLE = [crc_entry(byte) for byte in range(256)]


def dedupes(broker, logs, topics):
    """The last batch of each idempotent producer is known again."""
    known = 0
    for topic in topics:
        for partition in range(PARTITIONS):
            last = {}
            for batch in batches(logs / f"{topic}-{partition}"):
                if batch["producer"] >= 0 and not batch["control"] and not batch["transactional"]:
                    last[batch["producer"]] = batch
            for batch in last.values():
                equal(send_again(broker, topic, partition, batch), (0, batch["base"]), f"{topic}-{partition}: sent again")
                known += 1
    equal(known >= 3 * PARTITIONS, True, f"{known} producers are enough")
    return known


def epochs(logs, topic):
    lines = (logs / f"{topic}-0" / "leader-epoch-checkpoint").read_text().splitlines()[2:]
    return [tuple(map(int, line.split())) for line in lines]


@case
def what_kafka_left_in_order_is_read_and_gone_on_with(_):
    with Home() as home:
        kafka = home.kafka()
        fill(kafka)
        delete_some(kafka)
        commit(kafka, 321)
        wait_for_compaction(home, kafka)
        expected = [read(kafka, committed) for committed in (False, True)]
        equal(len(expected[0]["records"]["transactions", 0]), 6 * MESSAGES, "records with those of aborted transactions")
        equal(len(expected[1]["records"]["transactions", 0]), 4 * MESSAGES, "records of committed transactions")
        equal(expected[0]["marks"]["deleted-from", 0][0], 1234, "where records begin")
        home.move("from-kafka", fails="is in use by another broker")
        kafka.stop()
        before = epochs(home.logs, "plain")
        home.move("to-kafka", fails="holds no cluster-metadata.log")
        refused(home)

        moved = home.move("from-kafka")
        equal(moved["aborted_transactions"], 2 * PARTITIONS, "aborted transactions")
        equal((moved["torn_bytes"], moved["topics"] >= len(TOPICS)), (0, True), f"{moved}")
        home.move("from-kafka", fails="is ringlog's already")
        ringlog = home.ringlog()
        for committed in (False, True):
            moved_as = read(ringlog, committed)
            same(moved_as, expected[committed], f"committed={committed}")
            expected[committed] = moved_as
        known = dedupes(ringlog, home.logs, ("plain", "append-time", "deleted-from"))
        # Each topic goes on: at the end, with a leader epoch above all of Kafka's.
        send(ringlog, "plain", "zstd")
        equal(committed_offset(ringlog), 321, "what a group had committed")
        commit(ringlog, 654)
        [after] = read_part(ringlog, "plain", 0, expected[0]["marks"]["plain", 0][1], 1)
        equal(after, f"k0".encode(), "the first key after the move")
        ringlog.kill()
        ringlog.start()
        for committed in (False, True):
            again = read(ringlog, committed)
            for place, records in expected[committed]["records"].items():
                equal(again["records"][place][: len(records)], records, f"{place} after a kill")
        equal(committed_offset(ringlog), 654, "what a group has committed since")
        ringlog.stop()
        grown = epochs(home.logs, "plain")
        equal((grown[: len(before)], grown[-1][0] > before[-1][0]), (before, True), f"leader epochs {before} {grown}")
        for topic in ("plain", "append-time", "deleted-from"):
            print(Dumped(home.logs / f"{topic}-0"), flush=True)
        print(f"from Kafka, stopped in order: {moved}, {known} producers known", flush=True)


def read_part(broker, topic, partition, offset, count):
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "part", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, partition, offset)])
    messages = consumer.consume(count, WAIT_SECONDS)
    consumer.close()
    return [message.key() for message in messages]


def refused(home):
    """`serve` does not start on what is Kafka's, says what to do, and changes nothing."""
    listing = sorted(home.logs.rglob("*"))
    try:
        home.ringlog()
    except AssertionError as error:
        equal("`ringlog from-kafka` takes it over" in str(error), True, str(error))
    else:
        raise AssertionError("ringlog serves a directory of Kafka's")
    equal(sorted(home.logs.rglob("*")), listing, "files")


@case
def what_a_killed_kafka_left_is_read_as_far_as_it_was_acknowledged(_):
    with Home() as home:
        kafka = home.kafka()
        create(kafka, {"plain": SMALL})
        for turn, codec in enumerate(CODECS):
            send(kafka, "plain", codec, first=turn * MESSAGES)
        expected = read(kafka, False)
        # Killed while it is written to.
        acknowledged, ended = [{} for _ in range(PARTITIONS)], threading.Event()
        producer = Producer({"bootstrap.servers": kafka.address, "enable.idempotence": True, "linger.ms": 1,
                             "batch.num.messages": 20, "message.timeout.ms": 2000, "log_level": 0})

        def delivered(error, message):
            if error is None:
                acknowledged[message.partition()][message.offset()] = message.value()

        def write():
            number = 0
            while not ended.is_set():
                try:
                    producer.produce("plain", b"%d" % number, partition=number % PARTITIONS, on_delivery=delivered)
                    number += 1
                except BufferError:
                    pass
                producer.poll(0)

        writer = threading.Thread(target=write)
        writer.start()
        while min(map(len, acknowledged)) < 2000:
            time.sleep(0.01)
        kafka.kill()
        ended.set()
        writer.join()
        producer.flush(WAIT_SECONDS)

        moved = home.move("from-kafka")
        ringlog = home.ringlog()
        seen = read(ringlog, False)
        for place, records in expected["records"].items():
            equal(seen["records"][place][: len(records)], records, f"{place}")
        for partition, pairs in enumerate(acknowledged):
            found = {record[0]: record[3] for record in seen["records"]["plain", partition]}
            equal({offset: found.get(offset) for offset in pairs}, pairs, f"partition {partition}: acknowledged messages")
            checked(len(found))
        dedupes(ringlog, home.logs, ("plain",))
        send(ringlog, "plain", "lz4")
        ringlog.stop()
        for partition in range(PARTITIONS):
            seen = Dumped(home.logs / f"plain-{partition}")
            seen.offsets_follow()
            print(seen, flush=True)
        print(f"from Kafka, killed: {moved}, {sum(map(len, acknowledged))} messages acknowledged under load", flush=True)


@case
def an_open_transaction_is_kafkas_to_end(_):
    with Home() as home:
        kafka = home.kafka()
        create(kafka, {"transactions": SMALL})
        send(kafka, "transactions", "none", transaction="commit")
        producer = send(kafka, "transactions", "gzip", transaction="open")
        kafka.stop()
        home.move("from-kafka", fails=r"transactions-0: the transaction of producer \d+ .* has not ended: start Kafka again")
        kafka.start()
        producer.abort_transaction(WAIT_SECONDS)
        expected = [read(kafka, committed) for committed in (False, True)]
        kafka.stop()
        moved = home.move("from-kafka")
        equal(moved["aborted_transactions"], PARTITIONS, "aborted transactions")
        ringlog = home.ringlog()
        for committed in (False, True):
            same(read(ringlog, committed), expected[committed], f"committed={committed}")


@case
def what_ringlog_left_is_read_by_kafka_and_comes_back(_):
    with Home() as home:
        home.logs.mkdir()
        ringlog = home.ringlog()
        fill(ringlog)
        commit(ringlog, 123)
        ringlog.kill()
        ringlog.start()
        send(ringlog, "plain", "gzip", first=77777)
        expected = read(ringlog, False)
        ringlog.stop()
        before = epochs(home.logs, "plain")
        moved = home.move("to-kafka")
        # And the one that keeps the groups.
        equal((moved["topics"], moved["partitions"]), (len(TOPICS) + 1, len(TOPICS) * PARTITIONS + 3), "moved")
        refused(home)

        kafka = home.kafka()
        seen = read(kafka, True)
        # Kafka compacts what is to be compacted.
        for partition in range(PARTITIONS):
            all_of_it = expected["records"].pop(("compacted", partition))
            newest = {record[2]: record for record in all_of_it}
            kept = seen["records"]["compacted", partition]
            equal([record for record in kept if record not in all_of_it], [], "compacted records that ringlog did not have")
            equal([one for one in newest.values() if one not in kept and one[3] is not None], [], "newest values lost")
        expected["times"] = {key: value for key, value in expected["times"].items() if key[0][0] != "compacted"}
        same(seen, expected, "Kafka")
        equal(committed_offset(kafka), 123, "what a group had committed")
        commit(kafka, 456)
        strays = [path.name for path in home.logs.iterdir() if path.name.endswith("-stray")]
        equal(strays, [], "directories that Kafka moved aside")
        known = dedupes(kafka, home.logs, ("plain", "append-time", "deleted-from"))
        described = AdminClient({"bootstrap.servers": kafka.address}).list_topics(timeout=30)
        equal({name for name in described.topics if not name.startswith("__")}, set(TOPICS), "topics")
        producer_ids = {batch["producer"] for topic in TOPICS for batch in batches(home.logs / f"{topic}-0")}
        send(kafka, "plain", "zstd", first=88888)
        new = {batch["producer"] for batch in batches(home.logs / "plain-0")} - producer_ids
        equal(len(new), 1, f"producer ids {new} given by Kafka that ringlog had not given")
        send(kafka, "transactions", "none", transaction="abort")
        end_transactions(kafka)
        expected = [read(kafka, committed) for committed in (False, True)]
        kafka.stop()
        after = epochs(home.logs, "plain")
        equal((after[: len(before)], after[-1][0] > before[-1][0]), (before, True), f"leader epochs {before} {after}")

        home.move("from-kafka")
        ringlog.start()
        for committed in (False, True):
            same(read(ringlog, committed), expected[committed], f"back, committed={committed}")
        dedupes(ringlog, home.logs, ("plain", "append-time", "deleted-from"))
        equal(committed_offset(ringlog), 456, "what a group had committed at Kafka")
        ringlog.stop()
        print(f"to Kafka and back: {moved}, {known} producers known", flush=True)


class NoBroker:
    """Each case starts its own."""

    name = "ringlog"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def alive(self):
        return True


if __name__ == "__main__":
    main("moving", NoBroker())
