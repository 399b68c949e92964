"""Apache Kafka's kafka-dump-log reads the files a stopped broker leaves: every record acknowledged, and nothing it complains about."""

import os
import time
import uuid

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from cases import case, checked, equal, main
from crash import Writer
from dumped import Dumped
from launcher import broker as new_broker

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
# Of each codec: in all several segments of the smallest size there is, and an entry of the indexes for nearly every batch.
MESSAGES = 3000
BATCH_MESSAGES = 50
CONFIG = {"segment.bytes": "1048576", "index.interval.bytes": "1024"}
SEGMENTS_MIN = 3
# Of now: Apache Kafka forgets a producer by its records' timestamps when it loads a log.
FIRST_TIMESTAMP = int(time.time() * 1000)
# A topic whose segments are left by its records' time.
BY_TIME = {"segment.ms": "60000", "index.interval.bytes": "1024"}
STEP_MS = 100
# Broker time, not the messages'.
APPEND_TIME = {"message.timestamp.type": "LogAppendTime", "segment.bytes": "1048576", "index.interval.bytes": "1024"}
KILLS = 3
LOAD_SECONDS = 0.5


def create(broker, config=CONFIG, partitions=2):
    topic = f"dump-{uuid.uuid4()}"
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(30)
    return topic


def produce(broker, topic, partition, idempotent, codec, first, step_ms=1, value_bytes=300):
    """Sends numbered messages and gives what was acknowledged: (timestamp, key, value, header key) by offset."""
    producer = Producer({
        "bootstrap.servers": broker.address,
        "enable.idempotence": idempotent,
        "compression.type": codec,
        "batch.num.messages": BATCH_MESSAGES,
        "linger.ms": 5,
    })
    acknowledged = {}
    for number in range(first, first + MESSAGES):
        # Half as large when compressed; some messages have no key, and some no value.
        key = None if number % 7 == 0 else f"k{number}"
        value = None if number % 11 == 0 else f"v{number}-{os.urandom(value_bytes).hex()}"
        # The last of all is of now.
        timestamp = FIRST_TIMESTAMP - (len(CODECS) * MESSAGES - number) * step_ms
        message = (timestamp, key, value, f"h{number % 3}")

        def delivered(error, sent, message=message):
            equal(error, None, "delivery")
            acknowledged[sent.offset()] = message

        producer.produce(topic, value, key, partition, delivered, timestamp=message[0], headers=[(message[3], b"x")])
        producer.poll(0)
    equal(producer.flush(60), 0, "messages left unsent")
    return acknowledged


def dumped(broker, topic, partition):
    root = broker.data / "logs" if broker.name == "kafka" else broker.data
    return Dumped(root / f"{topic}-{partition}")


