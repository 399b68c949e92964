"""Consumer groups with librdkafka through confluent-kafka: rebalances, members that leave, are killed or are static, commits, and what admins see."""

import os
import re
import subprocess
import sys
import time
import urllib.request
import uuid

from confluent_kafka import Consumer, ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaError, KafkaException
from confluent_kafka import OFFSET_INVALID, TopicPartition
from confluent_kafka.admin import AdminClient

from cases import case, checked, equal, main
from confluent import ask, create, produce
from launcher import ROOT, broker as new_broker

PARTITIONS = 12
WAIT_SECONDS = 60
SESSION_MS = 3000


def member(broker, group, topic, **config):
    settings = {
        "bootstrap.servers": broker.address,
        "group.id": group,
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": 300,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "topic.metadata.refresh.interval.ms": 1000,
        # What goes wrong on purpose here need not be told.
        "log_level": 0,
    }
    settings.update({key.replace("_", "."): value for key, value in config.items()})
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    return consumer


def owned(consumer):
    return {one.partition for one in consumer.assignment()}


def settle(consumers, wanted, what):
    """Polls all consumers until each partition is owned once, and `wanted(sets)` holds; gives the messages read meanwhile."""
    messages = []
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        for consumer in consumers:
            message = consumer.poll(0.02)
            if message is not None:
                if message.error():
                    raise KafkaException(message.error())
                messages.append(message)
        sets = [owned(consumer) for consumer in consumers]
        whole = sorted(sum((sorted(one) for one in sets), [])) == list(range(PARTITIONS))
        if whole and wanted(sets):
            return messages
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: after {WAIT_SECONDS} s the members own {sets}")


