"""A member of a group in Python: `member.py confluent|kafka-python|aiokafka BOOTSTRAP TOPIC GROUP [range]`, told what to do and telling what it did as in `group_clients.py`."""

import logging
import sys
import threading

POLL_MS = 100
SESSION_MS = 6000
HEARTBEAT_MS = 300

holding = leaving = False
owned = None


def listen():
    """Commands come one a line; the end of them is one, too."""
    global holding, leaving
    for line in sys.stdin:
        if line.strip() == "hold":
            holding = True
            say("holding")
        else:
            break
    leaving = True


def say(*words):
    print(*words, flush=True)


def say_owned(partitions):
    global owned
    if owned != partitions:
        owned = partitions
        say("owns", *sorted(partitions))


def say_got(partition, offset, value):
    say("got", partition, offset, value.decode())


def confluent(bootstrap, topic, group, assignor="cooperative-sticky"):
    from confluent_kafka import Consumer, KafkaException

    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": HEARTBEAT_MS,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "partition.assignment.strategy": assignor,
    })
    consumer.subscribe([topic])
    while not leaving:
        messages = consumer.consume(100, POLL_MS / 1000)
        say_owned({one.partition for one in consumer.assignment()})
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            say_got(message.partition(), message.offset(), message.value())
        if messages and not holding:
            read = {message.partition() for message in messages}
            for one in consumer.commit(asynchronous=False):
                # It tells of all it owns, also of what it has not read.
                if one.partition in read:
                    say("committed", one.partition, one.offset)
    consumer.close()


def say_polled(consumer, polled):
    """What a poll of kafka-python or aiokafka, its kin, has brought."""
    say_owned({one.partition for one in consumer.assignment()})
    for records in polled.values():
        for record in records:
            say_got(record.partition, record.offset, record.value)


def kafka_python(bootstrap, topic, group, assignor="roundrobin"):
    from kafka import KafkaConsumer
    from kafka.coordinator.assignors.range import RangePartitionAssignor
    from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        partition_assignment_strategy=[{"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor}[assignor]],
    )
    while not leaving:
        polled = consumer.poll(timeout_ms=POLL_MS)
        say_polled(consumer, polled)
        if polled and not holding:
            consumer.commit()
            for one in polled:
                say("committed", one.partition, consumer.committed(one))
    consumer.close()


def aiokafka(bootstrap, topic, group, assignor="sticky"):
    import asyncio

    asyncio.run(aiokafka_member(bootstrap, topic, group, assignor))


async def aiokafka_member(bootstrap, topic, group, assignor):
    from aiokafka import AIOKafkaConsumer
    from aiokafka.coordinator.assignors.range import RangePartitionAssignor
    from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        partition_assignment_strategy=[{"range": RangePartitionAssignor, "sticky": StickyPartitionAssignor}[assignor]],
    )
    await consumer.start()
    while not leaving:
        got = await consumer.getmany(timeout_ms=POLL_MS)
        say_polled(consumer, got)
        if got and not holding:
            await consumer.commit()
            for one in got:
                say("committed", one.partition, await consumer.committed(one))
    await consumer.stop()


if __name__ == "__main__":
    # A rebalance is no news here; what goes wrong ends the program.
    logging.disable(logging.CRITICAL)
    threading.Thread(target=listen, daemon=True).start()
    {"confluent": confluent, "kafka-python": kafka_python, "aiokafka": aiokafka}[sys.argv[1]](*sys.argv[2:])
