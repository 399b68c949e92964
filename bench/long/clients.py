"""What real clients do beside the measured load: `clients.py BOOTSTRAP SECONDS`. Ends with a line of JSON, or fails when something was lost, out of order or wrong.

- keyed: a compacted topic is written without pause, with some keys deleted; at the end it must hold the last value of each key.
- groups: members of several groups join and leave; each group must read every record of a topic whose old segments are deleted, in order.
- passing: topics that are made, written, read and deleted.
"""

import json
import random
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

KEYED = "keyed"
KEYED_PARTITIONS = 2
KEYS = 2000
KEYED_RATE = 1000
# One in so many keyed records deletes its key.
DELETES = 50
ORDERS = "orders"
ORDERS_PARTITIONS = 6
ORDERS_RATE = 300
GROUPS = ("cooperative-sticky", "range", "roundrobin")
MEMBERS_MIN, MEMBERS_MAX = 1, 3
PASSING_PARTITIONS = 4
PASSING_RECORDS = 100
# Topics that are there at a time.
PASSING_KEPT = 4
ROUND_SECONDS = 0.1
WAIT_SECONDS = 120
SMALL = {"segment.bytes": str(1 << 20), "file.delete.delay.ms": "1000"}


def main():
    bootstrap, seconds = sys.argv[1], float(sys.argv[2])
    create(bootstrap, KEYED, KEYED_PARTITIONS, {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.3", "delete.retention.ms": "10000"})
    create(bootstrap, ORDERS, ORDERS_PARTITIONS, {"retention.bytes": str(4 << 20)})
    tasks = [Keyed(bootstrap), Orders(bootstrap), Passing(bootstrap)]
    tasks += [Group(bootstrap, assignor, tasks[1]) for assignor in GROUPS]
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=task.guarded, args=(end,), daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(0.5)
        failed = [task.failure for task in tasks if task.failure]
        if failed:
            raise SystemExit(f"clients: {failed}")
    # What the tasks left is looked at once nobody writes any more.
    results = {}
    for task in tasks:
        task.settle()
        results[task.name] = task.result()
        print(f"clients: {task.name}: {results[task.name]}", file=sys.stderr, flush=True)
    print(json.dumps(results), flush=True)


class Task:
    """Something that goes on until the end, in a thread of its own."""

    failure = None

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def guarded(self, end):
        try:
            self.work(end)
        except BaseException as failure:
            self.failure = f"{self.name}: {failure!r}"

    def settle(self):
        """Checks what is left, when all tasks have ended."""

    def producer(self):
        return Producer({"bootstrap.servers": self.bootstrap, "enable.idempotence": True, "linger.ms": 5, "log_level": 4})

    def refused(self, error, message):
        if error is not None:
            self.failure = f"{self.name}: {message.topic()} has not taken a record: {error}"


class Keyed(Task):
    """Writes values under few keys, and keeps the last that was acknowledged of each."""

    name = "keyed"

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.last, self.acknowledged, self.kept, self.deleted_left = {}, 0, 0, 0

    def work(self, end):
        producer, dice, number = self.producer(), random.Random(1), 0
        for due in rounds(end):
            while number < due * KEYED_RATE:
                key = b"key-%d" % dice.randrange(KEYS)
                value = None if dice.randrange(DELETES) == 0 else b"%d " % number + b"v" * 200
                producer.produce(KEYED, value, key, callback=self.answered)
                number += 1
            producer.poll(0)
        require(producer.flush(WAIT_SECONDS) == 0, "keyed records were not acknowledged")
        require(self.acknowledged == number, f"{self.acknowledged} of {number} keyed records were acknowledged")

    def answered(self, error, message):
        self.refused(error, message)
        self.acknowledged += 1
        # A producer of this kind has its answers in the order it wrote in.
        self.last[message.key()] = (message.partition(), message.offset(), message.value())

    def settle(self):
        held = {}
        for message in everything(self.bootstrap, KEYED, KEYED_PARTITIONS):
            held[message.key()] = (message.partition(), message.offset(), message.value())
            self.kept += 1
        for key, last in self.last.items():
            if last[2] is None and key not in held:
                self.deleted_left += 1
                continue
            require(held.get(key) == last, f"{key!r} holds {held.get(key)} where {last} was acknowledged last")
        require(held.keys() <= self.last.keys(), "keys that nobody wrote")

    def result(self):
        return {"acknowledged": self.acknowledged, "keys": len(self.last), "kept": self.kept, "deletes_gone": self.deleted_left}


class Orders(Task):
    """Writes what the groups read."""

    name = "orders"

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.ends, self.done = [0] * ORDERS_PARTITIONS, threading.Event()

    def work(self, end):
        producer, number = self.producer(), 0
        for due in rounds(end):
            while number < due * ORDERS_RATE:
                producer.produce(ORDERS, b"%d " % number + b"o" * 200, partition=number % ORDERS_PARTITIONS, callback=self.answered)
                number += 1
            producer.poll(0)
        require(producer.flush(WAIT_SECONDS) == 0, "orders were not acknowledged")
        self.done.set()

    def answered(self, error, message):
        self.refused(error, message)
        require(message.offset() == self.ends[message.partition()], f"{message.offset()} follows {self.ends[message.partition()]}")
        self.ends[message.partition()] += 1

    def result(self):
        return {"acknowledged": sum(self.ends)}


class Group(Task):
    """A group whose members come and go."""

    def __init__(self, bootstrap, assignor, orders):
        super().__init__(bootstrap)
        self.name, self.assignor, self.orders = f"group {assignor}", assignor, orders
        self.lock = threading.Lock()
        self.read, self.again, self.joined, self.rebalances = [0] * ORDERS_PARTITIONS, 0, 0, 0

    def work(self, end):
        dice = random.Random(self.assignor)
        members = []
        while time.monotonic() < end and not self.failure:
            members = [member for member in members if member.is_alive()]
            if len(members) < MEMBERS_MIN or len(members) < MEMBERS_MAX and dice.randrange(4) == 0:
                members.append(self.join(time.monotonic() + dice.uniform(5, 60)))
            time.sleep(1)
        # Nobody may miss what comes last.
        members.append(self.join(time.monotonic() + WAIT_SECONDS))
        for member in members:
            member.join()
        require(self.read == self.orders.ends, f"{self.name} has read to {self.read} of {self.orders.ends}")

    def join(self, until):
        member = threading.Thread(target=self.guarded_member, args=(until,), daemon=True)
        member.start()
        self.joined += 1
        return member

    def guarded_member(self, until):
        try:
            self.member(until)
        except BaseException as failure:
            self.failure = f"{self.name}: {failure!r}"

    def member(self, until):
        # A group that has committed nothing begins with the oldest record.
        config = {"bootstrap.servers": self.bootstrap, "group.id": self.name, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        config |= {"partition.assignment.strategy": self.assignor, "session.timeout.ms": 10_000, "heartbeat.interval.ms": 1000}
        consumer = Consumer(config)
        consumer.subscribe([ORDERS], on_assign=self.assigned)
        while time.monotonic() < until and not self.failure:
            if self.orders.done.is_set() and self.read == self.orders.ends:
                break
            messages = consumer.consume(500, 0.2)
            for message in messages:
                if message.error():
                    raise KafkaException(message.error())
                self.note(message.partition(), message.offset())
            if messages:
                try:
                    consumer.commit(asynchronous=False)
                except KafkaException as refused:
                    # Partitions were given to another meanwhile, who reads this again.
                    if refused.args[0].name() not in ("ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS", "UNKNOWN_MEMBER_ID", "_NO_OFFSET"):
                        raise
        consumer.close()

    def assigned(self, _consumer, _partitions):
        self.rebalances += 1

    def note(self, partition, offset):
        """A record may come again after a rebalance, but none may be left out."""
        with self.lock:
            require(offset <= self.read[partition], f"{self.name}: {partition} goes on at {offset} where {self.read[partition]} was read")
            if offset < self.read[partition]:
                self.again += 1
            self.read[partition] = max(self.read[partition], offset + 1)

    def result(self):
        return {"read": sum(self.read), "again": self.again, "members": self.joined, "assignments": self.rebalances}


class Passing(Task):
    """Topics that are there for a while."""

    name = "passing"

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.made = self.records = 0

    def work(self, end):
        admin, kept = AdminClient({"bootstrap.servers": self.bootstrap}), []
        while time.monotonic() < end:
            name = f"passing-{self.made}"
            create(self.bootstrap, name, PASSING_PARTITIONS, {})
            self.made += 1
            kept.append(name)
            # A producer and a consumer for each, as they remember every topic they have met.
            producer = self.producer()
            for number in range(PASSING_RECORDS):
                producer.produce(name, b"%d" % number, partition=number % PASSING_PARTITIONS, callback=self.refused)
            require(producer.flush(WAIT_SECONDS) == 0, f"{name} has not taken all")
            read = sorted(int(message.value()) for message in everything(self.bootstrap, name, PASSING_PARTITIONS))
            require(read == list(range(PASSING_RECORDS)), f"{name} holds {read}")
            self.records += len(read)
            if len(kept) > PASSING_KEPT:
                gone = kept.pop(0)
                admin.delete_topics([gone], operation_timeout=WAIT_SECONDS)[gone].result(WAIT_SECONDS)
            time.sleep(1)

    def result(self):
        return {"topics": self.made, "records": self.records}


def create(bootstrap, name, partitions, configs):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, partitions, 1, config={**SMALL, **configs})])[name].result(WAIT_SECONDS)


def everything(bootstrap, topic, partitions):
    """All records that a topic holds now, partition by partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False, "enable.partition.eof": True})
    try:
        for partition in range(partitions):
            first, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), WAIT_SECONDS)
            consumer.assign([TopicPartition(topic, partition, first)])
            deadline = time.monotonic() + WAIT_SECONDS
            done = first >= end
            while not done:
                require(time.monotonic() < deadline, f"{topic}-{partition} was not read to {end}")
                for message in consumer.consume(1000, 1):
                    if message.error() is None:
                        yield message
                    elif message.error().name() == "_PARTITION_EOF":
                        done = message.offset() >= end
                    else:
                        raise KafkaException(message.error())
    finally:
        consumer.close()


def rounds(end):
    """Seconds since the first round, ten times a second."""
    began = time.monotonic()
    while time.monotonic() < end:
        yield time.monotonic() - began
        time.sleep(ROUND_SECONDS)


def require(holds, otherwise):
    if not holds:
        raise AssertionError(otherwise)


if __name__ == "__main__":
    main()
