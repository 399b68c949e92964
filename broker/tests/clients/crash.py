"""kill -9 under load: what was acknowledged is there after the restart, once and in order. And what a start has to scan.

`crash.py --kills N`: N kills for each acks level, half of them in each of its cases. Producers on several connections write numbered
messages; at a random instant the broker is killed and started again on the same directory; another client reads everything back.
Nine in ten kills must meet requests that are not acknowledged. N = 200 is the nightly size.
"""

import argparse
import json
import math
import random
import re
import struct
import sys
import threading
import time
import urllib.request

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
# A topic is read back whole after each kill; the next one begins after so many.
KILLS_PER_TOPIC = 10
# The share of kills that must meet requests in flight.
IN_FLIGHT_LEAST = 0.9
# The broker is killed this long after its producers began, at most.
LOAD_SECONDS = 0.6
# Nothing more comes when nothing has come this many times, for this long each.
SILENCES = 50
SILENCE_SECONDS = 0.2
# Far longer than a broker is ever away. A client gives up a message after this long, and where it gives up the first messages of a batch
# that has been written and not answered, librdkafka sends the others again under a new producer epoch: they are there twice, and no
# broker can know it (its INTRODUCTION.md, "Message timeout considerations").
MESSAGE_TIMEOUT_SECONDS = 120
# What a producer holds back at most: all of it is sent after the kill.
QUEUED_MESSAGES_MAX = 20_000
# Of a log, what the kills that look at the scan write first, and what a start may scan of it: what is between two checkpoints, and
# what was written while the last was on its way.
SCAN_LOG_BYTES = 64 << 20
SCAN_BYTES_MAX = (16 << 20) + (8 << 20)
SCAN_VALUE_BYTES = 100_000


