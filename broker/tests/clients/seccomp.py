"""Where a seccomp filter refuses io_uring, as Docker's default profile does: ringlog takes poll by itself, says why, and serves.

As a command (`seccomp.py -- COMMAND...`) it puts the filter on itself and becomes the command.
"""

import ctypes
import errno
import os
import struct
import subprocess
import sys

from confluent_kafka import Consumer, Producer, TopicPartition

from cases import case, checked, equal, main
from launcher import Ringlog

# Calls have the same numbers on every architecture since 5.0; io_uring's are among them.
IO_URING_CALLS = (425, 426, 427)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
MESSAGES = 1000
WRAPPER = (sys.executable, __file__, "--")


def refuse_io_uring():
    """From now on every io_uring call of this process, and of what it becomes, fails with EPERM."""
    # The number of the call is the first word of what a filter sees. A jump counts the instructions it passes over.
    program = [(LOAD_WORD, 0, 0, 0)]
    for index, number in enumerate(IO_URING_CALLS):
        program.append((JUMP_IF_EQUAL, len(IO_URING_CALLS) - index, 0, number))
    program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, FAIL | errno.EPERM)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    filter_program = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    for call in (
        (PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero),
        (PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(filter_program), zero, zero),
    ):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


class Filtered(Ringlog):
    """ringlog without --io, behind the filter; what it logs is kept from the last start on."""

    def command(self):
        command = super().command()
        if "--io" in command and "--io" not in self.options:
            at = command.index("--io")
            del command[at : at + 2]
        return command

    def start(self, wrapper=WRAPPER):
        self.log.unlink(missing_ok=True)
        super().start(wrapper)


def filtered(broker):
    """Whether the running broker has a filter on it (the test tests nothing without)."""
    with open(f"/proc/{broker.pid}/status") as status:
        return any(line.split() == ["Seccomp:", str(SECCOMP_MODE_FILTER)] for line in status)


@case
def the_filter_refuses_each_call_of_io_uring(_):
    ask = f"[(libc.syscall(number, 0, 0), ctypes.get_errno()) for number in {IO_URING_CALLS}]"
    script = f"import ctypes; libc = ctypes.CDLL(None, use_errno=True); print({ask})"
    said = subprocess.run([*WRAPPER, sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    equal(said.stdout.strip(), str([(-1, errno.EPERM)] * len(IO_URING_CALLS)), "answers to io_uring's calls")


@case
def poll_is_taken_and_the_reason_told(broker):
    equal(filtered(broker), True, "the broker is behind the filter")
    (line,) = [line for line in broker.log_tail().splitlines() if line.startswith("io: ")]
    print(line, flush=True)
    for part in ("io: poll", "io_uring is refused by a seccomp filter", "--security-opt seccomp=unconfined", "io_uring_setup"):
        equal(part in line, True, f"{part!r} in the line on I/O")


@case
def records_are_written_and_read(broker):
    acknowledged = []
    producer = Producer({"bootstrap.servers": broker.address, "enable.idempotence": True})
    for number in range(MESSAGES):
        producer.produce("seccomp", b"%d" % number, partition=0, on_delivery=lambda error, sent: acknowledged.append(error or sent.offset()))
    equal(producer.flush(60), 0, "messages left unsent")
    equal(acknowledged, list(range(MESSAGES)), "offsets acknowledged")
    broker.stop()
    broker.start()
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "seccomp", "enable.auto.commit": False})
    consumer.assign([TopicPartition("seccomp", 0, 0)])
    values = [message.value() for message in consumer.consume(MESSAGES, 30)]
    consumer.close()
    equal(values, [b"%d" % number for number in range(MESSAGES)], "values")
    checked(len(values))


@case
def uring_when_asked_for_is_refused_at_start(_):
    broker = Filtered(options=["--io", "uring"])
    command = [*WRAPPER, *broker.command()]
    try:
        said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    finally:
        broker.__exit__()
    print(f"exit {said.returncode}: {said.stderr.strip()}", flush=True)
    equal(said.returncode > 0, True, f"exit status {said.returncode} of a start that failed")
    equal(said.stdout, "", "what is said to be ready")
    for part in ("io=uring was asked for", "io_uring is refused by a seccomp filter", "--security-opt seccomp=unconfined"):
        equal(part in said.stderr, True, f"{part!r} in {said.stderr!r}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--"]:
        refuse_io_uring()
        os.execvp(sys.argv[2], sys.argv[2:])
    main("seccomp", Filtered())
