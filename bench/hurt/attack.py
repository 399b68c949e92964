"""Clients that hurt, on purpose: `attack.py NAME PORT COUNT` until its input ends.

Says "ready" once all are at it, or have been refused, and at its end how many were at it, or had been refused; how many connections it made and how many of them the broker closed.
Sockets come from many addresses of 127.0.0.0/8, so that there are ports for all.
"""

import asyncio
import pathlib
import random
import socket
import struct
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "broker" / "tests" / "clients"))
from greedy import opaque
from raw import API_VERSIONS, FETCH, METADATA, PRODUCE, frame, header, produce, produced, string

IP_BIND_ADDRESS_NO_PORT = 24
# Topics: one large batch after the other; many partitions; what the flood writes.
LARGE, WIDE, FLOOD = "large", "wide", "flood"
WIDE_PARTITIONS = 1000
FLOOD_PARTITIONS = 8
FLOOD_BATCH = 900_000
VERSIONS = frame(header(API_VERSIONS, 0))
# As many connect at a time: the backlogs of the listeners take them.
CONNECTING_MAX = 200
# One who was closed comes back, this often at most.
RETURNS_MAX = 20


def fetch(topic, partitions, wait_ms=0, bytes_max=1 << 20, session_epoch=-1):
    """Fetch v7 of these partitions from their first offset; epoch 0 begins a session."""
    rows = b"".join(struct.pack(">iqqi", index, 0, -1, bytes_max) for index in partitions)
    head = struct.pack(">iiiibii", -1, wait_ms, 1 << 30 if wait_ms else 0, bytes_max, 0, 0, session_epoch)
    topics = struct.pack(">i", 1) + string(topic) + struct.pack(">i", len(partitions)) + rows
    return frame(header(FETCH, 7) + head + topics + struct.pack(">i", 0))


def metadata():
    """Metadata v1 of all topics."""
    return frame(header(METADATA, 1) + struct.pack(">i", -1))


class Client:
    """One socket of the crowd."""

    made = closed = answers = 0
    connecting = asyncio.Semaphore(CONNECTING_MAX)

    def __init__(self, port, window=None):
        self.loop = asyncio.get_running_loop()
        self.port = port
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        if window:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, window)
        self.socket.bind((f"127.1.{Client.made // 250 % 250}.{Client.made % 250 + 1}", 0))
        Client.made += 1

    async def connect(self):
        async with Client.connecting:
            await self.loop.sock_connect(self.socket, ("127.0.0.1", self.port))

    async def send(self, data):
        await self.loop.sock_sendall(self.socket, data)

    async def receive(self, count):
        data = b""
        while len(data) < count:
            more = await self.loop.sock_recv(self.socket, min(count - len(data), 1 << 18))
            if not more:
                raise ConnectionError("closed")
            data = more if not data else data + more
        return data

    async def skip(self, count):
        while count > 0:
            more = await self.loop.sock_recv(self.socket, min(count, 1 << 18))
            if not more:
                raise ConnectionError("closed")
            count -= len(more)

    async def answer(self, keep=False):
        length = struct.unpack(">i", await self.receive(4))[0]
        Client.answers += 1
        return await self.receive(length) if keep else await self.skip(length)

    async def until_closed(self):
        while await self.loop.sock_recv(self.socket, 1 << 16):
            pass
        raise ConnectionError("closed")


# Each attack: what one client does once it is connected. It calls `at_it` when it has done its worst.


async def many(client, at_it):
    """Asks once and is silent."""
    await client.send(VERSIONS)
    await client.answer()
    at_it()
    await client.until_closed()


async def silent(client, at_it):
    """Says nothing at all."""
    at_it()
    await client.until_closed()


async def half(client, at_it):
    """A frame of 60 KB of which the last bytes never come."""
    await client.send(struct.pack(">i", 60_000) + header(PRODUCE, 3) + bytes(59_000))
    at_it()
    await client.until_closed()


async def begun(client, at_it):
    """The first bytes of a small frame, too many to be copied out of a receive buffer at once, and never the rest."""
    await client.send(struct.pack(">i", 1000) + header(PRODUCE, 3) + bytes(600))
    at_it()
    await client.until_closed()


async def lies(client, at_it):
    """Announces much and sends little."""
    length = random.choice([8 << 20, 12 << 20, 15 << 20, 65_536, 1_000_000])
    await client.send(struct.pack(">i", length) + header(PRODUCE, 3) + bytes(1000))
    at_it()
    await client.until_closed()