def evenly(count):
    return lambda sets: sorted(len(one) for one in sets) == [PARTITIONS // count] * count


def read(consumer, count):
    messages = []
    deadline = time.monotonic() + WAIT_SECONDS
    while len(messages) < count:
        if time.monotonic() > deadline:
            raise AssertionError(f"only {len(messages)} of {count} messages came")
        message = consumer.poll(0.2)
        if message is not None:
            if message.error():
                raise KafkaException(message.error())
            messages.append(message)
    checked(count)
    return messages


def fill(broker, topic, each=10, start=0):
    for partition in range(PARTITIONS):
        produce(broker, topic, [{"value": f"{partition}:{n}"} for n in range(start, start + each)], partition=partition)


def values(messages):
    return sorted(message.value().decode() for message in messages)


def new_group():
    return f"g-{uuid.uuid4()}"


def describe(broker, group):
    return ask(broker, "describe_consumer_groups", [group])[group]


def child(broker, group, topic, *config):
    """A member in a process of its own, which says what it owns, a line each time."""
    command = [sys.executable, __file__, "--member", broker.address, group, topic, *config]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def run_child(address, group, topic, *config):
    class At:
        pass

    At.address = address
    consumer = member(At, group, topic, **dict(one.split("=") for one in config))
    said = None
    while True:
        consumer.poll(0.1)
        if owned(consumer) != said:
            said = owned(consumer)
            print(" ".join(map(str, sorted(said))), flush=True)


def child_owns(process, wanted):
    for line in process.stdout:
        if wanted({int(word) for word in line.split()}):
            return
    raise AssertionError("the member in its own process ended")


@case
def a_group_goes_on_where_it_committed(broker):
    topic, group = create(broker, PARTITIONS), new_group()
    fill(broker, topic)
    consumer = member(broker, group, topic)
    first = read(consumer, 60)
    consumer.commit(asynchronous=False)
    consumer.close()
    consumer = member(broker, group, topic)
    rest = read(consumer, PARTITIONS * 10 - 60)
    equal(values(first + rest), sorted(f"{p}:{n}" for p in range(PARTITIONS) for n in range(10)), "what both read")
    equal(consumer.poll(0.5), None, "a message more")
    consumer.close()


@case
def three_members_join_at_once(broker):
    topic, group = create(broker, PARTITIONS), new_group()
    fill(broker, topic)
    members = [member(broker, group, topic) for _ in range(3)]
    messages = settle(members, evenly(3), "three members")
    while len({message.value() for message in messages}) < PARTITIONS * 10:
        messages += [one for one in (consumer.poll(0.05) for consumer in members) if one is not None]
    checked(PARTITIONS * 10)
    seen = describe(broker, group)
    equal((seen.state, len(seen.members), seen.partition_assignor), (ConsumerGroupState.STABLE, 3, "range"), "the group described")
    described = sorted(one.partition for member in seen.members for one in member.assignment.topic_partitions)
    equal(described, list(range(PARTITIONS)), "partitions described")
    for consumer in members:
        consumer.close()
    equal(describe(broker, group).state, ConsumerGroupState.EMPTY, "the state when all have left")


@case
def members_come_and_go(broker):
    topic, group = create(broker, PARTITIONS), new_group()
    members = [member(broker, group, topic)]
    settle(members, evenly(1), "alone")
    members.append(member(broker, group, topic))
    settle(members, evenly(2), "two")
    members.append(member(broker, group, topic))
    settle(members, evenly(3), "three")
    members.pop(1).close()
    started = time.monotonic()
    settle(members, evenly(2), "two are left")
    if time.monotonic() - started > SESSION_MS / 1000:
        raise AssertionError("who leaves is waited for")
    members.pop(0).close()
    settle(members, evenly(1), "one is left")
    fill(broker, topic)
    read(members[0], PARTITIONS * 10)
    members[0].close()


@case
def a_killed_member_is_missed(broker):
    topic, group = create(broker, PARTITIONS), new_group()
    others = [child(broker, group, topic) for _ in range(2)]
    consumer = member(broker, group, topic)
    settle_deadline = time.monotonic() + WAIT_SECONDS
    while len(owned(consumer)) != PARTITIONS // 3:
        consumer.poll(0.1)
        if time.monotonic() > settle_deadline:
            raise AssertionError(f"of three the member owns {owned(consumer)}")
    for other in others:
        other.kill()
        other.wait()
    settle([consumer], evenly(1), "the others were killed")
    fill(broker, topic)
    read(consumer, PARTITIONS * 10)
    consumer.close()


@case
def static_members_come_back_without_a_rebalance(broker):
    topic, group = create(broker, PARTITIONS), new_group()
    names = ["one", "two", "three"]
    config = {"session_timeout_ms": 20000}
    members = {name: member(broker, group, topic, group_instance_id=name, **config) for name in names}
    settle(list(members.values()), evenly(3), "three static members")
    before = {name: owned(consumer) for name, consumer in members.items()}
    ids = {one.group_instance_id: one.member_id for one in describe(broker, group).members}
    equal(sorted(ids), sorted(names), "static names")
    # A static member that closes does not leave.
    members["two"].close()
    equal(describe(broker, group).state, ConsumerGroupState.STABLE, "while one is away")
    members["two"] = member(broker, group, topic, group_instance_id="two", **config)
    settle(list(members.values()), lambda sets: sets == [before[name] for name in members], "it is back")
    again = {one.group_instance_id: one.member_id for one in describe(broker, group).members}
    equal((again["one"], again["three"]), (ids["one"], ids["three"]), "the others' ids")
    if again["two"] == ids["two"]:
        raise AssertionError("who comes back has the old id")
    for consumer in members.values():
        consumer.close()


@case
def a_second_static_member_of_the_name_fences_the_first(broker):
    topic, group = create(broker, PARTITIONS), new_group()
    first = member(broker, group, topic, group_instance_id="only")
    settle([first], evenly(1), "the first")
    second = child(broker, group, topic, "group.instance.id=only")
    child_owns(second, lambda sets: len(sets) == PARTITIONS)
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        message = first.poll(0.2)
        if message is not None and message.error():
            equal(message.error().code(), KafkaError._FATAL, "the first's error")
            break
        if time.monotonic() > deadline:
            raise AssertionError("the first goes on")
    second.kill()
    second.wait()
    first.close()


@case
def cooperative_members_keep_what_they_have(broker):
    topic, group = create(broker, PARTITIONS), new_group()
    config = {"partition_assignment_strategy": "cooperative-sticky"}
    first = member(broker, group, topic, **config)
    settle([first], evenly(1), "alone")
    second = member(broker, group, topic, **config)
    kept = owned(first)
    while not owned(second):
        first.poll(0.02)
        second.poll(0.02)
        kept &= owned(first)
        if not kept:
            raise AssertionError("the first gave up all it had")
    settle([first, second], evenly(2), "two")
    first.close()
    second.close()


@case
def commits_are_told_as_they_were_made(broker):
    topic, group = create(broker, PARTITIONS), new_group()
    fill(broker, topic)
    consumer = member(broker, group, topic)
    settle([consumer], evenly(1), "alone")
    wanted = [TopicPartition(topic, p, p + 1, metadata=f"note {p} ü", leader_epoch=0) for p in range(4)]
    consumer.commit(offsets=wanted, asynchronous=False)
    asked = [TopicPartition(topic, p) for p in range(5)]
    told = consumer.committed(asked, timeout=30)
    equal([one.offset for one in told], [1, 2, 3, 4, OFFSET_INVALID], "offsets")
    equal([one.metadata for one in told[:4]], [f"note {p} ü" for p in range(4)], "what was kept beside them")
    # This client sends a byte more than it is given.
    consumer.commit(offsets=[TopicPartition(topic, 0, 2, metadata="x" * 4095)], asynchronous=False)
    try:
        consumer.commit(offsets=[TopicPartition(topic, 0, 1, metadata="x" * 4096)], asynchronous=False)
        raise AssertionError("a note of any length is kept")
    except KafkaException as refused:
        equal(refused.args[0].code(), KafkaError.OFFSET_METADATA_TOO_LARGE, "a long note")
    consumer.close()
    other = Consumer({"bootstrap.servers": broker.address, "group.id": new_group()})
    equal([one.offset for one in other.committed(asked, timeout=30)], [OFFSET_INVALID] * 5, "an unknown group")
    other.close()


@case
def a_consumer_that_was_assigned_commits_without_a_group(broker):
    topic, group = create(broker, PARTITIONS), new_group()
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": group, "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 3, 0)])
    consumer.commit(offsets=[TopicPartition(topic, 3, 7)], asynchronous=False)
    equal(consumer.committed([TopicPartition(topic, 3)], timeout=30)[0].offset, 7, "the offset")
    equal(describe(broker, group).state, ConsumerGroupState.EMPTY, "the group's state")
    consumer.close()


