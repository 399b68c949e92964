"""Reading a broker through librdkafka: its topics, and every record of every partition."""

import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from ledger import Broken, Found

# Nothing more comes when nothing has come this many times, for this long each.
SILENCES = 100
SILENCE_SECONDS = 0.1
ANSWER_SECONDS = 30
# Commits offsets of the topic `steady`, each larger than the one before.
GROUP = "counter"
QUICK = {
    "log_level": 0,
    "reconnect.backoff.ms": 10,
    "reconnect.backoff.max.ms": 100,
    "socket.nagle.disable": True,
}


def topic_ids(admin, names):
    """The ids of topics, as text."""
    answers = admin.describe_topics(TopicCollection(list(names)), request_timeout=ANSWER_SECONDS)
    return {name: str(answer.result(ANSWER_SECONDS).topic_id) for name, answer in answers.items()}


def read_all(address, ledger):
    """What a broker holds: each topic as `Found`, each record parsed."""
    admin = AdminClient({"bootstrap.servers": address, **QUICK})
    # The broker's own topics have names that begin so.
    metadata = {name: topic for name, topic in admin.list_topics(timeout=ANSWER_SECONDS).topics.items() if not name.startswith("__")}
    if not metadata:
        return {}
    ids = topic_ids(admin, metadata)
    found = {}
    for name, topic in metadata.items():
        found[name] = Found(ids[name], {number: [] for number in topic.partitions})
    waiting = {(name, number) for name, topic in found.items() for number in topic.partitions}
    consumer = Consumer({
        "bootstrap.servers": address,
        "group.id": "reader",
        "enable.partition.eof": True,
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "check.crcs": True,
        "fetch.wait.max.ms": 20,
        **QUICK,
    })
    try:
        consumer.assign([TopicPartition(name, number, OFFSET_BEGINNING) for name, number in waiting])
        silences = 0
        while waiting:
            messages = consumer.consume(10_000, SILENCE_SECONDS)
            silences = 0 if messages else silences + 1
            if silences == SILENCES:
                raise Broken(f"no more can be read of {sorted(waiting)}")
            for message in messages:
                place = (message.topic(), message.partition())
                if message.error() is None:
                    name, number = ledger.parse(*place, message.value())
                    found[place[0]].partitions[place[1]].append((message.offset(), name, number))
                elif message.error().name() == "_PARTITION_EOF":
                    waiting.discard(place)
                else:
                    raise Broken(f"read {place}: {message.error()}")
    except KafkaException as error:
        raise Broken(f"read: {error}") from error
    finally:
        consumer.close()
    return found


def read_committed(address, found):
    """The offsets that the group has committed, by partition."""
    if "steady" not in found:
        return {}
    consumer = Consumer({"bootstrap.servers": address, "group.id": GROUP, **QUICK})
    asked = [TopicPartition("steady", number) for number in found["steady"].partitions]
    end = time.monotonic() + ANSWER_SECONDS
    try:
        while True:
            try:
                return {place.partition: place.offset for place in consumer.committed(asked, ANSWER_SECONDS) if place.offset >= 0}
            except KafkaException as error:
                # The topic that keeps groups may be being made, or read.
                comes = error.args[0].name() in ("NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE")
                if not comes or time.monotonic() > end:
                    raise Broken(f"read what {GROUP} has committed: {error}") from error
                time.sleep(0.01)
    finally:
        consumer.close()
