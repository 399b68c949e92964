"""Apache Kafka's kafka-dump-log reads the files a stopped broker leaves: every record acknowledged, and nothing it complains about."""

import os
import re
import subprocess
import time
import uuid

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from cases import case, checked, equal, main
from launcher import KAFKA_JARS
from launcher import broker as new_broker

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
# Of each codec: in all several segments of the smallest size there is, and an entry of the indexes for nearly every batch.
MESSAGES = 3000
BATCH_MESSAGES = 50
CONFIG = {"segment.bytes": "1048576", "index.interval.bytes": "1024"}
SEGMENTS_MIN = 3
# Of now: Apache Kafka forgets a producer by its records' timestamps when it loads a log.
FIRST_TIMESTAMP = int(time.time() * 1000)
DUMP_SECONDS = 120

BATCH = re.compile(
    r"baseOffset: (?P<base>\d+) lastOffset: (?P<last>\d+) count: (?P<count>\d+) baseSequence: (?P<sequence>-?\d+) "
    r"lastSequence: -?\d+ producerId: (?P<producer>-?\d+) .* position: (?P<position>\d+) CreateTime: (?P<timestamp>\d+) "
    r"size: (?P<size>\d+) magic: 2 compresscodec: (?P<codec>\w+) crc: \d+ isvalid: (?P<valid>\w+)"
)
RECORD = re.compile(
    r"\| offset: (?P<offset>\d+) CreateTime: (?P<timestamp>\d+) keySize: -?\d+ valueSize: -?\d+ sequence: -?\d+ "
    r"headerKeys: \[(?P<headers>.*?)\](?: key: (?P<key>\S*))?(?: payload: (?P<value>\S*))?"
)
INDEX_ENTRY = re.compile(r"offset: (?P<offset>\d+) position: (?P<position>\d+)")
TIME_ENTRY = re.compile(r"timestamp: (?P<timestamp>\d+) offset: (?P<offset>\d+)")
PRODUCER = re.compile(
    r"producerId: (?P<producer>\d+) producerEpoch: \d+ .* firstSequence: \d+ lastSequence: (?P<sequence>\d+) lastOffset: (?P<offset>\d+) .*"
)
LINES = {".log": (BATCH, RECORD), ".index": (INDEX_ENTRY,), ".timeindex": (TIME_ENTRY,), ".snapshot": (PRODUCER,)}


def create(broker):
    topic = f"dump-{uuid.uuid4()}"
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(topic, 2, 1, config=CONFIG)])[topic].result(30)
    return topic


def produce(broker, topic, partition, idempotent, codec, first):
    """Sends numbered messages and gives what was acknowledged: (timestamp, key, value, header key) by offset."""
    producer = Producer({
        "bootstrap.servers": broker.address,
        "enable.idempotence": idempotent,
        "compression.type": codec,
        "batch.num.messages": BATCH_MESSAGES,
        "linger.ms": 5,
    })
    acknowledged = {}
    for number in range(first, first + MESSAGES):
        # Half as large when compressed; some messages have no key, and some no value.
        key = None if number % 7 == 0 else f"k{number}"
        value = None if number % 11 == 0 else f"v{number}-{os.urandom(300).hex()}"
        message = (FIRST_TIMESTAMP + number, key, value, f"h{number % 3}")

        def delivered(error, sent, message=message):
            equal(error, None, "delivery")
            acknowledged[sent.offset()] = message

        producer.produce(topic, value, key, partition, delivered, timestamp=message[0], headers=[(message[3], b"x")])
        producer.poll(0)
    equal(producer.flush(60), 0, "messages left unsent")
    return acknowledged


def files(broker, topic, partition):
    """The partition's files by ending."""
    root = broker.data / "logs" if broker.name == "kafka" else broker.data
    found = {}
    for path in sorted((root / f"{topic}-{partition}").iterdir()):
        found.setdefault(path.suffix, []).append(path)
    return found


def dump(options, paths):
    """Runs kafka-dump-log; what it says is sorted by file. Its exit status says nothing, so every line must be one that is known."""
    command = ["java", "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{KAFKA_JARS}/*"]
    command += ["org.apache.kafka.tools.DumpLogSegments", *options, "--files", ",".join(map(str, paths))]
    said = subprocess.run(command, capture_output=True, text=True, timeout=DUMP_SECONDS)
    complaints = said.stderr
    for path in paths:
        # It takes the first offset of a segment for one that does not follow -1, in Apache Kafka's own segments too.
        complaints = complaints.replace(f"Non-consecutive offsets in {path}\n  -1 is followed by {int(path.stem or 0)}\n", "")
    equal((said.returncode, complaints), (0, ""), f"what kafka-dump-log {' '.join(options)} complains about")
    lines = {}
    for line in said.stdout.splitlines():
        if line.startswith("Dumping "):
            lines[line.removeprefix("Dumping ")] = current = []
        else:
            current.append(line)
    equal(list(lines), [str(path) for path in paths], "files dumped")
    return lines