@case
def admins_list_describe_set_and_delete(broker):
    topic, group = create(broker, PARTITIONS), new_group()
    client = AdminClient({"bootstrap.servers": broker.address})
    consumer = member(broker, group, topic)
    settle([consumer], evenly(1), "alone")
    listed = client.list_consumer_groups(states={ConsumerGroupState.STABLE}).result(30)
    if group not in {one.group_id for one in listed.valid}:
        raise AssertionError(f"{group} is not listed")
    equal([one.group_id for one in client.list_consumer_groups(states={ConsumerGroupState.DEAD}).result(30).valid], [], "dead groups")
    refused = client.delete_consumer_groups([group])[group].exception(30)
    equal(refused.args[0].code(), KafkaError.NON_EMPTY_GROUP, "deleting a group in use")
    refused = set_offsets(client, group, [TopicPartition(topic, 0, 5)])[0].error
    equal(refused.code(), KafkaError.UNKNOWN_MEMBER_ID, "setting offsets of a group in use")
    consumer.close()
    set_offsets(client, group, [TopicPartition(topic, p, 100 + p) for p in range(PARTITIONS)])
    asked = [ConsumerGroupTopicPartitions(group)]
    told = client.list_consumer_group_offsets(asked)[group].result(30).topic_partitions
    equal(sorted((one.partition, one.offset) for one in told), [(p, 100 + p) for p in range(PARTITIONS)], "offsets set")
    client.delete_consumer_groups([group])[group].result(30)
    told = client.list_consumer_group_offsets(asked)[group].result(30).topic_partitions
    equal(told, [], "offsets of a group deleted")
    refused = client.delete_consumer_groups([group])[group].exception(30)
    equal(refused.args[0].code(), KafkaError.GROUP_ID_NOT_FOUND, "deleting it again")
    equal(describe(broker, group).state, ConsumerGroupState.DEAD, "its state")


def set_offsets(client, group, offsets):
    answer = client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, offsets)])[group]
    return answer.result(30).topic_partitions


