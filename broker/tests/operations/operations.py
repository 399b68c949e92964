"""Runs docs/OPERATIONS.md: every command of the page, in its order, on a machine that systemd has booted, with disks of its own.

The machine is a throwaway copy of this one (a container of systemd-nspawn, as in packaging.py); its drives are loop devices. Outside, this
file makes it; inside, it is run once more, by a systemd unit, and goes through the page:

    ```sh ... ```        is run by bash, as it is (SHORTER says what is made smaller), and must end well
    ```text ... ```      is what the block before it prints: each line, in this order, with others between; an ellipsis is anything
    <!-- test: name -->  something happens to the machine that no command can do: EVENTS

Any other fenced block, and any block that nothing runs, is a failure.
"""

import array
import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request

HERE = pathlib.Path(__file__).resolve()
BLOCK_SECONDS = 200
MACHINE_SECONDS = 900
DRIVES = ("nvme1n1", "nvme2n1")
# XFS takes no less than 300 MiB.
DRIVE_BYTES = 320 << 20

# What is not for a test's time or for its small disks: each is in the page once or more, or the page has changed.
SHORTER = {
    "--num-records 50000000": "--num-records 100000",
    "seq 20000000": "seq 200000",
    # A copy of a bare server's /proc, /sys and /etc: this machine's are not the test's to change.
    "ringlog tune": "ringlog tune --root /bare-host",
}

KAFKA_TOOLS = {
    "kafka-topics": "org.apache.kafka.tools.TopicCommand",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "kafka-producer-perf-test": "org.apache.kafka.tools.ProducerPerformance",
    "kafka-consumer-perf-test": "org.apache.kafka.tools.ConsumerPerformance",
    "kafka-server-start": "kafka.Kafka",
}

# ---- outside: the machine ----


@contextlib.contextmanager
def drives(folder):
    """Loop devices, by the names that the page has for them."""
    devices = {}
    try:
        for name in DRIVES:
            image = folder / name
            with open(image, "wb") as file:
                file.truncate(DRIVE_BYTES)
            found = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True)
            devices[name] = found.stdout.strip()
        yield devices
    finally:
        for device in devices.values():
            subprocess.run(["losetup", "--detach", device], check=False)


def furnish(root):
    """Puts into the machine what the page takes for granted: Apache Kafka, and a bare server's settings to look at."""
    for name, main in KAFKA_TOOLS.items():
        tool = root / "opt/kafka/bin" / f"{name}.sh"
        tool.parent.mkdir(parents=True, exist_ok=True)
        options = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx512m"
        tool.write_text(f"#!/bin/sh\nexec java {options} -cp '/opt/kafka/libs/*' {main} \"$@\"\n")
        tool.chmod(0o755)
    (root / "opt/kafka/libs").mkdir()
    # Else each package has man-db look at all pages of the machine.
    (root / "var/lib/man-db/auto-update").unlink(missing_ok=True)
    for path, text in {
        "proc/meminfo": "MemTotal: 263000000 kB\n",
        "proc/sys/vm/swappiness": "60\n",
        "proc/sys/vm/dirty_background_bytes": "0\n",
        "proc/sys/vm/dirty_background_ratio": "10\n",
        "proc/sys/vm/dirty_bytes": "0\n",
        "proc/sys/vm/dirty_ratio": "20\n",
        "proc/sys/net/core/somaxconn": "128\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_available_governors": "performance powersave\n",
        "sys/devices/system/cpu/online": "0\n",
    }.items():
        path = root / "bare-host" / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


INSIDE = """[Unit]
Description=Goes through OPERATIONS.md
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
StandardOutput=file:/went.log
StandardError=inherit
Environment=HOME=/root
WorkingDirectory=/root
ExecStart=/usr/bin/python3 /operations.py inside
"""


