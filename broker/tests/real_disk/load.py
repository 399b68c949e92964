"""The load under which power is cut: producers of every kind, a consumer, and one who makes and deletes topics; all of it goes in the ledger."""

import errno
import fcntl
import random
import struct
import threading
import time

import raw
from clients import ANSWER_SECONDS, GROUP, QUICK, topic_ids
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from ledger import FILLERS_LARGE, FILLERS_MIDDLE, Topic

# Longer than any stop of the broker: an idempotent producer gives up nothing, so nothing is missing between its messages.
MESSAGE_TIMEOUT_MS = 120_000
# Messages between two breaths of a producer, and how long a breath takes.
BURST = 40
BREATH_SECONDS = 0.01
# Messages of one producer that have no answer yet.
UNANSWERED_MAX = 200
# Topics that come and go, at a time.
COMING_AND_GOING = 4

# Copies kept of files that are being written, where the file system can make copies that share blocks (`linux/fs.h`: `FICLONE`).
COPIES = 100
FICLONE = 0x40049409

# Of each partition of the topic `kept`; its segments are of 1 MiB.
KEPT_BYTES = 3 << 20

TOPICS = (
    # (name, partitions, configs)
    ("steady", 6, {}),
    ("rolls", 2, {"segment.ms": "50"}),
    ("weak", 1, {"durability": "replicated"}),
    ("kept", 3, {"retention.bytes": str(KEPT_BYTES), "file.delete.delay.ms": "300"}),
)
PRODUCERS = (
    # (topic, partition, acks, idempotent, fillers)
    ("steady", 0, "all", True, None),
    ("steady", 1, "all", False, None),
    ("steady", 2, "1", False, None),
    ("steady", 3, "all", True, None),
    ("steady", 3, "1", False, None),
    ("steady", 3, "0", False, None),
    ("steady", 5, "all", True, FILLERS_LARGE),
    ("rolls", 0, "all", True, None),
    ("weak", 0, "all", True, None),
    ("kept", 0, "all", True, FILLERS_MIDDLE),
    ("kept", 1, "all", False, FILLERS_MIDDLE),
    ("kept", 2, "1", False, FILLERS_MIDDLE),
)
# One request at a time over a bare socket: the acknowledgement is noted the moment it comes.
PROMPT = (("steady", 4), ("rolls", 1))


