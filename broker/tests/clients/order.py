"""Messages of one idempotent producer over partitions of both shards: every one comes back once and in order.

A million over steady connections, and fewer over connections that are cut while answers are on their way.
"""

import random
import re
import socket
import threading
import time
import urllib.request
import uuid

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from cases import case, checked, equal, main
from launcher import broker as new_broker

OPTIONS = ("--cores", "0,1")
SHARDS = 2
PARTITIONS = 8
MESSAGES = 1_000_000
# Small batches: thousands of requests, so that five are on their way to each shard's partitions at any time.
BATCH_MESSAGES = 500
IN_FLIGHT = 5
# Over connections that are cut: of this many answers one is lost, with all that follow on its connection.
CUT_MESSAGES = 160_000
CUT_ONE_IN = 40
CUTS_MIN = 10
# The reader gives up when nothing has come this many times, for this long each.
SILENCES = 100
SILENCE_SECONDS = 0.2


def create(broker):
    topic = f"order-{uuid.uuid4()}"
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
    return topic


class Cutter:
    """Passes connections on to a broker, and now and then cuts one when an answer comes: what it answers has been done."""

    def __init__(self, seed):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.dice = random.Random(seed)
        self.broker = None
        self.cutting = True
        self.cuts = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.broker.port))
            for source, target in ((client, server), (server, client)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.pass_on, args=(source, target, source is server), daemon=True).start()

    def pass_on(self, source, target, answers):
        try:
            while data := source.recv(1 << 16):
                if answers and self.cutting and self.dice.randrange(CUT_ONE_IN) == 0:
                    self.cuts += 1
                    break
                target.sendall(data)
        except OSError:
            pass
        # Ends the other direction's thread too, and tells both sides.
        for side in (source, target):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        target.close()


def partitions_by_shard(broker, topic):
    """The partitions each shard says it owns: a scrape lists one shard's after the other's, each in rising order."""
    with urllib.request.urlopen(f"http://{broker.http}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    shards = [[]]
    for number in re.findall(rf'^kafka_log_log_logendoffset{{topic="{topic}",partition="(\d+)"}}', text, re.MULTILINE):
        if shards[-1] and int(number) < shards[-1][-1]:
            shards.append([])
        shards[-1].append(int(number))
    return shards


def produce(broker, topic, count, config={}):
    """Sends the numbers 0, 1, 2, ... to each partition in turn; all are acknowledged, each at the offset of its number."""
    producer = Producer({
        "bootstrap.servers": broker.address,
        "enable.idempotence": True,
        "max.in.flight.requests.per.connection": IN_FLIGHT,
        "batch.num.messages": BATCH_MESSAGES,
        "linger.ms": 1,
        "queue.buffering.max.messages": 100_000,
        **config,
    })
    acknowledged = [0] * PARTITIONS
    wrong = []

    def delivered(error, message):
        if error or message.offset() != acknowledged[message.partition()]:
            wrong.append((error, message.partition(), message.offset()))
        acknowledged[message.partition()] += 1

    for number in range(count):
        value = b"%d" % number
        for partition in range(PARTITIONS):
            while True:
                try:
                    producer.produce(topic, value, partition=partition, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)
    equal(producer.flush(60), 0, "messages left unsent")
    equal(wrong[:5], [], "messages refused or acknowledged out of order")
    equal(acknowledged, [count] * PARTITIONS, "messages acknowledged in each partition")


def read(broker, topic, count):
    """Reads all partitions at once to their ends; each message's number is its offset, and nothing follows the last."""
    consumer = Consumer({
        "bootstrap.servers": broker.address,
        "group.id": "order",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "check.crcs": True,
    })
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    following = [0] * PARTITIONS
    ended = {}
    silences = 0
    while len(ended) < PARTITIONS:
        messages = consumer.consume(10_000, SILENCE_SECONDS)
        silences = 0 if messages else silences + 1
        if silences == SILENCES:
            raise AssertionError(f"nothing more came after {following} messages of the partitions")
        for message in messages:
            partition = message.partition()
            if message.error():
                if message.error().name() != "_PARTITION_EOF":
                    raise KafkaException(message.error())
                ended[partition] = message.offset()
            elif int(message.value()) != following[partition] or message.offset() != following[partition]:
                raise AssertionError(
                    f"partition {partition}: expected message {following[partition]}, got {message.value()} at offset {message.offset()}"
                )
            else:
                following[partition] += 1
    consumer.close()
    equal(following, [count] * PARTITIONS, "messages read from each partition")
    equal(ended, dict.fromkeys(range(PARTITIONS), count), "ends of the partitions")
    checked(sum(following))


@case
def each_partition_keeps_its_order(broker):
    topic = create(broker)
    if broker.name == "ringlog":
        shards = partitions_by_shard(broker, topic)
        print(f"partitions of each shard: {shards}", flush=True)
        equal([len(owned) for owned in shards], [PARTITIONS // SHARDS] * SHARDS, "partitions of each shard")
        equal(sorted(sum(shards, [])), list(range(PARTITIONS)), "partitions of all shards")
    produce(broker, topic, MESSAGES // PARTITIONS)
    read(broker, topic, MESSAGES // PARTITIONS)


@case
def cut_connections_repeat_and_reorder_nothing(_):
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}", flush=True)
    cutter = Cutter(seed)
    settings = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{cutter.port}"}
    with new_broker(settings, OPTIONS) as broker:
        cutter.broker = broker
        cutter.cutting = False
        topic = create(broker)
        cutter.cutting = True
        small = {"batch.num.messages": 100, "log_level": 0}
        soon = {"retry.backoff.ms": 10, "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 50}
        produce(broker, topic, CUT_MESSAGES // PARTITIONS, small | soon)
        cutter.cutting = False
        read(broker, topic, CUT_MESSAGES // PARTITIONS)
    print(f"connections cut: {cutter.cuts}", flush=True)
    equal(cutter.cuts >= CUTS_MIN, True, f"{cutter.cuts} cuts are enough")


if __name__ == "__main__":
    main("order", new_broker(options=OPTIONS))