def outside():
    sys.path.insert(0, str(HERE.parents[1] / "packaging"))
    from packaging import PACKAGE, QUIETLY, ROOT, Machine, can_boot

    page = ROOT / "docs/OPERATIONS.md"
    # What can be said of the page without a machine.
    steps = read(page.read_text())
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ringlog-operations-"))
    folder.chmod(0o755)
    try:
        (folder / "can").mkdir()
        if why := can_boot(folder / "can"):
            print(f"!!! NOT TESTED: the commands of {page.name}: {why}", file=sys.stderr)
            print("operations: blocks=0")
            return
        (folder / "disks").mkdir()
        with Machine(folder) as machine, drives(folder) as devices:
            furnish(machine.root)
            shutil.copy(HERE, machine.root / "operations.py")
            shutil.copytree(ROOT / "docs", machine.root / "docs")
            home = machine.root / "root"
            for package in (*PACKAGE.glob("*.deb"), *PACKAGE.glob("*.tar.gz")):
                shutil.copy(package, home)
            (machine.root / "etc/systemd/system/operations.service").write_text(INSIDE)
            binds = [f"--bind-ro={(ROOT / 'target/kafka').resolve()}:/opt/kafka/libs", "--bind=/dev/loop-control"]
            for name, device in devices.items():
                # By its own name too: that is what the kernel says is mounted.
                binds += [f"--bind={device}:/dev/{name}", f"--bind={device}"]
            boot = ["systemd-nspawn", *QUIETLY, "--private-network", *binds, "-D", machine.root, "--boot", "--", "--unit=operations.service"]
            booted = subprocess.run(boot, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=MACHINE_SECONDS)
            log = machine.root / "went.log"
            said = log.read_text(errors="replace") if log.exists() else booted.stdout + booted.stderr
            print(said, end="", flush=True)
            if f"operations: blocks={len([step for step in steps if step.kind == 'sh'])}" != said.rstrip().splitlines()[-1]:
                sys.exit("FAILED: the page was not gone through to its end")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---- the page ----


class Step:
    """One block, or one event, of the page."""

    def __init__(self, kind, line, text):
        self.kind, self.line, self.text, self.promised = kind, line, text, []


def read(page):
    """The page's steps, in order."""
    steps = []
    kind = None
    for number, line in enumerate(page.splitlines(), 1):
        event = re.fullmatch(r"<!-- test: (.*) -->", line)
        if kind is None and event:
            if event[1] not in EVENTS:
                sys.exit(f"OPERATIONS.md:{number}: there is no event `{event[1]}`")
            steps.append(Step("event", number, event[1]))
        elif kind is None and line.startswith("```"):
            kind, began, lines = line[3:], number, []
            if kind not in ("sh", "text"):
                sys.exit(f"OPERATIONS.md:{number}: nothing runs a block of `{kind}`")
        elif kind is not None and line == "```":
            if kind == "sh":
                steps.append(Step("sh", began, "\n".join(lines)))
            elif not steps or steps[-1].kind != "sh" or steps[-1].promised:
                sys.exit(f"OPERATIONS.md:{began}: what is promised here is of no command")
            else:
                steps[-1].promised = lines
            kind = None
        elif kind is not None:
            lines.append(line)
    commands = "\n".join(step.text for step in steps if step.kind == "sh")
    for long in SHORTER:
        if long not in commands:
            sys.exit(f"OPERATIONS.md has no `{long}` any more, which operations.py makes shorter")
    return steps


# ---- inside ----


GOING_DOWN, WITHOUT_JOURNAL = 0x8004587D, 2


def the_second_drive_dies():
    """Every later operation on it fails with EIO."""
    for filler in pathlib.Path("/data").glob(f"*/{FILLER}"):
        filler.unlink()
    directory = os.open("/data/2", os.O_RDONLY)
    fcntl.ioctl(directory, GOING_DOWN, array.array("I", [WITHOUT_JOURNAL]))
    os.close(directory)


