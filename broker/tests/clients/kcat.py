"""kcat, librdkafka's command line: produce and consume with each codec, keys, headers, offsets, times, metadata and refusals."""

import json
import re
import subprocess
import uuid

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from cases import case, checked, equal, main
from launcher import broker as new_broker

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
MESSAGES = 1000
SECONDS = 60
START = 1_700_000_000_000


def kcat(broker, *arguments, given="", status=0):
    """Runs kcat to its end; gives what it wrote, standard error after standard output."""
    command = ["kcat", "-b", broker.address, *map(str, arguments)]
    ended = subprocess.run(command, input=given, capture_output=True, text=True, timeout=SECONDS)
    if (ended.returncode == 0) != (status == 0):
        raise AssertionError(f"{' '.join(command)} ended with {ended.returncode}: {ended.stderr}")
    return ended.stdout if status == 0 else ended.stdout + ended.stderr


def create(broker, partitions=1, **config):
    """kcat creates topics only by writing to them."""
    topic = f"kcat-{uuid.uuid4()}"
    settings = {key.replace("_", "."): str(value) for key, value in config.items()}
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(topic, partitions, 1, config=settings)])[topic].result(30)
    return topic


def produce(broker, topic, lines, *options, partition=0):
    kcat(broker, "-P", "-t", topic, "-p", partition, *options, given="".join(f"{line}\n" for line in lines))


def consume(broker, topic, *options, partition=0, offset="beginning"):
    """Reads to the partition's end: one dictionary for each message."""
    text = kcat(broker, "-C", "-e", "-q", "-J", "-t", topic, "-p", partition, "-o", offset, "-X", "check.crcs=true", *options)
    messages = [json.loads(line) for line in text.splitlines()]
    checked(len(messages))
    return messages


def produce_at_times(broker, topic, count):
    """One message each 10 ms from START on: kcat itself can give no timestamps."""
    producer = Producer({"bootstrap.servers": broker.address, "batch.num.messages": 50})
    for number in range(count):
        producer.produce(topic, b"%d" % number, partition=0, timestamp=START + 10 * number)
    equal(producer.flush(30), 0, "messages left unsent")


@case
def each_codec_is_returned_as_sent(broker):
    topic = create(broker)
    sent = []
    for codec in CODECS:
        lines = [f"{codec} {number} " * 20 for number in range(MESSAGES)]
        produce(broker, topic, lines, "-z", codec)
        sent += lines
    messages = consume(broker, topic)
    equal([message["payload"] for message in messages], sent, "values")
    equal([message["offset"] for message in messages], list(range(len(sent))), "offsets")


@case
def each_acks_and_idempotence_are_stored(broker):
    topic = create(broker)
    sent = []
    for settings in ("acks=0", "acks=1", "acks=all", "enable.idempotence=true"):
        lines = [f"{settings} {number}" for number in range(MESSAGES)]
        produce(broker, topic, lines, "-X", settings)
        # acks=0 is told nothing: wait until the messages are there before the next producer writes after them.
        sent += lines
        text = kcat(broker, "-C", "-q", "-t", topic, "-p", 0, "-o", "beginning", "-c", len(sent))
        equal(text.splitlines(), sent, f"values after {settings}")
        checked(len(sent))


@case
def keys_and_nulls_come_back(broker):
    topic = create(broker)
    # -Z makes empty keys and values null; a line without the delimiter has no key.
    produce(broker, topic, ["k1:v1", "schlüssel:wert", "k3:", ":v4", "v5"], "-K", ":", "-Z")
    got = [(message["key"], message["payload"]) for message in consume(broker, topic)]
    equal(got, [("k1", "v1"), ("schlüssel", "wert"), ("k3", None), (None, "v4"), (None, "v5")], "keys and values")


@case
def headers_come_back(broker):
    topic = create(broker)
    produce(broker, topic, ["a", "b"], "-H", "one=1", "-H", "two=", "-H", "one=again")
    produce(broker, topic, ["c"])
    expected = ["one", "1", "two", "", "one", "again"]
    equal([message.get("headers", []) for message in consume(broker, topic)], [expected, expected, []], "headers")


@case
def reading_begins_and_ends_at_offsets(broker):
    topic = create(broker)
    produce(broker, topic, range(100))
    for options, expected in (
        (("-o", 50), range(50, 100)),
        (("-o", -10), range(90, 100)),
        (("-o", 99), [99]),
        (("-o", 20, "-c", 5), range(20, 25)),
        (("-o", "end"), []),
    ):
        text = kcat(broker, "-C", "-e", "-q", "-t", topic, "-p", 0, *options)
        equal([int(line) for line in text.splitlines()], list(expected), f"values for {options}")
        checked(len(expected))


@case
def reading_begins_and_ends_at_times(broker):
    topic = create(broker)
    produce_at_times(broker, topic, MESSAGES)
    messages = consume(broker, topic, offset=f"s@{START + 2501}")
    equal([int(message["payload"]) for message in messages], list(range(251, MESSAGES)), "values from a time on")
    equal([message["ts"] for message in messages], [START + 10 * number for number in range(251, MESSAGES)], "timestamps")
    equal({message["tstype"] for message in messages}, {"create"}, "timestamp types")
    between = consume(broker, topic, "-o", f"e@{START + 5000}", offset=f"s@{START + 2500}")
    equal([int(message["payload"]) for message in between], list(range(250, 500)), "values between two times")


