"""Power cuts on a real file system: records a broker under load, then cuts the record at many places and lets a broker recover from each.

docs/TESTING.md says how it works; `scripts/powercut` calls it.
"""

import argparse
import contextlib
import itertools
import json
import pathlib
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients"))

from clients import read_all, read_committed
from disk import ROOT, SIZE, UNIT, Disk, missing
from launcher import broker as new_broker
from ledger import Broken, Ledger, Topic
from load import Load, produce_after

SETTINGS = {"log.segment.bytes": 1 << 20, "auto.create.topics.enable": "false", "offsets.topic.num.partitions": 2}
# While it is recorded. By size alone: some messages say that they are of 1970.
RETENTION = {"log.retention.check.interval.ms": 50, "log.retention.ms": -1}
# Of three cuts one is cut again while the broker recovers, or after it has.
AGAIN = 1 / 3
# A flush in the record.
FLUSH_BYTES = 32


def record(disk, ledger, seconds, dice, settings):
    """Runs a broker under load; it is killed once and stopped once meanwhile. Tells where the record of it begins."""
    with disk.mounted() as data:
        data.mkdir()
        begin = disk.position()
        with new_broker({**settings, **RETENTION}, data=data) as broker:
            broker.log = disk.folder / "broker.stderr"
            load = Load(broker, disk.position, ledger, dice.randrange(1 << 30), data)
            load.begin()
            for end in (*dice.sample((broker.kill, broker.stop), 2), load.end):
                for calm in dice.sample((False, True), 2):
                    load.calm = calm
                    time.sleep(seconds * (1 / 9 if calm else 2 / 9))
                end()
                if end != load.end:
                    broker.start()
            broker.stop()
    return begin


