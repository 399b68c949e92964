"""kill -9 under load: what was acknowledged is there after the restart, once and in order.

`crash.py --rounds N`: N kills for each acks level, idempotent and not. Producers on several connections write numbered messages; at
a random instant the broker is killed and started again on the same directory; another client reads everything back.
"""

import argparse
import random
import sys
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from launcher import broker as new_broker

PARTITIONS = 3
PRODUCERS = 2
# With durability "replicated" an acknowledgement does not wait for a sync: what is written outlives the process all the same.
CASES = (
    ("all", True, {}),
    ("all", False, {"log.segment.bytes": 1048576}),
    ("1", False, {}),
    ("1", False, {"log.segment.bytes": 1048576, "durability": "replicated"}),
)
# The broker is killed this long after its producers began, at most.
LOAD_SECONDS = 0.6
# Nothing more comes when nothing has come this many times, for this long each.
SILENCES = 50
SILENCE_SECONDS = 0.2


class Writer(threading.Thread):
    """Writes numbered messages to one partition, and remembers which were acknowledged."""

    def __init__(self, address, topic, partition, first, acks, idempotent):
        super().__init__(daemon=True)
        self.topic, self.partition, self.next = topic, partition, first
        self.acknowledged, self.sent, self.ended = [], 0, False
        self.producer = Producer({
            "bootstrap.servers": address,
            "acks": acks,
            "enable.idempotence": idempotent,
            "linger.ms": 1,
            "batch.num.messages": 200,
            "message.timeout.ms": 3000,
            "log_level": 0,
        })

    def run(self):
        while not self.ended:
            try:
                self.producer.produce(self.topic, b"%d" % self.next, partition=self.partition, on_delivery=self.delivered)
                self.next += 1
                self.sent += 1
            except BufferError:
                pass
            self.producer.poll(0)

    def delivered(self, error, message):
        if error is None:
            self.acknowledged.append((message.offset(), int(message.value())))

    def end(self):
        """Stops writing; tells how many messages were on their way."""
        self.ended = True
        self.join()
        return self.sent - len(self.acknowledged)

    def drain(self):
        """Lets what is still on its way be acknowledged by the broker that came back, or fail."""
        self.producer.flush(10)


def read_all(address, topic, acknowledged):
    """All records. What was acknowledged with acks=1 is shown once it is durable, so the end that counts lies beyond it."""
    last = {partition: max((offset for offset, _ in pairs), default=-1) for partition, pairs in acknowledged.items()}
    consumer = Consumer({
        "bootstrap.servers": address,
        "group.id": "crash",
        "enable.partition.eof": True,
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
    })
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    records = {partition: {} for partition in range(PARTITIONS)}
    ended = set()
    silences = 0
    while len(ended) < PARTITIONS and silences < SILENCES:
        messages = consumer.consume(1000, SILENCE_SECONDS)
        silences = 0 if messages else silences + 1
        for message in messages:
            if message.error():
                if message.error().name() != "_PARTITION_EOF":
                    raise AssertionError(f"read {topic}: {message.error()}")
                if message.offset() > last[message.partition()]:
                    ended.add(message.partition())
            else:
                records[message.partition()][message.offset()] = int(message.value())
    consumer.close()
    return records


def check(records, acknowledged, idempotent, what):
    """Every acknowledged message is where it was said to be; an idempotent producer's are there once, in order."""
    for partition, pairs in acknowledged.items():
        found = records[partition]
        for offset, number in pairs:
            if found.get(offset) != number:
                raise AssertionError(f"{what}: partition {partition} offset {offset}: acknowledged {number}, found {found.get(offset)}")
        numbers = [found[offset] for offset in sorted(found)]
        if idempotent:
            if len(set(numbers)) != len(numbers):
                raise AssertionError(f"{what}: partition {partition} has a message twice")
            if numbers != sorted(numbers):
                raise AssertionError(f"{what}: partition {partition} is out of order")
        elif sorted(found) != list(range(len(found))):
            raise AssertionError(f"{what}: partition {partition} has a hole in its offsets")


def crash(broker, topic, acks, idempotent, rounds, seed):
    dice = random.Random(seed)
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
    acknowledged = {partition: [] for partition in range(PARTITIONS)}
    first = 0
    in_flight = 0
    for _ in range(rounds):
        writers = [
            Writer(broker.address, topic, partition % PARTITIONS, first, acks, idempotent) for partition in range(PRODUCERS)
        ]
        for writer in writers:
            writer.start()
        time.sleep(dice.uniform(0.05, LOAD_SECONDS))
        broker.kill()
        in_flight += any([writer.end() > 0 for writer in writers])
        broker.start()
        for writer in writers:
            writer.drain()
            acknowledged[writer.partition] += writer.acknowledged
        first = max(writer.next for writer in writers)
        check(read_all(broker.address, topic, acknowledged), acknowledged, idempotent, f"acks={acks} idempotent={idempotent}")
    return in_flight, sum(map(len, acknowledged.values()))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    arguments = arguments.parse_args()
    print(f"seed {arguments.seed}")
    cases = records = 0
    for acks, idempotent, settings in CASES:
        with new_broker(settings) as broker:
            topic = f"crash-{acks}-{cases}"
            try:
                in_flight, count = crash(broker, topic, acks, idempotent, arguments.rounds, arguments.seed + cases)
            except AssertionError:
                print(broker.log_tail(), file=sys.stderr)
                raise
        print(
            f"acks={acks} idempotent={idempotent} {settings}: {arguments.rounds} kills, {in_flight} with requests in flight, "
            f"{count} acknowledged messages, none lost"
        )
        cases += 1
        records += count
    print(f"clients/crash: cases={cases} records={records}")


if __name__ == "__main__":
    main()
