"""kill -9 in the middle of group commits: a committed offset is never older than the last acknowledged commit.

`group_crash.py --rounds N`: N kills. Members of groups and consumers without a group commit ever higher offsets; at a
random instant the broker is killed and started again on the same directory; another client asks how far each group has come.
"""

import argparse
import random
import socket
import sys
import threading
import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from launcher import broker as new_broker

PARTITIONS = 4
# How each group's offsets are committed: by a consumer that is a member, by one that is none, or by requests one behind the other.
GROUPS = ["member", "alone", "pipelined"] * 4
LOAD_SECONDS = 0.8
WAIT_SECONDS = 60
SETTINGS = {"group.initial.rebalance.delay.ms": 0, "group.min.session.timeout.ms": 1000, "offsets.topic.num.partitions": 5}


class Committer(threading.Thread):
    """Commits offsets of one partition, each one higher, and remembers which were acknowledged."""

    def __init__(self, address, topic, number, first):
        super().__init__(daemon=True)
        self.address, self.topic, self.number = address, topic, number
        self.group, self.partition = f"group-{number}", number % PARTITIONS
        self.sent = self.acknowledged = first
        self.count, self.ended = 0, False

    def acknowledge(self, offset):
        self.acknowledged = offset
        self.count += 1


class Waiting(Committer):
    """Waits for each commit. (librdkafka sends commits that were not answered again in any order: so one at a time.)"""

    def run(self):
        consumer = Consumer({
            "bootstrap.servers": self.address,
            "group.id": self.group,
            "session.timeout.ms": 2000,
            "heartbeat.interval.ms": 200,
            "enable.auto.commit": False,
            "log_level": 0,
        })
        if GROUPS[self.number] == "member":
            consumer.subscribe([self.topic])
            while not self.ended and not consumer.assignment():
                consumer.poll(0.05)
        while not self.ended:
            self.sent += 1
            offsets = [TopicPartition(self.topic, self.partition, self.sent)]
            try:
                consumer.commit(offsets=offsets, asynchronous=False)
                self.acknowledge(self.sent)
            except KafkaException:
                pass
            consumer.poll(0)
        consumer.close()


class Pipelined(Committer):
    """Sends commits without waiting; answers come in the order of the requests."""

    def run(self):
        host, port = self.address.split(":")
        try:
            with socket.create_connection((host, int(port)), 5) as connection:
                connection.settimeout(10)
                self.talk(connection, connection.makefile("rb"))
        except (OSError, EOFError):
            pass

    def talk(self, connection, answers):
        first = self.sent
        while not self.ended:
            while self.sent - self.acknowledged < 50:
                self.sent += 1
                connection.sendall(self.request(self.sent))
            size = answers.read(4)
            answer = answers.read(int.from_bytes(size, "big"))
            if len(size) < 4 or len(answer) < int.from_bytes(size, "big"):
                raise EOFError
            if answer[-2:] == b"\0\0":
                self.acknowledge(int.from_bytes(answer[:4], "big"))
            elif self.count or self.sent - first > 50:
                raise AssertionError(f"a commit is answered with {answer!r}")

    def request(self, offset):
        """OffsetCommit version 2; the correlation id is the offset."""
        text = lambda word: len(word).to_bytes(2, "big") + word.encode()
        body = text(self.group) + b"\xff\xff\xff\xff" + text("") + b"\xff" * 8 + b"\0\0\0\1" + text(self.topic)
        body += b"\0\0\0\1" + self.partition.to_bytes(4, "big") + offset.to_bytes(8, "big") + text("")
        frame = b"\0\x08\0\x02" + offset.to_bytes(4, "big") + text("test") + body
        return len(frame).to_bytes(4, "big") + frame


def committer(address, topic, number, first):
    kind = Pipelined if GROUPS[number] == "pipelined" else Waiting
    return kind(address, topic, number, first)


def committed(address, topic):
    """How far each group has come."""
    client = AdminClient({"bootstrap.servers": address, "log_level": 0})
    deadline = time.monotonic() + WAIT_SECONDS
    told = {}
    for number in range(len(GROUPS)):
        while True:
            asked = [ConsumerGroupTopicPartitions(f"group-{number}", [TopicPartition(topic, number % PARTITIONS)])]
            try:
                told[number] = client.list_consumer_group_offsets(asked)[f"group-{number}"].result(30).topic_partitions[0].offset
                break
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
    return told


def crash(broker, topic, rounds, seed):
    chance = random.Random(seed)
    ends = [0] * len(GROUPS)
    acknowledged = 0
    for kill in range(rounds):
        committers = [committer(broker.address, topic, number, ends[number]) for number in range(len(GROUPS))]
        for one in committers:
            one.start()
        time.sleep(chance.uniform(0.2, LOAD_SECONDS))
        broker.kill()
        # Nobody commits any more while the broker is away, nor when it is back.
        for one in committers:
            one.ended = True
        broker.start()
        for one in committers:
            one.join()
        told = committed(broker.address, topic)
        for one in committers:
            got = max(told[one.number], 0)
            if not one.acknowledged <= got <= one.sent:
                raise AssertionError(
                    f"kill {kill}: group {one.number} ({GROUPS[one.number]}) is at {got}, acknowledged were {one.acknowledged}, sent {one.sent}"
                )
            ends[one.number] = one.sent
            acknowledged += one.count
    return acknowledged


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    arguments = arguments.parse_args()
    print(f"seed {arguments.seed}")
    with new_broker(SETTINGS) as broker:
        topic = "group-crash"
        admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 0})
        admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
        try:
            count = crash(broker, topic, arguments.rounds, arguments.seed)
        except AssertionError:
            print(broker.log_tail(), file=sys.stderr)
            raise
    print(f"{arguments.rounds} kills, {len(GROUPS)} groups, {count} acknowledged commits, none lost")
    print(f"clients/group_crash: cases={arguments.rounds} records={count}")


if __name__ == "__main__":
    main()
