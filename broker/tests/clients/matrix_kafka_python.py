"""kafka-python's part of the matrix, in whichever version's environment it runs.

write BOOTSTRAP TOPIC none|gzip|snappy|lz4|zstd COUNT        read BOOTSTRAP TOPIC,... COUNT
"""

import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from matrix_messages import check, message


def write(bootstrap, topic, codec, count):
    codec = None if codec == "none" else codec
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5, compression_type=codec)
    futures = []
    for number in range(int(count)):
        key, value, header = message(number)
        futures.append(producer.send(topic, value.encode(), key.encode(), [("h", header.encode())], partition=0))
    producer.flush(60)
    for number, future in enumerate(futures):
        if future.get(60).offset != number:
            raise AssertionError(f"message {number} was acknowledged at offset {future.get().offset}")
    producer.close()


def read(bootstrap, topics, count):
    for topic in topics.split(","):
        read_one(bootstrap, topic, count)


def read_one(bootstrap, topic, count):
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, auto_offset_reset="none")
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek(partition, 0)
    end = consumer.end_offsets([partition])[partition]
    got = []
    while len(got) < end:
        messages = consumer.poll(timeout_ms=30_000)
        if not messages:
            raise AssertionError(f"only {len(got)} of {end} messages came")
        for one in messages[partition]:
            headers = [(name, value.decode()) for name, value in one.headers]
            got.append((one.offset, one.key.decode(), one.value.decode(), headers))
    check(got, int(count))
    consumer.close()


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])
