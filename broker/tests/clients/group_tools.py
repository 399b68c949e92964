"""Apache Kafka's own tools about groups: kafka-consumer-groups, kafka-dump-log over what groups keep, and a topic of groups that Kafka has written."""

import json
import re
import shutil
import subprocess
import uuid

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from cases import case, checked, equal, main
from confluent import ask, create
from groups import PARTITIONS, evenly, fill, member, new_group, read, set_offsets, settle
from launcher import KAFKA_JARS, Kafka, broker as new_broker

TOOL_SECONDS = 60
OFFSETS_TOPIC = "__consumer_offsets"


def java(main_class, *arguments):
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"
    fast = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    command = ["java", *fast, quiet, "-cp", f"{KAFKA_JARS}/*", main_class, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS)
    equal((ended.returncode, "Exception" in ended.stderr), (0, False), f"{main_class} {arguments}: {ended.stdout}{ended.stderr}")
    return ended.stdout


def tool(broker, *arguments):
    """kafka-consumer-groups; its table as rows by column name."""
    text = java("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--bootstrap-server", broker.address, *arguments)
    lines = [line.split() for line in text.splitlines() if line.strip()]
    header = next((at for at, line in enumerate(lines) if line[0] == "GROUP"), None)
    if header is None:
        return text, []
    return text, [dict(zip(lines[header], line)) for line in lines[header + 1 :] if len(line) >= 2]


def partition_of(group):
    """Java's hash, as Kafka takes it."""
    hashed = 0
    for high, low in zip(group.encode("utf-16-be")[0::2], group.encode("utf-16-be")[1::2]):
        hashed = (31 * hashed + high * 256 + low) & 0xFFFFFFFF
    if hashed >= 1 << 31:
        hashed -= 1 << 32
    return abs(hashed) % 50


@case
def kafka_consumer_groups_lists_describes_resets_and_deletes(broker):
    topic, group = create(broker, PARTITIONS), new_group()
    fill(broker, topic)
    consumer = member(broker, group, topic, client_id="tool-test")
    read(consumer, PARTITIONS * 10)
    consumer.commit(asynchronous=False)
    fill(broker, topic, 1, 10)
    text, rows = tool(broker, "--list")
    equal(group in text.split(), True, "the group is listed")
    text, rows = tool(broker, "--list", "--state")
    equal([row["STATE"] for row in rows if row["GROUP"] == group], ["Stable"], "its state")
    text, rows = tool(broker, "--describe", "--group", group)
    told = sorted((int(row["PARTITION"]), row["CURRENT-OFFSET"], row["LOG-END-OFFSET"], row["LAG"], row["CLIENT-ID"]) for row in rows)
    equal(told, [(p, "10", "11", "1", "tool-test") for p in range(PARTITIONS)], "what is described")
    text, rows = tool(broker, "--describe", "--group", group, "--members", "--verbose")
    equal([(row["GROUP"], row["#PARTITIONS"]) for row in rows], [(group, str(PARTITIONS))], f"members: {text}")
    text, rows = tool(broker, "--describe", "--group", group, "--state")
    equal("Stable" in text and "range" in text, True, f"the state: {text}")
    consumer.close()
    text, rows = tool(broker, "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute")
    equal({row["NEW-OFFSET"] for row in rows}, {"0"}, f"reset to the first: {text}")
    text, rows = tool(broker, "--reset-offsets", "--group", group, "--all-topics", "--shift-by", 7, "--execute")
    equal({row["NEW-OFFSET"] for row in rows}, {"7"}, f"shifted: {text}")
    consumer = member(broker, group, topic)
    read(consumer, PARTITIONS * 4)
    consumer.close()
    tool(broker, "--delete-offsets", "--group", group, "--topic", f"{topic}:0")
    text, rows = tool(broker, "--describe", "--group", group)
    equal(sorted(int(row["PARTITION"]) for row in rows), list(range(1, PARTITIONS)), f"an offset deleted: {text}")
    text, _ = tool(broker, "--delete", "--group", group)
    equal("was successful" in text, True, text)
    text, _ = tool(broker, "--list")
    equal(group in text.split(), False, "the group is gone")


@case
def kafka_dump_log_reads_what_groups_keep(broker):
    topic, group = create(broker, PARTITIONS), new_group()
    consumer = member(broker, group, topic, group_instance_id="static", client_id="dumped")
    settle([consumer], evenly(1), "alone")
    consumer.commit(offsets=[TopicPartition(topic, 3, 33, metadata="note", leader_epoch=5)], asynchronous=False)
    described = ask(broker, "describe_consumer_groups", [group])[group].members[0]
    alone = new_group()
    set_offsets(AdminClient({"bootstrap.servers": broker.address}), alone, [TopicPartition(topic, 4, 44)])
    ask(broker, "delete_consumer_groups", [alone])
    broker.stop()
    consumed = {(key["data"].get("topic"), key["data"].get("partition")): value for key, value in dumped(broker, group) if key["type"] == "1"}
    value = consumed[(topic, 3)]
    equal((value["version"], value["data"]["offset"], value["data"]["leaderEpoch"]), ("3", 33, 5), "the offset")
    equal(value["data"]["metadata"].rstrip("\0"), "note", "what was kept beside it")
    groups = [value for key, value in dumped(broker, group) if key["type"] == "2" and value is not None]
    last = groups[-1]["data"]
    kept = [(one["memberId"], one["groupInstanceId"], one["clientId"]) for one in last["members"]]
    equal(kept, [(described.member_id, "static", "dumped")], "the member")
    equal((last["protocolType"], last["protocol"], last["leader"]), ("consumer", "range", described.member_id), "the group")
    equal([value for key, value in dumped(broker, alone)][-2:], [None, None], "a group deleted, and its offset")
    broker.start()
    consumer.close()