def plan(disk, ledger, begin, count, dice):
    """Where to cut and what to leave: at flush boundaries all along the record, and in the moments when something was acknowledged."""
    flushes = [end for end in disk.flushes() if end > begin]
    # Those that much had gathered before.
    gaps = [(end - before, end) for before, end in itertools.pairwise(flushes)]
    large = [end for _, end in sorted(gaps)[-max(len(gaps) // 20, 1) :]]
    acknowledged = [
        position
        for topic in ledger.topics
        if topic.is_durable
        for partition in topic.partitions.values()
        for position, *_ in partition.strong
    ]
    end = disk.position()
    cuts = []
    for number in range(count):
        torn = ["torn", dice.randrange(1 << 32), UNIT[disk.file_system]]
        boundary = dice.choice((flushes[int((number + dice.random()) * len(flushes) / count)], dice.choice(large)))
        position, how = dice.choice((
            # A flush has just ended; or it would have, and what it was to keep is gone, or there, or partly so.
            (boundary, ["lost"]),
            (boundary - FLUSH_BYTES, ["lost"]),
            (boundary - FLUSH_BYTES, ["kept"]),
            (boundary - FLUSH_BYTES, torn),
            (boundary - FLUSH_BYTES, torn),
            (dice.randrange(begin, end), torn),
            (dice.choice(acknowledged), ["lost"]),
            (dice.choice(acknowledged), torn),
        ))
        again = dice.randrange(1 << 32) if dice.random() < AGAIN else None
        cuts.append({"position": position, "how": how, "again": again})
    return sorted(cuts, key=lambda cut: cut["position"])


def recover(disk, ledger, settings, name, cut, weak_up_to=None):
    """Mounts what a cut left, starts a broker on it, holds it against the ledger. Tells what it shows and what it said after."""
    with disk.mounted() as data:
        data.mkdir(exist_ok=True)
        with new_broker(settings, data=data) as broker:
            try:
                found = read_all(broker.address, ledger)
                ledger.check(found, cut, weak_up_to)
                committed = read_committed(broker.address, found)
                ledger.check_committed(committed, cut)
                read_at = disk.position()
                heard = produce_after(broker, ledger, disk.position, found, name)
                check_folders(data, found)
            except Exception:
                print(broker.log_tail(), file=sys.stderr)
                raise
    return found, committed, read_at, heard


def check_folders(data, found):
    """No partition's folder is there but those of topics that are."""
    expected = {f"{name}-{number}" for name, topic in found.items() for number in topic.partitions}
    folders = {path.name for path in data.iterdir() if path.is_dir() and not path.name.startswith("__")}
    if lacking := expected - folders:
        raise Broken(f"partitions without a folder: {sorted(lacking)}")
    if extra := {name for name in folders - expected if not name.endswith(("-delete", "-stray"))}:
        raise Broken(f"folders of no topic: {sorted(extra)}")


def try_cut(disk, ledger, settings, cut):
    """One cut, and perhaps a second one of what came after it."""
    cut["left"] = disk.cut(0, cut["position"], cut["how"])
    found, committed, read_at, heard = recover(disk, ledger, settings, "after-1", cut["position"])
    if cut["again"] is None:
        return
    # A recovered broker has shown all it has; now that is promised, and what it acknowledged after.
    dice = random.Random(cut["again"])
    shown = Ledger()
    shown.writers = ledger.writers
    shown.committed = [(read_at, partition, offset) for partition, offset in committed.items()]
    weak_up_to = {}
    for name, topic in found.items():
        copy = Topic(name, len(topic.partitions), topic_id=topic.topic_id, create_sent=0, created=0)
        known = next(known for known in ledger.topics if known.name == name)
        copy.is_durable, copy.kept_bytes = known.is_durable, known.kept_bytes
        for number, records in topic.partitions.items():
            weak_up_to[name, number] = records[-1][0] + 1 if records else 0
            copy.partitions[number].strong = [(read_at, *record) for record in records] + heard[name, number]
        shown.topics.append(copy)
    position = dice.randint(0, disk.position())
    how = dice.choice((["lost"], ["torn", dice.randrange(1 << 32), UNIT[disk.file_system]]))
    cut["second"] = {"position": position, "how": how}
    cut["second"]["left"] = disk.cut(1, position, how)
    again, committed, _, _ = recover(disk, ledger, settings, "after-2", cut["position"], weak_up_to)
    shown.check(again, position)
    shown.check_committed(committed, position)


def keep(folder, disk, ledger, cut, why):
    """Leaves what a failed cut needs to be tried again."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(disk.folder / "record-0", folder)
    (folder / "ledger").write_bytes(pickle.dumps(ledger))
    (folder / "cut.json").write_text(json.dumps({"file_system": disk.file_system, "cut": cut, "why": why}, indent=1))


def main():
    arguments = argparse.ArgumentParser(prog="scripts/powercut", description=__doc__.split("\n")[0])
    arguments.add_argument("--fs", choices=("ext4", "xfs"), default="ext4", help="the file system")
    arguments.add_argument("--cuts", type=int, default=100, help="how many cuts to recover from")
    arguments.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of the load and the cuts")
    arguments.add_argument("--seconds", type=float, default=9, help="how long the broker is under load")
    arguments.add_argument("--must-fail", action="store_true", help="succeed when a broken promise is found, fail when none is")
    arguments.add_argument("--again", type=pathlib.Path, metavar="FOLDER", help="only the cut that failed and left this folder")
    arguments.add_argument("--check", action="store_true", help="only tell whether this machine can do it")
    arguments = arguments.parse_args()
    if why := missing():
        print(why)
        sys.exit(1)
    if arguments.check:
        return
    # Whoever ends this, what was mounted is unmounted.
    signal.signal(signal.SIGTERM, end_in_order)
    settings = dict(SETTINGS)
    dice = random.Random(arguments.seed)
    if arguments.again:
        kept = json.loads((arguments.again / "cut.json").read_text())
        file_system = kept["file_system"]
    else:
        file_system = arguments.fs
        print(f"powercut: {file_system}, seed {arguments.seed}", flush=True)
    with contextlib.ExitStack() as stack:
        shared = "/dev/shm" if shutil.disk_usage("/dev/shm").free > 4 * SIZE else None
        work = stack.enter_context(tempfile.TemporaryDirectory(prefix="ringlog-powercut-", dir=shared))
        if arguments.again:
            shutil.copy(arguments.again / "record-0", work)
            ledger = pickle.loads((arguments.again / "ledger").read_bytes())
            cuts = [kept["cut"]]
        else:
            ledger = Ledger()
        disk = stack.enter_context(Disk(work, file_system, again=bool(arguments.again)))
        if not arguments.again:
            begin = record(disk, ledger, arguments.seconds, dice, settings)
            cuts = plan(disk, ledger, begin, arguments.cuts, dice)
            tell_record(disk, ledger, begin)
        started = time.monotonic()
        for number, cut in enumerate(cuts):
            try:
                try_cut(disk, ledger, settings, cut)
            # A file system that cannot be mounted is kept as well.
            except Exception as broken:
                print(f"cut {number + 1} of {len(cuts)}: {json.dumps(cut)}: {type(broken).__name__}: {broken}", flush=True)
                if arguments.must_fail and isinstance(broken, AssertionError):
                    print(f"powercut: {file_system}: found, as it must be, by cut {number + 1}")
                    return
                if arguments.again:
                    sys.exit("powercut: it fails again")
                folder = ROOT / "target" / "powercut" / f"{file_system}-{arguments.seed}"
                keep(folder, disk, ledger, cut, str(broken))
                sys.exit(f"powercut: a promise was broken; to try this cut again: scripts/powercut --again {folder}")
            if (number + 1) % 50 == 0:
                print(f"{number + 1} of {len(cuts)} cuts, {time.monotonic() - started:.0f} s", flush=True)
        if arguments.must_fail:
            sys.exit(f"powercut: {file_system}: a hole: nothing was found in {len(cuts)} cuts")
        seconds = time.monotonic() - started
        twice = sum(cut["again"] is not None for cut in cuts)
        volatile = sum(cut["left"][0] for cut in cuts)
        print(f"{volatile} writes were not flushed when power went; {seconds / max(len(cuts), 1):.2f} s a cut")
        records = sum(len(partition.strong) for topic in ledger.topics for partition in topic.partitions.values())
        print(f"powercut/{file_system}: cases={len(cuts) + twice} records={records}")


def end_in_order(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit("powercut: ended by SIGTERM")


def tell_record(disk, ledger, begin):
    topics = [topic for topic in ledger.topics if topic.created is not None]
    strong = sum(len(partition.strong) for topic in topics for partition in topic.partitions.values())
    deleted = sum(topic.deleted is not None for topic in topics)
    flushes = sum(end > begin for end in disk.flushes())
    print(
        f"recorded {(disk.position() - begin) >> 20} MiB with {flushes} flushes; {strong} records acknowledged with acks=all or read, "
        f"{len(topics)} topics created, {deleted} deleted",
        flush=True,
    )


if __name__ == "__main__":
    main()
