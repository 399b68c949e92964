"""What a matrix has measured: as a table, as a cost model of each broker, and as one page with plots that asks nothing of the network.

    report.py FOLDER    reads FOLDER/raw.txt again and writes table.md, costs.json and page.html beside it
"""

import html
import json
import math
import pathlib
import statistics
import sys

from rows import BROKERS, ROWS


class Rounds:
    """All rounds of one row on one broker."""

    def __init__(self, name, broker, rounds):
        self.row, self.broker, self.rounds = ROWS[name], broker, rounds

    def median(self, value):
        return statistics.median(map(value, self.rounds))

    @property
    def costs(self):
        return [one["machine_us_per_request"] for one in self.rounds]

    @property
    def cost(self):
        return statistics.median(self.costs)

    @property
    def records_per_second(self):
        return self.median(lambda one: (one["records"] or one["fetched_records"]) / one["seconds"])

    @property
    def bytes_per_second(self):
        return self.median(lambda one: (one["bytes"] or one["fetched_bytes"]) / one["seconds"])

    @property
    def seconds_per_gb(self):
        return self.median(lambda one: one["machine_s_per_gb"])

    @property
    def sustained(self):
        return all(one["sustained"] for one in self.rounds)

    @property
    def latencies(self):
        """Which histogram counts: of requests to produce, or where there are none, to fetch."""
        return "produce_us" if self.rounds[0]["requests"] else "fetch_us"

    def latency(self, quantile):
        """In milliseconds."""
        return self.median(lambda one: one[self.latencies][quantile]) / 1000


def sorted_out(rows):
    """The rounds of each row, by broker."""
    result = {}
    for one in rows:
        result.setdefault(one["row"], {}).setdefault(one["broker"], []).append(one)
    return {
        name: {broker: Rounds(name, broker, of[broker]) for broker in BROKERS if broker in of}
        for name, of in result.items()
    }


