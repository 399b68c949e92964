"""Starts ringlog, Apache Kafka and the floor on one core and reads what they spend there."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

# How a broker is found to answer is the client tests' business.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "broker" / "tests" / "clients"))
from launcher import answers, free_port

READY_SECONDS = 60
STOP_SECONDS = 60
TICK = os.sysconf("SC_CLK_TCK")


class Broker:
    """One broker process, pinned with all its threads to `core`."""

    def __init__(self, data, core):
        self.data = data
        self.core = core
        self.port = free_port()
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def spawn(self, command):
        log = open(self.data.with_name(self.data.name + ".log"), "wb")
        self.process = subprocess.Popen(
            ["taskset", "-c", str(self.core), *map(str, command)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )
        deadline = time.monotonic() + READY_SECONDS
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{self.name} did not get ready: see {log.name}")
            time.sleep(0.1)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.data, ignore_errors=True)

    def cpu(self):
        """CPU seconds of all threads since the start, user and system."""
        return process_cpu(self.process.pid)

    def switches(self):
        """Context switches of the threads that live, voluntary and not."""
        total = 0
        for status in pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/status"):
            try:
                total += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status.read_text())))
            except OSError:
                pass  # The thread has ended.
        return total

    def peak_memory(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024

    def produce_requests(self):
        """Produce requests by the broker's own count, None where it does not offer one cheaply."""
        return None

    def punts(self):
        """Operations that left the core for the kernel's workers, None where nobody counts them."""
        return None


class Ringlog(Broker):
    """`ringlog serve` with one shard, or one on each of several cores ("0,1"); its durability is a topic config."""

    # For topics by durability.
    topic = {"no": {"durability": "replicated"}, "yes": {"durability": "fsync"}}

    def __init__(self, data, core, binary, settings, name="ringlog"):
        super().__init__(data, core)
        self.name = name
        self.http = free_port()
        sets = [f"http.listen=127.0.0.1:{self.http}", *settings]
        self.command = [
            binary, "serve", "--listen", self.address, "--data", data, "--cores", core,
            *(word for setting in sets for word in ("--set", setting)),
        ]
        self.settings = ["--cores", str(core), *settings]
        self.spawn(self.command)

    def produce_requests(self):
        return self.metric(r'requests_total\{request="Produce"\} (\d+)')

    def punts(self):
        return self.metric(r"punts\S* (\d+)")

    def metric(self, pattern):
        page = urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=5).read().decode()
        found = re.search(pattern, page)
        return int(found[1]) if found else 0

    def logs(self, topic, partition):
        return self.data / f"{topic}-{partition}"


class Kafka(Broker):
    """Apache Kafka, one KRaft node that is broker and controller."""

    name = "kafka"
    topic = {"no": {}, "yes": {"flush.messages": "1"}}

    def __init__(self, data, core, jars, java, settings):
        super().__init__(data, core)
        controller = free_port()
        properties = data / "server.properties"
        lines = [
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.voters=1@127.0.0.1:{controller}",
            f"listeners=PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}",
            "controller.listener.names=CONTROLLER",
            f"log.dirs={data / 'logs'}",
            "offsets.topic.replication.factor=1",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            *settings,
        ]
        properties.write_text("\n".join(lines) + "\n")
        self.settings = [*java, *settings]
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        run = ["java", *java, quiet, "-cp", f"{jars}/*"]
        subprocess.run(
            [*run, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", properties],
            check=True, capture_output=True,
        )
        self.spawn([*run, "kafka.Kafka", properties])

    def logs(self, topic, partition):
        return self.data / "logs" / f"{topic}-{partition}"


class Floor(Broker):
    """The least a broker has to do; `fresh`: and what a log that grows has to, whose blocks were never written before."""

    def __init__(self, data, core, binary, partitions, megabytes, durable=False, fresh=False):
        super().__init__(data, core)
        self.name = "fresh" if fresh else "floor"
        command = [binary, "--listen", self.address, "--data", data, "--partitions", partitions, "--megabytes", megabytes]
        self.spawn(command + (["--durable"] if durable else []) + (["--fresh"] if fresh else []))


def process_cpu(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def machine_cpu():
    """CPU seconds the whole machine was busy (kernel threads and interrupts included), and those stolen by its host."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq) / TICK, steal / TICK


def device_counts(path):
    """Cache flushes done and bytes written by the device that holds `path`; None where the kernel does not count them."""
    number = os.stat(path).st_dev
    for line in pathlib.Path("/proc/diskstats").read_text().splitlines():
        fields = line.split()
        if (int(fields[0]), int(fields[1])) == (os.major(number), os.minor(number)) and len(fields) > 18:
            return int(fields[18]), int(fields[9]) * 512
    return None, None


def machine():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text())
    java = subprocess.run(["java", "-version"], capture_output=True, text=True).stderr.splitlines()
    return {
        "kernel": os.uname().release,
        "cpu": cpu[1] if cpu else None,
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory[1]) / 1024 / 1024),
        "java": java[0] if java else None,
        "congestion_control": pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
    }


def batches(folder):
    """Counts record batches and records in a partition's segment files: what was really asked of either broker."""
    found = records = 0
    for segment in sorted(folder.glob("*.log")):
        with open(segment, "rb") as file:
            at, size = 0, segment.stat().st_size
            while at + 61 <= size:
                header = os.pread(file.fileno(), 61, at)
                length = int.from_bytes(header[8:12], "big")
                if length == 0:  # Space prepared ahead.
                    break
                found += 1
                records += int.from_bytes(header[57:61], "big")
                at += 12 + length
    return found, records