@case
def offsets_are_queried_by_time(broker):
    topic = create(broker)
    produce_at_times(broker, topic, MESSAGES)
    for time, offset in ((START, 0), (START + 2501, 251), (START + 10 * MESSAGES, -1), (-1, MESSAGES), (-2, 0)):
        text = kcat(broker, "-Q", "-t", f"{topic}:0:{time}")
        equal(text.strip(), f"{topic} [0] offset {offset}", f"offset for time {time}")


@case
def metadata_is_listed(broker):
    topic = create(broker, partitions=3)
    listed = json.loads(kcat(broker, "-L", "-J"))
    equal([one["name"] for one in listed["brokers"]], [broker.address], "brokers")
    (node,) = [one["id"] for one in listed["brokers"]]
    equal(listed["controllerid"], node, "controller")
    (found,) = [one for one in listed["topics"] if one["topic"] == topic]
    expected = [{"partition": number, "leader": node, "replicas": [{"id": node}], "isrs": [{"id": node}]} for number in range(3)]
    equal(found["partitions"], expected, "partitions")
    text = kcat(broker, "-L", "-t", topic)
    equal(re.findall(r'topic "(.*)" with (\d+) partitions:', text), [(topic, "3")], "topic asked for")


@case
def append_time_replaces_the_producers(broker):
    topic = create(broker, message_timestamp_type="LogAppendTime")
    produce_at_times(broker, topic, 1)
    (message,) = consume(broker, topic)
    equal(message["tstype"], "logappend", "timestamp type")
    equal(message["ts"] > START + 1_000_000, True, f"append time {message['ts']} is the broker's")


@case
def large_messages_come_back(broker):
    topic = create(broker)
    lines = ["x" * 1_000_000, "y" * 999_999, "z"]
    produce(broker, topic, lines, "-X", "message.max.bytes=2000000")
    equal([message["payload"] for message in consume(broker, topic)] == lines, True, "the values are unaltered")


@case
def all_partitions_are_read_at_once(broker):
    topic = create(broker, partitions=4)
    for partition in range(4):
        produce(broker, topic, [f"{partition}-{number}" for number in range(MESSAGES)], partition=partition)
    text = kcat(broker, "-C", "-e", "-q", "-J", "-t", topic, "-o", "beginning")
    messages = [json.loads(line) for line in text.splitlines()]
    checked(len(messages))
    for partition in range(4):
        values = [message["payload"] for message in messages if message["partition"] == partition]
        equal(values, [f"{partition}-{number}" for number in range(MESSAGES)], f"values of partition {partition}")


@case
def unknown_topics_are_created_when_written(broker):
    topic = f"auto-{uuid.uuid4()}"
    produce(broker, topic, ["x"])
    equal([message["payload"] for message in consume(broker, topic)], ["x"], "values")


@case
def too_large_is_refused_by_the_broker(broker):
    topic = create(broker, max_message_bytes=1000)
    said = kcat(broker, "-P", "-t", topic, "-p", 0, given="x" * 2000, status=1)
    equal("Message size too large" in said, True, said)
    equal(consume(broker, topic), [], "messages of the topic")


@case
def unknown_partition_is_refused(broker):
    topic = create(broker)
    equal("Unknown partition" in kcat(broker, "-P", "-t", topic, "-p", 9, given="x", status=1), True, "refusal of a write")
    said = kcat(broker, "-C", "-e", "-t", topic, "-p", 9, status=1)
    equal("partition 9 does not exist" in said, True, said)


@case
def unknown_topic_is_refused(broker):
    topic = f"missing-{uuid.uuid4()}"
    said = kcat(broker, "-C", "-e", "-t", topic, "-p", 0, "-X", "allow.auto.create.topics=false", status=1)
    equal("Unknown topic or partition" in said, True, said)
    listed = json.loads(kcat(broker, "-L", "-J"))
    equal(topic in [one["topic"] for one in listed["topics"]], False, "the topic was created")


@case
def offset_out_of_range_is_refused(broker):
    topic = create(broker)
    produce(broker, topic, ["a", "b", "c"])
    said = kcat(broker, "-C", "-e", "-t", topic, "-p", 0, "-o", 1000, "-X", "auto.offset.reset=error", status=1)
    equal("out of range" in said.lower(), True, said)
    reset = consume(broker, topic, "-X", "auto.offset.reset=earliest", offset=1000)
    equal([message["payload"] for message in reset], ["a", "b", "c"], "values after the reset")


@case
def invalid_topic_names_are_refused(broker):
    for name in ("bad/name", "..", "a b"):
        said = kcat(broker, "-L", "-t", name)
        equal("Invalid topic" in said, True, f"metadata of {name!r}: {said}")


@case
def transactions_work_or_are_fatal_at_once(broker):
    topic = create(broker)
    # kcat writes its input in one transaction when it has an id.
    arguments = ("-P", "-t", topic, "-p", 0, "-X", f"transactional.id=x-{uuid.uuid4()}")
    if broker.transactions:
        kcat(broker, *arguments, given="x\n")
        equal([message["payload"] for message in consume(broker, topic)], ["x"], "values")
    else:
        said = kcat(broker, *arguments, given="x\n", status=1)
        equal("Transactional Id authorization failed" in said, True, said)


@case
def records_survive_a_clean_restart(broker):
    topic = create(broker)
    produce(broker, topic, range(MESSAGES))
    broker.stop()
    broker.start()
    produce(broker, topic, ["after"])
    expected = [*map(str, range(MESSAGES)), "after"]
    equal([message["payload"] for message in consume(broker, topic)], expected, "values")


if __name__ == "__main__":
    main("kcat", new_broker())
