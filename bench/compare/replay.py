"""Requests that librdkafka has made, recorded once and sent again by `cat`: a load whose own cost is small."""

import socket
import subprocess
import threading
import time

PRODUCE = 0
LIMIT_SECONDS = 300


class Recording:
    """Produce requests of one case as librdkafka sent them, and how long each reply is."""

    def __init__(self, folder, topic, frames, reply_bytes):
        self.folder, self.topic, self.frames, self.reply_bytes = folder, topic, frames, reply_bytes

    def file(self, partition, topic):
        """A file of the requests, addressed to another partition and a topic whose name is as long."""
        assert len(topic) == len(self.topic), "a name of another length would change the request's"
        path = self.folder / f"{topic}-{partition}.requests"
        with open(path, "wb") as file:
            for frame in self.frames:
                file.write(addressed(frame, self.topic.encode(), topic.encode(), partition))
        return path


def addressed(frame, old, new, partition):
    """The frame with another topic and partition: neither is covered by the batch's CRC."""
    after = frame.index(old) + len(old)
    # One partition follows, number 0: counted in four bytes, or in one from version 9 on.
    at = after + (1 if frame[after] == 2 else 4)
    if frame[at : at + 4] != bytes(4) or frame[after:at] not in (b"\2", b"\0\0\0\1"):
        raise SystemExit("the recorded request does not hold one batch for partition 0")
    return frame[: after - len(old)] + new + frame[after:at] + partition.to_bytes(4, "big") + frame[at + 4 :]


class Proxy:
    """Passes bytes on between a client and the broker, and keeps what each connection said."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = []
        self.target = None
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            broker = socket.create_connection(("127.0.0.1", self.target))
            said, heard = bytearray(), bytearray()
            self.connections.append((said, heard))
            for source, sink, kept in ((client, broker, said), (broker, client, heard)):
                threading.Thread(target=pass_on, args=(source, sink, kept), daemon=True).start()

    def recorded(self, requests):
        """The produce requests and the length of their replies, once all have been answered."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < deadline:
            for said, heard in self.connections:
                asked, answered = frames(said), frames(heard)
                kinds = {frame[8:12]: int.from_bytes(frame[4:6], "big") for frame in asked}
                produced = [frame for frame in asked if kinds[frame[8:12]] == PRODUCE]
                replies = {len(frame) for frame in answered if kinds.get(frame[4:8]) == PRODUCE}
                if len(produced) == requests and len(asked) == len(answered):
                    (reply_bytes,) = replies
                    return produced, reply_bytes
            time.sleep(0.1)
        raise SystemExit(f"librdkafka did not make {requests} requests through the recorder")


def pass_on(source, sink, kept):
    try:
        while data := source.recv(1 << 20):
            kept += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # One of the two has gone.


def frames(stream):
    """Whole frames, their lengths included."""
    found, at, stream = [], 0, bytes(stream)
    while at + 4 <= len(stream):
        end = at + 4 + int.from_bytes(stream[at : at + 4], "big")
        if end > len(stream):
            break
        found.append(stream[at:end])
        at = end
    return found


def replay(recording, topic, partitions, repeats, port, core):
    """Starts a process that sends the recording `repeats` times on a connection for each partition and ends with the last reply."""
    files = [recording.file(partition, topic) for partition in range(partitions)]
    replies = recording.reply_bytes * len(recording.frames) * repeats
    script = f"""
        for file in "$@"; do
            (
                exec 3<>/dev/tcp/127.0.0.1/{port}
                for _ in $(seq {repeats}); do echo "$file"; done | xargs -n 64 cat >&3 &
                head -c {replies} <&3 >/dev/null
                wait
            ) &
        done
        wait
    """
    command = ["taskset", "-c", str(core), "timeout", str(LIMIT_SECONDS), "bash", "-c", script, "replay", *files]
    return subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL), files
