"""kafka-python, 2.0.2 as much of the field has it and 3.x as it is now: topics, produce, consume, codecs, times and refusals."""

import logging
import threading
import time
import uuid

import kafka
from kafka import KafkaConsumer, KafkaProducer, TopicPartition, errors
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewPartitions, NewTopic

from cases import case, checked, equal, main
from launcher import broker as new_broker

MODERN = not kafka.__version__.startswith("2.")
CODECS = (None, "gzip", "snappy", "lz4", "zstd")
MESSAGES = 500
CREATE_TIME, LOG_APPEND_TIME = 0, 1
# The refusals below are what is tested; the library's warnings about them are not wanted.
logging.getLogger("kafka").setLevel(logging.CRITICAL)


def admin(broker):
    return KafkaAdminClient(bootstrap_servers=broker.address)


def ask(broker, operation, *arguments, **options):
    client = admin(broker)
    try:
        return getattr(client, operation)(*arguments, **options)
    finally:
        client.close()


def create(broker, partitions=1, name=None, replicas=1, **config):
    """Creates a topic of its own for a case; `config` takes Kafka's names with _ for the dot."""
    name = name or f"t-{uuid.uuid4()}"
    settings = {key.replace("_", "."): str(value) for key, value in config.items()}
    topic = NewTopic(name=name, num_partitions=partitions, replication_factor=replicas, topic_configs=settings)
    ask(broker, "create_topics", [topic])
    return name


def produce(broker, topic, messages, partition=0, **config):
    """Sends the messages (arguments of KafkaProducer.send) and gives what was acknowledged for each."""
    producer = KafkaProducer(bootstrap_servers=broker.address, **{"linger_ms": 5, "acks": "all", **config})
    try:
        futures = [producer.send(topic, partition=partition, **message) for message in messages]
        producer.flush(60)
        return [future.get(60) for future in futures]
    finally:
        producer.close(timeout=10)


def consumer(broker, topic=None, partition=0, **config):
    reader = KafkaConsumer(
        bootstrap_servers=broker.address, group_id=None, enable_auto_commit=False, **{"auto_offset_reset": "none", **config}
    )
    if topic is not None:
        reader.assign([TopicPartition(topic, partition)])
    return reader


def poll(reader, count):
    """Reads exactly `count` messages of the one partition assigned."""
    messages = []
    while len(messages) < count:
        got = reader.poll(timeout_ms=30_000, max_records=count - len(messages))
        if not got:
            raise AssertionError(f"only {len(messages)} of {count} messages came")
        messages += sum(got.values(), [])
    checked(count)
    return messages


def consume(broker, topic, count, partition=0, offset=0):
    reader = consumer(broker, topic, partition)
    reader.seek(TopicPartition(topic, partition), offset)
    messages = poll(reader, count)
    reader.close()
    return messages


def refused(kind, action, *arguments, **options):
    """The action must be refused with this error and no other."""
    try:
        result = action(*arguments, **options)
    except errors.KafkaError as error:
        equal(type(error), kind, f"refusal ({error})")
    else:
        raise AssertionError(f"not refused: {result!r}")


@case
def topics_are_created_listed_and_deleted(broker):
    name = create(broker, partitions=3)
    equal(name in ask(broker, "list_topics"), True, "topic listed")
    reader = consumer(broker)
    equal(reader.partitions_for_topic(name), {0, 1, 2}, "partitions")
    reader.close()
    ask(broker, "delete_topics", [name])
    equal(name in ask(broker, "list_topics"), False, "deleted topic listed")


@case
def each_codec_is_returned_as_sent(broker):
    topic = create(broker)
    sent = []
    for codec in CODECS:
        values = [f"{codec} {index} ".encode() * 20 for index in range(MESSAGES)]
        acknowledged = produce(broker, topic, [{"value": value} for value in values], compression_type=codec)
        first = len(sent)
        equal([one.offset for one in acknowledged], list(range(first, first + MESSAGES)), f"{codec}: offsets acknowledged")
        sent += values
    equal([one.value for one in consume(broker, topic, len(sent))], sent, "values")


@case
def each_acks_is_stored(broker):
    topic = create(broker)
    sent = []
    for acks in (0, 1, "all"):
        values = [f"{acks} {index}".encode() for index in range(MESSAGES)]
        produce(broker, topic, [{"value": value} for value in values], acks=acks)
        # acks=0 is told nothing: wait until the messages are there before the next producer writes after them.
        sent += values
        equal([one.value for one in consume(broker, topic, len(sent))], sent, f"values after acks={acks}")


