"""librdkafka through confluent-kafka: topics, produce, consume by assignment, codecs, times, watermarks and every refusal."""

import uuid

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import OFFSET_BEGINNING, TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

from cases import case, checked, equal, main
from launcher import broker as new_broker

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
MESSAGES = 500


def admin(broker):
    return AdminClient({"bootstrap.servers": broker.address})


def ask(broker, operation, *arguments, **options):
    """Runs an operation of the admin client and waits for its answers (the client must outlive them)."""
    client = admin(broker)
    answers = getattr(client, operation)(*arguments, **options)
    if not isinstance(answers, dict):
        return answers.result(30)
    return {name: future.result(30) for name, future in answers.items()}


def create(broker, partitions=1, name=None, **config):
    """Creates a topic of its own for a case; `config` takes Kafka's names with _ for the dot."""
    name = name or f"t-{uuid.uuid4()}"
    settings = {key.replace("_", "."): str(value) for key, value in config.items()}
    ask(broker, "create_topics", [NewTopic(name, partitions, 1, config=settings)])
    return name


def produce(broker, topic, messages, partition=0, **config):
    """Sends the messages (arguments of Producer.produce) and gives each one's delivery: a Message or a KafkaError."""
    settings = {"bootstrap.servers": broker.address, "linger.ms": 5, "message.timeout.ms": 30000}
    settings.update({key.replace("_", "."): value for key, value in config.items()})
    producer = Producer(settings)
    deliveries = [None] * len(messages)
    for index, message in enumerate(messages):
        def delivered(error, sent, index=index):
            deliveries[index] = error or sent
        producer.produce(topic, partition=partition, on_delivery=delivered, **message)
        producer.poll(0)
    equal(producer.flush(60), 0, "messages left unsent")
    return deliveries


def consumer(broker, **config):
    settings = {
        "bootstrap.servers": broker.address,
        "group.id": f"g-{uuid.uuid4()}",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "check.crcs": True,
    }
    settings.update({key.replace("_", "."): value for key, value in config.items()})
    return Consumer(settings)


def consume(broker, topic, count, partition=0, offset=OFFSET_BEGINNING, **config):
    """Reads exactly `count` messages from an offset."""
    reader = consumer(broker, **config)
    reader.assign([TopicPartition(topic, partition, offset)])
    messages = []
    while len(messages) < count:
        got = reader.consume(count - len(messages), 30)
        if not got:
            raise AssertionError(f"only {len(messages)} of {count} messages came")
        for message in got:
            if message.error():
                raise KafkaException(message.error())
        messages += got
    reader.close()
    checked(count)
    return messages


def code_of(action):
    """The error code that an action is refused with."""
    try:
        result = action()
    except KafkaException as error:
        return error.args[0].code()
    raise AssertionError(f"not refused: {result!r}")


def delivery_code(broker, topic, partition=0, value=b"x", **config):
    (delivery,) = produce(broker, topic, [{"value": value}], partition, **config)
    if not isinstance(delivery, KafkaError):
        raise AssertionError(f"not refused: offset {delivery.offset()}")
    return delivery.code()


@case
def topics_are_created_listed_and_deleted(broker):
    name = create(broker, partitions=3)
    metadata = admin(broker).list_topics(timeout=10)
    equal(sorted(metadata.topics[name].partitions), [0, 1, 2], "partitions")
    equal(metadata.topics[name].partitions[2].leader, metadata.controller_id, "leader")
    ask(broker, "delete_topics", [name])
    equal(name in admin(broker).list_topics(timeout=10).topics, False, "deleted topic listed")


@case
def each_codec_is_returned_as_sent(broker):
    topic = create(broker)
    sent = []
    for codec in CODECS:
        values = [f"{codec} {index} ".encode() * 20 for index in range(MESSAGES)]
        deliveries = produce(broker, topic, [{"value": value} for value in values], compression_type=codec)
        first = len(sent)
        equal([one.offset() for one in deliveries], list(range(first, first + MESSAGES)), f"{codec}: offsets acknowledged")
        sent += values
    equal([one.value() for one in consume(broker, topic, len(sent))], sent, "values")


@case
def each_acks_is_stored(broker):
    topic = create(broker)
    sent = []
    for acks in ("0", "1", "all"):
        values = [f"{acks} {index}".encode() for index in range(MESSAGES)]
        produce(broker, topic, [{"value": value} for value in values], acks=acks)
        # acks=0 is told nothing: wait until the messages are there before the next producer writes after them.
        sent += values
        equal([one.value() for one in consume(broker, topic, len(sent))], sent, f"values after acks={acks}")


@case
def idempotent_producer_keeps_order(broker):
    topic = create(broker)
    values = [str(index).encode() for index in range(20 * MESSAGES)]
    produce(broker, topic, [{"value": value} for value in values], enable_idempotence=True, batch_num_messages=50)
    equal([one.value() for one in consume(broker, topic, len(values))], values, "values")


