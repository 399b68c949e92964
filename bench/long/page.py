"""The page of a long run, from what it has kept."""

import collections
import statistics

LEVELS = (50, 99, 99.9)
# A run is told in so many spans, of which none is shorter than this.
SPANS = 6
SPAN_SECONDS_MIN = 60
# A window counts as beside a catch-up when one went on for nearly all of it.
BESIDE = 0.9


def percentile(buckets, level):
    """Of pairs of a value and how often it was met, in rising order."""
    wanted = level / 100 * sum(count for _, count in buckets)
    seen = 0
    for value, count in buckets:
        seen += count
        if seen >= wanted:
            return value
    return 0


def merged(rows, key="produce_us"):
    total = collections.Counter()
    for row in rows:
        for value, count in row[key]:
            total[value] += count
    return sorted(total.items())


def page(told):
    loads = list(dict.fromkeys(row["load"] for row in told["intervals"]))
    lasted = max(row["at"] for row in told["intervals"])
    count = max(1, min(SPANS, int(lasted / SPAN_SECONDS_MIN)))
    spans = [(lasted * number / count, lasted * (number + 1) / count) for number in range(count)]
    lines = ["# Long run", "", *setting(told, lasted), "", *failures(told), "## In short", "", *short(told, loads, spans), "", "## Does anything grow?", "", *growth(told, spans), ""]
    lines += ["## Does anything get slower?", ""]
    for load in loads:
        lines += [*latencies(told, load, spans), ""]
    lines += [*probed(told, spans), ""]
    lines += ["## Catching up beside producers", "", *beside(told, loads), ""]
    lines += ["## What went on, and what was checked", "", *work(told, loads), ""]
    lines += ["## Each minute", "", *minutes(told, loads, lasted)]
    return "\n".join(lines) + "\n"


def failures(told):
    found = told.get("failures", [])
    return ["**It failed:**", "", *(f"- {words}" for words in found), ""] if found else []


def setting(told, lasted):
    options, host = told["options"], told["machine"]
    records, size = told["batch"]
    lines = [
        f"{lasted / 60:.0f} minutes on {host['cores']} cores ({host['cpu']}), {host['memory_gib']} GiB, kernel {host['kernel']}. The broker with all its threads has core "
        f"{options['broker_core']}, everything else core {options['load_core']}.",
        f"{options['rate']} requests a second that are acknowledged once written and {options['durable_rate']} once on stable storage, each a batch of {records} records of {size} B, "
        f"over {told['partitions']} partitions each, open loop: latency counts from when a request was due. A consumer at the tail of each reads all of it.",
        "Retention keeps of each partition: " + ", ".join(
            f"{retained / 1e6:.0f} MB of `{load}` in segments of {told['segment'][load] / 1e6:.0f} MB" for load, retained in told["retained_of_a_partition"].items()
        ) + ".",
    ]
    if options["realtime"] == "True":
        lines.append(
            "Others were building on both cores meanwhile. So the broker and the producers ran with real-time priority (SCHED_RR: 10 for the shard, its flusher and the producers, 5 for the "
            "broker's helpers, 1 for its thread for long work; 2 for the kernel's workers of each core, which finish direct writes), the rest with nice -10. The disk was shared with the others "
            "without any priority."
        )
    return lines


def short(told, loads, spans):
    """What is asked of a long run: the first span against the last, and windows with somebody catching up against those without."""
    memory, descriptors = growth_an_hour(told, spans)
    lines = [f"- Resident memory {memory:+.2f} MiB an hour, descriptors {descriptors:+.1f} an hour (least squares over the last two thirds; descriptors while nobody catches up)."]
    for load in loads:
        first, last = (merged(row for row in told["intervals"] if row["load"] == load and span[0] < row["at"] <= span[1]) for span in (spans[0], spans[-1]))
        if len(spans) == 1:
            continue
        lines.append(
            f"- p99.9 of `{load}`, last span against first: {percentile(last, 99.9) / max(percentile(first, 99.9), 1):.2f}x ({percentile(first, 99.9)} and {percentile(last, 99.9)} us); "
            f"p99 {percentile(last, 99) / max(percentile(first, 99), 1):.2f}x."
        )
    first, last = (merged((row for row in told["probes"] if span[0] < row["at"] <= span[1]), "sync_us") for span in (spans[0], spans[-1]))
    if len(spans) > 1:
        lines.append(f"- The probe beside the broker: p99.9 of its fdatasync {percentile(last, 99.9) / max(percentile(first, 99.9), 1):.2f}x, p99 {percentile(last, 99) / max(percentile(first, 99), 1):.2f}x.")
    for load in loads:
        alone, beside_it = by_company(told, load)
        if alone and beside_it:
            ratio = percentile(merged(beside_it), 99) / max(percentile(merged(alone), 99), 1)
            typical = typical_p99(beside_it) / max(typical_p99(alone), 1)
            lines.append(f"- p99 of `{load}` while somebody catches up against while nobody does: {ratio:.2f}x of all requests, {typical:.2f}x of the median interval.")
    return lines