@case
def keys_headers_nulls_and_timestamps_come_back(broker):
    topic = create(broker)
    messages = [
        {"key": b"k", "value": b"v", "timestamp_ms": 1_700_000_000_000, "headers": [("a", b"1"), ("a", b"2"), ("empty", b"")]},
        {"key": None, "value": b"no key", "timestamp_ms": 1_700_000_000_001},
        {"key": b"no value", "value": None, "timestamp_ms": 1_700_000_000_002},
        {"key": b"", "value": b"", "timestamp_ms": 1_700_000_000_003},
        {"key": "schlüssel".encode(), "value": bytes(range(256)), "timestamp_ms": 1_600_000_000_000},
    ]
    produce(broker, topic, messages)
    for sent, message in zip(messages, consume(broker, topic, len(messages))):
        equal(message.key, sent["key"], "key")
        equal(message.value, sent["value"], "value")
        equal((message.timestamp_type, message.timestamp), (CREATE_TIME, sent["timestamp_ms"]), "timestamp")
        equal(list(message.headers), sent.get("headers", []), "headers")


@case
def append_time_replaces_the_producers(broker):
    topic = create(broker, message_timestamp_type="LogAppendTime")
    (acknowledged,) = produce(broker, topic, [{"value": b"v", "timestamp_ms": 1_000}])
    message = consume(broker, topic, 1)[0]
    equal(message.timestamp_type, LOG_APPEND_TIME, "timestamp type")
    equal(message.timestamp, acknowledged.timestamp, "timestamp acknowledged")
    equal(message.timestamp > 1_700_000_000_000, True, f"append time {message.timestamp} is the broker's")


@case
def offsets_are_found_by_time(broker):
    topic = create(broker)
    start = 1_700_000_000_000
    messages = [{"value": str(index).encode(), "timestamp_ms": start + 10 * index} for index in range(MESSAGES)]
    produce(broker, topic, messages, batch_size=1000)
    partition = TopicPartition(topic, 0)
    reader = consumer(broker, topic)
    for time, offset in ((0, 0), (start, 0), (start + 1, 1), (start + 2500, 250), (start + 2501, 251)):
        found = reader.offsets_for_times({partition: time})[partition]
        equal((found.offset, found.timestamp), (offset, start + 10 * offset), f"offset for time {time - start}")
    equal(reader.offsets_for_times({partition: start + 10 * MESSAGES})[partition], None, "offset for a time after the last")
    reader.seek(partition, 251)
    equal(poll(reader, 1)[0].value, b"251", "value at the offset found")
    reader.close()


@case
def seeking_goes_to_the_first_the_last_and_between(broker):
    topic = create(broker)
    produce(broker, topic, [{"value": str(index).encode()} for index in range(100)])
    partition = TopicPartition(topic, 0)
    reader = consumer(broker, topic)
    reader.seek_to_beginning(partition)
    equal([one.value for one in poll(reader, 100)], [str(index).encode() for index in range(100)], "values from the beginning")
    for offset in (1, 50, 99):
        reader.seek(partition, offset)
        equal(poll(reader, 1)[0].value, str(offset).encode(), f"value at {offset}")
    reader.seek_to_end(partition)
    equal(reader.position(partition), 100, "position at the end")
    produce(broker, topic, [{"value": b"later"}])
    equal(poll(reader, 1)[0].value, b"later", "value after the end")
    reader.close()


@case
def beginning_and_end_are_told(broker):
    topic = create(broker)
    partition = TopicPartition(topic, 0)
    reader = consumer(broker, topic)
    for count in (0, 7):
        produce(broker, topic, [{"value": b"x"}] * count)
        equal(reader.beginning_offsets([partition]), {partition: 0}, f"beginning with {count} messages")
        equal(reader.end_offsets([partition]), {partition: count}, f"end with {count} messages")
    reader.close()


@case
def a_million_bytes_are_one_message(broker):
    topic = create(broker)
    value = bytes(range(250)) * 4000
    (acknowledged,) = produce(broker, topic, [{"value": value}], max_request_size=2_000_000)
    equal(acknowledged.offset, 0, "offset")
    equal(consume(broker, topic, 1)[0].value == value, True, "the value is unaltered")