def a_drive_fills_up():
    """Somebody's file takes most of a drive, and producers the rest, until it takes no more."""
    subprocess.run(["ringlog", "topic", "create", "filling", "--partitions", "1"], check=True, capture_output=True)
    (lies,) = pathlib.Path("/data").glob("*/filling-0")
    disk = os.statvfs(lies)
    with open(lies.parent / FILLER, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - LEFT_BYTES)
    command = f"yes {'x' * 1000} | head --bytes {2 * LEFT_BYTES} | ringlog produce filling"
    writer = subprocess.Popen(["bash", "-c", command], stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + BLOCK_SECONDS
    while "ERROR the disk of" not in subprocess.run(["journalctl", "--unit", "ringlog", "--output", "cat"], capture_output=True, text=True).stdout:
        if time.monotonic() > deadline:
            raise AssertionError("a drive that is full is not told of")
        time.sleep(0.2)
    # It would wait for room until its time is up.
    os.killpg(writer.pid, signal.SIGKILL)
    writer.wait()


FILLER = "somebodys-file"
# Four segments, and what is kept in reserve.
LEFT_BYTES = (64 << 20) + DRIVE_BYTES // 20


EVENTS = {
    "the second drive dies": the_second_drive_dies,
    "a drive fills up": a_drive_fills_up,
}


def check_promised(step, said):
    """Each promised line is there, in order."""
    lines = iter(said.splitlines())
    for promised in step.promised:
        pattern = re.compile(".*".join(re.escape(part) for part in re.split("…", promised.strip())))
        if not any(pattern.fullmatch(line.strip()) for line in lines):
            raise AssertionError(f"it does not say, or not in this order: {promised}")


def run(step):
    command = step.text
    for long, short in SHORTER.items():
        command = command.replace(long, short)
    path = f"/opt/kafka/bin:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8"}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=BLOCK_SECONDS,
    )
    try:
        if done.returncode != 0:
            raise AssertionError(f"exit {done.returncode}")
        check_promised(step, done.stdout)
    except AssertionError as failure:
        raise AssertionError(f"{failure}\n--- the command\n{command}\n--- what it says\n{done.stdout[-6000:]}") from None


def table(page, heading):
    """The first two cells of each row of the tables under a heading, without the marks of code."""
    section = re.split(r"^## ", page, flags=re.MULTILINE)
    (section,) = [part for part in section if part.startswith(heading + "\n")]
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]*) \|", section, flags=re.MULTILINE)
    return dict(rows)


def metrics_are_those_of_the_page(page):
    """Each metric is in the page's table, with what the broker says of it, and the table has no others."""
    with urllib.request.urlopen("http://localhost:9644/metrics") as answer:
        text = answer.read().decode()
    served = dict(re.findall(r"^# HELP (\S+) (.*)$", text, flags=re.MULTILINE))
    told = table(page, "Every metric")
    wrong = [f"| `{name}` | {served[name]} | |" for name in served if told.get(name) != served[name]]
    gone = sorted(set(told) - set(served))
    if wrong or gone:
        raise AssertionError("the table of metrics is to have these rows:\n" + "\n".join(wrong) + f"\nand not {gone}")
    return len(served)


def alerts_are_those_of_the_page(page):
    """Each alert of the rules is in the page's table, and asks only for metrics there are."""
    rules = pathlib.Path("/docs/grafana/alerts.yml").read_text()
    alerts = set(re.findall(r"^\s*- alert: (\S+)", rules, flags=re.MULTILINE))
    told = table(page, "Every alert")
    if alerts != set(told):
        raise AssertionError(f"alerts of the rules, and not of the page: {alerts - set(told)}; of the page alone: {set(told) - alerts}")
    known = {re.sub(r"_(bucket|sum|count)$", "", name) for name in table(page, "Every metric")}
    asked = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\b(?:kafka|ringlog)_[a-z_]+", rules)}
    if asked - known:
        raise AssertionError(f"alerts ask for {asked - known}, which are no metrics")
    return len(alerts)


def inside():
    page = pathlib.Path("/docs/OPERATIONS.md").read_text()
    ran = 0
    for step in read(page):
        began = time.monotonic()
        try:
            if step.kind == "event":
                EVENTS[step.text]()
            else:
                run(step)
                ran += 1
        except Exception:
            print(f"FAILED OPERATIONS.md:{step.line}\n{traceback.format_exc(limit=1)}", flush=True)
            log = subprocess.run(["journalctl", "--no-pager", "--unit", "ringlog", "--lines", "40"], capture_output=True, text=True)
            print(log.stdout, flush=True)
            sys.exit(1)
        first = step.text.splitlines()[0]
        print(f"ok OPERATIONS.md:{step.line} {first[:70]} ({time.monotonic() - began:.1f} s)", flush=True)
    for case in (metrics_are_those_of_the_page, alerts_are_those_of_the_page):
        try:
            print(f"ok {case.__name__}: {case(page)}", flush=True)
        except Exception:
            print(f"FAILED {case.__name__}\n{traceback.format_exc(limit=1)}", flush=True)
            sys.exit(1)
    print(f"operations: blocks={ran}", flush=True)


if __name__ == "__main__":
    inside() if sys.argv[1:] == ["inside"] else outside()