@case
def keys_headers_nulls_and_timestamps_come_back(broker):
    topic = create(broker)
    messages = [
        {"key": b"k", "value": b"v", "timestamp": 1_700_000_000_000, "headers": [("a", b"1"), ("a", b"2"), ("empty", b""), ("null", None)]},
        {"key": None, "value": b"no key", "timestamp": 1_700_000_000_001},
        {"key": b"no value", "value": None, "timestamp": 1_700_000_000_002},
        {"key": b"", "value": b"", "timestamp": 1_700_000_000_003},
        {"key": "schlüssel".encode(), "value": bytes(range(256)), "timestamp": 1_600_000_000_000},
    ]
    produce(broker, topic, messages)
    got = consume(broker, topic, len(messages))
    for sent, message in zip(messages, got):
        equal(message.key(), sent["key"], "key")
        equal(message.value(), sent["value"], "value")
        equal(message.timestamp(), (TIMESTAMP_CREATE_TIME, sent["timestamp"]), "timestamp")
        equal(message.headers(), sent.get("headers"), "headers")


@case
def append_time_replaces_the_producers(broker):
    topic = create(broker, message_timestamp_type="LogAppendTime")
    produce(broker, topic, [{"value": b"v", "timestamp": 1_000}])
    kind, time = consume(broker, topic, 1)[0].timestamp()
    equal(kind, TIMESTAMP_LOG_APPEND_TIME, "timestamp type")
    equal(time > 1_700_000_000_000, True, f"append time {time} is the broker's")


@case
def offsets_are_found_by_time(broker):
    topic = create(broker)
    start = 1_700_000_000_000
    messages = [{"value": str(index).encode(), "timestamp": start + 10 * index} for index in range(MESSAGES)]
    produce(broker, topic, messages, batch_num_messages=50)
    reader = consumer(broker)
    for time, offset in ((0, 0), (start, 0), (start + 1, 1), (start + 2500, 250), (start + 2501, 251), (start + 10 * MESSAGES, -1)):
        (found,) = reader.offsets_for_times([TopicPartition(topic, 0, time)], 10)
        equal(found.offset, offset, f"offset for time {time - start}")
    equal(consume(broker, topic, 1, offset=251)[0].value(), b"251", "value at the offset found")


@case
def watermarks_are_earliest_and_latest(broker):
    topic = create(broker)
    reader = consumer(broker)
    equal(reader.get_watermark_offsets(TopicPartition(topic, 0), 10), (0, 0), "watermarks of an empty topic")
    produce(broker, topic, [{"value": b"x"}] * 7)
    equal(reader.get_watermark_offsets(TopicPartition(topic, 0), 10), (0, 7), "watermarks after 7 messages")


@case
def a_million_bytes_are_one_message(broker):
    topic = create(broker)
    value = bytes(range(250)) * 4000
    (sent,) = produce(broker, topic, [{"value": value}], message_max_bytes=2_000_000)
    equal(sent.offset(), 0, "offset")
    equal(consume(broker, topic, 1)[0].value() == value, True, "the value is unaltered")


@case
def offsets_inside_a_batch_start_there(broker):
    topic = create(broker)
    produce(broker, topic, [{"value": str(index).encode()} for index in range(100)], linger_ms=500)
    for offset in (1, 50, 99):
        equal(consume(broker, topic, 1, offset=offset)[0].value(), str(offset).encode(), f"value at {offset}")


@case
def partitions_are_separate_and_can_be_added(broker):
    topic = create(broker, partitions=2)
    ask(broker, "create_partitions", [NewPartitions(topic, 4)])
    for partition in range(4):
        produce(broker, topic, [{"value": f"{partition}-{index}".encode()} for index in range(50)], partition)
    for partition in range(4):
        values = [one.value() for one in consume(broker, topic, 50, partition)]
        equal(values, [f"{partition}-{index}".encode() for index in range(50)], f"values of partition {partition}")


@case
def topic_settings_are_described(broker):
    topic = create(broker, retention_ms=123456, max_message_bytes=5000)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    entries = ask(broker, "describe_configs", [resource])[resource]
    equal(entries["retention.ms"].value, "123456", "retention.ms")
    equal(entries["max.message.bytes"].value, "5000", "max.message.bytes")
    equal(entries["cleanup.policy"].value, "delete", "cleanup.policy")


@case
def the_cluster_is_described(broker):
    cluster = ask(broker, "describe_cluster")
    equal([(node.host, node.port) for node in cluster.nodes], [("127.0.0.1", broker.port)], "nodes")
    equal(len(cluster.cluster_id) > 10, True, f"cluster id {cluster.cluster_id}")


@case
def unknown_topics_are_created_when_asked(broker):
    topic = f"auto-{uuid.uuid4()}"
    produce(broker, topic, [{"value": b"x"}])
    equal(consume(broker, topic, 1)[0].value(), b"x", "value")


