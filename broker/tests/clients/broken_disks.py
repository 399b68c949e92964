"""Disks that fail under the whole broker: flipped bits, files missing or foreign, wrong owners, full, read-only and dead file systems.

`broken_disks.py --flips N`: N flipped bits, besides the other cases. As root, small file systems are mounted through loop devices; without,
the cases that need them are left out, and said so.
"""

import argparse
import array
import fcntl
import os
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request

import raw
from cases import equal
from launcher import Ringlog

NONE, CORRUPT_MESSAGE, LEADER_NOT_AVAILABLE, KAFKA_STORAGE_ERROR = 0, 2, 5, 56
FETCH, METADATA, CREATE_TOPICS, DELETE_TOPICS = 1, 3, 19, 20
TOPIC, PARTITIONS = "disks", 3
BATCHES, VALUE = 700, b"x" * 60
# Batches here carry one old time: retention would make room before a disk is full.
SETTINGS = {"log.segment.bytes": 1048576, "auto.create.topics.enable": "false", "log.retention.ms": -1}
# Until a broker has found that a disk is full, or has room again.
PATIENCE_SECONDS = 30
# FS_IOC_GOINGDOWN (ext4, XFS): from now on every operation on the file system fails with EIO. Without writing its journal back.
GOING_DOWN, WITHOUT_JOURNAL = 0x8004587D, 2

checked = {"cases": 0, "records": 0}


class Client:
    """One connection; each call names the API's oldest version that shows what is asked."""

    def __init__(self, broker):
        self.connection = raw.Connection(broker)
        self.connection.socket.settimeout(60)

    def ask(self, key, version, body):
        reply = self.connection.ask(raw.frame(raw.header(key, version) + body))
        if reply in (raw.CLOSED, raw.SILENT):
            raise AssertionError(f"API {key}: {reply}")
        return Reader(reply, 4)

    def create(self, topic, partitions):
        body = struct.pack(">i", 1) + raw.string(topic) + struct.pack(">ihiiib", partitions, 1, 0, 0, 30000, 0)
        reader = self.ask(CREATE_TOPICS, 2, body)
        reader.take("i"), reader.take("i"), reader.string()
        return reader.take("h")

    def delete(self, topic):
        reader = self.ask(DELETE_TOPICS, 1, struct.pack(">i", 1) + raw.string(topic) + struct.pack(">i", 30000))
        reader.take("i"), reader.take("i"), reader.string()
        return reader.take("h")

    def produce(self, topic, partition, values, timeout=10000):
        body = raw.produce_body(raw.batch(values), topic=topic, partition=partition)
        body = body[:4] + struct.pack(">i", timeout) + body[8:]
        return raw.produced(self.connection.ask(raw.frame(raw.header(raw.PRODUCE, 3) + body)))

    def metadata(self, topic):
        """(error, leader, in-sync replicas, offline replicas) of each partition."""
        reader = self.ask(METADATA, 5, struct.pack(">i", 1) + raw.string(topic) + b"\0")
        reader.take("i")
        for _ in range(reader.take("i")):
            reader.take("i"), reader.string(), reader.take("i"), reader.string()
        reader.string(), reader.take("i"), reader.take("i")
        topic_error = reader.take("h")
        reader.string(), reader.take("b")
        rows = {}
        for _ in range(reader.take("i")):
            error, index, leader = reader.take("h"), reader.take("i"), reader.take("i")
            _, in_sync, offline = reader.ints(), reader.ints(), reader.ints()
            rows[index] = (error, leader, in_sync, offline)
        equal(topic_error, NONE, "the topic's own error")
        return rows

    def fetch(self, topic, partition, offset, size=1 << 20):
        """(error, high watermark, whole batches)."""
        head = struct.pack(">iiiibi", -1, 0, 1, size, 0, 1) + raw.string(topic)
        reader = self.ask(FETCH, 6, head + struct.pack(">iiqqi", 1, partition, offset, -1, size))
        reader.take("i"), reader.take("i"), reader.string(), reader.take("i"), reader.take("i")
        error, high_watermark, _, _ = reader.take("h"), reader.take("q"), reader.take("q"), reader.take("q")
        reader.at += 4 + 16 * max(0, struct.unpack_from(">i", reader.bytes, reader.at)[0])
        records = reader.blob()
        batches = []
        while len(records) >= 61:
            base, length = struct.unpack_from(">qi", records)
            if length + 12 > len(records):
                break
            batches.append((base, records[: length + 12]))
            records = records[length + 12 :]
        return error, high_watermark, batches

    def read_all(self, topic, partition):
        """({base offset: batch}, [errors]): where nothing can be read, it goes on with the next offset."""
        found, errors, offset, high_watermark = {}, [], 0, 1
        while offset < high_watermark:
            error, mark, batches = self.fetch(topic, partition, offset)
            if error != NONE:
                errors.append(error)
                if error == KAFKA_STORAGE_ERROR or len(errors) > 3000:
                    break
                offset += 1
                continue
            high_watermark = mark
            if not batches and offset < mark:
                raise AssertionError(f"{topic}-{partition}: nothing at {offset} of {mark}, and no error")
            for base, batch in batches:
                count = struct.unpack_from(">i", batch, 57)[0]
                if not base <= offset < base + count:
                    raise AssertionError(f"{topic}-{partition}: asked for {offset}, got {base}")
                found[base] = batch
                offset = base + count
                checked["records"] += count
        return found, errors


