"""Clients that hang up while their request is carried out: what they asked for is done whole or not at all, and others notice nothing."""

import itertools
import re
import socket
import struct
import urllib.request

from cases import case, checked, equal, main
from launcher import broker as new_broker
from raw import API_VERSIONS, CREATE_TOPICS, FETCH, METADATA, NO_ERROR, SILENT, Connection
from raw import batch, frame, header, produce, produced, string

DELETE_TOPICS, INIT_PRODUCER_ID = 20, 22
# Unknown topic, no leader here: Apache Kafka's leaders hear of a topic after its maker does.
NOT_YET = (3, 6)
ROUNDS = 60
# After sending, before hanging up, another client asks so many times: whichever of its steps a request is at, some round is there.
ASKED_BETWEEN = (0, 1, 3, 10)
SCRAPES_MAX = 1000
TOPIC = "hangup"
_others = itertools.count()


def array(*items):
    return struct.pack(">i", len(items)) + b"".join(items)


def metadata(name):
    """Metadata v4, which creates the topic."""
    return frame(header(METADATA, 4) + array(string(name)) + b"\1")


def create_topic(name):
    """CreateTopics v2: one partition, one replica."""
    topic = string(name) + struct.pack(">ih", 1, 1) + array() + array()
    return frame(header(CREATE_TOPICS, 2) + array(topic) + struct.pack(">ib", 10_000, 0))


def delete_topic(name):
    """DeleteTopics v1."""
    return frame(header(DELETE_TOPICS, 1) + array(string(name)) + struct.pack(">i", 10_000))


def init_producer_id():
    """InitProducerId v0 without a transactional id."""
    return frame(header(INIT_PRODUCER_ID, 0) + struct.pack(">hi", -1, 60_000))


def fetch(name, offset):
    """Fetch v7 that waits for a minute and begins a session."""
    partition = struct.pack(">iqqi", 0, offset, -1, 1 << 20)
    head = struct.pack(">iiiibii", -1, 60_000, 1, 1 << 20, 0, 0, 0)
    return frame(header(FETCH, 7) + head + array(string(name) + array(partition)) + array())


def made(broker, name):
    """Makes a topic and writes a record, as a client that goes on connected does; gives the record's offset."""
    with Connection(broker) as other:
        equal(error_of_creation(other.ask(create_topic(name))), NO_ERROR, "another client's new topic")
        return written(broker, other, name)


def written(broker, other, name):
    """Writes a record and gives its offset; the reference is asked until it knows of the topic."""
    error, offset = produced(other.ask(produce(batch([b"x"]), topic=name)))
    while broker.name == "kafka" and error in NOT_YET:
        error, offset = produced(other.ask(produce(batch([b"x"]), topic=name)))
    equal(error, NO_ERROR, "writing a record")
    return offset


def error_of_creation(reply):
    """The one topic's error code in a CreateTopics v2 reply."""
    (name,) = struct.unpack_from(">h", reply, 12)
    return struct.unpack_from(">h", reply, 14 + name)[0]


def hang_up(broker, other, request, asked_between):
    """Sends a request, and cuts the connection as a process that dies does: with a reset."""
    with socket.create_connection(("127.0.0.1", broker.port), 10) as connection:
        connection.sendall(request)
        for _ in range(asked_between):
            equal(other.ask(frame(header(API_VERSIONS, 0))) is SILENT, False, "another client is answered")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def storm(broker, requests):
    """Hangs up on each round's requests, and asks for what others need after each: an answer, a new topic, its first record."""
    with Connection(broker) as other:
        for number in range(ROUNDS):
            between = ASKED_BETWEEN[number % len(ASKED_BETWEEN)]
            for request in requests(number):
                hang_up(broker, other, request, between)
            if between == 0:
                equal(made(broker, f"{TOPIC}-other-{next(_others)}"), 0, "offset of its first record")
                checked(1)
    equal(broker.alive(), True, "the broker is alive")
    leaves_nothing(broker)


def leaves_nothing(broker):
    """No request of those who have gone is in hand any more; a connection's end is noticed soon, so this asks until it is so."""
    if broker.http is None:
        return
    for _ in range(SCRAPES_MAX):
        with urllib.request.urlopen(f"http://{broker.http}/metrics") as reply:
            text = reply.read().decode()
        names = ("ringlog_fetches_waiting", 'ringlog_memory_bytes{budget="requests"}', 'ringlog_memory_bytes{budget="fetches"}')
        figures = [int(re.search(rf"^{re.escape(name)} (\d+)$", text, re.MULTILINE)[1]) for name in names]
        if figures == [0, 0, 0]:
            return
    raise AssertionError(f"{names} stay at {figures}")


@case
def creating_topics_by_metadata(broker):
    storm(broker, lambda number: [metadata(f"{TOPIC}-auto-{number}")])


@case
def creating_topics(broker):
    storm(broker, lambda number: [create_topic(f"{TOPIC}-new-{number}")])


@case
def creating_and_deleting_one_topic(broker):
    storm(broker, lambda number: [create_topic(f"{TOPIC}-again"), delete_topic(f"{TOPIC}-again")])


@case
def reserving_producer_ids(broker):
    storm(broker, lambda number: [init_producer_id()] * 5)


@case
def producing(broker):
    name = f"{TOPIC}-produce"
    made(broker, name)
    storm(broker, lambda number: [produce(batch([b"%d" % number] * 5), topic=name)] * 5)
    with Connection(broker) as other:
        equal(written(broker, other, name) % 5, 1, "records beyond whole batches")


@case
def fetching(broker):
    """Long polls at the end of a log, each with a session of its own, and one that has records to send."""
    name = f"{TOPIC}-fetch"
    made(broker, name)
    storm(broker, lambda number: [fetch(name, 1)] * 5 + [fetch(name, 0)])


@case
def a_restart_finds_the_metadata_whole(broker):
    broker.stop()
    broker.start()
    made(broker, f"{TOPIC}-restarted")
    with Connection(broker) as other:
        equal(written(broker, other, f"{TOPIC}-produce") % 5, 2, "records beyond whole batches")
    checked(2)


if __name__ == "__main__":
    main("hangup", new_broker(options=["--cores", "0"]))
