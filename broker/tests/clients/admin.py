"""librdkafka's AdminClient through confluent-kafka: configs changed and described, records deleted, leaders, access rules, topics, brokers."""

import subprocess

from confluent_kafka import ElectionType, KafkaError, TopicCollection, TopicPartition
from confluent_kafka.admin import AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AlterConfigOpType
from confluent_kafka.admin import ConfigEntry, ConfigResource, ConfigSource, OffsetSpec, ResourcePatternType, ResourceType

from cases import case, checked, equal, main
from confluent import admin, ask, code_of, consume, create, produce
from groups import binary
from launcher import broker as new_broker

TOPIC = ConfigResource.Type.TOPIC
BROKER = ConfigResource.Type.BROKER
SET, DELETE, APPEND, SUBTRACT = (AlterConfigOpType[name] for name in ("SET", "DELETE", "APPEND", "SUBTRACT"))


def alter(broker, kind, name, *operations, **options):
    """Changes configs: operations are (operation, config, value)."""
    entries = [ConfigEntry(config, value, incremental_operation=operation) for operation, config, value in operations]
    resource = ConfigResource(kind, name, incremental_configs=entries)
    ask(broker, "incremental_alter_configs", [resource], **options)


def described(broker, kind, name):
    resource = ConfigResource(kind, name)
    return ask(broker, "describe_configs", [resource])[resource]


def told(broker, kind, name, config):
    entry = described(broker, kind, name)[config]
    return entry.value, ConfigSource(entry.source).name


def expect(broker, kind, name, config, expected, what):
    """Compares value and source of a config. Apache Kafka's broker learns of a change after it is answered."""
    for _ in range(1 if broker.name == "ringlog" else 100):
        found = told(broker, kind, name, config)
        if found == expected:
            break
    equal(found, expected, what)


@case
def configs_are_changed_one_by_one(broker):
    topic = create(broker, retention_ms=5000)
    alter(broker, TOPIC, topic, (SET, "retention.ms", "6000"), (APPEND, "cleanup.policy", "compact"))
    expect(broker, TOPIC, topic, "retention.ms", ("6000", "DYNAMIC_TOPIC_CONFIG"), "set")
    expect(broker, TOPIC, topic, "cleanup.policy", ("delete,compact", "DYNAMIC_TOPIC_CONFIG"), "appended")
    alter(broker, TOPIC, topic, (SUBTRACT, "cleanup.policy", "delete"), (DELETE, "retention.ms", None))
    expect(broker, TOPIC, topic, "cleanup.policy", ("compact", "DYNAMIC_TOPIC_CONFIG"), "taken out")
    expect(broker, TOPIC, topic, "retention.ms", ("604800000", "DEFAULT_CONFIG"), "reset")
    alter(broker, TOPIC, topic, (SET, "retention.ms", "7000"), validate_only=True)
    expect(broker, TOPIC, topic, "retention.ms", ("604800000", "DEFAULT_CONFIG"), "only validated")
    checked(5)


@case
def the_older_request_replaces_all(broker):
    topic = create(broker, retention_ms=5000)
    ask(broker, "alter_configs", [ConfigResource(TOPIC, topic, set_config={"flush.ms": "7"})])
    expect(broker, TOPIC, topic, "flush.ms", ("7", "DYNAMIC_TOPIC_CONFIG"), "set")
    expect(broker, TOPIC, topic, "retention.ms", ("604800000", "DEFAULT_CONFIG"), "not named")
    checked(2)


@case
def a_change_counts_at_once(broker):
    topic = create(broker)
    for size, code in [("5000", KafkaError.MSG_SIZE_TOO_LARGE), ("50000", None), ("5000", KafkaError.MSG_SIZE_TOO_LARGE)]:
        alter(broker, TOPIC, topic, (SET, "max.message.bytes", size))
        expect(broker, TOPIC, topic, "max.message.bytes", (size, "DYNAMIC_TOPIC_CONFIG"), "the limit")
        (sent,) = produce(broker, topic, [{"value": b"x" * 10_000}])
        equal(sent.code() if isinstance(sent, KafkaError) else None, code, f"10 kB into {size} bytes")
    equal(len(consume(broker, topic, 1)), 1, "what was taken")
    checked(3)


