"""Moves a million 100-byte messages through the broker at argv[1] and checks every one."""

import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

MESSAGES = 1_000_000
SIZE = 100
PARTITIONS = 4
TOPIC = "quickstart"
# As many calls without a record mean that none will come.
SILENCES = 300


def message(number):
    """A message that tells its number, and whose other bytes follow from it."""
    head = b"%010d" % number
    return (head * (SIZE // len(head) + 1))[:SIZE]


def produce(address):
    failed = []

    def delivered(error, _):
        if error:
            failed.append(str(error))

    producer = Producer({
        "bootstrap.servers": address,
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": 5,
        "queue.buffering.max.messages": 2 * MESSAGES,
    })
    began = time.monotonic()
    for number in range(MESSAGES):
        producer.produce(TOPIC, message(number), partition=number % PARTITIONS, on_delivery=delivered)
        if number % 10_000 == 0:
            producer.poll(0)
    left = producer.flush(120)
    took = time.monotonic() - began
    if left or failed:
        sys.exit(f"{left} messages not acknowledged, {len(failed)} failed: {failed[:3]}")
    return took


def consume(address):
    consumer = Consumer({
        "bootstrap.servers": address,
        "group.id": "quickstart",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
    })
    consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)])
    expected = list(range(PARTITIONS))
    ended = set()
    silent = 0
    began = time.monotonic()
    while len(ended) < PARTITIONS:
        # A call returns early only when it has as many records as it asked for.
        records = consumer.consume(10_000, 0.1)
        silent = 0 if records else silent + 1
        if silent == SILENCES:
            sys.exit(f"no more records came; next is {expected} of the partitions")
        for record in records:
            partition = record.partition()
            if record.error():
                if record.error().name() != "_PARTITION_EOF":
                    sys.exit(f"partition {partition}: {record.error()}")
                ended.add(partition)
            elif record.value() != message(expected[partition]):
                sys.exit(f"partition {partition} offset {record.offset()}: not message {expected[partition]}")
            else:
                expected[partition] += PARTITIONS
                ended.discard(partition)
    took = time.monotonic() - began
    consumer.close()
    got = sum((expected[partition] - partition) // PARTITIONS for partition in range(PARTITIONS))
    if got != MESSAGES:
        sys.exit(f"{got} of {MESSAGES} messages came back")
    return took


def main():
    address = sys.argv[1]
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)
    print(f"{MESSAGES} messages of {SIZE} bytes, idempotent, acks=all, synced to disk before each acknowledgement")
    print(f"in:  {MESSAGES / produce(address):10.0f} messages/s")
    print(f"out: {MESSAGES / consume(address):10.0f} messages/s")
    print(f"every message came back once, in order, unaltered ({MESSAGES} checked)")


if __name__ == "__main__":
    main()
