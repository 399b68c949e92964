"""Clients that take memory and give nothing back: who announces and does not send, who asks and does not read. Others are served."""

import contextlib
import os
import socket
import struct

from cases import case, checked, equal, main
from launcher import broker as new_broker
from raw import FETCH, METADATA, NO_ERROR, PRODUCE, Connection, batch, crc32c, frame, header, produce, produced, string

TOPIC = "greedy"
LZ4 = 3
# Two frames take nearly all memory for large requests; the third waits before those who come later.
LARGE_FRAMES, LARGE_FRAME = 3, 85 << 20
# Five that do not read would take all memory for replies if each got what it asks for.
READERS = 12
# A topic larger than all memory for replies of one fetch, in batches that divide it finely.
BATCHES, BATCH_BYTES, AT_ONCE = 7000, 10_000, 35
# Longer than the broker bears with those who hold memory that others wait for.
SECONDS = 60


def opaque(size):
    """A batch of one compressed record that nobody will look into."""
    data = struct.pack(">hiqqqhii", LZ4, 0, 1000, 1000, -1, -1, -1, 1) + os.urandom(size)
    return struct.pack(">qiibI", 0, 9 + len(data), -1, 2, crc32c(data)) + data


def fetch(bytes_max):
    """Fetch v7 of the whole topic, without waiting and without a session."""
    partition = struct.pack(">iiqqi", 1, 0, 0, -1, bytes_max)
    head = struct.pack(">iiiibii", -1, 0, 1, bytes_max, 0, 0, -1)
    return frame(header(FETCH, 7) + head + struct.pack(">i", 1) + string(TOPIC) + partition + struct.pack(">i", 0))


@contextlib.contextmanager
def greedy(broker, count, request):
    """Clients with small windows that send this and do nothing more."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", broker.port))
            client.sendall(request)
        yield


@case
def the_topic_is_made(broker):
    with Connection(broker) as connection:
        connection.ask(frame(header(METADATA, 4) + struct.pack(">i", 1) + string(TOPIC) + b"\1"))
        request = produce(opaque(BATCH_BYTES), topic=TOPIC, acks=1)
        for first in range(0, BATCHES, AT_ONCE):
            connection.send(request * AT_ONCE)
            for number in range(first, first + AT_ONCE):
                equal(produced(connection.read(SECONDS)), (NO_ERROR, number), "produced")
    checked(BATCHES)


@case
def announced_requests_that_do_not_come_keep_nobody_waiting(broker):
    announced = struct.pack(">i", LARGE_FRAME) + header(PRODUCE, 3)
    with greedy(broker, LARGE_FRAMES, announced), Connection(broker) as small, Connection(broker) as large:
        equal(produced(small.ask(produce(batch([b"small"]), topic=TOPIC), SECONDS)), (NO_ERROR, BATCHES), "a small request")
        answer = large.ask(produce(opaque(500_000), topic=TOPIC), SECONDS)
        equal(produced(answer), (NO_ERROR, BATCHES + 1), "a large request")
    checked(2)


@case
def replies_that_are_not_read_keep_nobody_waiting(broker):
    with greedy(broker, READERS, fetch(1 << 30)):
        for _ in range(READERS):
            with Connection(broker) as connection:
                reply = connection.ask(fetch(1 << 20), SECONDS)
                equal(len(reply) > BATCH_BYTES, True, f"a reply with records: {reply[:100]!r}")
            checked(1)


if __name__ == "__main__":
    # Its records are as old as their timestamps tell, and are to stay.
    main("greedy", new_broker(options=["--cores", "0", "--set", "log.retention.ms=-1"]))
