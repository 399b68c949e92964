"""What a broker has told its clients, each thing with the position of the disk's record when it was heard, and what that demands.

A power cut at position P comes after all that was heard at or before P. What is demanded of the broker that comes back is said in `check`.
"""

import dataclasses
import itertools

# Bytes that a message is filled up with, by its number.
FILLERS = (0, 10, 100, 100, 300, 1000, 1000, 3000, 8000)
FILLERS_LARGE = (20_000, 60_000, 150_000, 300_000)
FILLERS_MIDDLE = (1000, 3000, 8000)


class Broken(AssertionError):
    """A promise was broken."""


@dataclasses.dataclass(frozen=True)
class Writer:
    """Who numbers messages from 0 on, for one partition."""

    name: str
    idempotent: bool = False
    fillers: tuple = FILLERS


@dataclasses.dataclass
class Partition:
    # (position, offset, writer's name, number), as heard. Strong: acknowledged with acks=all, or read. Weak: acknowledged otherwise.
    strong: list = dataclasses.field(default_factory=list)
    weak: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Topic:
    """One topic from its creation to its deletion; another of the same name is another. Positions, `None` for what was never said."""

    name: str
    partition_count: int
    is_durable: bool = True
    # Of each partition retention leaves so many bytes, and may take the oldest records beyond.
    kept_bytes: int | None = None
    topic_id: str | None = None
    create_sent: int | None = None
    created: int | None = None
    delete_sent: int | None = None
    deleted: int | None = None
    partitions: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        self.partitions = {number: Partition() for number in range(self.partition_count)}


def said_by(what, position):
    return what is not None and what <= position


@dataclasses.dataclass
class Found:
    """A topic as a recovered broker shows it: records are (offset, writer's name, number)."""

    topic_id: str
    partitions: dict


class Ledger:
    def __init__(self):
        self.topics = []
        self.writers = {}
        # (position, partition, offset), as a group was told that it has committed them.
        self.committed = []

    def writer(self, name, **how):
        return self.writers.setdefault(name, Writer(name, **how))

    def value(self, topic, partition, writer, number):
        """The message; it tells all about itself."""
        head = f"{topic}/{partition}/{writer.name}/{number}/".encode()
        filler = writer.fillers[(number * 7919 + 13) % len(writer.fillers)]
        return head + (head * (filler // len(head) + 1))[:filler]

    def parse(self, topic, partition, value):
        """Whose message it is, when every byte of it is as it was sent."""
        try:
            _, _, name, number, _ = value[:100].split(b"/", 4)
            writer, number = self.writers[name.decode()], int(number)
        except (ValueError, KeyError):
            raise Broken(f"{topic}-{partition} holds what nobody sent: {value[:100]!r}") from None
        if value != self.value(topic, partition, writer, number):
            raise Broken(f"{topic}-{partition} holds another's message, or an altered one: {value[:100]!r}")
        return name.decode(), number

    def check(self, found, cut, weak_up_to=None):
        """Holds what a recovered broker shows against what had been heard at the cut; `weak_up_to` maps partitions to the offset up to
        which weak promises bind, where a recovered broker has written over what lay beyond."""
        known = set()
        for topic in self.topics:
            shown = found.get(topic.name)
            is_it = shown is not None and (topic.topic_id is None or shown.topic_id == topic.topic_id)
            if said_by(topic.deleted, cut) and is_it and topic.topic_id is not None:
                raise Broken(f"{topic.name} ({topic.topic_id}) is there, and was deleted")
            if said_by(topic.created, cut) and not said_by(topic.delete_sent, cut):
                if shown is None:
                    raise Broken(f"{topic.name} is gone")
                if not is_it:
                    raise Broken(f"{topic.name} has id {shown.topic_id}, and had {topic.topic_id}")
            if not is_it or said_by(topic.deleted, cut) or not said_by(topic.create_sent, cut):
                continue
            known.add(topic.name)
            if sorted(shown.partitions) != list(range(topic.partition_count)):
                raise Broken(f"{topic.name} has partitions {sorted(shown.partitions)}, and had {topic.partition_count}")
            for number, partition in topic.partitions.items():
                place = (topic.name, number)
                self.check_partition(topic, partition, place, shown.partitions[number], cut, (weak_up_to or {}).get(place))
        for name in found.keys() - known:
            raise Broken(f"{name} ({found[name].topic_id}) is there, and nobody has asked for it, or it was deleted")

    def start(self, topic, place, records):
        """The offset of a partition's first record: 0, or what retention has left."""
        if topic.kept_bytes is None or not records or records[0][0] == 0:
            return 0
        left = sum(len(self.value(*place, self.writers[writer], number)) for _, writer, number in records)
        # What had not been synced when the power went was counted, too.
        if left < topic.kept_bytes / 4:
            raise Broken(f"{place}: retention has left {left} bytes from offset {records[0][0]} on, and was to leave {topic.kept_bytes}")
        return records[0][0]

    def check_committed(self, found, cut):
        for position, partition, offset in self.committed:
            if position <= cut and found.get(partition, -1) < offset:
                raise Broken(f"offset {offset} of partition {partition} was committed (heard at {position} of {cut}); there is {found.get(partition)}")

    def check_partition(self, topic, partition, place, records, cut, weak_up_to):
        at = "{}-{}".format(*place)
        by_offset = {offset: (writer, number) for offset, writer, number in records}
        offsets = [offset for offset, _, _ in records]
        start = self.start(topic, place, records)
        if offsets != list(range(start, start + len(offsets))):
            raise Broken(f"{at}: offsets are not {start} to {start + len(offsets) - 1}, one after the other: {gaps(offsets)}")
        strong, weak = partition.strong, partition.weak
        if not topic.is_durable:
            strong, weak = [], strong + weak
        for position, offset, writer, number in strong:
            if position <= cut and offset >= start and by_offset.get(offset) != (writer, number):
                raise Broken(
                    f"{at}: {writer}/{number} was acknowledged or read at offset {offset} (heard at {position} of {cut}); "
                    f"there is {by_offset.get(offset, 'nothing')}, the partition ends at {start + len(offsets)}"
                )
        end = start + len(offsets)
        end = end if weak_up_to is None else min(weak_up_to, end)
        for position, offset, writer, number in weak:
            if position <= cut and start <= offset < end and by_offset[offset] != (writer, number):
                raise Broken(f"{at}: {writer}/{number} was told offset {offset}, where {by_offset[offset]} is")
        by_writer = {}
        for _, writer, number in records:
            by_writer.setdefault(writer, []).append(number)
        for writer, numbers in by_writer.items():
            if self.writers[writer].idempotent:
                first = numbers[0] if start > 0 else 0
                if numbers != list(range(first, first + len(numbers))):
                    raise Broken(f"{at}: {writer} is idempotent; its messages are not each there once and in order: {gaps(numbers)}")
            elif any(later <= earlier for earlier, later in itertools.pairwise(numbers)):
                raise Broken(f"{at}: the messages of {writer} are not in order: {gaps(numbers)}")


def gaps(numbers):
    """The first places where numbers do not follow each other."""
    pairs = [(earlier, later) for earlier, later in itertools.pairwise([-1, *numbers]) if later != earlier + 1]
    return pairs[:5]
