"""What the disk and the core would let anybody have: `probe.py FOLDER SECONDS`, a line of JSON each ten seconds, with pairs of microseconds and how often each was met.

Ten times a second it writes 4 KiB past the page cache into fresh blocks, has them made durable, and sleeps: how much too late it wakes counts, too. It
has the priorities of the broker and none of its work, so what is slow here is not the broker's doing.
"""

import collections
import json
import mmap
import os
import sys
import tempfile
import time

BLOCK = 4096
FILE = 16 << 20
PAUSE = 0.1
INTERVAL = 10


def main():
    folder, end = sys.argv[1], time.monotonic() + float(sys.argv[2])
    block = mmap.mmap(-1, BLOCK)
    path = tempfile.mktemp(prefix="probe-", dir=folder)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_DIRECT, 0o600)
    os.unlink(path)
    at = FILE
    counts, told = fresh(), time.monotonic() + INTERVAL
    while time.monotonic() < end:
        if at >= FILE:
            os.ftruncate(file, 0)
            os.posix_fallocate(file, 0, FILE)
            os.fsync(file)
            at = 0
        began = time.monotonic()
        os.pwrite(file, block, at)
        written = time.monotonic()
        os.fdatasync(file)
        synced = time.monotonic()
        time.sleep(PAUSE)
        woken = time.monotonic()
        at += BLOCK
        for key, value in (("write_us", written - began), ("sync_us", synced - written), ("late_us", woken - synced - PAUSE)):
            counts[key][round(value * 1e6)] += 1
        if woken > told:
            print(json.dumps({key: sorted(own.items()) for key, own in counts.items()}), flush=True)
            counts, told = fresh(), told + INTERVAL


def fresh():
    return {"write_us": collections.Counter(), "sync_us": collections.Counter(), "late_us": collections.Counter()}


if __name__ == "__main__":
    main()