class Writer(threading.Thread):
    """Writes numbered messages to one partition, and remembers which were acknowledged."""

    def __init__(self, address, topic, partition, first, acks, idempotent):
        super().__init__(daemon=True)
        self.topic, self.partition, self.next = topic, partition, first
        self.acknowledged, self.sent, self.ended = [], 0, False
        self.refused, self.errors, self.statistics = {}, [], "{}"
        self.address = address
        self.producer = Producer({
            "bootstrap.servers": address,
            "acks": acks,
            "enable.idempotence": idempotent,
            "linger.ms": 1,
            "batch.num.messages": 200,
            "message.timeout.ms": MESSAGE_TIMEOUT_SECONDS * 1000,
            "queue.buffering.max.messages": QUEUED_MESSAGES_MAX,
            "log_level": 0,
            "statistics.interval.ms": 1000,
            "stats_cb": self.told,
            "error_cb": self.failed,
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
        else:
            self.refused.setdefault(str(error), int(message.value()))

    def told(self, statistics):
        self.statistics = statistics

    def failed(self, error):
        self.errors.append(f"{time.time():.3f} {error}")

    def state(self):
        """What the client says of itself, and whether another one is served: of a message that is not acknowledged it tells on whose side it lies."""
        said = json.loads(self.statistics)
        brokers = {
            name: {key: broker.get(key) for key in ("state", "stateage", "connects", "disconnects", "tx", "rx", "outbuf_cnt", "outbuf_msg_cnt", "waitresp_cnt", "waitresp_msg_cnt", "txerrs", "rxerrs", "req_timeouts", "req")}
            for name, broker in said.get("brokers", {}).items()
        }
        partitions = said.get("topics", {}).get(self.topic, {}).get("partitions", {})
        try:
            other = Producer({"bootstrap.servers": self.address, "acks": "all", "message.timeout.ms": 10_000, "log_level": 0})
            answers = []
            other.produce(self.topic, b"-1", partition=self.partition, on_delivery=lambda error, message: answers.append((str(error), message.offset())))
            other.flush(15)
        except Exception as error:
            answers = [error]
        return (
            f"client {said.get('client_id')} at {said.get('time')}: queue {said.get('msg_cnt')}, idempotence {said.get('eos')}, brokers {brokers}, "
            f"partition {partitions.get(str(self.partition))}; errors {self.errors[-5:]}; another client's message: {answers}"
        )

    def end(self):
        """Stops writing; tells how many messages were on their way."""
        self.ended = True
        self.join()
        return self.sent - len(self.acknowledged)

    def drain(self):
        """Lets what is still on its way be acknowledged by the broker that came back."""
        self.producer.flush(MESSAGE_TIMEOUT_SECONDS)
        if self.sent != len(self.acknowledged):
            left = self.sent - len(self.acknowledged)
            raise AssertionError(f"{self.topic}-{self.partition}: {left} of {self.sent} messages were never acknowledged: {self.refused}\n{self.state()}")


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


def check(broker, topic, acknowledged, idempotent, what):
    """Every acknowledged message is where it was said to be; an idempotent producer's are there once, in order."""
    records = read_all(broker.address, topic, acknowledged)
    for partition, pairs in acknowledged.items():
        found = records[partition]
        for offset, number in pairs:
            if found.get(offset) != number:
                raise AssertionError(f"{what}: partition {partition} offset {offset}: acknowledged {number}, found {found.get(offset)}")
        numbers = [found[offset] for offset in sorted(found)]
        if idempotent:
            first = {}
            for offset in sorted(found):
                before = first.setdefault(found[offset], offset)
                if before != offset:
                    where = [batch_at(broker, topic, partition, at) for at in (before, offset)]
                    raise AssertionError(f"{what}: partition {partition} has message {found[offset]} twice: {where}")
            if numbers != sorted(numbers):
                raise AssertionError(f"{what}: partition {partition} is out of order")
        elif sorted(found) != list(range(len(found))):
            raise AssertionError(f"{what}: partition {partition} has a hole in its offsets")


def batch_at(broker, topic, partition, offset):
    """Whose batch holds an offset: of two that hold the same message, only those of one producer epoch are the broker's fault."""
    for log in broker.data.glob(f"**/{topic}-{partition}/*.log"):
        data, at = log.read_bytes(), 0
        while at + 61 <= len(data):
            base, size, epoch, _, _, _, last, _, _, producer, producer_epoch, sequence, _ = struct.unpack_from(">qiibIhiqqqhii", data, at)
            if base <= offset <= base + last and size > 0:
                return f"offset {offset}, leader epoch {epoch}, producer {producer} epoch {producer_epoch}, batch from sequence {sequence}"
            if size <= 0:
                break
            at += 12 + size
    return f"offset {offset}"


def make_topic(broker, topic):
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)


def crash(broker, name, acks, idempotent, kills, seed):
    dice = random.Random(seed)
    in_flight = count = 0
    what = f"acks={acks} idempotent={idempotent}"
    topics = {}
    for kill in range(kills):
        topic = f"{name}-{kill // KILLS_PER_TOPIC}"
        if topic not in topics:
            make_topic(broker, topic)
            topics[topic] = {partition: [] for partition in range(PARTITIONS)}
            first = 0
        acknowledged = topics[topic]
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
            count += len(writer.acknowledged)
        first = max(writer.next for writer in writers)
        check(broker, topic, acknowledged, idempotent, what)
    # The kills after it have left each topic as it was.
    for topic, acknowledged in topics.items():
        check(broker, topic, acknowledged, idempotent, what)
    if in_flight < math.floor(IN_FLIGHT_LEAST * kills):
        raise AssertionError(f"{what}: only {in_flight} of {kills} kills met requests in flight")
    return in_flight, count


def scanned(broker):
    """Bytes of batches that the broker had to look at when it started."""
    metrics = urllib.request.urlopen(f"http://{broker.http}/metrics", timeout=10).read().decode()
    return int(re.search(r"^ringlog_recovery_scanned_bytes_total (\d+)", metrics, re.M)[1])


def scan(broker):
    """After a kill a start scans what the checkpoint leaves, however long the log is; after a clean stop nothing."""
    topic = "scan"
    make_topic(broker, topic)
    acknowledged = {partition: [] for partition in range(PARTITIONS)}
    most = 0
    for turn in range(2):
        delivered = []
        producer = Producer({"bootstrap.servers": broker.address, "acks": "all", "linger.ms": 5, "log_level": 0})
        for number in range(PARTITIONS * SCAN_LOG_BYTES // SCAN_VALUE_BYTES):
            value = b"%d" % number + b" " * SCAN_VALUE_BYTES
            while True:
                try:
                    producer.produce(topic, value, partition=number % PARTITIONS, on_delivery=lambda *told: delivered.append(told))
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        producer.flush(60)
        for error, message in delivered:
            if error is not None:
                raise AssertionError(f"scan: {error}")
            acknowledged[message.partition()].append((message.offset(), int(message.value())))
        broker.kill()
        broker.start()
        found = scanned(broker)
        if found > PARTITIONS * SCAN_BYTES_MAX:
            raise AssertionError(f"scan {turn}: {found} bytes scanned after a kill")
        most = max(most, found)
        broker.stop()
        broker.start()
        if scanned(broker) != 0:
            raise AssertionError(f"scan {turn}: {scanned(broker)} bytes scanned after a clean stop")
        check(broker, topic, acknowledged, False, "scan")
    if most == 0:
        raise AssertionError("scan: no start had anything to scan, so the count counts nothing")
    return most, sum(map(len, acknowledged.values()))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--kills", type=int, default=50, help="for each acks level")
    arguments.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    arguments = arguments.parse_args()
    print(f"seed {arguments.seed}")
    cases = records = 0
    met, killed = {}, {}
    for acks, idempotent, settings in CASES:
        kills = arguments.kills // sum(level == acks for level, _, _ in CASES)
        with new_broker(settings) as broker:
            try:
                in_flight, count = crash(broker, f"crash-{acks}-{cases}", acks, idempotent, kills, arguments.seed + cases)
            except AssertionError:
                print(broker.log_tail(), file=sys.stderr)
                raise
        print(
            f"acks={acks} idempotent={idempotent} {settings}: {kills} kills, {in_flight} with requests in flight, "
            f"{count} acknowledged messages, none lost",
            flush=True,
        )
        met[acks] = met.get(acks, 0) + in_flight
        killed[acks] = killed.get(acks, 0) + kills
        cases += 1
        records += count
    for acks, kills in killed.items():
        print(f"acks={acks}: {kills} kills, {met[acks]} with requests in flight")
    # What a broker scans is asked of ringlog alone.
    if new_broker().name == "ringlog":
        with new_broker() as broker:
            most, count = scan(broker)
        print(f"scan: {count} messages of {SCAN_VALUE_BYTES} bytes; at most {most} bytes scanned after a kill, 0 after a clean stop")
        cases += 1
        records += count
    print(f"clients/crash: cases={cases} records={records}")


if __name__ == "__main__":
    main()
