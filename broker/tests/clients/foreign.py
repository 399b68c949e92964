"""Builds a program of Apache Kafka's Java client (`java`, `java-admin`, `java-share`) or franz-go (`go`) and runs its cases on a broker that creates no topics."""

import pathlib
import subprocess
import sys

from launcher import KAFKA_JARS, ROOT, broker as new_broker

HERE = pathlib.Path(__file__).parent
BUILT = ROOT / "target" / "clients"
# Far more than the cases take: a client that retries for ever is ended, and that is a failure.
RUN_SECONDS = 180


def java(program="JavaClient"):
    """The command that Apache Kafka's Java client is run by; its arguments are in the head of the program."""
    classes = BUILT / "java"
    subprocess.run(["javac", "-cp", f"{KAFKA_JARS}/*", "-d", classes, HERE / "java" / f"{program}.java"], check=True)
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=off"
    # Short runs on few processors: the JVM's cheaper compiler and collector start faster.
    return ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", quiet, "-cp", f"{classes}:{KAFKA_JARS}/*", program]


def go():
    """The command that franz-go is run by; its arguments are in the head of main.go."""
    program = BUILT / "franz-go"
    subprocess.run(["go", "build", "-buildvcs=false", "-o", program, "."], cwd=HERE / "go", check=True)
    return [str(program)]


def java_admin():
    return java("JavaAdmin")


def java_share():
    return java("JavaShare")


LIBRARIES = {"java": java, "java-admin": java_admin, "java-share": java_share, "go": go}


def main():
    command = LIBRARIES[sys.argv[1]]()
    with new_broker({"auto.create.topics.enable": "false", "group.initial.rebalance.delay.ms": 100}) as broker:
        ended = subprocess.run([*command, "cases", broker.address, broker.name], timeout=RUN_SECONDS)
        if not broker.alive():
            print(f"the broker died:\n{broker.log_tail()}", flush=True)
            sys.exit(1)
    sys.exit(ended.returncode)


if __name__ == "__main__":
    main()