def growth_an_hour(told, spans):
    """Slopes of resident memory in MiB and of descriptors; the first third fills caches and the retained logs."""
    rows = [row for row in told["samples"] if spans[-1][1] / 3 < row["at"] <= spans[-1][1]]
    alone = [row for row in rows if not is_caught_up_with(told, row)]
    slope = lambda rows, value: statistics.linear_regression([row["at"] / 3600 for row in rows], [value(row) for row in rows]).slope if len(rows) > 2 else 0.0
    return slope(rows, lambda row: row["VmRSS"] / 1024), slope(alone, lambda row: row["fds"])


def is_caught_up_with(told, row):
    """Whether a sample was taken while, or just after, somebody read a log from its start."""
    return any(one["from"] <= row["at"] <= one["to"] + 5 for one in told["catch_ups"])


def by_company(told, load):
    """Intervals in which nobody catches up, and those in which somebody does nearly all the time."""
    rows = [row for row in told["intervals"] if row["load"] == load and row["produce_us"]]
    return [row for row in rows if share_beside(told, row) == 0], [row for row in rows if share_beside(told, row) >= BESIDE]


def typical_p99(rows):
    return statistics.median(percentile(row["produce_us"], 99) for row in rows)


def growth(told, spans):
    lines = ["| minutes | resident MiB, median (highest) | its own (anonymous) | descriptors while nobody catches up, median (highest) | threads | broker's core busy | disk MiB, highest | partitions | connections | runnable on the machine |", "|---" * 10 + "|"]
    for first, last in spans:
        rows = [row for row in told["samples"] if first <= row["at"] <= last]
        if len(rows) < 2:
            continue
        busy = (rows[-1]["cpu"] - rows[0]["cpu"]) / (rows[-1]["at"] - rows[0]["at"])
        resident = [row["VmRSS"] / 1024 for row in rows]
        descriptors = [row["fds"] for row in rows if not is_caught_up_with(told, row)] or [0]
        middle = lambda key: statistics.median(row[key] for row in rows)
        most = lambda key: max(row[key] for row in rows)
        metric = lambda key: statistics.median(row["metrics"].get(key, 0) for row in rows)
        lines.append(
            f"| {first / 60:.0f}-{last / 60:.0f} | {statistics.median(resident):.1f} ({max(resident):.1f}) | {middle('RssAnon') / 1024:.1f} | {statistics.median(descriptors):.0f} ({max(descriptors)}) "
            f"| {middle('Threads'):.0f} ({most('Threads')}) | {busy:.2f} | {most('disk') >> 20} | {metric('kafka_server_replicamanager_partitioncount'):.0f} "
            f"| {metric('kafka_server_socketservermetrics_connection_count'):.0f} | {middle('ready'):.0f} |"
        )
    last = told["samples"][-1]
    lines += ["", f"After the load had ended: {last['VmRSS'] / 1024:.1f} MiB, {last['fds']} descriptors, {last['Threads']} threads."]
    return lines


def latencies(told, load, spans):
    lines = [f"Microseconds from when a request of `{load}` was due to its answer, and to its first record at the consumer at the tail:", ""]
    lines += ["| minutes | requests | " + " | ".join(f"p{level:g}" for level in LEVELS) + " | max | " + " | ".join(f"end to end p{level:g}" for level in LEVELS) + " |", "|---" * 9 + "|"]
    kept = []
    for first, last in spans:
        rows = [row for row in told["intervals"] if row["load"] == load and first < row["at"] <= last]
        answers, ends = merged(rows), merged(rows, "end_to_end_us")
        if not answers:
            continue
        kept.append([percentile(answers, level) for level in LEVELS])
        cells = [f"{first / 60:.0f}-{last / 60:.0f}", str(sum(count for _, count in answers)), *map(str, kept[-1]), str(answers[-1][0])]
        lines.append("| " + " | ".join(cells + [str(percentile(ends, level)) for level in LEVELS]) + " |")
    if len(kept) > 1:
        ratios = ", ".join(f"p{level:g} {last / max(first, 1):.2f}x" for level, first, last in zip(LEVELS, kept[0], kept[-1]))
        lines += ["", f"Last against first: {ratios}."]
    return lines


