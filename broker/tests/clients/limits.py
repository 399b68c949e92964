"""Limits of connections: who says nothing in time is closed, who comes too often is closed or waits, and others notice nothing."""

import contextlib
import re
import socket
import urllib.request

from cases import case, checked, equal, main
from hangup import SCRAPES_MAX, array
from launcher import broker as new_broker
from raw import API_VERSIONS, CLOSED, CREATE_TOPICS, NO_ERROR, Connection, batch, frame, header, produce, produced, string

TOPIC = "limits"
CONNECTIONS_MAX, OF_ONE = 20, 3
ONE = "127.0.0.2"
SETTINGS = {
    "max.connections": CONNECTIONS_MAX,
    "max.connections.per.ip.overrides": f"{ONE}:{OF_ONE}",
    "connections.max.idle.ms": 3000,
    # ringlog's own.
    "connections.max.handshake.ms": 400,
}


class From(Connection):
    """A connection from an address of one's own."""

    def __init__(self, broker, address="127.0.0.1"):
        self.socket = socket.create_connection(("127.0.0.1", broker.port), 10, (address, 0))

    def versions(self):
        return self.ask(frame(header(API_VERSIONS, 0)))


def limited(broker):
    """How many connections were closed, and had to wait, for a limit."""
    with urllib.request.urlopen(f"http://{broker.http}/metrics") as reply:
        text = reply.read().decode()
    return [int(re.search(rf'^ringlog_connections_limited_total{{how="{how}"}} (\d+)$', text, re.MULTILINE)[1]) for how in ("closed", "delayed")]


def written(broker, offset):
    with Connection(broker) as other:
        equal(produced(other.ask(produce(batch([b"x"]), topic=TOPIC))), (NO_ERROR, offset), "another client's record")
    checked(1)


@case
def the_topic_is_made(broker):
    topic = string(TOPIC) + b"\0\0\0\1\0\1" + array() + array()
    with Connection(broker) as connection:
        connection.ask(frame(header(CREATE_TOPICS, 2) + array(topic) + b"\0\0\x27\x10\0"))
    written(broker, 0)


@case
def who_asks_nothing_is_closed(broker):
    """With nothing, with half a length, with half a frame."""
    with From(broker) as silent, From(broker) as half_length, From(broker) as half:
        half_length.send(b"\0\0")
        half.send(frame(header(API_VERSIONS, 0))[:-1])
        for connection in (silent, half_length, half):
            equal(connection.read(), CLOSED, "a connection that asks nothing")
    written(broker, 1)


@case
def who_asks_nothing_more_is_closed_later(broker):
    with From(broker) as connection:
        equal(connection.versions() is CLOSED, False, "an answer")
        equal(connection.read(), CLOSED, "an idle connection")
    written(broker, 2)


@case
def one_address_gets_no_more_than_its_share(broker):
    with contextlib.ExitStack() as stack:
        first = [stack.enter_context(From(broker, ONE)) for _ in range(OF_ONE)]
        for connection in first:
            equal(connection.versions() is CLOSED, False, "an answer")
        for _ in range(50):
            with From(broker, ONE) as more:
                equal(more.read(), CLOSED, "one more of that address")
        written(broker, 3)
        for connection in first:
            equal(connection.versions() is CLOSED, False, "an answer to those before")
    equal(limited(broker), [50, 0], "connections closed, and delayed")


@case
def who_comes_when_all_places_are_taken_waits_for_one(broker):
    with contextlib.ExitStack() as stack:
        first = [stack.enter_context(From(broker)) for _ in range(CONNECTIONS_MAX)]
        for connection in first:
            equal(connection.versions() is CLOSED, False, "an answer")
        late = [stack.enter_context(From(broker)) for _ in range(CONNECTIONS_MAX)]
        for connection in late:
            connection.send(frame(header(API_VERSIONS, 0)))
        equal(any(limited(broker)[1] for _ in range(SCRAPES_MAX)), True, "some wait")
        for leaving in first:
            leaving.socket.close()
        for connection in late:
            equal(connection.read() is CLOSED, False, "an answer to who waited")
    written(broker, 4)


if __name__ == "__main__":
    main("limits", new_broker(SETTINGS))
