"""What Apache Kafka's kafka-dump-log says about a partition's files, taken apart; every line must be one that is known."""

import pathlib
import re
import subprocess

from cases import equal
from launcher import KAFKA_JARS

DUMP_SECONDS = 120

BATCH = re.compile(
    r"baseOffset: (?P<base>\d+) lastOffset: (?P<last>\d+) count: (?P<count>\d+) baseSequence: (?P<sequence>-?\d+) "
    r"lastSequence: (?P<last_sequence>-?\d+) producerId: (?P<producer>-?\d+) producerEpoch: (?P<producer_epoch>-?\d+) "
    r"partitionLeaderEpoch: (?P<epoch>-?\d+) isTransactional: (?P<transactional>\w+) isControl: (?P<control>\w+) "
    r"deleteHorizonMs: OptionalLong(?:.empty|\[(?P<horizon>\d+)\]) position: (?P<position>\d+) (?P<kind>CreateTime|LogAppendTime): (?P<timestamp>\d+) "
    r"size: (?P<size>\d+) magic: 2 compresscodec: (?P<codec>\w+) crc: \d+ isvalid: (?P<valid>\w+)"
)
RECORD = re.compile(
    r"\| offset: (?P<offset>\d+) (?P<kind>CreateTime|LogAppendTime): (?P<timestamp>\d+) keySize: -?\d+ valueSize: -?\d+ "
    r"sequence: (?P<sequence>-?\d+) headerKeys: \[(?P<headers>.*?)\](?: key: (?P<key>\S*))?(?: payload: (?P<value>\S*))?"
)
INDEX_ENTRY = re.compile(r"offset: (?P<offset>\d+) position: (?P<position>\d+)")
TIME_ENTRY = re.compile(r"timestamp: (?P<timestamp>\d+) offset: (?P<offset>\d+)")
PRODUCER = re.compile(
    r"producerId: (?P<producer>\d+) producerEpoch: (?P<epoch>\d+) .* firstSequence: \d+ lastSequence: (?P<sequence>\d+) "
    r"lastOffset: (?P<offset>\d+) .*"
)
LINES = {".log": (BATCH, RECORD), ".index": (INDEX_ENTRY,), ".timeindex": (TIME_ENTRY,), ".snapshot": (PRODUCER,)}


