"""Every client library as members of groups, each member a process of its own: members come, leave and are killed, and each record is read in order, once.

A member program takes BOOTSTRAP TOPIC GROUP, and `range` for the assignor that all libraries know, and reads one topic. It says, a line each: `owns PARTITION ...` when its partitions have changed,
`got PARTITION OFFSET VALUE` for each record, `committed PARTITION OFFSET` when the broker has acknowledged a commit, which follows
what it has read at once. It is told: `hold` to commit no more (it says `holding`), `leave` to leave the group and end.

A record comes again only where nobody has committed it: behind a member that was told to hold, and killed. The libraries take their turns
at once, each with a topic and group of its own, and a member of each shares one more.
"""

import concurrent.futures
import subprocess
import sys
import threading
import time
import traceback
import uuid

from cases import equal
from confluent import ask, create, produce
from confluent_kafka import ConsumerGroupTopicPartitions
from foreign import BUILT, HERE, go, java
from launcher import ROOT, broker as new_broker

PARTITIONS = 6
EACH = 20
WAIT_SECONDS = 60
# How long a library's members may take; one that never ends fails.
LIBRARY_SECONDS = 240


def kafkajs():
    """KafkaJS comes with npm, as its lock file says, and lies outside the sources."""
    installed = BUILT / "kafkajs"
    installed.mkdir(parents=True, exist_ok=True)
    wanted = [(HERE / "kafkajs" / name, installed / name) for name in ("package.json", "package-lock.json")]
    if any(not there.exists() or there.read_bytes() != here.read_bytes() for here, there in wanted):
        for here, there in reversed(wanted):
            there.write_bytes(here.read_bytes())
        try:
            subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=installed, check=True)
        except BaseException:
            wanted[0][1].unlink()
            raise
    return ["env", f"NODE_PATH={installed / 'node_modules'}", "node", str(HERE / "kafkajs" / "member.js")]


def python(library, environment):
    return [str(ROOT / "target" / environment / "bin" / "python"), str(HERE / "member.py"), library]


LIBRARIES = {
    "confluent-kafka": lambda: python("confluent", "clients-venv"),
    "aiokafka": lambda: python("aiokafka", "clients-venv"),
    "kafka-python 2": lambda: python("kafka-python", "clients-venv-kp2"),
    "kafka-python 3": lambda: python("kafka-python", "clients-venv-kp3"),
    "kafkajs": kafkajs,
    "franz-go": lambda: [*go(), "member"],
    "java": lambda: java("JavaMember"),
}


class Ledger:
    """What the members of one group have said, and what must hold of it."""

    def __init__(self, partitions):
        self.changed = threading.Condition()
        self.committed = [0] * partitions
        # How far each partition was read, and by whom.
        self.read = [0] * partitions
        self.reader = [None] * partitions
        self.count = 0
        self.failed = None

    def take(self, member, line):
        with self.changed:
            try:
                self.note(member, *line.split())
            except (AssertionError, ValueError, TypeError) as failure:
                self.failed = self.failed or AssertionError(f"{member} said {line!r}: {failure}")
            self.changed.notify_all()

    def note(self, member, word, *rest):
        if word == "owns":
            member.owned = {int(one) for one in rest}
        elif word == "got":
            partition, offset, value = int(rest[0]), int(rest[1]), rest[2]
            equal(value, f"{partition}:{offset}", "the record")
            goes_on = self.reader[partition] in (member, None) or self.committed[partition] == self.read[partition]
            expected = self.read[partition] if goes_on else self.committed[partition]
            equal(offset, expected, f"the next offset of partition {partition}, committed at {self.committed[partition]}")
            self.read[partition], self.reader[partition] = offset + 1, member
            self.count += 1
        elif word == "committed":
            partition, offset = int(rest[0]), int(rest[1])
            equal((offset, self.reader[partition]), (self.read[partition], member), f"the commit of partition {partition}")
            self.committed[partition] = offset
        elif word == "holding":
            member.holding = True
        else:
            raise AssertionError("a word that is not known")

    def wait(self, holds, what):
        """Until it holds, whatever is said meanwhile."""
        deadline = time.monotonic() + WAIT_SECONDS
        with self.changed:
            while not holds():
                if self.failed:
                    raise self.failed
                if not self.changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"{what}: not in {WAIT_SECONDS} s; read {self.read}, committed {self.committed}")
            if self.failed:
                raise self.failed


class Member:
    """A member program at work."""

    def __init__(self, ledger, command):
        self.ledger, self.command = ledger, command
        self.owned, self.holding = set(), False
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()

    def __repr__(self):
        return f"member {' '.join(self.command)}"

    def listen(self):
        for line in self.process.stdout:
            self.ledger.take(self, line)

    def tell(self, word):
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def leave(self):
        self.tell("leave")
        equal(self.process.wait(WAIT_SECONDS), 0, f"the exit status of {self}")
        self.listener.join()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.listener.join()