class Load:
    """Runs against one broker, which may stop, die and come back meanwhile."""

    def __init__(self, broker, position, ledger, seed, data=None):
        self.broker, self.position, self.ledger, self.seed, self.data = broker, position, ledger, seed, data
        self.ended = False
        # While this is set nobody sends with acks=all, so that more gathers on the disk between two flushes.
        self.calm = False
        self.failures = []
        self.topics = {}
        self.threads = []

    def begin(self):
        admin = AdminClient({"bootstrap.servers": self.broker.address, **QUICK})
        for name, partitions, configs in TOPICS:
            self.create(admin, name, partitions, configs)
        for number, (name, partition, acks, idempotent, fillers) in enumerate(PRODUCERS):
            more = {"fillers": fillers} if fillers else {}
            writer = self.ledger.writer(f"p{number}", idempotent=idempotent, **more)
            self.spawn(self.produce, self.topics[name], partition, acks, writer, self.seed * 100 + number)
        for number, (name, partition) in enumerate(PROMPT):
            writer = self.ledger.writer(f"r{number}", fillers=(0, 10))
            self.spawn(self.produce_promptly, self.topics[name], partition, writer, self.seed * 100 + 50 + number)
        self.spawn(self.consume)
        self.spawn(self.come_and_go, self.seed)
        self.spawn(self.commit)
        self.spawn(self.back_up)

    def end(self):
        """Stops everything; what is on its way is acknowledged or fails first."""
        self.ended = True
        for thread in self.threads:
            thread.join()
        if self.failures:
            raise self.failures[0]

    def spawn(self, work, *arguments):
        def run():
            try:
                work(*arguments)
            except Exception as failure:
                self.failures.append(failure)

        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()

    def produce(self, topic, partition, acks, writer, seed):
        dice = random.Random(seed)
        heard = topic.partitions[partition]
        heard = heard.strong if acks == "all" else heard.weak

        def delivered(error, message):
            if error is None and acks != "0":
                number = int(message.value()[:100].split(b"/", 4)[3])
                heard.append((self.position(), message.offset(), writer.name, number))

        producer = Producer({
            "bootstrap.servers": self.broker.address,
            "client.id": writer.name,
            "acks": acks,
            "enable.idempotence": writer.idempotent,
            # A plain producer sends nothing twice, so its messages stay in order.
            **({} if writer.idempotent else {"retries": 0}),
            "linger.ms": 1,
            "batch.num.messages": 50,
            "message.timeout.ms": MESSAGE_TIMEOUT_MS,
            **QUICK,
        })
        number = 0
        burst, breath = (2, 10 * BREATH_SECONDS) if writer.fillers is FILLERS_LARGE else (BURST, BREATH_SECONDS)
        while not self.ended:
            if self.calm and acks == "all":
                producer.poll(breath)
                continue
            for _ in range(dice.randint(1, burst)):
                value = self.ledger.value(topic.name, partition, writer, number)
                producer.produce(topic.name, value, partition=partition, on_delivery=delivered)
                number += 1
            producer.poll(dice.random() * 2 * breath)
            while len(producer) > UNANSWERED_MAX and not self.ended:
                producer.poll(breath)
        if producer.flush(ANSWER_SECONDS) > 0:
            raise AssertionError(f"{writer.name}: not answered within {ANSWER_SECONDS} s")

    def produce_promptly(self, topic, partition, writer, seed):
        dice = random.Random(seed)
        number = 0
        while not self.ended:
            try:
                with raw.Connection(self.broker) as connection:
                    while not self.ended:
                        if not self.calm:
                            count = dice.randint(1, 5)
                            self.produce_once(connection, topic, partition, writer, range(number, number + count))
                            number += count
                        time.sleep(dice.random() * BREATH_SECONDS)
            except (OSError, Unanswered):
                # The broker is away. What had no answer may be there or not; its numbers are not used again.
                number += 10
                time.sleep(BREATH_SECONDS)

    def produce_once(self, connection, topic, partition, writer, numbers):
        """One batch with acks=all over a bare socket; its offsets are in the ledger when this returns."""
        values = [self.ledger.value(topic.name, partition, writer, number) for number in numbers]
        reply = connection.ask(raw.produce(raw.batch(values), topic=topic.name, partition=partition))
        if reply in (raw.CLOSED, raw.SILENT):
            raise Unanswered
        position = self.position()
        code, offset = raw.produced(reply)
        if code != raw.NO_ERROR:
            raise AssertionError(f"{writer.name}: error {code} for {topic.name}-{partition}")
        heard = topic.partitions[partition].strong
        heard += [(position, offset + index, writer.name, number) for index, number in enumerate(numbers)]
        return offset

    def consume(self):
        """Follows every partition whose high watermark is durable; what it has read is promised to stay."""
        followed = [topic for topic in self.topics.values() if topic.is_durable and topic.kept_bytes is None]
        consumer = Consumer({
            "bootstrap.servers": self.broker.address,
            "group.id": "follower",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 50,
            **QUICK,
        })
        consumer.assign([TopicPartition(topic.name, number, 0) for topic in followed for number in topic.partitions])
        while not self.ended:
            for message in consumer.consume(1000, 0.05):
                if message.error() is not None:
                    raise AssertionError(f"a consumer that only follows {message.topic()}-{message.partition()} from {message.offset()} on: {message.error()}")
                place = (message.topic(), message.partition())
                name, number = self.ledger.parse(*place, message.value())
                heard = self.topics[place[0]].partitions[place[1]].strong
                heard.append((self.position(), message.offset(), name, number))
        consumer.close()

    def commit(self):
        """Commits offsets of a group that only counts, one after the other."""
        consumer = Consumer({"bootstrap.servers": self.broker.address, "group.id": GROUP, "enable.auto.commit": False, **QUICK})
        steady = self.topics["steady"]
        offset = 0
        while not self.ended:
            offset += 1
            partition = offset % steady.partition_count
            try:
                consumer.commit(offsets=[TopicPartition(steady.name, partition, offset)], asynchronous=False)
                self.ledger.committed.append((self.position(), partition, offset))
            except KafkaException:
                # The broker is away: perhaps it heard this, perhaps not.
                pass
            time.sleep((5 if self.calm else 1) * BREATH_SECONDS)
        consumer.close()

    def back_up(self):
        """Copies files while they are written, as `cp` does it where copies can share blocks: what the broker writes next goes elsewhere."""
        dice = random.Random(self.seed)
        copies = self.data.parent / "copies"
        copies.mkdir()
        made = 0
        while not self.ended:
            time.sleep(dice.random() * 30 * BREATH_SECONDS)
            newest = [max(logs) for folder in self.data.iterdir() if folder.is_dir() and (logs := list(folder.glob("*.log")))]
            try:
                with open(dice.choice(newest), "rb") as source, open(copies / str(made), "wb") as copy:
                    fcntl.ioctl(copy, FICLONE, source.fileno())
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno == errno.EOPNOTSUPP:
                    return
                raise
            made += 1
            if made > COPIES:
                (copies / str(made - COPIES - 1)).unlink()

    def come_and_go(self, seed):
        """Creates topics, writes to them, deletes them, creates others of their names."""
        dice = random.Random(seed)
        admin = AdminClient({"bootstrap.servers": self.broker.address, **QUICK})
        names = [f"comes-{number}" for number in range(COMING_AND_GOING)]
        live, made = {}, 0
        while not self.ended:
            place = dice.randrange(len(names))
            name = names[place]
            made += 1
            writer = self.ledger.writer(f"c{made}", fillers=(0, 10))
            try:
                if name not in live:
                    live[name] = self.create(admin, name, dice.randint(1, 3), {})
                with raw.Connection(self.broker) as connection:
                    for number in range(dice.randint(0, 8)):
                        partition = dice.randrange(live[name].partition_count)
                        self.produce_once(connection, live[name], partition, writer, [number])
                if dice.random() < 0.6:
                    self.delete(admin, live.pop(name))
            except (OSError, Unanswered, KafkaException):
                # Nobody knows whether what was asked for was done, so this name is left alone.
                live.pop(name, None)
                names[place] = f"{name.partition('-again')[0]}-again{made}"
            time.sleep(dice.random() * 5 * BREATH_SECONDS)

    def create(self, admin, name, partitions, configs):
        topic = Topic(name, partitions, is_durable=configs.get("durability") != "replicated")
        if "retention.bytes" in configs:
            topic.kept_bytes = int(configs["retention.bytes"])
        topic.create_sent = self.position()
        self.ledger.topics.append(topic)
        asked = NewTopic(name, partitions, 1, config=configs)
        admin.create_topics([asked], request_timeout=ANSWER_SECONDS)[name].result(ANSWER_SECONDS)
        topic.created = self.position()
        topic.topic_id = topic_ids(admin, [name])[name]
        self.topics[name] = topic
        return topic

    def delete(self, admin, topic):
        topic.delete_sent = self.position()
        admin.delete_topics([topic.name], request_timeout=ANSWER_SECONDS)[topic.name].result(ANSWER_SECONDS)
        topic.deleted = self.position()


class Unanswered(Exception):
    """A request had no answer: the broker is gone, or going."""


def produce_after(broker, ledger, position, found, name):
    """One message to each partition that was found: it goes where the records end, so nothing lies hidden behind them. Tells what was heard."""
    load = Load(broker, position, ledger, 0)
    writer = ledger.writer(name, fillers=(0,))
    heard = {}
    with raw.Connection(broker) as connection:
        for name, shown in found.items():
            for number, records in shown.partitions.items():
                topic = Topic(name, len(shown.partitions))
                offset = load.produce_once(connection, topic, number, writer, [0])
                end = records[-1][0] + 1 if records else 0
                if offset != end:
                    raise AssertionError(f"{name}-{number} shows records up to {end}, and gives the next one offset {offset}")
                heard[name, number] = topic.partitions[number].strong
    return heard