@case
def too_large_is_refused_by_the_broker(broker):
    topic = create(broker)
    equal(delivery_code(broker, topic, value=b"x" * 1_500_000, message_max_bytes=3_000_000), KafkaError.MSG_SIZE_TOO_LARGE, "code")
    small = create(broker, max_message_bytes=1000)
    equal(delivery_code(broker, small, value=b"x" * 2000), KafkaError.MSG_SIZE_TOO_LARGE, "code for the topic's own limit")


@case
def unknown_topic_is_refused(broker):
    reader = consumer(broker, allow_auto_create_topics=False)
    topic = f"missing-{uuid.uuid4()}"
    described = reader.list_topics(topic, timeout=10).topics[topic]
    equal(described.error.code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "code")
    equal(topic in admin(broker).list_topics(timeout=10).topics, False, "the topic was created")


@case
def offset_out_of_range_is_refused(broker):
    topic = create(broker)
    produce(broker, topic, [{"value": b"x"}] * 3)
    reader = consumer(broker)
    reader.assign([TopicPartition(topic, 0, 1000)])
    # librdkafka says what auto.offset.reset=error made of the broker's OFFSET_OUT_OF_RANGE.
    message = reader.poll(30)
    equal(message.error().code(), KafkaError._AUTO_OFFSET_RESET, "code")
    equal("out of range" in message.error().str().lower(), True, message.error().str())


@case
def invalid_topic_names_are_refused(broker):
    for name in ("bad/name", "..", "x" * 250, "a b"):
        equal(code_of(lambda: create(broker, name=name)), KafkaError.TOPIC_EXCEPTION, f"code for {name[:20]!r}")


@case
def invalid_topics_are_refused(broker):
    topic = create(broker)
    equal(code_of(lambda: create(broker, name=topic)), KafkaError.TOPIC_ALREADY_EXISTS, "code for a second topic of one name")
    equal(code_of(lambda: create(broker, partitions=0)), KafkaError.INVALID_PARTITIONS, "code for 0 partitions")
    many = NewTopic(f"t-{uuid.uuid4()}", 1, 3)
    equal(code_of(lambda: ask(broker, "create_topics", [many])), KafkaError.INVALID_REPLICATION_FACTOR, "code for 3 replicas on one node")
    equal(code_of(lambda: create(broker, retention_ms="soon")), KafkaError.INVALID_CONFIG, "code for a setting that is no number")
    equal(code_of(lambda: create(broker, no_such_setting=1)), KafkaError.INVALID_CONFIG, "code for an unknown setting")
    fewer = NewPartitions(topic, 1)
    equal(code_of(lambda: ask(broker, "create_partitions", [fewer])), KafkaError.INVALID_PARTITIONS, "code for no more partitions")
    gone = f"missing-{uuid.uuid4()}"
    equal(code_of(lambda: ask(broker, "delete_topics", [gone])), KafkaError.UNKNOWN_TOPIC_OR_PART, "code for deleting no topic")


@case
def unknown_partition_is_refused(broker):
    topic = create(broker)
    try:
        code = delivery_code(broker, topic, partition=9, message_timeout_ms=5000)
    except KafkaException as error:
        code = error.args[0].code()
    equal(code, KafkaError._UNKNOWN_PARTITION, "code")


@case
def transactions_work_or_are_fatal_at_once(broker):
    producer = Producer({"bootstrap.servers": broker.address, "transactional.id": f"x-{uuid.uuid4()}"})
    try:
        producer.init_transactions(20)
    except KafkaException as error:
        equal(broker.transactions, False, f"refused: {error}")
        equal(error.args[0].fatal(), True, f"{error} is fatal")
    else:
        equal(broker.transactions, True, "transactions accepted")


@case
def a_group_of_the_consumer_protocol_reads_or_is_told(broker):
    topic = create(broker)
    produce(broker, topic, [{"value": b"x"}])
    reader = consumer(broker, group_protocol="consumer", auto_offset_reset="earliest")
    reader.subscribe([topic])
    message = reader.poll(60)
    if message is None:
        raise AssertionError("neither a record nor an error within a minute")
    error = message.error()
    if broker.consumer_protocol:
        equal((error, message.value()), (None, b"x"), "the record")
        checked(1)
    else:
        equal(error.code(), KafkaError._FATAL, f"{error}")
        equal("version not supported" in error.str(), True, f"{error} tells why")
    reader.close()


@case
def records_survive_a_clean_restart(broker):
    topic = create(broker, partitions=2)
    values = [str(index).encode() for index in range(MESSAGES)]
    for partition in range(2):
        produce(broker, topic, [{"value": value} for value in values], partition, enable_idempotence=True)
    broker.stop()
    broker.start()
    for partition in range(2):
        (next_one,) = produce(broker, topic, [{"value": b"after"}], partition)
        equal(next_one.offset(), MESSAGES, "offset after the restart")
        equal([one.value() for one in consume(broker, topic, MESSAGES + 1, partition)], values + [b"after"], "values")


if __name__ == "__main__":
    main("confluent", new_broker())