class Group:
    """A topic, its group, and the members alive in it."""

    def __init__(self, broker, partitions):
        self.broker, self.topic, self.name = broker, create(broker, partitions), f"g-{uuid.uuid4()}"
        self.partitions, self.ledger, self.members, self.sent = partitions, Ledger(partitions), [], 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.members:
            member.kill()

    def fill(self):
        for partition in range(self.partitions):
            produce(self.broker, self.topic, [{"value": f"{partition}:{self.sent + n}"} for n in range(EACH)], partition)
        self.sent += EACH

    def join(self, command, *assignor):
        command = [*command, self.broker.address, self.topic, self.name, *assignor]
        self.members.append(Member(self.ledger, command))
        return self.members[-1]

    def settle(self, what):
        """Until those in the group share the partitions evenly."""
        share, more = divmod(self.partitions, len(self.members))
        shares = [share] * (len(self.members) - more) + [share + 1] * more
        owned = lambda: [member.owned for member in self.members]
        evenly = lambda: sorted(map(len, owned())) == shares and len(set.union(*owned())) == self.partitions
        self.ledger.wait(evenly, what)

    def all_read(self, what, committed=True):
        at = [self.sent] * self.partitions
        self.ledger.wait(lambda: self.ledger.read == at and (not committed or self.ledger.committed == at), what)

    def leave(self, member):
        self.members.remove(member)
        member.leave()

    def kill(self, member):
        self.members.remove(member)
        member.kill()

    def committed(self):
        told = ask(self.broker, "list_consumer_group_offsets", [ConsumerGroupTopicPartitions(self.name)])[self.name]
        return [one.offset for one in sorted(told.topic_partitions, key=lambda one: one.partition)]


def members_come_leave_and_are_killed(broker, command):
    with Group(broker, PARTITIONS) as group:
        group.fill()
        first = group.join(command)
        group.all_read("one member reads all")
        group.settle("alone")
        second, third = group.join(command), group.join(command)
        group.settle("two more have come at once")
        group.fill()
        group.all_read("three members read")
        group.leave(third)
        group.settle("one has left")
        group.fill()
        group.all_read("two members read")
        second.tell("hold")
        group.ledger.wait(lambda: second.holding, "the member holds")
        lost = len(second.owned)
        group.fill()
        group.all_read("two members read, and one does not commit", committed=False)
        group.kill(second)
        group.settle("one was killed")
        group.all_read("what the killed member did not commit is read again")
        group.leave(first)
        group.fill()
        equal(group.committed(), [group.sent - EACH] * PARTITIONS, "what is committed, told by an admin")
        last = group.join(command)
        group.all_read("who comes back goes on from there")
        group.leave(last)
        equal(group.committed(), [group.sent] * PARTITIONS, "what is committed in the end")
        equal(group.ledger.count, PARTITIONS * group.sent + lost * EACH, "records read, with those of the killed member again")
        return group.ledger.count


def a_member_of_each_library_shares_one_group(broker, chosen):
    """Whoever leads assigns to all."""
    with Group(broker, len(chosen)) as group:
        group.fill()
        for command in chosen.values():
            group.join(command, "range")
        group.settle("all have come")
        group.all_read("all read")
        # Two of each way to go: what is left has another leader, likely.
        for _ in range(2):
            group.leave(group.members[0])
            group.kill(group.members[-1])
        group.settle("two have left, two were killed")
        group.fill()
        group.all_read("the others read")
        for member in list(group.members):
            group.leave(member)
        equal(group.committed(), [group.sent] * group.partitions, "what is committed in the end")
        equal(group.ledger.count, group.partitions * group.sent, "records read")
        return group.ledger.count


def run(broker, name, life):
    started = time.monotonic()
    try:
        records = life()
    except Exception:
        print(f"FAILED {name} on {broker.name}\n{traceback.format_exc()}", flush=True)
        return None
    print(f"ok {name} ({time.monotonic() - started:.1f} s)", flush=True)
    return records


def main():
    chosen = {name: LIBRARIES[name]() for name in sys.argv[1:] or LIBRARIES}
    with new_broker({"group.initial.rebalance.delay.ms": 100}, ["--cores", "0,1"]) as broker:
        lives = {name: lambda command=command: members_come_leave_and_are_killed(broker, command) for name, command in chosen.items()}
        if len(chosen) > 1:
            lives["all in one group"] = lambda: a_member_of_each_library_shares_one_group(broker, chosen)
        with concurrent.futures.ThreadPoolExecutor(len(lives)) as threads:
            counts = [threads.submit(run, broker, *one) for one in lives.items()]
            counts = [count.result(LIBRARY_SECONDS) for count in counts]
        if not broker.alive():
            print(f"the broker died:\n{broker.log_tail()}", flush=True)
            counts.append(None)
    read = [count for count in counts if count is not None]
    print(f"clients/group_clients: cases={len(read)} records={sum(read)}", flush=True)
    sys.exit(0 if len(read) == len(counts) else 1)


if __name__ == "__main__":
    main()