class Reader:
    def __init__(self, data, at):
        self.bytes, self.at = data, at

    def take(self, kind):
        (value,) = struct.unpack_from(">" + kind, self.bytes, self.at)
        self.at += struct.calcsize(">" + kind)
        return value

    def string(self):
        size = self.take("h")
        text = self.bytes[self.at : self.at + max(0, size)]
        self.at += max(0, size)
        return text.decode()

    def blob(self):
        size = self.take("i")
        data = self.bytes[self.at : self.at + max(0, size)]
        self.at += max(0, size)
        return data

    def ints(self):
        return [self.take("i") for _ in range(self.take("i"))]


class Pristine:
    """A data directory after a clean stop, and what is in it."""

    def __init__(self, folder):
        self.data = folder / "pristine"
        self.batches = {}
        broker = Ringlog(SETTINGS, data=self.data)
        with broker:
            client = Client(broker)
            equal(client.create(TOPIC, PARTITIONS), NONE, "create")
            for partition in range(PARTITIONS):
                for number in range(BATCHES):
                    values = [b"%06d" % number + VALUE[:40]] * 60
                    equal(client.produce(TOPIC, partition, values)[0], NONE, "produce")
                found, errors = client.read_all(TOPIC, partition)
                equal((len(found), errors), (BATCHES, []), "what was written")
                self.batches[partition] = found
            broker.stop()
        self.cluster = (self.data / "cluster-metadata.log").read_bytes()

    def copy(self, folder):
        target = pathlib.Path(tempfile.mkdtemp(dir=folder)) / "data"
        shutil.copytree(self.data, target)
        return target


def start(broker):
    """Starts it; what it says if it does not want to. A panic, or an end by a signal, is no answer."""
    broker.log.unlink(missing_ok=True)
    try:
        broker.start()
        return None
    except AssertionError:
        code, broker.process = broker.process.wait(60), None
        said = broker.log.read_text(errors="replace")
        if code != 1 or "panicked" in said:
            raise AssertionError(f"the broker ended with {code}\n{said[-3000:]}")
        return said


def logged(broker):
    return broker.log.read_text(errors="replace")


def no_panic(broker):
    if not broker.alive() or "panicked" in logged(broker):
        raise AssertionError(f"the broker died\n{broker.log_tail()}")


