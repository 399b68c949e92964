"""The kinds of work that brokers are compared at."""

import re


# `two` is ringlog with two shards. Of the floor, `floor` writes over blocks written before and `fresh` as a log that grows.
BROKERS = ("ringlog", "two", "kafka", "floor", "fresh")


class Row:
    """Work asked of each broker. `load` is the load generator's options; `durable` a class, or one for each broker; `configs` the topic's;
    `preload` what a topic that is only read holds, in MB; `warm_up` at least so many seconds of load before the window."""

    def __init__(self, what, load, partitions=1, durable=False, most=1500, floor=True, preload=None, configs=None, warm_up=0, **brokers):
        self.what, self.load, self.partitions, self.most, self.configs = what, load, partitions, most, configs or {}
        self.durable = {name: brokers.get(name, durable) for name in BROKERS}
        self.has_floor, self.preload, self.warm_up = floor, preload, warm_up

    def option(self, name, default):
        found = re.search(rf"--{name} (\S+)", self.load)
        return int(found[1]) if found else default

    @property
    def rate(self):
        """Requests a second that are due; 0 where each waits for one before."""
        return self.option("rate", 0)

    @property
    def fits_the_model(self):
        """Whether it only produces, as fast as it can, and each request is like the other."""
        return not self.rate and "--producers" in self.load and "--consumers" not in self.load and "--keyed" not in self.load

    @property
    def parts(self):
        """What is in a request: itself, batches, records, KB."""
        batches = self.option("batches", 1)
        records = batches * self.option("records", 1)
        return 1, batches, records, records * self.option("size", 100) / 1000


ONE = "--producers 1 --records 150"
SIXTEEN = "--producers 16 --records 150"
MEGABYTE = "--producers 1 --records 1000 --size 1000"
GROWING = {"segment.bytes": 32 << 20}
KEPT = {"retention.bytes": 64 << 20, **GROWING}
ROWS = {
    "16k": Row("150 x 100 B, 1 partition, 1 connection", ONE),
    "16k-64": Row("150 x 100 B, 64 partitions, 16 connections", SIXTEEN, 64),
    "1m": Row("1000 x 1000 B", MEGABYTE),
    "lone": Row("one 100 B record", "--producers 1 --records 1"),
    "small": Row("10 x 100 B, 100 connections, 64 partitions", "--producers 100 --records 10", 64),
    "wide": Row("16 partitions x 10 x 100 B in a request", "--producers 1 --records 10 --batches 16", 64),
    "16k-durable": Row("150 x 100 B, 1 partition, 1 connection", f"{ONE} --acks -1", durable=True),
    "16k-64-durable": Row("150 x 100 B, 64 partitions, 16 connections", f"{SIXTEEN} --acks -1", 64, durable=True),
    "16k-64-idempotent": Row("the same, idempotent", f"{SIXTEEN} --acks -1 --idempotent", 64, durable=True),
    "1m-durable": Row("1000 x 1000 B", f"{MEGABYTE} --acks -1", durable=True),
    "16k-64-against": Row("150 x 100 B, 64 partitions: durable against not", f"{SIXTEEN} --acks -1", 64, durable=True, kafka=False),
    "1000-durable": Row("keyed over 1000 partitions, 10 x 100 B, 16 connections", "--producers 16 --records 10 --keyed --acks -1", 1000, durable=True, floor=False),
    "50": Row("150 x 100 B, 64 partitions, 64 connections", "--producers 64 --records 150", 64),
    # The brokers look for old segments every second: --ringlog-set and --kafka-set log.retention.check.interval.ms=1000. After the warm-up as much is
    # removed as is written.
    "retention": Row("150 x 100 B, 64 partitions, 16 connections, 64 MiB kept of each", SIXTEEN, 64, most=10_000_000, configs=KEPT, warm_up=25),
    "retention-durable": Row("the same, durable", f"{SIXTEEN} --acks -1", 64, durable=True, most=10_000_000, configs=KEPT, warm_up=25),
    # All is kept, for as long.
    "growing": Row("the same, all kept", SIXTEEN, 64, most=10_000_000, configs=GROWING, floor=False, warm_up=25),
    "growing-durable": Row("the same, durable", f"{SIXTEEN} --acks -1", 64, durable=True, most=10_000_000, configs=GROWING, floor=False, warm_up=25),
    "rate-1000": Row("150 x 100 B, 1000 requests/s", f"{ONE} --rate 1000"),
    "rate-4000": Row("150 x 100 B, 4000 requests/s", f"{ONE} --rate 4000", most=3000),
    "rate-250-durable": Row("150 x 100 B, 250 requests/s", f"{ONE} --acks -1 --rate 250", durable=True),
    "rate-500-durable": Row("150 x 100 B, 500 requests/s, 64 partitions", f"{SIXTEEN} --acks -1 --rate 500", 64, durable=True),
    "rate-1000-durable": Row("150 x 100 B, 1000 requests/s, 1 partition", f"{ONE} --acks -1 --rate 1000", durable=True),
    # Each shard at about two fifths of its core, since the load has one of the two.
    "shards-16k": Row("150 x 100 B, 64 partitions, 20,000 requests/s a shard", f"{SIXTEEN} --rate 20000", 64, floor=False),
    "shards-16k-durable": Row("150 x 100 B, 64 partitions, 10,000 requests/s a shard", f"{SIXTEEN} --acks -1 --rate 10000", 64, durable=True, floor=False),
    "shards-small": Row("10 x 100 B, 100 connections, 64 partitions, 40,000 requests/s a shard", "--producers 100 --records 10 --rate 40000", 64, floor=False),
    "shards-wide": Row("16 partitions x 10 x 100 B in a request, 16 connections, 4,000 requests/s a shard", "--producers 16 --records 10 --batches 16 --rate 4000", 64, floor=False),
    "shards-keyed": Row("keyed over 1000 partitions, 10 x 100 B, 10,000 requests/s a shard", "--producers 16 --records 10 --keyed --acks -1 --rate 10000", 1000, durable=True, floor=False),
    "shards-tail": Row("150 x 100 B, 64 partitions, 5,000 requests/s a shard, 16 read the tail", f"{SIXTEEN} --rate 5000 --consumers 16", 64, floor=False),
    "tail": Row("produce 1 MB requests and read the tail, 200 requests/s", f"{MEGABYTE} --rate 200 --consumers 1", floor=False),
    "fan-out": Row("produce 16 KiB, five read the tail, 1000 requests/s", f"{ONE} --rate 1000 --consumers 1 --fan-out 5", floor=False),
    "fetch-16k": Row("fetch 16 KiB from memory", "--consumers 1 --fetch-bytes 16384", floor=False, preload=200),
    "fetch-1m": Row("fetch 1 MiB from the page cache", "--consumers 1 --fetch-bytes 1048576", floor=False, preload=1500),
}
