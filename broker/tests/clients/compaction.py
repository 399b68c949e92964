"""Retention and compaction as clients see them: what goes, what stays, and that Apache Kafka goes on over what ringlog has cleaned."""

import itertools
import os
import re
import threading
import time
import urllib.request

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from cases import case, checked, equal, main
from dumped import Dumped, dump
from launcher import Ringlog
import moving

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
SEGMENT = 1 << 20
KEYS = 500
MESSAGES = 2500
WAIT_SECONDS = 60
SETTINGS = {
    "log.cleaner.backoff.ms": 100,
    "log.retention.check.interval.ms": 200,
    "log.segment.delete.delay.ms": 500,
    "offsets.topic.num.partitions": 1,
    "offsets.topic.segment.bytes": SEGMENT,
}
COMPACTED = {"cleanup.policy": "compact", "segment.bytes": str(SEGMENT), "min.cleanable.dirty.ratio": "0.1", "index.interval.bytes": "1024"}


def create(broker, name, config, partitions=1):
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(30)
    return name


def until(holds, what):
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        equal(time.monotonic() < deadline, True, what)
        time.sleep(0.05)


def folder(broker, topic, partition=0):
    return broker.data / f"{topic}-{partition}"


def size(path):
    """Bytes of a partition's segments, prepared space apart."""
    return sum(len(batch["bytes"]) for batch in moving.batches(path))


def marks(broker, topic):
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "marks"})
    found = consumer.get_watermark_offsets(TopicPartition(topic, 0), 30)
    consumer.close()
    return found


def write(broker, topic, codec, expected, first=0, messages=MESSAGES, keys=KEYS):
    """Sends numbered messages of some keys; `expected` holds the last of each: offset, value."""
    producer = Producer({
        "bootstrap.servers": broker.address,
        "enable.idempotence": True,
        "compression.type": codec,
        "batch.num.messages": 50,
        "linger.ms": 5,
    })
    for number in range(first, first + messages):
        key = f"k{number * 7919 % keys}"
        value = None if number % 13 == 0 else f"{number}-{os.urandom(250).hex()}"

        def delivered(error, sent, key=key, value=value):
            equal(error, None, "delivery")
            expected[key] = sent.offset(), value

        producer.produce(topic, value, key, 0, delivered, headers=[("h", str(number))])
        producer.poll(0)
    equal(producer.flush(WAIT_SECONDS), 0, "messages left unsent")


def table(broker, topic):
    """What somebody knows who has read it all: the last record of each key, and how many there were."""
    consumer = Consumer({
        "bootstrap.servers": broker.address,
        "group.id": "reader",
        "enable.partition.eof": True,
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "check.crcs": True,
    })
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    known, count, last = {}, 0, -1
    while True:
        message = consumer.poll(WAIT_SECONDS)
        if message.error():
            equal(message.error().name(), "_PARTITION_EOF", "consume")
            consumer.close()
            return known, count
        equal(message.offset() > last, True, "offsets go forward")
        last = message.offset()
        value = message.value()
        known[message.key().decode()] = last, value.decode() if value is not None else None
        count += 1


def compare(known, expected):
    for key, (offset, value) in expected.items():
        # A mark of deletion may be gone.
        if value is not None or key in known:
            equal(known.get(key), (offset, value), f"the last record of {key}")
    equal(known.keys() - expected.keys(), set(), "keys that nobody wrote")
    checked(len(expected))


def metric(broker, name):
    address = broker.http.removeprefix("http://")
    text = urllib.request.urlopen(f"http://{address}/metrics", timeout=10).read().decode()
    return int(re.search(rf"^{name} (\d+)$", text, re.MULTILINE)[1])


@case
def the_last_record_of_each_key_stays(broker):
    topic = create(broker, "table", COMPACTED)
    expected = {}
    # Somebody reads all the time.
    stop, reads, failed = threading.Event(), [], []

    def reading():
        while not stop.is_set():
            try:
                reads.append(table(broker, topic)[1])
            except Exception as error:
                failed.append(error)
                return

    reader = threading.Thread(target=reading)
    reader.start()
    for turn, codec in enumerate(CODECS):
        write(broker, topic, codec, expected, turn * MESSAGES)
    # Only what is in the newest segment may be there more than once.
    until(lambda: table(broker, topic)[1] < KEYS + 2 * SEGMENT // 400, "it gets small")
    stop.set()
    reader.join()
    equal(failed, [], "somebody who reads all the time")
    known, count = table(broker, topic)
    compare(known, expected)
    runs, written = metric(broker, "ringlog_cleaner_runs_total"), metric(broker, "ringlog_cleaner_bytes_written_total")
    equal((runs > 0, written > 0), (True, True), "rounds and bytes on /metrics")
    equal(metric(broker, "kafka_log_logcleanermanager_uncleanable_partitions_count"), 0, "partitions uncleanable")
    broker.stop()
    seen = Dumped(folder(broker, topic), gaps=True)
    equal(seen.kept, {key: value for key, value in seen.producers.items()}, "each producer's last batch is there, if only its header")
    # The cleaner may have come round once more.
    equal(len(seen.records) <= count, True, "records in the files")
    compare({key: (offset, value) for offset, (_, key, value, _) in sorted(seen.records.items())}, expected)
    equal(any(int(batch["count"]) == 0 for batch in seen.batches), True, "headers alone")
    equal(any(batch["horizon"] for batch in seen.batches), True, "marks of deletion that have a time to go")
    print(f"{seen}; {runs} rounds, {len(reads)} reads meanwhile", flush=True)
    broker.start()
    compare(table(broker, topic)[0], expected)


@case
def committed_offsets_take_little_room_however_often_they_are_committed(broker):
    # The first commit waits for the topic to be made.
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "often", "enable.auto.commit": False})
    places = 100
    create(broker, "read-often", {}, places)
    wanted = 5 * SEGMENT
    offset, sent = 0, 0
    until(lambda: committed(consumer, [TopicPartition("read-often", 0, 0)]), "the group's offset is taken")
    while sent < wanted:
        offset += 1
        taken = committed(consumer, [TopicPartition("read-often", index, offset, metadata="m" * 100) for index in range(places)])
        equal(taken, True, "a commit is taken")
        # A record: key (group, topic, partition) and value with its metadata.
        sent += places * 200
    place = folder(broker, "__consumer_offsets")
    equal(marks(broker, "__consumer_offsets")[1] > places * offset, True, "a record for each")
    until(lambda: size(place) < 2 * SEGMENT, f"{size(place)} bytes of {sent} are left")
    broker.stop()
    # Their keys and values are bytes, of which kafka-dump-log makes no lines that can be told apart.
    logs = sorted(place.glob("*.log"))
    dump(["--deep-iteration"], logs, gaps=True)
    indexes = sorted([*place.glob("*.index"), *place.glob("*.timeindex")])
    for path, lines in dump(["--verify-index-only"], indexes, gaps=True).items():
        equal(lines in ([], [f"{path} is empty."]), True, f"index verified: {lines}")
    print(f"{offset} commits of {places} offsets: {sent} bytes, {size(place)} are left in {len(logs)} segments", flush=True)
    broker.start()
    found = consumer.committed([TopicPartition("read-often", index) for index in range(places)], WAIT_SECONDS)
    equal({place.offset for place in found}, {offset}, "committed offsets")
    checked(places * offset)
    consumer.close()