def compare(client, pristine, what, damaged=()):
    """Reads everything: nothing else than what was written, and all of it but in damaged partitions."""
    all_errors = []
    for partition, batches in pristine.batches.items():
        found, errors = client.read_all(TOPIC, partition)
        for base, batch in found.items():
            if batch != batches.get(base):
                raise AssertionError(f"{what}: partition {partition} offset {base} is not what was written")
        if partition not in damaged:
            equal((errors, len(found)), ([], len(batches)), f"{what}: partition {partition}, which is whole")
        all_errors += errors
    return all_errors


def serves(client, partitions, what):
    rows = client.metadata(TOPIC)
    for partition in partitions:
        equal(rows[partition], (NONE, 1, [1], []), f"{what}: metadata of partition {partition}")
        equal(client.produce(TOPIC, partition, [b"more"])[0], NONE, f"{what}: produce to partition {partition}")


def is_offline(client, partition, what, topic=TOPIC):
    equal(client.metadata(topic)[partition], (LEADER_NOT_AVAILABLE, -1, [1], [1]), f"{what}: metadata")
    equal(client.produce(topic, partition, [b"more"])[0], KAFKA_STORAGE_ERROR, f"{what}: produce")
    equal(client.fetch(topic, partition, 0)[0], KAFKA_STORAGE_ERROR, f"{what}: fetch")


# ---- bits ----


def flipped_bits(folder, pristine, count, seed):
    """Each flipped bit is told with its file, or nobody ever sees it; other partitions notice nothing."""
    dice = random.Random(seed)
    files = sorted(path for path in pristine.data.rglob("*") if path.is_file() and path.stat().st_size)
    kinds = {}
    for path in files:
        kinds.setdefault(path.suffix if re.match(r"\d{20}\.", path.name) else path.name, []).append(path)
    outcomes = {}
    data = pristine.copy(folder)
    for at in range(count):
        kind = sorted(kinds)[at % len(kinds)]
        path = dice.choice(kinds[kind])
        name = path.relative_to(pristine.data)
        position, bit = dice.randrange(path.stat().st_size), dice.randrange(8)
        shutil.rmtree(data)
        shutil.copytree(pristine.data, data)
        with open(data / name, "r+b") as file:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ 1 << bit]))
        what = f"{name} byte {position} bit {bit}"
        partition = int(str(name).split("/")[0].rpartition("-")[2]) if "/" in str(name) else None
        broker = Ringlog(SETTINGS, data=data)
        try:
            refused = start(broker)
            if refused is not None:
                # Whose directory it is and what the cluster has cannot be guessed.
                if partition is not None or name.name not in refused:
                    raise AssertionError(f"{what}: does not start: {refused[-500:]}")
                outcome = "does not start, naming the file"
            else:
                client = Client(broker)
                damaged = range(PARTITIONS) if name.name == "meta.properties" else (partition,)
                errors = compare(client, pristine, what, damaged)
                no_panic(broker)
                serves(client, set(range(PARTITIONS)) - set(damaged), what)
                told = str(name) in logged(broker) or (errors and name.name in ("meta.properties", "partition.metadata"))
                if kind == ".log" and not (errors and told):
                    raise AssertionError(f"{what}: nobody noticed: {errors}")
                if errors and not told and "its data directory is not configured" not in logged(broker):
                    raise AssertionError(f"{what}: {errors}, and nothing is logged")
                outcome = "errors, told" if errors else "told, all is served" if told else "no effect"
                broker.stop()
        except Exception as error:
            raise AssertionError(f"{what}: {error}") from error
        finally:
            broker.kill()
        row = outcomes.setdefault(kind, {})
        row[outcome] = row.get(outcome, 0) + 1
        checked["cases"] += 1
    for kind, row in sorted(outcomes.items()):
        print(f"   {kind}: {row}")


# ---- files ----