def ringlog(*arguments):
    """ringlog's own command; its lines as words."""
    ended = subprocess.run([binary(), "group", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    equal(ended.returncode, 0, f"{arguments}: {ended.stderr}")
    return [line.split() for line in ended.stdout.splitlines()]


def lags(broker, group, unit="records"):
    with urllib.request.urlopen(f"http://{broker.http}/metrics") as answer:
        text = answer.read().decode()
    found = re.findall(r'ringlog_group_lag_%s\{group="%s",topic="\S+?",partition="(\d+)"\} (\S+)' % (unit, group), text)
    return {int(partition): float(lag) for partition, lag in found}


@case
def the_command_and_the_metrics_tell_the_lag(broker):
    if broker.name != "ringlog":
        return
    topic, group = create(broker, PARTITIONS), new_group()
    fill(broker, topic)
    consumer = member(broker, group, topic, client_id="mine")
    read(consumer, PARTITIONS * 10)
    consumer.commit(asynchronous=False)
    # Of a batch the oldest record counts: an hour ago, though the newest is of now. One partition has nothing for the group.
    hour_ago = int(time.time() - 3600) * 1000
    for partition in range(1, PARTITIONS):
        times = [{"timestamp": hour_ago}, {}, {}]
        produce(broker, topic, [{"value": f"{partition}:{n}", **at} for n, at in enumerate(times, 10)], partition=partition, linger_ms=500)
    at = ["--broker", broker.address]
    equal([row for row in ringlog("list", *at) if row[0] == group], [[group, "Stable", "consumer"]], "the group listed")
    told = [row[:7] for row in ringlog("describe", group, *at)[2:]]
    behind = [["0", "10", "10", "0"]] + [[str(p), "10", "13", "3"] for p in range(1, PARTITIONS)]
    equal([row[1:5] for row in told], behind, "the group described")
    equal({row[6].startswith("mine-") for row in told}, {True}, f"who consumes: {told}")
    equal(lags(broker, group), {p: 3 if p else 0 for p in range(PARTITIONS)}, "lag in the metrics")
    for of, seconds in (("command", [float(row[5]) for row in told]), ("metrics", list(lags(broker, group, "seconds").values()))):
        if seconds[0] != 0 or not all(3600 <= lag < 3600 + WAIT_SECONDS for lag in seconds[1:]):
            raise AssertionError(f"the lag in seconds of the {of}: {seconds}")
    refused = subprocess.run([binary(), "group", "reset", group, "--topic", topic, "--to-latest", *at], capture_output=True, text=True)
    equal((refused.returncode, "stop them first" in refused.stderr), (1, True), "resetting a group in use")
    consumer.close()
    for to, wanted in (("--to-latest", 13), ("--shift-by=-4", 9), ("--shift-by=100", 13), ("--to-offset=5", 5), ("--to-time=0", 0)):
        rows = ringlog("reset", group, "--topic", topic, to, *at)[1:]
        equal({row[2] for row in rows[1:]}, {str(wanted)}, to)
    ringlog("reset", group, "--topic", topic, "--partition", 1, "--to-latest", "--dry-run", *at)
    # Trying out sets nothing. The first records are of now.
    equal(lags(broker, group), {p: 13 if p else 10 for p in range(PARTITIONS)}, "lag from the first record")
    seconds = lags(broker, group, "seconds")
    if len(seconds) != PARTITIONS or not all(0 < lag < WAIT_SECONDS for lag in seconds.values()):
        raise AssertionError(f"the lag in seconds from the first record: {seconds}")
    ringlog("delete", group, *at)
    equal([row for row in ringlog("list", *at) if row[0] == group], [], "the group is gone")
    equal(lags(broker, group), {}, "and from the metrics")


def binary():
    return os.environ.get("RINGLOG_BINARY") or str(ROOT / "target" / "release" / "ringlog")


@case
def offsets_go_with_their_topic(broker):
    topic, group = create(broker, PARTITIONS), new_group()
    client = AdminClient({"bootstrap.servers": broker.address})
    set_offsets(client, group, [TopicPartition(topic, 0, 5)])
    ask(broker, "delete_topics", [topic])
    asked = [ConsumerGroupTopicPartitions(group)]
    deadline = time.monotonic() + WAIT_SECONDS
    while client.list_consumer_group_offsets(asked)[group].result(30).topic_partitions:
        if time.monotonic() > deadline:
            raise AssertionError("the offsets stay")
        time.sleep(0.1)
    create(broker, PARTITIONS, name=topic)
    equal(client.list_consumer_group_offsets(asked)[group].result(30).topic_partitions, [], "offsets of the topic made anew")


@case
def groups_survive_restarts(broker):
    topic, group = create(broker, PARTITIONS), new_group()
    fill(broker, topic)
    consumer = member(broker, group, topic, session_timeout_ms=30000)
    messages = read(consumer, 60)
    consumer.commit(asynchronous=False)
    before = {one.member_id for one in describe(broker, group).members}
    for end in (broker.stop, broker.kill):
        end()
        broker.start()
        deadline = time.monotonic() + WAIT_SECONDS
        while {one.member_id for one in describe_patiently(broker, group).members} != before:
            if time.monotonic() > deadline:
                raise AssertionError("the member is another")
    messages += read(consumer, PARTITIONS * 10 - 60)
    equal(len(set(values(messages))), PARTITIONS * 10, "different messages over two restarts")
    consumer.commit(asynchronous=False)
    consumer.close()
    told = ask(broker, "list_consumer_group_offsets", [ConsumerGroupTopicPartitions(group)])[group].topic_partitions
    equal(sorted((one.partition, one.offset) for one in told), [(p, 10) for p in range(PARTITIONS)], "offsets")


def describe_patiently(broker, group):
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return describe(broker, group)
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--member"]:
        run_child(*sys.argv[2:])
    settings = {"group.initial.rebalance.delay.ms": 300, "group.min.session.timeout.ms": 1000}
    main("groups", new_broker(settings, ["--cores", "0,1"]))