def table(rows):
    lines = [
        "| work | durable | broker | msg/s | MB/s | CPU us/request | of F | of Kafka's | of one shard's | CPU s/GB | p50 ms | p99 | p99.9 "
        "| generator's core | flushes/request | switches/request | peak memory MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for of in sorted_out(rows).values():
        for broker, rounds in of.items():

            def latency(quantile, of=rounds):
                return f"{of.latency(quantile):.2f}" if of.sustained else "not sustained"

            def ratio(other, of=of, broker=broker):
                return f"{of[broker].cost / of[other].cost:.2f}" if other in of and other != broker else ""

            lines.append("| " + " | ".join([
                rounds.row.what,
                "yes" if rounds.row.durable[broker] else "no",
                broker,
                f"{rounds.records_per_second:,.0f}",
                f"{rounds.bytes_per_second / 1e6:.0f}",
                f"{rounds.cost:.1f} ({min(rounds.costs):.1f}-{max(rounds.costs):.1f})",
                ratio("floor"),
                ratio("kafka"),
                ratio("ringlog") if broker == "two" else "",
                f"{rounds.seconds_per_gb:.2f}",
                latency("p50"),
                latency("p99"),
                latency("p99.9"),
                f"{rounds.median(lambda one: one['generator_busy']):.2f}",
                f"{rounds.median(lambda one: one['flushes_per_request']):.2f}",
                f"{rounds.median(lambda one: one['switches_per_request']):.2f}",
                f"{max(one['peak_memory'] for one in rounds.rounds) / 1e6:.0f}",
            ]) + " |")
    return "\n".join(lines) + "\n"


# What a Produce request costs is taken for a sum over these, in microseconds of the machine's CPU.
PARTS = ("request", "batch", "record", "KB")


def cost_model(rows):
    """For each broker and class the cost of each part, fitted to the rows that ran as fast as they could, by relative error; a part that
    would get a negative cost gets none. `off` is by how much the worst row is off."""
    models = []
    for broker in BROKERS:
        for durable in (False, True):
            of_class = [
                of[broker] for of in sorted_out(rows).values()
                if broker in of and of[broker].row.durable[broker] == durable and of[broker].row.fits_the_model
            ]
            if len(of_class) >= len(PARTS):
                costs, off = fit([(one.row.parts, one.cost) for one in of_class])
                models.append({
                    "broker": broker, "durable": durable, "rows": len(of_class),
                    "us_per": {part: round(cost, 3) for part, cost in zip(PARTS, costs)}, "off": round(off, 2),
                })
    return models


def fit(points):
    used = list(range(len(PARTS)))
    while True:
        weighted = [([parts[at] / cost for at in used], 1.0) for parts, cost in points]
        solution = least_squares(weighted)
        worst = min(range(len(used)), key=solution.__getitem__)
        if solution[worst] >= 0 or len(used) == 1:
            break
        del used[worst]
    costs = [0.0] * len(PARTS)
    for at, cost in zip(used, solution):
        costs[at] = cost
    off = max(abs(sum(part * cost for part, cost in zip(parts, costs)) / seen - 1) for parts, seen in points)
    return costs, off


def least_squares(points):
    """Solves the normal equations; what the points do not tell apart shares its cost."""
    size = len(points[0][0])
    matrix = [[sum(x[i] * x[j] for x, _ in points) for j in range(size)] for i in range(size)]
    for i in range(size):
        matrix[i][i] *= 1 + 1e-9
        matrix[i].append(sum(x[i] * y for x, y in points))
    for i in range(size):
        pivot = max(range(i, size), key=lambda at: abs(matrix[at][i]))
        matrix[i], matrix[pivot] = matrix[pivot], matrix[i]
        for j in range(size):
            if j != i:
                factor = matrix[j][i] / matrix[i][i]
                matrix[j] = [a - factor * b for a, b in zip(matrix[j], matrix[i])]
    return [matrix[i][size] / matrix[i][i] for i in range(size)]


def costs_table(models):
    lines = ["| broker | durable | us per request | per batch | per record | per KB | worst row off by |", "|---|---|---|---|---|---|---|"]
    for one in models:
        us = [f"{one['us_per'][part]:.3g}" for part in PARTS]
        lines.append("| " + " | ".join([one["broker"], "yes" if one["durable"] else "no", *us, f"{one['off']:.0%}"]) + " |")
    return "\n".join(lines) + "\n"


# Told apart by shape as well as by colour.
LOOKS = {"ringlog": ("#0072b2", "circle"), "two": ("#56b4e9", "triangle"), "kafka": ("#d55e00", "square"), "floor": ("#888888", "triangle"), "fresh": ("#555555", "square")}
QUANTILES = ("p50", "p90", "p99", "p99.9", "p99.99", "max")


def page(rows, about):
    sections = []
    of_rows = sorted_out(rows)
    closed = {name: of for name, of in of_rows.items() if not ROWS[name].rate}
    if closed:
        sections += [
            bars("Throughput", "MB/s", closed, lambda rounds: rounds.bytes_per_second / 1e6),
            bars("CPU per request, of the whole machine less the load", "us", closed, lambda rounds: rounds.cost),
            bars("CPU per GB", "s", closed, lambda rounds: rounds.seconds_per_gb),
        ]
    for name, of in of_rows.items():
        if ROWS[name].rate:
            sections.append(f"<h2>{html.escape(ROWS[name].what)}{', durable' if ROWS[name].durable['ringlog'] else ''}</h2>")
            sections.append('<div class="pair">' + by_percentile(of) + over_time(of) + "</div>")
    models = cost_model(rows)
    if models:
        sections.append("<h2>What a Produce request costs</h2>" + html_table(costs_table(models)))
    sections.append("<h2>All figures</h2>" + html_table(table(rows)))
    marks = " ".join(
        f'<span class="key"><svg width="14" height="14">{mark(broker, 7, 7)}</svg> {broker}</span>'
        for broker in BROKERS if any(broker in of for of in of_rows.values())
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>ringlog beside Apache Kafka</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em }}
h2 {{ margin: 2em 0 .3em; font-size: 1.1em }}
svg text {{ fill: currentColor; font: 12px system-ui, sans-serif }}
.scroll {{ overflow-x: auto }} .pair {{ display: flex; flex-wrap: wrap; gap: 1em }}
.key {{ margin-right: 1.5em; white-space: nowrap }}
table {{ border-collapse: collapse; font-size: 12px }} td, th {{ padding: .2em .6em; border-bottom: 1px solid #8885; text-align: right; white-space: nowrap }}
td:first-child, th:first-child {{ text-align: left }}
</style>
<h1>ringlog beside Apache Kafka</h1>
<p>{html.escape(about)}</p>
<p>{marks}</p>
{"".join(sections)}
</html>
"""


def mark(broker, x, y):
    colour, shape = LOOKS[broker]
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
    if shape == "square":
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{colour}"/>'
    return f'<path d="M{x - 5:.1f} {y + 4:.1f}h10l-5 -9z" fill="{colour}"/>'


def bars(title, unit, of_rows, value):
    """One line a broker and row, on a scale of tens: what differs a hundredfold is there together."""
    values = [value(rounds) for of in of_rows.values() for rounds in of.values()]
    low, high = min(values) / 1.5, max(values)
    left, width, y = 340, 560, 0
    parts = []
    for name, of in of_rows.items():
        durable = ", durable" if ROWS[name].durable["ringlog"] else ""
        parts.append(f'<text x="{left - 10}" y="{y + 8 * len(of) + 4}" text-anchor="end">{html.escape(ROWS[name].what + durable)}</text>')
        for broker, rounds in of.items():
            y += 16
            length = width * math.log(value(rounds) / low) / math.log(high / low)
            colour = LOOKS[broker][0]
            parts.append(f'<rect x="{left}" y="{y - 10}" width="{length:.1f}" height="10" fill="{colour}" opacity=".55"/>')
            parts.append(mark(broker, left + length, y - 5))
            parts.append(f'<text x="{left + length + 10:.1f}" y="{y - 1}">{value(rounds):,.3g} {unit}</text>')
        y += 12
    return f'<h2>{title} ({unit}, scale of tens)</h2><div class="scroll"><svg width="{left + width + 130}" height="{y + 4}">{"".join(parts)}</svg></div>'


def by_percentile(of):
    lines = {broker: [(at, rounds.latency(quantile)) for at, quantile in enumerate(QUANTILES)] for broker, rounds in of.items()}
    return lines_plot("Latency by percentile, ms", lines, dict(enumerate(QUANTILES)))


def over_time(of):
    """The p99 of each second, one round after the other."""
    lines = {}
    for broker, rounds in of.items():
        seconds = [second for one in rounds.rounds for second in one[rounds.latencies]["seconds"]]
        lines[broker] = [(at, p99 / 1000) for at, (_, p99, _) in enumerate(seconds)]
    last = max(len(points) for points in lines.values())
    return lines_plot("p99 of each second of all rounds, ms", lines, {at: at for at in range(0, last, max(1, last // 6))})


def lines_plot(title, lines, labels):
    values = [y for points in lines.values() for _, y in points if y > 0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values) * 1.01))
    width, height, left, bottom = 440, 220, 50, 30
    last = max(x for points in lines.values() for x, _ in points) or 1

    def place(x, y):
        return left + x * (width - left - 15) / last, (height - bottom) - (math.log10(max(y, 10**low)) - low) * (height - bottom - 15) / max(high - low, 1)

    parts = []
    for power in range(low, high + 1):
        _, y = place(0, 10**power)
        parts.append(f'<path d="M{left} {y:.1f}H{width}" stroke="#8884"/><text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for x, label in labels.items():
        parts.append(f'<text x="{place(x, 1)[0]:.1f}" y="{height - 8}" text-anchor="middle">{label}</text>')
    for broker, points in lines.items():
        placed = [place(*point) for point in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        parts.append(f'<path d="M{path}" fill="none" stroke="{LOOKS[broker][0]}" stroke-width="1.5"/>' + "".join(mark(broker, x, y) for x, y in placed))
    return f'<figure><figcaption>{title}</figcaption><svg width="{width + 10}" height="{height}">{"".join(parts)}</svg></figure>'


def html_table(markdown):
    lines = [[html.escape(cell.strip()) for cell in line.strip("|").split("|")] for line in markdown.splitlines()]
    head = "".join(f"<th>{cell}" for cell in lines[0])
    body = "".join("<tr>" + "".join(f"<td>{cell}" for cell in line) for line in lines[2:])
    return f'<div class="scroll"><table><tr>{head}{body}</table></div>'


def write(folder):
    """Everything of a folder's raw.txt, which may hold several runs."""
    lines = [json.loads(line) for line in (folder / "raw.txt").read_text().splitlines()]
    rows = [line for line in lines if "row" in line]
    machine = next(line["machine"] for line in lines if "machine" in line)
    about = (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}, {machine['java']}. "
        "Each broker on one core, the load on another; rounds alternate; medians."
    )
    (folder / "table.md").write_text(table(rows) + "\n" + costs_table(cost_model(rows)))
    (folder / "costs.json").write_text(json.dumps(cost_model(rows), indent=1) + "\n")
    (folder / "page.html").write_text(page(rows, about))
    return table(rows)


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