def parsed(path, lines):
    """The matches of a file's lines; a line of another form is a complaint (`Found 16 invalid bytes at the end of ...`)."""
    if path.suffix == ".log":
        equal(lines[0], f"Log starting offset: {int(path.stem)}", "first line")
        lines = lines[1:]
    elif lines == [f"{path} is empty."]:
        return []
    matches = [next(filter(None, (form.fullmatch(line) for form in LINES[path.suffix])), None) for line in lines]
    for line, match in zip(lines, matches):
        if match is None:
            raise AssertionError(f"{path}: {line}")
    return matches


def check(broker, topic, partition, acknowledged):
    """Dumps one partition of the stopped broker and holds it against what was acknowledged."""
    found = files(broker, topic, partition)
    paths = [path for suffix in LINES for path in found.get(suffix, [])]
    text = dump(["--print-data-log"], paths)
    matches = {path: parsed(path, text[str(path)]) for path in paths}
    records, producers = {}, {}
    entries = time_entries = 0
    for log in found[".log"]:
        batches = [match for match in matches[log] if match.re is BATCH]
        equal({batch["valid"] for batch in batches} - {"true"}, set(), f"{log}: batches valid")
        inside = [match for match in matches[log] if match.re is RECORD]
        equal(sum(int(batch["count"]) for batch in batches), len(inside), f"{log}: counts of the batches")
        equal(sum(int(batch["size"]) for batch in batches), log.stat().st_size, f"{log}: bytes of the batches")
        records.update({int(one["offset"]): (int(one["timestamp"]), one["key"], one["value"], one["headers"]) for one in inside})
        producers.update({int(batch["producer"]): int(batch["last"]) for batch in batches})

        at = {int(batch["position"]): int(batch["last"]) for batch in batches}
        index = matches.get(log.with_suffix(".index"), [])
        for entry in index:
            equal(at.get(int(entry["position"])), int(entry["offset"]), f"{log}: last offset of the batch at an index entry")
        times = matches.get(log.with_suffix(".timeindex"), [])
        if times:
            newest = max(int(batch["timestamp"]) for batch in batches)
            equal(int(times[-1]["timestamp"]), newest, f"{log}: last timestamp of the time index")
        entries += len(index)
        time_entries += len(times)

    equal(sorted(acknowledged), list(range(len(CODECS) * MESSAGES)), "offsets acknowledged")
    equal(list(records), sorted(acknowledged), "offsets")
    equal(records, acknowledged, "records")
    producers.pop(-1, None)
    kept = {int(one["producer"]): int(one["offset"]) for one in matches[found[".snapshot"][-1]]} if found.get(".snapshot") else {}
    equal(kept, producers, "last offsets of the producers in the newest snapshot")

    indexes = [path for path in paths if path.suffix in (".index", ".timeindex")]
    for path, lines in dump(["--index-sanity-check"], indexes).items():
        equal(lines in ([f"{path} passed sanity check."], [f"{path} is empty."]), True, f"sanity check: {lines}")
    equal(len(found[".log"]) >= SEGMENTS_MIN, True, f"{len(found['.log'])} segments are enough")
    # Nearly every batch but a segment's first is longer than the interval.
    equal(entries >= len(records) // BATCH_MESSAGES // 2, True, f"{entries} entries of indexes are enough")
    equal(time_entries >= len(found[".log"]), True, f"{time_entries} entries of time indexes are enough")
    checked(len(acknowledged))
    batches = sum(match.re is BATCH for log in found[".log"] for match in matches[log])
    print(
        f"partition {partition}: {len(found['.log'])} segments, {batches} batches, {len(records)} records, {entries} index entries, "
        f"{time_entries} time index entries, {len(found.get('.snapshot', []))} snapshots with {len(kept)} producers in the newest",
        flush=True,
    )


@case
def a_clean_stop_leaves_what_was_acknowledged(broker):
    topic = create(broker)
    acknowledged = [{}, {}]
    for turn, codec in enumerate(CODECS):
        for partition, idempotent in enumerate((False, True)):
            acknowledged[partition] |= produce(broker, topic, partition, idempotent, codec, turn * MESSAGES)
    broker.stop()
    for partition in range(2):
        check(broker, topic, partition, acknowledged[partition])
    broker.start()


@case
def a_start_after_a_kill_and_a_clean_stop_leave_the_same(broker):
    topic = create(broker)
    acknowledged = {}
    for turn, codec in enumerate(CODECS[:-1]):
        acknowledged |= produce(broker, topic, 0, True, codec, turn * MESSAGES)
    broker.kill()
    broker.start()
    acknowledged |= produce(broker, topic, 0, True, CODECS[-1], (len(CODECS) - 1) * MESSAGES)
    broker.stop()
    check(broker, topic, 0, acknowledged)
    broker.start()


if __name__ == "__main__":
    main("dump_log", new_broker())