def missing_files(folder, pristine):
    for kind in (".log", ".index", ".timeindex", ".snapshot", "leader-epoch-checkpoint", "ringlog.checkpoint", "partition.metadata"):
        for last in (False, True):
            data = pristine.copy(folder)
            there = sorted(path for path in (data / f"{TOPIC}-1").iterdir() if path.name.endswith(kind))
            gone = there[-1 if last else 0]
            gone.unlink()
            broker = Ringlog(SETTINGS, data=data)
            with broker:
                client = Client(broker)
                errors = compare(client, pristine, f"without {gone.name}", (1,))
                equal(bool(errors), kind == ".log", f"without {gone.name}: errors {errors[:3]}")
                if errors and gone.name not in logged(broker):
                    raise AssertionError(f"without {gone.name}: nothing is logged\n{broker.log_tail()}")
                if kind == ".log" and last:
                    is_offline(client, 1, f"without {gone.name}")
                serves(client, (0, 2), f"without {gone.name}")
                no_panic(broker)
                broker.stop()
            shutil.rmtree(data)
            checked["cases"] += 1


def missing_metadata(folder, pristine):
    """Partitions without the log that knows them: a new one would make them nobody's."""
    data = pristine.copy(folder)
    (data / "cluster-metadata.log").unlink()
    broker = Ringlog(SETTINGS, data=data)
    said = start(broker)
    if said is None or "cluster-metadata.log is missing" not in said:
        broker.kill()
        raise AssertionError(f"said {said!r}")
    (data / "cluster-metadata.log").write_bytes(pristine.cluster)
    with broker:
        compare(Client(broker), pristine, "with the file restored")
    checked["cases"] += 1


def foreign_files(folder, pristine):
    """What somebody has put there is left alone, and does not keep a topic from being deleted."""
    data = pristine.copy(folder)
    (data / "lost+found").mkdir()
    (data / "notes.txt").write_text("mine")
    (data / "other-7").mkdir()
    (data / "other-7" / "notes.txt").write_text("mine")
    (data / "other-8").write_text("no directory")
    inside = data / f"{TOPIC}-1"
    (inside / "notes.txt").write_text("mine")
    (inside / "deep" / "deeper").mkdir(parents=True)
    (inside / "deep" / "deeper" / "00000000000000000001.log").write_text("mine")
    (inside / "99999999999999999999.log").write_text("mine")
    (inside / "link").symlink_to("/")
    with Ringlog(SETTINGS, data=data) as broker:
        client = Client(broker)
        compare(client, pristine, "with foreign files")
        serves(client, range(PARTITIONS), "with foreign files")
        equal(client.delete(TOPIC), NONE, "delete")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(path.name.startswith(TOPIC) for path in data.iterdir()):
            if time.monotonic() > deadline:
                raise AssertionError(f"left of the topic: {[path.name for path in data.iterdir()]}")
            time.sleep(0.05)
        equal((data / "other-7" / "notes.txt").read_text(), "mine", "a directory of somebody else")
        equal(os.path.isdir("/etc"), True, "what a link leads to")
        broker.stop()
    checked["cases"] += 1


class Nobody(Ringlog):
    """ringlog as a user without rights, if this is root."""

    def start(self, wrapper=()):
        if os.geteuid() == 0:
            self.log.parent.chmod(0o755)
            wrapper = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        super().start(wrapper)


def readable_by_nobody(data):
    for path in (data, *data.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, 65534, 65534, follow_symlinks=False)
    return data


def wrong_owner(folder, pristine):
    """One partition's directory, one of its files, a whole data directory that may not be touched."""
    for name in (f"{TOPIC}-1", f"{TOPIC}-1/ringlog.checkpoint", f"{TOPIC}-1/{sorted(path.name for path in (pristine.data / f'{TOPIC}-1').glob('*.log'))[-1]}"):
        data = readable_by_nobody(pristine.copy(folder))
        target = data / name
        if os.geteuid() == 0:
            os.chown(target, 0, 0)
        target.chmod(0)
        with Nobody(SETTINGS, data=data) as broker:
            client = Client(broker)
            is_offline(client, 1, f"{name} is not ours")
            compare(client, pristine, f"{name} is not ours", (1,))
            serves(client, (0, 2), f"{name} is not ours")
            if name.split("/")[0] not in logged(broker) or "ermission denied" not in logged(broker):
                raise AssertionError(broker.log_tail())
            broker.stop()
        target.chmod(0o755)
        with Ringlog(SETTINGS, data=data) as broker:
            equal(Client(broker).read_all(TOPIC, 1), (pristine.batches[1], []), f"{name} is ours again")
            broker.stop()
        checked["cases"] += 1