@case
def configs_of_the_broker_are_changed_as_far_as_they_can(broker):
    # A config without effect on ringlog, as librdkafka's own tests set it; topics' defaults; one that takes a new start.
    alter(broker, BROKER, "1", (SET, "sasl.kerberos.min.time.before.relogin", "58000"))
    alter(broker, BROKER, "1", (DELETE, "sasl.kerberos.min.time.before.relogin", None))
    alter(broker, BROKER, "1", (SET, "log.retention.bytes", "1000"))
    expect(broker, BROKER, "1", "log.retention.bytes", ("1000", "DYNAMIC_BROKER_CONFIG"), "set")
    alter(broker, BROKER, "1", (DELETE, "log.retention.bytes", None))
    expect(broker, BROKER, "1", "log.retention.bytes", ("-1", "DEFAULT_CONFIG"), "reset")
    refused = code_of(lambda: alter(broker, BROKER, "1", (SET, "num.partitions", "9")))
    equal(refused, KafkaError.INVALID_REQUEST, "one that takes a new start")
    checked(3)


@case
def wrong_configs_are_refused(broker):
    topic = create(broker)
    for operation in [(SET, "retention.ms", "soon"), (SET, "no.such", "1"), (APPEND, "retention.ms", "1")]:
        code = code_of(lambda operation=operation: alter(broker, TOPIC, topic, operation))
        equal(code, KafkaError.INVALID_CONFIG, f"code for {operation}")
    code = code_of(lambda: alter(broker, TOPIC, "no-such", (SET, "retention.ms", "1")))
    equal(code, KafkaError.UNKNOWN_TOPIC_OR_PART, "code for an unknown topic")
    checked(4)


@case
def records_are_deleted_and_stay_so(broker):
    topic = create(broker, 2)
    produce(broker, topic, [{"value": str(index).encode()} for index in range(100)])
    (first,) = ask(broker, "delete_records", [TopicPartition(topic, 0, 30)]).values()
    equal(first.low_watermark, 30, "the first offset")
    # Apache Kafka would have them back after a kill.
    broker.kill() if broker.name == "ringlog" else broker.stop()
    broker.start()
    values = [message.value() for message in consume(broker, topic, 70)]
    equal(values, [str(index).encode() for index in range(30, 100)], "what is left")
    (first,) = ask(broker, "delete_records", [TopicPartition(topic, 0, -1)]).values()
    equal(first.low_watermark, 100, "all of it")
    code = code_of(lambda: ask(broker, "delete_records", [TopicPartition(topic, 0, 101)]))
    equal(code, KafkaError.OFFSET_OUT_OF_RANGE, "past the end")
    checked(70)


@case
def changed_configs_outlive_the_process(broker):
    topic = create(broker)
    alter(broker, TOPIC, topic, (SET, "retention.ms", "6000"))
    alter(broker, BROKER, "1", (SET, "log.retention.bytes", "1000000000"))
    broker.kill()
    broker.start()
    expect(broker, TOPIC, topic, "retention.ms", ("6000", "DYNAMIC_TOPIC_CONFIG"), "the topic's")
    expect(broker, BROKER, "1", "log.retention.bytes", ("1000000000", "DYNAMIC_BROKER_CONFIG"), "the broker's")
    alter(broker, BROKER, "1", (DELETE, "log.retention.bytes", None))
    checked(2)


