"""Connections that come and go: most ask something and leave, some with their manners, some without, some in the middle of a frame."""

import socket
import struct
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "recovery"))
from kafka_wire import receive, request, string

LIST_OFFSETS, METADATA, API_VERSIONS = 2, 3, 18
EACH_ROUND = 20
# Rounds for which one that has sent half a frame stays.
STAYS = 5
LINGER_NOT = struct.pack("ii", 1, 0)


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port), 30)
    connection.settimeout(30)
    return connection


def list_offset(connection, topic, partition, timestamp):
    """ListOffsets 1 of one partition: its earliest (-2) or latest (-1) offset."""
    body = struct.pack(">ii", -1, 1) + string(topic) + struct.pack(">iiq", 1, partition, timestamp)
    connection.sendall(request(LIST_OFFSETS, 1, 1, body))
    (error, _, offset) = struct.unpack(">hqq", receive(connection)[-18:])
    if error:
        raise AssertionError(f"offsets of {topic}-{partition}: error {error}")
    return offset


class Crowd:
    def __init__(self, port):
        self.port, self.made, self.answered, self.halves = port, 0, 0, []

    def round(self):
        for number in range(EACH_ROUND):
            connection = connect(self.port)
            self.made += 1
            connection.sendall(request(API_VERSIONS, 0, 1, b""))
            receive(connection)
            connection.sendall(request(METADATA, 1, 2, struct.pack(">i", -1)))
            receive(connection)
            self.answered += 2
            if number % 4 == 0:
                connection.sendall(struct.pack(">ih", 1000, METADATA))
                self.halves.append(connection)
                continue
            if number % 4 == 1:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
            connection.close()
        while len(self.halves) > STAYS * EACH_ROUND // 4:
            self.halves.pop(0).close()

    def end(self):
        for connection in self.halves:
            connection.close()