async def ahead(client, at_it):
    """Asks what takes a minute, and sends what is to come after it at once."""
    await client.send(fetch(WIDE, [0], wait_ms=60_000))
    at_it()
    await client.send(VERSIONS * 20_000)
    await client.until_closed()


async def hasty(client, at_it):
    """Asks what is easy, thousands of times in a row, and reads the answers."""

    async def ask():
        while True:
            await client.send(VERSIONS * 20_000)

    at_it()
    asking = asyncio.ensure_future(ask())
    try:
        await client.until_closed()
    finally:
        # Before the socket is closed, whose number another may get.
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def writers(client, at_it):
    """A request, byte by byte."""
    request = produce(opaque(2000), topic=WIDE, partition=random.randrange(WIDE_PARTITIONS), acks=1)
    at_it()
    while True:
        for at in range(0, len(request), 4):
            await client.send(request[at : at + 4])
            await asyncio.sleep(0.05)
        await client.answer()


async def readers(client, at_it):
    """Asks for a megabyte of records and does not read it."""
    await client.send(fetch(LARGE, [0]))
    at_it()
    await asyncio.Event().wait()


async def lists(client, at_it):
    """Asks for all that the broker knows of its topics and does not read it."""
    await client.send(metadata())
    at_it()
    await asyncio.Event().wait()


async def everything(client, at_it):
    """Fetches all partitions from their beginnings, again and again."""
    request = fetch(WIDE, range(WIDE_PARTITIONS), bytes_max=4 << 20)
    await client.send(request)
    at_it()
    while True:
        await client.answer()
        await client.send(request)


async def sessions(client, at_it):
    """Begins a session of all partitions, and another, and another."""
    request = fetch(WIDE, range(WIDE_PARTITIONS), session_epoch=0, bytes_max=1)
    await client.send(request)
    at_it()
    while True:
        await client.answer()
        await client.send(request)


async def flood(client, at_it):
    """Produces as fast as answers come, five in flight; counts what is acknowledged."""
    flood.batch = flood.batch or opaque(FLOOD_BATCH)
    partition = random.randrange(FLOOD_PARTITIONS)
    request = produce(flood.batch, topic=FLOOD, partition=partition, acks=1)
    for _ in range(5):
        await client.send(request)
    at_it()
    while True:
        error, offset = produced(await client.answer(keep=True))
        if error == 0:
            flood.acknowledged[partition].append(offset)
        await client.send(request)


flood.batch = None
flood.acknowledged = [[] for _ in range(FLOOD_PARTITIONS)]


async def churn(client, at_it):
    """Comes, asks, and goes: in order, or with a reset."""
    at_it()
    await client.send(VERSIONS)
    if random.random() < 0.5:
        await client.answer()
    else:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise EOFError


ATTACKS = [many, silent, half, begun, lies, ahead, hasty, writers, readers, lists, everything, sessions, flood, churn]
# Their sockets take little: of `hasty` a core would be busy with one that sends for so long that nobody else there runs.
WINDOWS = {readers: 4096, lists: 4096, hasty: 32_768}


async def one(attack, port, at_it):
    """One of the crowd: who is closed comes back."""
    returns = 0
    while returns < RETURNS_MAX or attack is churn:
        client = Client(port, WINDOWS.get(attack))
        try:
            await client.connect()
            await attack(client, at_it)
        except EOFError:
            pass
        except OSError:
            at_it()
            Client.closed += 1
            await asyncio.sleep(0.2)
        finally:
            client.socket.close()
        returns += 1


async def main(name, port, count):
    attack = next(attack for attack in ATTACKS if attack.__name__ == name)
    left = count

    def arrive():
        """Each client's first time counts."""
        first = True

        def at_it():
            nonlocal left, first
            left -= first
            first = False
            if left == 0:
                print("ready", flush=True)

        return at_it

    crowd = [asyncio.ensure_future(one(attack, port, arrive())) for _ in range(count)]
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    await ended.wait()
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    ends = [max(offsets, default=-1) + 1 for offsets in flood.acknowledged]
    counts = [len(offsets) for offsets in flood.acknowledged]
    print(f"at it={count - left} connections={Client.made} closed={Client.closed} answers={Client.answers} acknowledged={counts} ends={ends}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