def check(seen, acknowledged, segments_min=SEGMENTS_MIN):
    """Holds one partition of the stopped broker against what was acknowledged: all of it, and nothing else."""
    seen.offsets_follow()
    equal(sorted(acknowledged), list(range(len(CODECS) * MESSAGES)), "offsets acknowledged")
    equal(list(seen.records), sorted(acknowledged), "offsets")
    equal(seen.records, acknowledged, "records")
    equal(seen.kept, seen.producers, "producers in the newest snapshot")
    equal(len(seen.logs) >= segments_min, True, f"{len(seen.logs)} segments are enough")
    # Nearly every batch but a segment's first is longer than the interval.
    equal(seen.index_entries >= len(seen.records) // BATCH_MESSAGES // 2, True, f"{seen.index_entries} entries of indexes are enough")
    equal(seen.time_entries >= len(seen.logs), True, f"{seen.time_entries} entries of time indexes are enough")
    checked(len(acknowledged))
    print(seen, flush=True)


@case
def a_clean_stop_leaves_what_was_acknowledged(broker):
    topic = create(broker)
    acknowledged = [{}, {}]
    for turn, codec in enumerate(CODECS):
        for partition, idempotent in enumerate((False, True)):
            acknowledged[partition] |= produce(broker, topic, partition, idempotent, codec, turn * MESSAGES)
    broker.stop()
    for partition in range(2):
        seen = dumped(broker, topic, partition)
        equal({batch["codec"] for batch in seen.batches}, set(CODECS), "codecs")
        equal(len(seen.producers), partition * len(CODECS), "idempotent producers")
        check(seen, acknowledged[partition])
    broker.start()


@case
def a_start_after_a_kill_and_a_clean_stop_leave_the_same(broker):
    topic = create(broker)
    acknowledged = {}
    for turn, codec in enumerate(CODECS[:-1]):
        acknowledged |= produce(broker, topic, 0, True, codec, turn * MESSAGES)
    broker.kill()
    broker.start()
    acknowledged |= produce(broker, topic, 0, True, CODECS[-1], (len(CODECS) - 1) * MESSAGES)
    broker.stop()
    seen = dumped(broker, topic, 0)
    equal(len(seen.epochs), 2, "leader epochs: one a start")
    check(seen, acknowledged)
    broker.start()


@case
def segments_are_left_by_time_and_some_partitions_stay_empty(broker):
    topic = create(broker, BY_TIME)
    acknowledged = {}
    for turn, codec in enumerate(CODECS):
        acknowledged |= produce(broker, topic, 0, False, codec, turn * MESSAGES, STEP_MS, 20)
    broker.stop()
    seen = dumped(broker, topic, 0)
    # Time counts from the first batch's last record to a batch's last.
    longest_ms = int(BY_TIME["segment.ms"]) + BATCH_MESSAGES * STEP_MS
    check(seen, acknowledged, len(CODECS) * MESSAGES * STEP_MS // longest_ms)
    first = {}
    for offset, record in seen.records.items():
        base = max(int(log.stem) for log in seen.logs if int(log.stem) <= offset)
        waited = record[0] - first.setdefault(base, record[0])
        equal(waited <= longest_ms, True, f"offset {offset} lies {waited} ms after its segment's first")
    empty = dumped(broker, topic, 1)
    equal((empty.records, empty.kept, len(empty.logs)), ({}, {}, 1), "the partition nobody wrote to")
    broker.start()


@case
def the_time_of_the_append_is_stamped_into_every_batch(broker):
    topic = create(broker, APPEND_TIME)
    began = int(time.time() * 1000)
    acknowledged = {}
    for turn, codec in enumerate(CODECS):
        acknowledged |= produce(broker, topic, 0, True, codec, turn * MESSAGES)
    ended = int(time.time() * 1000)
    broker.kill()
    broker.start()
    broker.stop()
    seen = dumped(broker, topic, 0)
    equal({batch["kind"] for batch in seen.batches}, {"LogAppendTime"}, "kind of timestamps")
    times = [record[0] for record in seen.records.values()]
    equal(times, sorted(times), "timestamps rise")
    equal(began <= times[0] and times[-1] <= ended, True, f"{times[0]} to {times[-1]} lie within the run, {began} to {ended}")
    stamped = {offset: (seen.records[offset][0], *message[1:]) for offset, message in acknowledged.items()}
    check(seen, stamped)
    broker.start()


@case
def kills_under_load_leave_each_message_once_and_in_order(broker):
    topic = create(broker)
    writers = []
    for round in range(KILLS):
        writers += [Writer(broker.address, topic, partition, round * 10_000_000, "all", True) for partition in range(2)]
        for writer in writers[-2:]:
            writer.start()
        time.sleep(LOAD_SECONDS)
        broker.kill()
        for writer in writers[-2:]:
            writer.end()
        broker.start()
        for writer in writers[-2:]:
            writer.drain()
    broker.stop()
    for partition in range(2):
        seen = dumped(broker, topic, partition)
        seen.offsets_follow()
        found = {offset: int(record[2]) for offset, record in seen.records.items()}
        acknowledged = dict(pair for writer in writers if writer.partition == partition for pair in writer.acknowledged)
        equal({offset: found.get(offset) for offset in acknowledged}, acknowledged, "acknowledged messages")
        equal(list(found.values()), sorted(set(found.values())), "messages, once and in order")
        equal(seen.kept, seen.producers, "producers in the newest snapshot")
        # Apache Kafka takes longer to lead again than these producers wait.
        epochs_min = KILLS if broker.name == "ringlog" else 1
        equal(len(seen.epochs) >= epochs_min, True, f"{len(seen.epochs)} leader epochs are enough")
        equal(len(acknowledged) > KILLS * 100, True, f"{len(acknowledged)} acknowledged messages are enough")
        checked(KILLS * 100)
        print(seen, flush=True)
    broker.start()


if __name__ == "__main__":
    main("dump_log", new_broker())