def lost_directory(folder, pristine):
    """Two data directories, one of which is not usable when the broker starts: the other goes on."""
    base = pathlib.Path(tempfile.mkdtemp(dir=folder))
    both = f"{base}/one,{base}/two"
    options = ["--data", str(base / "two")]
    with Ringlog(SETTINGS, options, data=base / "one") as broker:
        equal(Client(broker).create(TOPIC, 4), NONE, "create")
        client = Client(broker)
        for partition in range(4):
            equal(client.produce(TOPIC, partition, [b"v%d" % partition])[0], NONE, "produce")
        broker.stop()
    away = [int(path.name.rpartition("-")[2]) for path in (base / "two").glob(f"{TOPIC}-*")]
    equal(len(away), 2, "partitions in the second directory")
    (base / "two").rename(base / "elsewhere")
    (base / "two").write_text("no directory")
    broker = Ringlog(SETTINGS, options, data=base / "one")
    with broker:
        client = Client(broker)
        for partition in range(4):
            if partition in away:
                is_offline(client, partition, "its directory is gone")
            else:
                equal(len(client.read_all(TOPIC, partition)[0]), 1, "the other directory's partitions")
        serves(client, set(range(4)) - set(away), f"of {both}")
        equal(client.create("new", 4), NONE, "a new topic")
        for partition in range(4):
            equal(client.produce("new", partition, [b"v"])[0], NONE, "a new topic goes where there is room")
        metrics = urllib.request.urlopen(f"http://{broker.http}/metrics", timeout=10).read().decode() if broker.http else ""
        if broker.http and "kafka_log_logmanager_offlinelogdirectorycount 1\n" not in metrics:
            raise AssertionError("the metrics do not tell of the directory")
        broker.stop()
    (base / "two").unlink()
    (base / "elsewhere").rename(base / "two")
    with Ringlog(SETTINGS, options, data=base / "one") as broker:
        client = Client(broker)
        for partition in range(4):
            found, errors = client.read_all(TOPIC, partition)
            equal((errors, len(found) >= 1), ([], True), "the directory is back")
    checked["cases"] += 1


def missing_partition(folder, pristine):
    """A partition's directory is gone with all that was in it: it is not made anew behind anybody's back."""
    data = pristine.copy(folder)
    with Ringlog(SETTINGS, data=data) as broker:
        broker.stop()
    shutil.rmtree(data / f"{TOPIC}-1")
    for made in (False, True):
        if made:
            (data / f"{TOPIC}-1").mkdir()
        broker = Ringlog(SETTINGS, data=data)
        with broker:
            client = Client(broker)
            compare(client, pristine, "without a partition's directory", (1,))
            if made:
                equal(client.read_all(TOPIC, 1), ({}, []), "the operator has agreed")
                serves(client, (0, 1, 2), "the operator has agreed")
            else:
                is_offline(client, 1, "without its directory")
                if f"ERROR partition {TOPIC}-1 is offline: {data}/{TOPIC}-1 is gone" not in logged(broker):
                    raise AssertionError(f"it is not said\n{broker.log_tail()}")
                equal((data / f"{TOPIC}-1").exists(), False, "the directory")
                equal(client.create("new", 1), NONE, "a new topic")
            no_panic(broker)
            broker.stop()
    checked["cases"] += 1


# ---- file systems ----