def dumped(broker, group):
    """Keys and values of a group's records, in order, as Kafka decodes them."""
    folder = broker.data / ("logs" if broker.name == "kafka" else ".") / f"{OFFSETS_TOPIC}-{partition_of(group)}"
    logs = ",".join(map(str, sorted(folder.glob("*.log"))))
    text = java("org.apache.kafka.tools.DumpLogSegments", "--offsets-decoder", "--files", logs)
    records = []
    for line in text.splitlines():
        found = re.search(r" key: (\{.*?\}\})(?: payload: (.*))?$", line)
        if found:
            key = json.loads(found[1])
            if key["data"]["group"] == group:
                value = found[2]
                records.append((key, json.loads(value) if value and value.startswith("{") else None))
    checked(len(records))
    return records


@case
def groups_that_kafka_has_written_go_on(broker):
    """Offsets and members, transactions that were committed, aborted and never ended: from Apache Kafka's segments."""
    group, alone = new_group(), new_group()
    topic = f"t-{uuid.uuid4()}"
    transactional = {end: new_group() for end in ("commit", "abort", "open")}
    settings = {"group.initial.rebalance.delay.ms": 0, "group.min.session.timeout.ms": 1000}
    with Kafka(settings) as kafka:
        create(kafka, PARTITIONS, name=topic)
        fill(kafka, topic)
        consumer = member(kafka, group, topic, session_timeout_ms=30000)
        read(consumer, PARTITIONS * 10)
        consumer.commit(asynchronous=False)
        client = AdminClient({"bootstrap.servers": kafka.address})
        before = ask(kafka, "describe_consumer_groups", [group])[group].members[0].member_id
        set_offsets(client, alone, [TopicPartition(topic, 1, 5, metadata="x")])
        producers = [transaction(kafka, topic, own, end) for end, own in transactional.items()]
        kafka.kill()
        del producers, consumer
        ask_for(broker, topic)
        broker.stop()
        for folder in (kafka.data / "logs").glob(f"{OFFSETS_TOPIC}-*"):
            adopt(folder, broker.data / folder.name)
        broker.start()
    client = AdminClient({"bootstrap.servers": broker.address})
    equal(offsets(client, group), {p: 10 for p in range(PARTITIONS)}, "the offsets of the group")
    equal(offsets(client, alone), {1: 5}, "of the consumer without a group")
    equal(offsets(client, transactional["commit"]), {0: 7}, "of the transaction committed")
    equal(offsets(client, transactional["abort"]), {}, "of the transaction aborted")
    equal(offsets(client, transactional["open"]), {}, "of the transaction that never ended")
    after = ask(broker, "describe_consumer_groups", [group])[group].members[0].member_id
    equal(after, before, "the member")
    checked(PARTITIONS + 2)


def transaction(broker, topic, group, end):
    producer = Producer({"bootstrap.servers": broker.address, "transactional.id": f"x-{uuid.uuid4()}"})
    producer.init_transactions(30)
    producer.begin_transaction()
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": group})
    producer.send_offsets_to_transaction([TopicPartition(topic, 0, 7)], consumer.consumer_group_metadata(), 30)
    {"commit": producer.commit_transaction, "abort": producer.abort_transaction, "open": lambda _: None}[end](30)
    consumer.close()
    return producer


def ask_for(broker, topic):
    """Has the topics made that the groups are about."""
    create(broker, PARTITIONS, name=topic)
    client = AdminClient({"bootstrap.servers": broker.address})
    client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(new_group())])
    equal(offsets(client, new_group()), {}, "offsets of nobody")


def adopt(theirs, ours):
    """Puts Kafka's segments in place of ours; what is kept beside a segment is made anew."""
    for path in ours.iterdir():
        if path.name != "partition.metadata":
            path.unlink()
    for path in theirs.glob("*.log"):
        shutil.copyfile(path, ours / path.name)


def offsets(client, group):
    told = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(30)
    return {one.partition: one.offset for one in told.topic_partitions}


if __name__ == "__main__":
    settings = {"group.initial.rebalance.delay.ms": 300, "group.min.session.timeout.ms": 1000}
    main("group_tools", new_broker(settings, ["--cores", "0,1"]))
