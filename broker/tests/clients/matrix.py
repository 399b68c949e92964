"""What each library writes every library reads, in each codec: a table of writers and readers."""

import concurrent.futures
import json
import os
import struct
import subprocess
import sys
import traceback

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from foreign import LIBRARIES
from launcher import ROOT
from launcher import broker as new_broker
from matrix_messages import SAME_HEADER, check, message

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
MESSAGES = 1000
SECONDS = 60
# More than there are cores: kcat, for one, mostly waits.
WORKERS = 6


class Confluent:
    def write(self, broker, topic, codec):
        producer = Producer({"bootstrap.servers": broker.address, "compression.type": codec, "batch.num.messages": 300})
        refused = []
        for number in range(MESSAGES):
            key, value, header = message(number)
            producer.produce(topic, value, key, 0, lambda error, _: error and refused.append(error), headers=[("h", header)])
        if producer.flush(SECONDS) or refused:
            raise AssertionError(f"not all was delivered: {refused[:1]}")

    def read(self, broker, *topics):
        for topic in topics:
            self.read_one(broker, topic)

    def read_one(self, broker, topic):
        settings = {"group.id": "matrix", "enable.auto.commit": False, "enable.partition.eof": True, "check.crcs": True}
        consumer = Consumer({"bootstrap.servers": broker.address, "auto.offset.reset": "error", **settings})
        consumer.assign([TopicPartition(topic, 0, 0)])
        got = []
        while True:
            one = consumer.poll(SECONDS)
            if one is None or one.error():
                break
            headers = [(name, value.decode()) for name, value in one.headers() or []]
            got.append((one.offset(), one.key().decode(), one.value().decode(), headers))
        if one is None or one.error().name() != "_PARTITION_EOF":
            raise AssertionError(f"reading ended after {len(got)} messages: {one and one.error()}")
        consumer.close()
        check(got, MESSAGES)


class Kcat:
    def write(self, broker, topic, codec):
        for first in range(0, MESSAGES, SAME_HEADER):
            messages = [message(number) for number in range(first, first + SAME_HEADER)]
            lines = "".join(f"{key}:{value}\n" for key, value, _ in messages)
            run(["kcat", "-b", broker.address, "-P", "-t", topic, "-p", "0", "-z", codec, "-K", ":", "-H", f"h={messages[0][2]}"], lines)

    def read(self, broker, *topics):
        for topic in topics:
            self.read_one(broker, topic)

    def read_one(self, broker, topic):
        options = ["-C", "-e", "-q", "-J", "-o", "beginning", "-X", "check.crcs=true"]
        lines = run(["kcat", "-b", broker.address, "-t", topic, "-p", "0", *options]).splitlines()
        got = []
        for one in map(json.loads, lines):
            flat = one.get("headers", [])
            got.append((one["offset"], one["key"], one["payload"], list(zip(flat[::2], flat[1::2]))))
        check(got, MESSAGES)


class Program:
    """A program that takes `write BOOTSTRAP TOPIC CODEC COUNT` and `read BOOTSTRAP TOPIC,... COUNT`, and fails on any difference."""

    def __init__(self, command):
        self.command = command

    def write(self, broker, topic, codec):
        run([*self.command, "write", broker.address, topic, codec, str(MESSAGES)])

    def read(self, broker, *topics):
        run([*self.command, "read", broker.address, ",".join(topics), str(MESSAGES)])


def run(command, given=""):
    ended = subprocess.run(command, input=given, capture_output=True, text=True, timeout=SECONDS)
    if ended.returncode != 0:
        raise AssertionError(f"{command} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def kafka_python(environment):
    return Program([str(ROOT / "target" / environment / "bin" / "python"), os.path.join(sys.path[0], "matrix_kafka_python.py")])


def codecs_stored(broker, topic):
    """The codec of each batch in the stopped broker's file, from the headers of record batches v2."""
    root = broker.data / "logs" if broker.name == "kafka" else broker.data
    (log,) = (root / f"{topic}-0").glob("*.log")
    data, at, codecs = log.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from(">i", data, at + 8)
        (attributes,) = struct.unpack_from(">h", data, at + 21)
        codecs.append(CODECS[attributes & 7])
        at += 12 + length
    return codecs


def attempt(what, action, *arguments):
    """Whether the action ends well; why not is told."""
    try:
        action(*arguments)
    except Exception:
        print(f"FAILED matrix: {what}\n{traceback.format_exc()}", flush=True)
        return False
    return True


def read_each(broker, reader, library, topics):
    """The topics that were read, as (writer, codec); one start of a program reads all, and only when that fails each by itself."""
    try:
        library.read(broker, *topics.values())
        return list(topics)
    except Exception:
        return [key for key, topic in topics.items() if attempt(f"{reader} reads {topic}", library.read, broker, topic)]


def main():
    libraries = {
        "confluent": Confluent(),
        "kcat": Kcat(),
        "kafka-python 2": kafka_python("clients-venv-kp2"),
        "kafka-python 3": kafka_python("clients-venv-kp3"),
        "java": Program(LIBRARIES["java"]()),
        "franz-go": Program(LIBRARIES["go"]()),
    }
    topics = {(writer, codec): f"{writer.replace(' ', '-')}-{codec}" for writer in libraries for codec in CODECS}
    with new_broker() as broker, concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        admin = AdminClient({"bootstrap.servers": broker.address})
        for created in admin.create_topics([NewTopic(topic, 1, 1) for topic in topics.values()]).values():
            created.result(30)
        written = {
            (writer, codec): pool.submit(attempt, f"{writer} writes {codec}", libraries[writer].write, broker, topic, codec)
            for (writer, codec), topic in topics.items()
        }
        there = {key: topics[key] for key, done in written.items() if done.result()}
        read = {
            (reader, writer): pool.submit(read_each, broker, reader, library, {key: topic for key, topic in there.items() if key[0] == writer})
            for reader, library in libraries.items()
            for writer in libraries
        }
        passed = [(*key, reader) for (reader, _), done in read.items() for key in done.result()]
        broker.stop()
        for (writer, codec), topic in topics.items():
            stored = codecs_stored(broker, topic)
            # librdkafka sends a batch that would grow as it is.
            if set(stored) | {"none"} != {codec, "none"}:
                print(f"FAILED matrix: {writer} wrote {codec} as {stored}", flush=True)
                passed = [key for key in passed if key[:2] != (writer, codec)]

    width = max(map(len, libraries)) + 2
    print("".join(name.rjust(width) for name in ("writer \\ reader", *libraries)))
    for writer in libraries:
        counts = [sum(MESSAGES for codec in CODECS if (writer, codec, reader) in passed) for reader in libraries]
        print(writer.rjust(width), "".join(str(count).rjust(width) for count in counts), sep="")
    print(f"clients/matrix: cases={len(passed)} records={len(passed) * MESSAGES}", flush=True)
    sys.exit(0 if len(passed) == len(topics) * len(libraries) else 1)


if __name__ == "__main__":
    main()