class Mounted:
    """A small file system of its own, through a loop device."""

    def __init__(self, folder, kind, megabytes):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=folder))
        self.kind, self.image, self.point = kind, self.folder / "image", self.folder / "point"
        self.point.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(megabytes << 20)
        make = {"ext4": ["mkfs.ext4", "-q", "-m", "0"], "xfs": ["mkfs.xfs", "-q"]}[kind]
        subprocess.run([*make, str(self.image)], check=True, capture_output=True)

    def __enter__(self):
        self.mount()
        return self

    def mount(self, options="loop"):
        subprocess.run(["mount", "-o", options, str(self.image), str(self.point)], check=True)

    def unmount(self):
        # The kernel lets go of the files of a process with rings a while after its end.
        deadline = time.monotonic() + PATIENCE_SECONDS
        while subprocess.run(["umount", str(self.point)], capture_output=True).returncode:
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.point} is still in use")
            time.sleep(0.05)

    def die(self):
        """Every later operation on it fails with EIO."""
        directory = os.open(self.point, os.O_RDONLY)
        fcntl.ioctl(directory, GOING_DOWN, array.array("I", [WITHOUT_JOURNAL]))
        os.close(directory)

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", str(self.point)], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def full_disk(folder, kind, by_whom):
    """Produce is refused, everything else goes on, and produce too once there is room."""
    with Mounted(folder, kind, 320 if kind == "xfs" else 96) as disk:
        with Ringlog(SETTINGS, data=disk.point / "data") as broker:
            client = Client(broker)
            for topic in ("keep", "drop"):
                equal(client.create(topic, 1), NONE, "create")
            filler = disk.point / "filler"
            if by_whom == "foreign":
                equal(client.produce("keep", 0, [b"first"])[0], NONE, "produce")
                with open(filler, "wb") as file:
                    try:
                        while True:
                            file.write(b"\0" * (64 << 10))
                            file.flush()
                    except OSError:
                        pass
            values = [b"x" * 60] * 60
            acknowledged, code, deadline = {"keep": 0, "drop": 0}, NONE, time.monotonic() + 120
            topics = ("keep",) if by_whom == "foreign" else ("keep", "drop")
            refused = set()
            while len(refused) < len(topics):
                for topic in topics:
                    if topic in refused:
                        continue
                    # Some wait until their time is up: they were taken before the disk was found full.
                    body = raw.batch(values) if by_whom == "foreign" else large_batch()
                    reply = client.connection.ask(raw.frame(raw.header(raw.PRODUCE, 3) + timed(body, topic, 1500)))
                    code = raw.produced(reply)[0]
                    if code == NONE:
                        acknowledged[topic] += 1
                    elif code == KAFKA_STORAGE_ERROR:
                        refused.add(topic)
                    elif code != 7:
                        raise AssertionError(f"produce on a full disk: error {code}")
                    if time.monotonic() > deadline:
                        raise AssertionError(f"not full after {acknowledged}")
            # Once a minute and shard: of a topic that was refused, whichever came first.
            full = f"ERROR the disk of {disk.point / 'data'} is full, but for what is kept in reserve: partition "
            said = logged(broker)
            equal(any(f"{full}{topic}-0 takes no records" in said for topic in topics), True, "the log says which disk is full")
            if by_whom == "us":
                left = os.statvfs(disk.point)
                if left.f_bavail * left.f_frsize < left.f_blocks * left.f_frsize // 25:
                    raise AssertionError(f"no reserve was kept: {left}")
                equal(client.create("late", 1), NONE, "a topic is created on the reserve")
            found, errors = client.read_all("keep", 0)
            equal((errors, len(found) >= acknowledged["keep"]), ([], True), "reads go on")
            equal(set(client.metadata("keep")), {0}, "metadata goes on")
            equal(client.metadata("keep")[0][0], NONE, "a full disk is not offline")
            if by_whom == "us":
                equal(client.delete("drop"), NONE, "deletion goes on")
            else:
                filler.unlink()
            deadline = time.monotonic() + PATIENCE_SECONDS
            while client.produce("keep", 0, [b"again"], 1500)[0] != NONE:
                if time.monotonic() > deadline:
                    raise AssertionError(f"there is room, and produce is refused\n{broker.log_tail()}")
                time.sleep(0.1)
            found, errors = client.read_all("keep", 0)
            equal(errors, [], "all is read")
            no_panic(broker)
            broker.stop()
        with Ringlog(SETTINGS, data=disk.point / "data") as broker:
            again, errors = Client(broker).read_all("keep", 0)
            equal((errors, again == found), ([], True), "and all is there after a restart")
            broker.stop()
    checked["cases"] += 1