def committed(consumer, offsets):
    try:
        return all(one.error is None for one in consumer.commit(offsets=offsets, asynchronous=False))
    except Exception:
        return False


@case
def a_topic_keeps_what_its_retention_says_as_soon_as_that_changes(broker):
    topic = create(broker, "kept", {"segment.bytes": str(SEGMENT)})
    expected = {}
    for turn in range(3):
        write(broker, topic, "none", expected, turn * MESSAGES, keys=10**6)
    place = folder(broker, topic)
    before = size(place)
    equal(before > 3 * SEGMENT, True, f"{before} bytes are several segments")
    admin = AdminClient({"bootstrap.servers": broker.address})

    def configure(name, value):
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        for future in admin.incremental_alter_configs([resource]).values():
            future.result(30)

    end = marks(broker, topic)[1]
    configure("retention.bytes", str(2 * SEGMENT))
    until(lambda: size(place) < 3 * SEGMENT + SEGMENT // 2, "what is too much goes")
    low, high = marks(broker, topic)
    equal((low > 0, high), (True, end), "marks")
    records, count = table(broker, topic)
    equal(count, high - low, "records kept")
    equal({record[0] for record in records.values()}, set(range(low, high)), "offsets kept")
    configure("retention.ms", "100")
    until(lambda: marks(broker, topic)[0] == end, "what is too old goes, all of it")
    until(lambda: not list(place.glob("*.deleted")), "the files go after a while")
    write(broker, topic, "none", {}, 0, 10, keys=10**6)
    equal(marks(broker, topic), (end, end + 10) if marks(broker, topic)[0] == end else marks(broker, topic), "it goes on where it was")
    checked(count)
    broker.kill()
    broker.start()
    equal(marks(broker, topic)[0] >= end, True, "what is gone stays so")


@case
def apache_kafka_goes_on_over_it_and_ringlog_over_that(_):
    with moving.Home() as home:
        settings = SETTINGS | {"auto.create.topics.enable": "false"}
        ringlog = home.started(Ringlog(settings, data=home.logs))
        # Rolls by time, so that both clean nearly all of it.
        topic = create(ringlog, "table", COMPACTED | {"segment.ms": "200", "delete.retention.ms": "1000"})
        expected = {}
        turns = itertools.count()

        def fill(broker, *codecs):
            """Overwrites the keys once with each codec, and then rolls the segment that would be active."""
            for codec in codecs:
                write(broker, topic, codec, expected, next(turns) * MESSAGES)
            time.sleep(0.3)
            write(broker, topic, "none", expected, next(turns) * MESSAGES, 1)

        fill(ringlog, *CODECS)
        until(lambda: moving.record_count(home.logs / "table-0") < 2 * KEYS, "ringlog cleans")
        compare(table(ringlog, topic)[0], expected)
        ringlog.stop()
        home.move("to-kafka")
        kafka = home.kafka()
        compare(table(kafka, topic)[0], expected)
        before = moving.record_count(home.logs / "table-0")
        fill(kafka, "lz4", "none")
        until(lambda: moving.record_count(home.logs / "table-0") < before + MESSAGES, "Kafka cleans")
        compare(table(kafka, topic)[0], expected)
        kafka.stop()
        home.move("from-kafka")
        ringlog.start()
        compare(table(ringlog, topic)[0], expected)
        before = moving.record_count(home.logs / "table-0")
        fill(ringlog, "zstd", "gzip")
        until(lambda: moving.record_count(home.logs / "table-0") < before + MESSAGES, "ringlog cleans again")
        compare(table(ringlog, topic)[0], expected)
        ringlog.stop()
        print(Dumped(home.logs / "table-0", gaps=True), flush=True)


if __name__ == "__main__":
    main("compaction", Ringlog(SETTINGS))
