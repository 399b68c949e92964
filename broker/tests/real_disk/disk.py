"""A disk whose power can be cut: the file of the `recorder`, a loop device on it, a file system on that."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
RECORDER = ROOT / "target" / "release" / "recorder"
# XFS wants 300 MiB at least. Only what is written takes space.
SIZE = 1 << 30
# Rings of a broker that was killed hold their files for a moment after it is gone.
UNMOUNT_SECONDS = 20

MAKE = {
    # Nothing is initialized in the background: each write in the record is one that the broker or the journal asked for.
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
}
# What a device may tear, in bytes. ext4 journals whole blocks with checksums and expects whole sectors only. XFS takes the sequence number
# in a torn metadata block at its word and does not replay over it, so it depends on blocks of 4 KiB that are written whole or not at all.
UNIT = {"ext4": 512, "xfs": 4096}


class Disk:
    """One disk in `folder`; `position` is how much it has been told up to now."""

    def __init__(self, folder, file_system, again=False):
        self.folder, self.file_system, self.again = pathlib.Path(folder), file_system, again
        self.file, self.mount_point = self.folder / "disk", self.folder / "mounted"
        self.record = None

    def __enter__(self):
        self.file.touch()
        self.mount_point.mkdir(exist_ok=True)
        command = [RECORDER, self.file, str(SIZE), self.folder, *(["--again"] if self.again else [])]
        # It ends with its standard input, whatever signals this program's group gets: not before what lies on it is unmounted.
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("the recorder did not start")
        self.follow(0)
        if not self.again:
            with self.device() as device:
                run(*MAKE[self.file_system], device)
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        os.close(self.record)

    def follow(self, life):
        """Looks at the record of this life from now on."""
        if self.record is not None:
            os.close(self.record)
        self.record = os.open(self.folder / f"record-{life}", os.O_RDONLY)

    def position(self):
        return os.fstat(self.record).st_size

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if self.process.poll() is not None or answer.startswith("error"):
            raise RuntimeError(f"the recorder, asked {words}: {answer}")
        return answer

    def flushes(self):
        """Where the flushes of the first life end."""
        return [int(end) for end in self.ask("flushes", 0).split()]

    def cut(self, life, position, how):
        """The disk is now what a power cut left of that life; tells how many writes no flush covered, how many are there, how many torn."""
        left = self.ask("cut", life, position, *how)
        self.follow(life + 1)
        return tuple(map(int, left.split()))

    @contextlib.contextmanager
    def device(self):
        """A loop device on the file: without a cache of its own, and with a volatile one as far as the file system can tell."""
        device = run("losetup", "--find", "--show", "--direct-io=on", self.file)
        try:
            queue = pathlib.Path("/sys/block") / pathlib.Path(device).name
            facts = {name: (queue / name).read_text().strip() for name in ("queue/write_cache", "queue/fua", "loop/dio")}
            if facts != {"queue/write_cache": "write back", "queue/fua": "0", "loop/dio": "1"}:
                raise RuntimeError(f"{device} would not show every flush: {facts}")
            yield device
        finally:
            with undisturbed():
                run("losetup", "--detach", device)

    @contextlib.contextmanager
    def mounted(self):
        """The file system; mounting it replays its journal."""
        with self.device() as device:
            try:
                run("mount", "-t", self.file_system, device, self.mount_point)
                yield self.mount_point / "data"
            finally:
                if self.mount_point.is_mount():
                    with undisturbed():
                        unmount(self.mount_point)


def run(*command):
    """Runs a command to its end, whatever signals this program's group gets, and tells what it said."""
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True)
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout.strip()


class CommandFailed(Exception):
    """A command did not do what it was asked for."""


@contextlib.contextmanager
def undisturbed():
    """Signals that would end this program wait until this is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unmount(point):
    end = time.monotonic() + UNMOUNT_SECONDS
    while True:
        try:
            return run("umount", point)
        except CommandFailed:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def missing():
    """What this machine lacks for such a disk, or nothing."""
    if os.geteuid() != 0:
        return "mounting needs root"
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.access(device, os.R_OK | os.W_OK):
            return f"there is no {device}"
    for command in ("losetup", "mount", "umount"):
        if shutil.which(command) is None:
            return f"there is no {command}"
    return None