def large_batch():
    """About 500 KiB: one record whose length is a varint of its own."""
    value = b"y" * (500 << 10)
    record = bytes([0, 0, 0, 1]) + varint(len(value)) + value + b"\0"
    records = varint(len(record)) + record
    part = struct.pack(">hiqqqhii", 0, 0, 1000, 1000, -1, -1, -1, 1) + records
    if not hasattr(large_batch, "made"):
        large_batch.made = struct.pack(">qiibI", 0, 9 + len(part), -1, 2, raw.crc32c(part)) + part
    return large_batch.made


def varint(number):
    number <<= 1
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def timed(batch, topic, timeout):
    body = raw.produce_body(batch, topic=topic)
    return body[:4] + struct.pack(">i", timeout) + body[8:]


def two_disks(folder, kind, disk):
    """A broker on a directory that is well and on one that is not going to be."""
    good = pathlib.Path(tempfile.mkdtemp(dir=folder)) / "good"
    return Ringlog(SETTINGS, ["--data", str(disk.point / "data")], data=good)


def dead_disk(folder, kind):
    """EIO for every operation, under load: the directory is offline, the other one serves, nothing acknowledged is lost."""
    with Mounted(folder, kind, 320 if kind == "xfs" else 96) as disk:
        broker = two_disks(folder, kind, disk)
        with broker:
            client = Client(broker)
            equal(client.create(TOPIC, 4), NONE, "create")
            ill = [int(path.name.rpartition("-")[2]) for path in (disk.point / "data").glob(f"{TOPIC}-*")]
            well = sorted(set(range(4)) - set(ill))
            equal(len(ill), 2, "partitions on the disk that dies")
            acknowledged = {partition: 0 for partition in range(4)}
            for number in range(200):
                for partition in range(4):
                    error, offset = client.produce(TOPIC, partition, [b"%d" % number])
                    equal((error, offset), (NONE, number), "produce")
                    acknowledged[partition] += 1
            disk.die()
            error = client.produce(TOPIC, ill[0], [b"x"], 5000)[0]
            equal(error, KAFKA_STORAGE_ERROR, "produce to the dead disk")
            for partition in ill:
                is_offline(client, partition, "on the dead disk")
            for number in range(50):
                for partition in well:
                    equal(client.produce(TOPIC, partition, [b"%d" % number])[0], NONE, "the other disk goes on")
                    acknowledged[partition] += 1
            serves(client, well, "on the other disk")
            for partition in well:
                equal(len(client.read_all(TOPIC, partition)[0]), acknowledged[partition] + 1, "reads of the other disk")
            equal(client.create("new", 4), NONE, "new topics")
            for partition in range(4):
                equal(client.produce("new", partition, [b"x"])[0], NONE, "new topics go to the other disk")
            no_panic(broker)
            broker.stop()
        disk.unmount()
        disk.mount()
        with broker:
            client = Client(broker)
            for partition in range(4):
                found, errors = client.read_all(TOPIC, partition)
                equal(errors, [], "after the disk is back")
                if len(found) < acknowledged[partition]:
                    raise AssertionError(f"partition {partition}: {acknowledged[partition]} acknowledged, {len(found)} there")
            broker.stop()
        shutil.rmtree(broker.data, ignore_errors=True)
    checked["cases"] += 1


