"""The few requests a recovery needs, in Kafka's bytes: versions that ringlog and Apache Kafka 4 both serve, none of them flexible."""

import struct
import time

PRODUCE, FETCH, CREATE_TOPICS = 0, 1, 19
NO_ERROR, TOPIC_ALREADY_EXISTS = 0, 36


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def request(key, version, correlation, body):
    head = struct.pack(">hhi", key, version, correlation) + string("recovery")
    return struct.pack(">i", len(head) + len(body)) + head + body


def crc32c(data, table=[]):
    if not table:
        for byte in range(256):
            for _ in range(8):
                byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
            table.append(byte)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def varint(number):
    number = number << 1
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def batch(count, size):
    """A record batch v2 of `count` records with values of `size` bytes, of now: older ones would be deleted by retention meanwhile."""
    now = int(time.time() * 1000)
    value = b"x" * size
    records = bytearray()
    for index in range(count):
        record = bytes(1) + varint(0) + varint(index) + b"\x01" + varint(size) + value + b"\0"
        records += varint(len(record)) + record
    checked = struct.pack(">hiqqqhii", 0, count - 1, now, now, -1, -1, -1, count) + records
    return struct.pack(">qiibI", 0, 9 + len(checked), -1, 2, crc32c(checked)) + checked


def produce(correlation, topic, partitions, records, acks):
    """Produce 3: the same records to some partitions of a topic."""
    body = struct.pack(">hhii", -1, acks, 30000, 1) + string(topic) + struct.pack(">i", len(partitions))
    body += b"".join(struct.pack(">ii", partition, len(records)) + records for partition in partitions)
    return request(PRODUCE, 3, correlation, body)


def produced(reply):
    """Of a Produce 3 reply: (partition, error, base offset) each."""
    (name,) = struct.unpack_from(">h", reply, 8)
    at = 10 + name
    (count,) = struct.unpack_from(">i", reply, at)
    return [struct.unpack_from(">ihq", reply, at + 4 + 22 * index) for index in range(count)]


def fetch(correlation, topic, offsets, bytes_max):
    """Fetch 4: (partition, offset) each, so many bytes of each."""
    body = struct.pack(">iiiibi", -1, 100, 1, 50 << 20, 0, 1) + string(topic) + struct.pack(">i", len(offsets))
    body += b"".join(struct.pack(">iqi", partition, offset, bytes_max) for partition, offset in offsets)
    return request(FETCH, 4, correlation, body)


def fetched(reply):
    """Of a Fetch 4 reply: (partition, error, base offset of the first batch or None) each."""
    (name,) = struct.unpack_from(">h", reply, 12)
    at = 14 + name
    (count,) = struct.unpack_from(">i", reply, at)
    at += 4
    found = []
    for _ in range(count):
        partition, error, _high, _stable, aborted = struct.unpack_from(">ihqqi", reply, at)
        at += 26 + 16 * max(aborted, 0)
        (size,) = struct.unpack_from(">i", reply, at)
        at += 4
        found.append((partition, error, struct.unpack_from(">q", reply, at)[0] if size >= 61 else None))
        at += max(size, 0)
    return found


def create_topic(correlation, topic, partitions, configs):
    """CreateTopics 2."""
    body = struct.pack(">i", 1) + string(topic) + struct.pack(">ihii", partitions, 1, 0, len(configs))
    body += b"".join(string(key) + string(value) for key, value in configs.items())
    return request(CREATE_TOPICS, 2, correlation, body + struct.pack(">ib", 60000, 0))


def created(reply):
    """Of a CreateTopics 2 reply: the error."""
    (name,) = struct.unpack_from(">h", reply, 12)
    return struct.unpack_from(">h", reply, 14 + name)[0]


def receive(socket):
    """One reply without its length: from the correlation id on."""
    size = int.from_bytes(exactly(socket, 4), "big")
    return exactly(socket, size)


def exactly(socket, size):
    data = bytearray()
    while len(data) < size:
        more = socket.recv(min(size - len(data), 1 << 20))
        if not more:
            raise ConnectionError("closed")
        data += more
    return bytes(data)