class Dumped:
    """One partition of a stopped broker, as Kafka's eyes see it. Making it checks what holds for every partition; `gaps` says that
    it was compacted."""

    def __init__(self, folder, gaps=False):
        self.gaps = gaps
        self.folder = pathlib.Path(folder)
        found = {}
        for path in sorted(self.folder.iterdir()):
            found.setdefault(path.suffix, []).append(path)
        self.logs = found.get(".log", [])
        self.snapshots = found.get(".snapshot", [])
        paths = [path for suffix in LINES for path in found.get(suffix, [])]
        text = dump(["--print-data-log"], paths, gaps)
        matches = {path: parsed(path, text[path]) for path in paths}
        self.batches, self.records, self.producers = [], {}, {}
        self.index_entries = self.time_entries = 0
        for log in self.logs:
            self.segment(log, matches)
        self.epochs = self.leader_epochs()
        newest = matches[self.snapshots[-1]] if self.snapshots else []
        self.kept = {int(one["producer"]): (int(one["epoch"]), int(one["sequence"]), int(one["offset"])) for one in newest}

        indexes = [path for path in paths if path.suffix in (".index", ".timeindex")]
        for path, lines in dump(["--index-sanity-check"], indexes).items():
            equal(lines in ([f"{path} passed sanity check."], [f"{path} is empty."]), True, f"sanity check: {lines}")
        # Of an index that fits its segment it says nothing.
        for path, lines in dump(["--verify-index-only"], indexes).items():
            equal(lines in ([], [f"{path} is empty."]), True, f"index verified: {lines}")

    def segment(self, log, matches):
        batches = [match for match in matches[log] if match.re is BATCH]
        inside = [match for match in matches[log] if match.re is RECORD]
        equal({batch["valid"] for batch in batches} - {"true"}, set(), f"{log}: batches valid")
        equal(sum(int(batch["count"]) for batch in batches), len(inside), f"{log}: counts of the batches")
        equal(sum(int(batch["size"]) for batch in batches), log.stat().st_size, f"{log}: bytes of the batches")
        if batches:
            # The segment of a log start that lies inside it begins before.
            equal(int(batches[0]["base"]) >= int(log.stem), True, f"{log}: begins at {batches[0]['base']}")
        self.batches += batches
        self.records |= {int(one["offset"]): (int(one["timestamp"]), one["key"], one["value"], one["headers"]) for one in inside}
        for batch in batches:
            if int(batch["producer"]) >= 0:
                state = int(batch["producer_epoch"]), int(batch["last_sequence"]), int(batch["last"])
                self.producers[int(batch["producer"])] = state

        at = {int(batch["position"]): int(batch["last"]) for batch in batches}
        index = matches.get(log.with_suffix(".index"), [])
        for entry in index:
            equal(at.get(int(entry["position"])), int(entry["offset"]), f"{log}: last offset of the batch at an index entry")
        times = matches.get(log.with_suffix(".timeindex"), [])
        if times:
            # What compaction has left of a batch may be its header alone.
            newest = max(int(batch["timestamp"]) for batch in batches if int(batch["count"]) > 0)
            equal(int(times[-1]["timestamp"]), newest, f"{log}: last timestamp of the time index")
        self.index_entries += len(index)
        self.time_entries += len(times)

    def leader_epochs(self):
        """The epochs of leader-epoch-checkpoint and where each begins: those the batches carry, from their first batch on."""
        version, count, *lines = (self.folder / "leader-epoch-checkpoint").read_text().splitlines()
        equal((version, int(count)), ("0", len(lines)), "the head of leader-epoch-checkpoint")
        epochs = [tuple(map(int, line.split())) for line in lines]
        equal(epochs, sorted(epochs), "leader epochs rise")
        first = {}
        for batch in self.batches:
            first.setdefault(int(batch["epoch"]), int(batch["base"]))
        begins = dict(epochs)
        for epoch, base in first.items():
            if self.gaps:
                # The batch with which it began may be gone.
                equal(begins[epoch] <= base, True, f"epoch {epoch} begins before {base}")
                continue
            # The first batch of all may lie before the log start.
            equal(begins.get(epoch, base) == base or base == int(self.batches[0]["base"]), True, f"epoch {epoch} begins at {base}")
        newest = max(first, default=None)
        equal([epoch for epoch in first if epoch not in begins and epoch != newest], [], "epochs of batches not in the checkpoint")
        return epochs

    def offsets_follow(self):
        """Every batch begins where the one before ended."""
        ends = [int(batch["last"]) + 1 for batch in self.batches[:-1]]
        equal([int(batch["base"]) for batch in self.batches[1:]], ends, f"{self.folder}: where batches begin")

    def __str__(self):
        return (
            f"{self.folder.name[:5]}..-{self.folder.name.rpartition('-')[2]}: {len(self.logs)} segments, {len(self.batches)} batches, "
            f"{len(self.records)} records, {self.index_entries} index entries, {self.time_entries} time index entries, "
            f"{len(self.snapshots)} snapshots with {len(self.kept)} producers in the newest, {len(self.epochs)} leader epochs"
        )


def dump(options, paths, gaps=False):
    """Runs kafka-dump-log; what it says is sorted by file. Its exit status says nothing, so nothing else may be said either, but
    for the gaps of a compacted log."""
    if not paths:
        return {}
    command = ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{KAFKA_JARS}/*"]
    command += ["org.apache.kafka.tools.DumpLogSegments", *options, "--files", ",".join(map(str, paths))]
    said = subprocess.run(command, capture_output=True, text=True, timeout=DUMP_SECONDS)
    complaints = said.stderr
    for path in paths:
        # It takes the first offset of a segment for one that does not follow -1, in Apache Kafka's own segments too.
        first = r"-?\d+" if gaps else "-1"
        head = rf"Non-consecutive offsets in {re.escape(str(path))}\n"
        complaints = re.sub(rf"{head}(?:  {first} is followed by \d+\n)+", "", complaints)
    equal((said.returncode, complaints), (0, ""), f"what kafka-dump-log {' '.join(options)} complains about")
    lines = {}
    for line in said.stdout.splitlines():
        if line.startswith("Dumping "):
            lines[pathlib.Path(line.removeprefix("Dumping "))] = current = []
        else:
            current.append(line)
    equal(list(lines), list(paths), "files dumped")
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
