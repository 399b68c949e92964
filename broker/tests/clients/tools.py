"""Apache Kafka's own command-line tools against the broker: topics, configs, offsets, deleted records, directories, versions, leaders."""

import json
import re
import subprocess
import tempfile
import uuid

from cases import case, checked, equal, main
from confluent import ask, create, produce
from group_tools import java
from groups import PARTITIONS, evenly, fill, member, new_group, read, settle
from launcher import KAFKA_JARS, broker as new_broker

TOOLS = {
    "topics": "org.apache.kafka.tools.TopicCommand",
    "configs": "kafka.admin.ConfigCommand",
    "consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
    "log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
    "leader-election": "org.apache.kafka.tools.LeaderElectionCommand",
    "reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "transactions": "org.apache.kafka.tools.TransactionsCommand",
    "acls": "org.apache.kafka.tools.AclCommand",
}


def tool(broker, name, *arguments):
    """Runs kafka-<name>, which must end well, and counts what it says."""
    text = java(TOOLS[name], "--bootstrap-server", broker.address, *arguments)
    checked(1)
    return text


def refused(broker, name, *arguments):
    """What kafka-<name> says when it does not end well."""
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=off"
    command = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", quiet, "-cp", f"{KAFKA_JARS}/*", TOOLS[name]]
    arguments = ["--bootstrap-server", broker.address, *map(str, arguments)]
    ended = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)
    said = ended.stdout + ended.stderr
    equal(ended.returncode == 0 and "Exception" not in said, False, f"kafka-{name} {arguments} was not refused: {said}")
    checked(1)
    return said


# Goes when the program ends.
FILES = tempfile.TemporaryDirectory()


def written(content):
    """A file with this JSON in it."""
    path = f"{FILES.name}/{uuid.uuid4()}.json"
    with open(path, "w") as file:
        json.dump(content, file)
    return path


@case
def kafka_topics_creates_describes_alters_and_deletes(broker):
    topic = f"t-{uuid.uuid4()}"
    tool(broker, "topics", "--create", "--topic", topic, "--partitions", 3, "--config", "retention.ms=5000")
    said = refused(broker, "topics", "--create", "--topic", topic)
    equal("already exists" in said, True, said)
    equal(topic in tool(broker, "topics", "--list").split(), True, "it is listed")
    said = tool(broker, "topics", "--describe", "--topic", topic)
    equal(re.search(r"PartitionCount: *(\d+)\s+ReplicationFactor: *(\d+)", said).groups(), ("3", "1"), said)
    equal("retention.ms=5000" in said, True, said)
    leaders = re.findall(r"Partition: (\d+)\s+Leader: (\d+)\s+Replicas: (\d+)\s+Isr: (\d+)", said)
    equal(leaders, [(str(p), "1", "1", "1") for p in range(3)], said)
    tool(broker, "topics", "--alter", "--topic", topic, "--partitions", 5)
    equal(len(re.findall(r"Partition: \d+", tool(broker, "topics", "--describe", "--topic", topic))), 5, "partitions")
    equal(tool(broker, "topics", "--describe", "--under-replicated-partitions").strip(), "", "none is under-replicated")
    equal(tool(broker, "topics", "--describe", "--unavailable-partitions").strip(), "", "none is unavailable")
    tool(broker, "topics", "--delete", "--topic", topic)
    equal(topic in tool(broker, "topics", "--list").split(), False, "it is gone")


@case
def kafka_configs_describes_and_alters(broker):
    topic = create(broker)
    of_topic = ["--entity-type", "topics", "--entity-name", topic]
    added = "retention.ms=6000,cleanup.policy=[compact,delete]"
    said = tool(broker, "configs", "--alter", *of_topic, "--add-config", added)
    equal("Completed updating config for topic" in said, True, said)
    said = tool(broker, "configs", "--describe", *of_topic)
    equal("retention.ms=6000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=6000" in said, True, said)
    equal("cleanup.policy=compact,delete" in said, True, said)
    tool(broker, "configs", "--alter", *of_topic, "--delete-config", "retention.ms")
    said = tool(broker, "configs", "--describe", "--all", *of_topic)
    equal("retention.ms=604800000 sensitive=false" in said, True, said)
    equal(len(re.findall(r"^  \S+=", said, re.M)) >= 33, True, f"all configs: {said}")
    said = refused(broker, "configs", "--alter", *of_topic, "--add-config", "retention.ms=soon")
    equal("Invalid value soon for configuration retention.ms" in said, True, said)

    of_broker = ["--entity-type", "brokers", "--entity-name", "1"]
    of_all = ["--entity-type", "brokers", "--entity-default"]
    tool(broker, "configs", "--alter", *of_all, "--add-config", "log.retention.bytes=1000")
    tool(broker, "configs", "--alter", *of_broker, "--add-config", "log.retention.bytes=2000")
    said = tool(broker, "configs", "--describe", *of_broker)
    places = "{DYNAMIC_BROKER_CONFIG:log.retention.bytes=2000, DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.bytes=1000"
    equal(f"log.retention.bytes=2000 sensitive=false synonyms={places}" in said, True, said)
    said = tool(broker, "configs", "--describe", *of_all)
    equal("log.retention.bytes=1000 sensitive=false" in said, True, said)
    tool(broker, "configs", "--alter", *of_broker, "--delete-config", "log.retention.bytes")
    tool(broker, "configs", "--alter", *of_all, "--delete-config", "log.retention.bytes")
    said = refused(broker, "configs", "--alter", *of_broker, "--add-config", "num.partitions=9")
    equal("Cannot update these configs dynamically: [num.partitions]" in said, True, said)

    group = new_group()
    of_group = ["--entity-type", "groups", "--entity-name", group]
    tool(broker, "configs", "--alter", *of_group, "--add-config", "consumer.session.timeout.ms=50000")
    said = tool(broker, "configs", "--describe", "--entity-type", "groups")
    places = "{DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000, DEFAULT_CONFIG:group.consumer.session.timeout.ms=45000}"
    equal(f"consumer.session.timeout.ms=50000 sensitive=false synonyms={places}" in said and group in said, True, said)
    tool(broker, "configs", "--alter", *of_group, "--delete-config", "consumer.session.timeout.ms")
    said = tool(broker, "configs", "--describe", "--all", *of_group)
    configs = re.findall(r"^  (\S+)=\S+ sensitive=false synonyms=\{DEFAULT_CONFIG:", said, re.M)
    equal(("consumer.session.timeout.ms" in configs, len(configs)), (True, 17), said)
    said = refused(broker, "configs", "--alter", *of_group, "--add-config", "retention.ms=1")
    equal("Unknown group config name: retention.ms" in said, True, said)


@case
def kafka_consumer_groups_describes_a_group(broker):
    topic, group = create(broker, PARTITIONS), new_group()
    fill(broker, topic)
    consumer = member(broker, group, topic)
    settle([consumer], evenly(1), "alone")
    read(consumer, PARTITIONS * 10)
    consumer.commit(asynchronous=False)
    said = tool(broker, "consumer-groups", "--describe", "--group", group)
    rows = [line.split() for line in said.splitlines() if line.startswith(group)]
    equal(sorted((row[1], int(row[2]), row[3], row[5]) for row in rows), [(topic, p, "10", "0") for p in range(PARTITIONS)], said)
    consumer.close()


@case
def kafka_get_offsets_and_delete_records(broker):
    topic = create(broker, 2)
    produce(broker, topic, [{"value": b"x"}] * 100, partition=1)
    said = tool(broker, "get-offsets", "--topic", topic)
    equal(sorted(said.split()), [f"{topic}:0:0", f"{topic}:1:100"], "the ends")
    wanted = [{"topic": topic, "partition": 1, "offset": 40}, {"topic": topic, "partition": 0, "offset": -1}]
    said = tool(broker, "delete-records", "--offset-json-file", written({"partitions": wanted, "version": 1}))
    equal(f"partition: {topic}-1\tlow_watermark: 40" in said, True, said)
    equal(f"partition: {topic}-0\tlow_watermark: 0" in said, True, said)
    said = tool(broker, "get-offsets", "--topic", topic, "--time", "earliest")
    equal(sorted(said.split()), [f"{topic}:0:0", f"{topic}:1:40"], "the first")
    wanted = [{"topic": topic, "partition": 1, "offset": 101}]
    said = refused(broker, "delete-records", "--offset-json-file", written({"partitions": wanted, "version": 1}))
    equal("not within the range of offsets" in said, True, said)


@case
def kafka_log_dirs_tells_what_partitions_take(broker):
    topic = create(broker, 2)
    produce(broker, topic, [{"value": b"x" * 100}] * 100, partition=1)
    said = tool(broker, "log-dirs", "--describe", "--topic-list", topic)
    told = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    (node,) = told["brokers"]
    (directory,) = node["logDirs"]
    equal((node["broker"], directory["error"]), (1, None), said)
    equal(str(broker.data.resolve()) in directory["logDir"], True, said)
    sizes = {one["partition"]: one["size"] for one in directory["partitions"]}
    equal((sizes[f"{topic}-0"], 10_000 <= sizes[f"{topic}-1"] <= 20_000), (0, True), said)
    equal({one["offsetLag"] for one in directory["partitions"]}, {0}, said)


@case
def kafka_broker_api_versions_knows_all_that_is_served(broker):
    said = tool(broker, "broker-api-versions")
    equal(f"{broker.address} (id: 1 rack: null isFenced: false) -> (" in said, True, said)
    served = re.findall(r"^\t(\w+)\((\d+)\): (.*?),?$", said, re.M)
    usable = {name for name, _, versions in served if "usable" in versions and "UNSUPPORTED" not in versions}
    equal(len(usable) >= 36, True, f"{len(usable)} APIs: {said}")
    for name in ["AlterConfigs", "IncrementalAlterConfigs", "DeleteRecords", "DescribeLogDirs", "ElectLeaders", "ListConfigResources"]:
        equal(name in usable, True, f"{name}: {said}")
    checked(len(usable))


@case
def kafka_leader_election_and_reassignment_find_nothing_to_do(broker):
    topic = create(broker)
    said = tool(broker, "leader-election", "--election-type", "preferred", "--topic", topic, "--partition", 0)
    equal("Valid replica already elected for partitions" in said, True, said)
    tool(broker, "leader-election", "--election-type", "preferred", "--all-topic-partitions")
    plan = written({"version": 1, "partitions": [{"topic": topic, "partition": 0, "replicas": [1]}]})
    said = tool(broker, "reassign-partitions", "--reassignment-json-file", plan, "--execute")
    equal("Successfully started partition reassignment" in said, True, said)
    said = tool(broker, "reassign-partitions", "--reassignment-json-file", plan, "--verify")
    equal(f"Reassignment of partition {topic}-0 is completed." in said, True, said)
    equal("No partition reassignments found." in tool(broker, "reassign-partitions", "--list"), True, "none")


@case
def kafka_transactions_describes_producers(broker):
    topic = create(broker)
    produce(broker, topic, [{"value": b"x"}] * 10, enable_idempotence=True)
    said = tool(broker, "transactions", "describe-producers", "--topic", topic, "--partition", 0)
    rows = [line.split() for line in said.splitlines()]
    equal(rows[0][:4], ["ProducerId", "ProducerEpoch", "LatestCoordinatorEpoch", "LastSequence"], said)
    equal([row[1:4] for row in rows[1:]], [["0", "-1", "9"]], said)


@case
def kafka_acls_is_told_that_there_is_no_authorizer(broker):
    said = refused(broker, "acls", "--list")
    equal("SecurityDisabledException" in said, True, said)


if __name__ == "__main__":
    settings = {"group.initial.rebalance.delay.ms": 300, "group.min.session.timeout.ms": 1000}
    main("tools", new_broker(settings, ["--cores", "0,1"]))
