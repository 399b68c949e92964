"""Starts and stops a broker under test: ringlog's binary, or Apache Kafka from target/kafka as the reference."""

import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
KAFKA_JARS = ROOT / "target" / "kafka"
READY_SECONDS = 60
STOP_SECONDS = 60


class Broker:
    """One broker process on one data directory; `start` may be called again after `stop` or `kill`."""

    # What only one of the two does; the cases ask for these by name.
    transactions = False
    consumer_protocol = False

    def __init__(self, settings=None, options=(), data=None):
        self.settings = dict(settings or {})
        self.options = list(options)
        self.owned = data is None
        self.data = pathlib.Path(data or tempfile.mkdtemp(prefix="ringlog-clients-"))
        self.log = self.data.with_name(self.data.name + ".stderr")
        self.process = None
        self.port = 0
        self.http = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.kill()
        if self.owned:
            shutil.rmtree(self.data, ignore_errors=True)
            self.log.unlink(missing_ok=True)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    def spawn(self, command, **extra):
        """Runs the broker with its log going to a file beside the data."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, **extra)

    def log_tail(self, size=2000):
        """The end of what the broker logged, and where it panicked, for a failure's message."""
        logged = self.log.read_bytes().decode(errors="replace") if self.log.exists() else ""
        panic = logged.rfind("panicked at")
        return (logged[panic : panic + size] + "\n[...]\n" if panic >= 0 else "") + logged[-size:]

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def stop(self):
        """SIGTERM and wait; fails when the broker does not end by itself with 0."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_SECONDS)
        self.process = None
        if code not in self.clean_exits:
            raise AssertionError(f"the broker ended with {code} on SIGTERM\n{self.log_tail()}")

    def kill(self):
        """kill -9, whatever the broker is doing."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


class Ringlog(Broker):
    """ringlog as a user gets it: `ringlog serve` with options only."""

    name = "ringlog"
    clean_exits = (0,)

    def command(self):
        binary = os.environ.get("RINGLOG_BINARY") or ROOT / "target" / "release" / "ringlog"
        listen = f"127.0.0.1:{self.port}"
        command = [str(binary), "serve", "--listen", listen, "--data", str(self.data), *self.options]
        if "RINGLOG_TEST_IO" in os.environ and "--io" not in self.options:
            command += ["--io", os.environ["RINGLOG_TEST_IO"]]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        return command

    def start(self, wrapper=()):
        """Starts the broker, through `wrapper` if given, and waits for its line; a restart keeps the port."""
        self.port = self.port or free_port()
        self.spawn([*wrapper, *self.command()], stdout=subprocess.PIPE, text=True)
        # A broker that never says its line is ended by the watchdog, and the read below sees the end of its output.
        watchdog = subprocess.Popen(["sh", "-c", f"sleep {READY_SECONDS}; kill -9 {self.pid}"], start_new_session=True)
        try:
            line = self.process.stdout.readline()
        finally:
            os.killpg(watchdog.pid, signal.SIGKILL)
            watchdog.wait()
        addresses = dict(re.findall(r"(\w+)=(\S+)", line))
        if "kafka" not in addresses:
            code = self.process.wait(5)
            raise AssertionError(f"ringlog did not get ready (exit {code}, said {line!r})\n{self.log_tail()}")
        self.port = int(addresses["kafka"].split(",")[0].rpartition(":")[2])
        self.http = addresses.get("http")


class Kafka(Broker):
    """Apache Kafka 4.3.1, one KRaft node that is broker and controller."""

    name = "kafka"
    # The JVM answers SIGTERM with 128+15 after its shutdown hooks ran.
    clean_exits = (0, 143, -15)
    transactions = True
    consumer_protocol = True

    def java(self, main, *arguments, **extra):
        classes = f"{KAFKA_JARS}/*"
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return ["java", "-Xmx1g", quiet, "-cp", classes, main, *arguments]

    def start(self, wrapper=()):
        if not self.port:
            self.port = free_port()
            self.configure(free_port())
        self.spawn([*wrapper, *self.java("kafka.Kafka", str(self.properties))], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + READY_SECONDS
        while not answers(self.port):
            if not self.alive() or time.monotonic() > deadline:
                raise AssertionError(f"Kafka did not get ready\n{self.log_tail()}")
            time.sleep(0.1)

    def configure(self, controller_port):
        self.properties = self.data / "server.properties"
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller_port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.data / "logs",
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            **self.settings,
        }
        self.properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        # A directory that has an owner keeps it.
        if (self.data / "logs" / "meta.properties").exists():
            return
        format_storage = ["format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", str(self.properties)]
        subprocess.run(self.java("kafka.tools.StorageTool", *format_storage), check=True, capture_output=True)


def broker(settings=None, options=(), data=None):
    """The broker named by RINGLOG_TEST_BROKER (`ringlog`, or `kafka` for the reference)."""
    kinds = {kind.name: kind for kind in (Ringlog, Kafka)}
    kind = kinds[os.environ.get("RINGLOG_TEST_BROKER", "ringlog")]
    # Kafka knows no options of ringlog's command line.
    return kind(settings, options if kind is Ringlog else (), data)


def free_port():
    """A free port that the kernel gives to nobody by itself: one it does may be taken while a broker is away that comes back on it, even by a
    client that tries to connect and so meets itself."""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(max(1024, first // 2), first)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def answers(port):
    """Whether the broker answers (Kafka opens its port long before it does)."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            return asked(connection)
    except OSError:
        return False


def asked(connection):
    """Whether an ApiVersions request on this connection is answered."""
    request = bytes.fromhex("00120000000000010000")
    connection.settimeout(2)
    connection.sendall(len(request).to_bytes(4, "big") + request)
    return len(connection.recv(4)) == 4