@case
def leaders_need_no_election(broker):
    topic = create(broker)
    wanted = [TopicPartition(topic, 0), TopicPartition(topic, 7)]
    for kind in ElectionType:
        client = admin(broker)
        answers = client.elect_leaders(kind, wanted).result(30)
        codes = {one.partition: error.code() for one, error in answers.items()}
        equal(codes, {0: KafkaError.ELECTION_NOT_NEEDED, 7: KafkaError.UNKNOWN_TOPIC_OR_PART}, f"{kind}")
    checked(4)


@case
def there_are_no_access_rules(broker):
    rule = AclBinding(ResourceType.TOPIC, "t", ResourcePatternType.LITERAL, "User:a", "*", AclOperation.READ, AclPermissionType.ALLOW)
    every = AclBindingFilter(ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY)
    for operation, argument in [("create_acls", [rule]), ("delete_acls", [every])]:
        code = code_of(lambda operation=operation, argument=argument: ask(broker, operation, argument))
        equal(code, KafkaError.SECURITY_DISABLED, operation)
    checked(2)


@case
def topics_and_offsets_are_told(broker):
    topic = create(broker, 3)
    produce(broker, topic, [{"value": b"x"}] * 10, partition=2)
    one = ask(broker, "describe_topics", TopicCollection([topic]))[topic]
    equal([(each.id, each.leader.id, len(each.isr)) for each in one.partitions], [(p, 1, 1) for p in range(3)], "partitions")
    offsets = ask(broker, "list_offsets", {TopicPartition(topic, p): OffsetSpec.latest() for p in range(3)})
    equal({place.partition: found.offset for place, found in offsets.items()}, {0: 0, 1: 0, 2: 10}, "the ends")
    checked(10)


@case
def the_command_shows_and_changes_configs(broker):
    topic = create(broker)
    here = ["--broker", broker.address]

    def ringlog(*arguments):
        ended = subprocess.run([binary(), *arguments, *here], capture_output=True, text=True, timeout=60)
        equal(ended.returncode, 0, f"{arguments}: {ended.stderr}")
        return ended.stdout

    def shown(*arguments):
        rows = [line.split(None, 2) for line in ringlog("config", "get", *arguments).splitlines()]
        equal(rows[0], ["CONFIG", "VALUE", "SET"], "the table's head")
        return {name: (value, where) for name, value, where in rows[1:]}

    said = ringlog("config", "set", "retention.ms=6000", "cleanup.policy=compact", "--topic", topic)
    equal(said, "changed: retention.ms=6000, cleanup.policy=compact\n", "what is said")
    expect(broker, TOPIC, topic, "retention.ms", ("6000", "DYNAMIC_TOPIC_CONFIG"), "set")
    equal(shown("--topic", topic)["retention.ms"], ("6000", "on the topic"), "what was set on the topic")
    ringlog("config", "set", "--reset", "retention.ms", "--topic", topic)
    expect(broker, TOPIC, topic, "retention.ms", ("604800000", "DEFAULT_CONFIG"), "reset")
    equal(shown("retention.ms", "--topic", topic), {"retention.ms": ("604800000", "-")}, "one that is not set")
    ringlog("config", "set", "log.retention.bytes=5", "--all-brokers")
    ringlog("config", "set", "log.retention.bytes=7")
    expect(broker, BROKER, "1", "log.retention.bytes", ("7", "DYNAMIC_BROKER_CONFIG"), "set for the broker")
    equal(shown()["log.retention.bytes"], ("7", "for this broker"), "what was set for the broker")
    equal(shown("--all-brokers")["log.retention.bytes"], ("5", "for all brokers"), "what was set for all")
    ringlog("config", "set", "--reset", "log.retention.bytes")
    ringlog("config", "set", "--reset", "log.retention.bytes", "--all-brokers")
    expect(broker, BROKER, "1", "log.retention.bytes", ("-1", "DEFAULT_CONFIG"), "reset")
    checked(8)


if __name__ == "__main__":
    main("admin", new_broker(options=["--cores", "0,1"]))