def probed(told, spans):
    """What the disk and the core gave to something that is not the broker."""
    kinds = {"write_us": "write of 4 KiB", "sync_us": "fdatasync", "late_us": "wake-up, too late by"}
    lines = ["What a process beside the broker met, ten times a second, with the broker's priorities and none of its work (microseconds, p50 / p99 / p99.9 / max):", ""]
    lines += ["| minutes | " + " | ".join(kinds.values()) + " |", "|---" * 4 + "|"]
    for first, last in spans:
        rows = [row for row in told["probes"] if first < row["at"] <= last]
        if rows:
            cells = []
            for key in kinds:
                met = merged(rows, key)
                cells.append(" / ".join(str(percentile(met, level)) for level in (*LEVELS, 100)))
            lines.append(f"| {first / 60:.0f}-{last / 60:.0f} | " + " | ".join(cells) + " |")
    return lines


def share_beside(told, row):
    """What part of an interval had somebody catching up in it."""
    first, last = row["at"] - 10, row["at"]
    return sum(max(0, min(last, one["to"]) - max(first, one["from"])) for one in told["catch_ups"]) / 10


def beside(told, loads):
    lines = ["Intervals of ten seconds in which somebody reads the logs from their start all the time, against those in which nobody does:", ""]
    lines += ["| load | catching up | intervals | " + " | ".join(f"p{level:g}" for level in LEVELS) + " | median of the intervals' p99 |", "|---" * 7 + "|"]
    for load in loads:
        groups = dict(zip(("nobody", "somebody"), by_company(told, load)))
        found = {}
        for who, chosen in groups.items():
            if chosen:
                answers = merged(chosen)
                found[who] = [percentile(answers, level) for level in LEVELS] + [typical_p99(chosen)]
                lines.append(f"| {load} | {who} | {len(chosen)} | " + " | ".join(f"{value:.0f}" for value in found[who]) + " |")
        if len(found) == 2:
            lines.append(f"| {load} | ratio | | " + " | ".join(f"{with_it / max(without, 1):.2f}x" for without, with_it in zip(found["nobody"], found["somebody"])) + " |")
    rows = told["catch_ups"]
    if rows:
        read = sum(row["bytes"] for row in rows)
        busy = sum(row["to"] - row["from"] for row in rows)
        lines += ["", f"{len(rows)} times a log was read from its start, {read / 1e9:.1f} GB in {busy:.0f} s; {sum(row['deleted'] for row in rows)} records were deleted before they were read."]
    return lines


def work(told, loads):
    first, last, results = told["samples"][0], told["samples"][-1], told["results"]
    lines = []
    for load in loads:
        row = results.get(load, {})
        if "left" not in row:
            lines.append(f"- `{load}` was not checked to its end.")
            continue
        lines.append(
            f"- `{load}`: {row['sent_records']:,} records were acknowledged; the consumer at the tail got {row['read_records']:,}, by checksum and number, none missing, twice or out of order. "
            f"Retention had deleted {sum(row['left']['first']):,}; who then read from the start got all {row['left']['read']:,} others. The generator's core was {row['generator_busy']:.0%} busy with it, "
            f"and a request waited {row['backlog_ms']:.0f} ms to be sent at most."
        )
    for name, row in results.get("clients", {}).items():
        lines.append(f"- {name}: " + ", ".join(f"{value:,} {key.replace('_', ' ')}" for key, value in row.items()))
    if "connections" in results:
        lines.append(f"- {results['connections']['made']:,} connections came and went.")
    difference = lambda key: last["metrics"].get(key, 0) - first["metrics"].get(key, 0)
    lines.append(
        f"- The cleaner ran {difference('ringlog_cleaner_runs_total'):,.0f} times and read {difference('ringlog_cleaner_bytes_read_total') / 1e6:,.0f} MB. "
        f"{difference('ringlog_flushes_total'):,.0f} flushes; {difference('ringlog_io_wq_switches_total'):,.0f} switches to the kernel's workers; "
        f"{difference('ringlog_network_bytes_received_total') / 1e9:,.1f} GB received and {difference('ringlog_network_bytes_sent_total') / 1e9:,.1f} GB sent."
    )
    return lines


def minutes(told, loads, lasted):
    lines = ["| minute | resident MiB | descriptors | " + " | ".join(f"{load} p50, p99, p99.9 us" for load in loads) + " | caught up s |", "|---" * (4 + len(loads)) + "|"]
    for minute in range(int(lasted // 60) + 1):
        first, last = minute * 60, minute * 60 + 60
        samples = [row for row in told["samples"] if first <= row["at"] < last]
        if not samples:
            continue
        cells = [str(minute), f"{statistics.median(row['VmRSS'] for row in samples) / 1024:.1f}", str(max(row["fds"] for row in samples))]
        for load in loads:
            answers = merged(row for row in told["intervals"] if row["load"] == load and first < row["at"] <= last)
            cells.append(", ".join(str(percentile(answers, level)) for level in LEVELS))
        reading = sum(max(0, min(last, one["to"]) - max(first, one["from"])) for one in told["catch_ups"])
        lines.append("| " + " | ".join([*cells, f"{reading:.0f}"]) + " |")
    return lines
