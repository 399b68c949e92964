"""Steady produce with consumers at the tail: no operation leaves the shard's core for a worker thread of the kernel."""

import re
import threading
import urllib.request

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from cases import case, checked, equal, main
from launcher import broker as new_broker

PARTITIONS = 4
MESSAGES = 2_000_000
VALUE = b"x" * 100


def switches(broker):
    """Times a worker thread of the rings has run, by the broker's metrics."""
    page = urllib.request.urlopen(f"http://{broker.http}/metrics", timeout=10).read().decode()
    return int(re.search(r"^ringlog_io_wq_switches_total (\d+)", page, re.M)[1])


def consume(broker, topic, partition, count):
    """Reads a partition from its start until so many messages have come."""
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "unused", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, partition, 0)])
    try:
        next_offset = 0
        while next_offset < count:
            for message in consumer.consume(1000, 10):
                equal(message.error(), None, "consumer's error")
                equal(message.offset(), next_offset, "offset")
                next_offset += 1
    finally:
        consumer.close()


def steady(broker, topic, configs):
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1, config=configs)])[topic].result()
    failures = []

    def reader(partition):
        try:
            consume(broker, topic, partition, MESSAGES // PARTITIONS)
        except BaseException as failure:
            failures.append(failure)

    readers = [threading.Thread(target=reader, args=(partition,)) for partition in range(PARTITIONS)]
    for thread in readers:
        thread.start()
    producer = Producer({"bootstrap.servers": broker.address, "acks": "all", "linger.ms": 1, "batch.num.messages": 150})
    for number in range(MESSAGES):
        while True:
            try:
                producer.produce(topic, VALUE, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
    equal(producer.flush(120), 0, "messages not acknowledged")
    for thread in readers:
        thread.join()
    equal(failures, [], "readers' failures")
    checked(MESSAGES)


@case
def durable(broker):
    steady(broker, "steady-durable", {})
    equal(switches(broker), 0, "switches to worker threads of the kernel")


@case
def replicated(broker):
    steady(broker, "steady-replicated", {"durability": "replicated"})
    equal(switches(broker), 0, "switches to worker threads of the kernel")


if __name__ == "__main__":
    main("steady", new_broker({"http.listen": "127.0.0.1:0"}, options=["--cores", "0"]))