def read_error(folder, kind):
    """A file system that dies while nobody writes: a read of it takes the directory offline as well."""
    with Mounted(folder, kind, 320 if kind == "xfs" else 96) as disk:
        broker = two_disks(folder, kind, disk)
        with broker:
            client = Client(broker)
            equal(client.create(TOPIC, 2), NONE, "create")
            for partition in range(2):
                equal(client.produce(TOPIC, partition, [b"v"])[0], NONE, "produce")
            broker.stop()
        with broker:
            client = Client(broker)
            ill = [int(path.name.rpartition("-")[2]) for path in (disk.point / "data").glob(f"{TOPIC}-*")]
            disk.die()
            error = client.fetch(TOPIC, ill[0], 0)[0]
            equal(error, KAFKA_STORAGE_ERROR, "a read that fails")
            is_offline(client, ill[0], "after a read that failed")
            serves(client, {0, 1} - set(ill), "on the other disk")
            no_panic(broker)
            broker.stop()
    checked["cases"] += 1


def read_only(folder, kind):
    """A data directory that is read-only when the broker starts."""
    with Mounted(folder, kind, 320 if kind == "xfs" else 96) as disk:
        broker = two_disks(folder, kind, disk)
        with broker:
            client = Client(broker)
            equal(client.create(TOPIC, 2), NONE, "create")
            for partition in range(2):
                equal(client.produce(TOPIC, partition, [b"v"])[0], NONE, "produce")
            ill = [int(path.name.rpartition("-")[2]) for path in (disk.point / "data").glob(f"{TOPIC}-*")]
            broker.stop()
        disk.unmount()
        disk.mount("loop,ro")
        with broker:
            client = Client(broker)
            is_offline(client, ill[0], "on the read-only disk")
            serves(client, {0, 1} - set(ill), "on the other disk")
            broker.stop()
        disk.unmount()
        disk.mount()
        with broker:
            client = Client(broker)
            serves(client, (0, 1), "writable again")
            equal(len(client.read_all(TOPIC, ill[0])[0]), 2, "what was there")
            broker.stop()
    checked["cases"] += 1


def can_mount(folder, kind):
    if os.geteuid() != 0:
        return False
    try:
        with Mounted(folder, kind, 320):
            return True
    except (subprocess.CalledProcessError, FileNotFoundError):
        return False


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--flips", type=int, default=300)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("cases", nargs="*")
    arguments = arguments.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ringlog-disks-"))
    folder.chmod(0o755)
    failed = 0
    try:
        pristine = Pristine(folder)
        cases = {
            "flipped_bits": lambda: flipped_bits(folder, pristine, arguments.flips, arguments.seed),
            "missing_files": lambda: missing_files(folder, pristine),
            "missing_metadata": lambda: missing_metadata(folder, pristine),
            "foreign_files": lambda: foreign_files(folder, pristine),
            "wrong_owner": lambda: wrong_owner(folder, pristine),
            "missing_partition": lambda: missing_partition(folder, pristine),
            "lost_directory": lambda: lost_directory(folder, pristine),
        }
        for kind in ("ext4", "xfs"):
            if not can_mount(folder, kind):
                print(f"left out: cases that mount {kind}, which takes root, loop devices and mkfs.{kind}")
                continue
            cases[f"full_disk_{kind}"] = lambda kind=kind: full_disk(folder, kind, "us")
            cases[f"filled_by_others_{kind}"] = lambda kind=kind: full_disk(folder, kind, "foreign")
            cases[f"dead_disk_{kind}"] = lambda kind=kind: dead_disk(folder, kind)
            cases[f"read_only_{kind}"] = lambda kind=kind: read_only(folder, kind)
            cases[f"read_error_{kind}"] = lambda kind=kind: read_error(folder, kind)
        for name, run in cases.items():
            if arguments.cases and name not in arguments.cases:
                continue
            started = time.monotonic()
            try:
                run()
                print(f"ok broken_disks/{name} ({time.monotonic() - started:.1f} s)", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED broken_disks/{name}\n{traceback.format_exc()}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"clients/broken_disks: cases={checked['cases']} records={checked['records']}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