@case
def partitions_are_separate_and_can_be_added(broker):
    topic = create(broker, partitions=2)
    ask(broker, "create_partitions", {topic: NewPartitions(4)})
    for partition in range(4):
        produce(broker, topic, [{"value": f"{partition}-{index}".encode()} for index in range(50)], partition)
    for partition in range(4):
        values = [one.value for one in consume(broker, topic, 50, partition)]
        equal(values, [f"{partition}-{index}".encode() for index in range(50)], f"values of partition {partition}")


@case
def one_poll_reads_all_partitions(broker):
    topic = create(broker, partitions=5)
    for partition in range(5):
        produce(broker, topic, [{"value": b"%d" % index} for index in range(MESSAGES)], partition)
    reader = consumer(broker)
    partitions = [TopicPartition(topic, partition) for partition in range(5)]
    reader.assign(partitions)
    reader.seek_to_beginning()
    values = {partition: [] for partition in partitions}
    while sum(map(len, values.values())) < 5 * MESSAGES:
        got = reader.poll(timeout_ms=30_000)
        equal(bool(got), True, "more messages came")
        for partition, messages in got.items():
            values[partition] += [int(message.value) for message in messages]
    reader.close()
    equal(values, {partition: list(range(MESSAGES)) for partition in partitions}, "values")
    checked(5 * MESSAGES)


@case
def topic_settings_are_described(broker):
    topic = create(broker, retention_ms=123456, max_message_bytes=5000)
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    if MODERN:
        entries = ask(broker, "describe_configs", [resource], config_filter="all")["topic"][topic]
        values = {name: entry["value"] for name, entry in entries.items()}
    else:
        (reply,) = ask(broker, "describe_configs", [resource])
        error, _, _, name, entries = reply.resources[0]
        equal((error, name), (0, topic), "error and name")
        values = {entry[0]: entry[1] for entry in entries}
    expected = {"retention.ms": "123456", "max.message.bytes": "5000", "cleanup.policy": "delete"}
    equal({name: values.get(name) for name in expected}, expected, "settings")


@case
def the_cluster_is_described(broker):
    cluster = ask(broker, "describe_cluster")
    equal([(node["host"], node["port"]) for node in cluster["brokers"]], [("127.0.0.1", broker.port)], "brokers")
    equal(len(cluster["cluster_id"]) > 10, True, f"cluster id {cluster['cluster_id']}")


@case
def unknown_topics_are_created_when_asked(broker):
    topic = f"auto-{uuid.uuid4()}"
    produce(broker, topic, [{"value": b"x"}])
    equal(consume(broker, topic, 1)[0].value, b"x", "value")


@case
def too_large_is_refused_by_the_broker(broker):
    topic = create(broker)
    large = {"value": b"x" * 1_500_000}
    refused(errors.MessageSizeTooLargeError, produce, broker, topic, [large], max_request_size=3_000_000)
    small = create(broker, max_message_bytes=1000)
    refused(errors.MessageSizeTooLargeError, produce, broker, small, [{"value": b"x" * 2000}])


@case
def unknown_topic_is_refused(broker):
    topic = f"missing-{uuid.uuid4()}"
    refused(errors.UnknownTopicOrPartitionError, ask, broker, "delete_topics", [topic])
    refused(errors.UnknownTopicOrPartitionError, ask, broker, "create_partitions", {topic: NewPartitions(4)})
    equal(topic in ask(broker, "list_topics"), False, "the topic was created")


@case
def offset_out_of_range_is_refused(broker):
    topic = create(broker)
    produce(broker, topic, [{"value": b"x"}] * 3)
    reader = consumer(broker, topic)
    reader.seek(TopicPartition(topic, 0), 1000)
    refused(errors.OffsetOutOfRangeError, poll, reader, 1)
    reader.close()
    reset = consumer(broker, topic, auto_offset_reset="earliest")
    reset.seek(TopicPartition(topic, 0), 1000)
    equal([message.offset for message in poll(reset, 3)], [0, 1, 2], "offsets after the reset")
    reset.close()


@case
def invalid_topics_are_refused(broker):
    for name in ("bad/name", "..", "x" * 250, "a b"):
        refused(errors.InvalidTopicError, create, broker, name=name)
    topic = create(broker)
    refused(errors.TopicAlreadyExistsError, create, broker, name=topic)
    refused(errors.InvalidPartitionsError, create, broker, partitions=0)
    refused(errors.InvalidReplicationFactorError, create, broker, replicas=3)
    refused(errors.InvalidConfigurationError, create, broker, retention_ms="soon")
    refused(errors.InvalidConfigurationError, create, broker, no_such_setting=1)
    refused(errors.InvalidPartitionsError, ask, broker, "create_partitions", {topic: NewPartitions(1)})


if MODERN:

    @case
    def idempotent_producer_keeps_order(broker):
        topic = create(broker)
        values = [b"%d" % index for index in range(10 * MESSAGES)]
        acknowledged = produce(broker, topic, [{"value": value} for value in values], enable_idempotence=True, batch_size=2000)
        equal([one.offset for one in acknowledged], list(range(len(values))), "offsets acknowledged")
        equal([one.value for one in consume(broker, topic, len(values))], values, "values")

    @case
    def transactions_work_or_are_refused(broker):
        producer = KafkaProducer(bootstrap_servers=broker.address, transactional_id=f"x-{uuid.uuid4()}", max_block_ms=20_000)
        try:
            producer.init_transactions()
        except errors.KafkaTimeoutError:
            raise
        except errors.KafkaError as error:
            equal(broker.transactions, False, f"refused: {error!r}")
        else:
            equal(broker.transactions, True, "transactions accepted")
        finally:
            producer.close(timeout=1)


@case
def records_survive_a_clean_restart(broker):
    topic = create(broker)
    values = [b"%d" % index for index in range(MESSAGES)]
    produce(broker, topic, [{"value": value} for value in values])
    broker.stop()
    broker.start()
    (following,) = produce(broker, topic, [{"value": b"after"}])
    equal(following.offset, MESSAGES, "offset after the restart")
    equal([one.value for one in consume(broker, topic, MESSAGES + 1)], [*values, b"after"], "values")


PARTITIONS = 6


class Member(threading.Thread):
    """A member of a group, in a thread of its own: the older library's poll waits until the group is whole."""

    def __init__(self, broker, topic, group):
        super().__init__(daemon=True)
        self.read, self.ended = [], False
        self.consumer = KafkaConsumer(
            topic,
            bootstrap_servers=broker.address,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=6000,
            heartbeat_interval_ms=300,
        )
        self.start()

    def run(self):
        while not self.ended:
            self.read += sum(self.consumer.poll(timeout_ms=50).values(), [])
        self.consumer.commit()
        self.consumer.close()

    def owned(self):
        return {partition.partition for partition in self.consumer.assignment()}

    def end(self):
        """Commits what was read, and leaves."""
        self.ended = True
        self.join(60)


def until(holds, what):
    deadline = time.monotonic() + 60
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not in 60 s: {what()}")
        time.sleep(0.05)


@case
def members_share_a_group_and_go_on_where_it_committed(broker):
    topic, group = create(broker, PARTITIONS), f"g-{uuid.uuid4()}"
    values = sorted(b"%d" % index for index in range(PARTITIONS * 20))
    for partition in range(PARTITIONS):
        produce(broker, topic, [{"value": b"%d" % (partition * 20 + n)} for n in range(20)], partition)
    first, second = Member(broker, topic, group), Member(broker, topic, group)
    shares = lambda: [sorted(one.owned()) for one in (first, second)]
    until(lambda: sorted(map(len, shares())) == [3, 3] and sorted(sum(shares(), [])) == list(range(PARTITIONS)), shares)
    read = lambda: sorted({one.value for member in (first, second) for one in member.read})
    until(lambda: read() == values, read)
    checked(len(values))
    first.end()
    until(lambda: second.owned() == set(range(PARTITIONS)), second.owned)
    second.end()
    third = Member(broker, topic, group)
    produce(broker, topic, [{"value": b"after"}])
    until(lambda: third.read, lambda: third.read)
    equal([one.value for one in third.read], [b"after"], "what was not read before")
    third.end()
    offsets = flattened(ask(broker, "list_group_offsets" if MODERN else "list_consumer_group_offsets", group))
    told = {key.partition: one.offset for key, one in offsets.items()}
    equal(told, {**dict.fromkeys(range(PARTITIONS), 20), 0: 21}, "offsets an admin is told")


def flattened(offsets):
    """Offsets by partition; the newer library groups them."""
    if all(isinstance(key, TopicPartition) for key in offsets):
        return offsets
    return {key: one for inner in offsets.values() for key, one in inner.items()}


if __name__ == "__main__":
    main(f"kafka-python-{kafka.__version__}", new_broker({"group.initial.rebalance.delay.ms": 100}))
