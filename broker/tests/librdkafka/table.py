"""What became of librdkafka's tests on Kafka and on ringlog, as docs/CONFORMANCE.md shows it, and why they differ."""

import collections

from launcher import ROOT

PAGE = ROOT / "docs" / "CONFORMANCE.md"
BEGIN = "<!-- the table of scripts/conformance -->\n"
END = "<!-- end of the table -->\n"

ACLS = "ACLs: there is no authorizer"
SHARE = "share groups (KIP-932) are not served"
TRANSACTIONS = "transactions are not served yet"

# Tests that pass on Kafka and do not on ringlog, each with the reason: what is not here is a defect.
DIFFERENCES = {}

# What the tests that fail on Kafka, too, or are skipped there, want.
ON_BOTH = {}


def passes(result):
    return result is not None and result["state"] in ("PASSED", "FLAKY")


def unexplained(results):
    """Tests that pass on Kafka and not on ringlog, for a reason that is not known."""
    kafka, ringlog = results["kafka"], results["ringlog"]
    failed = [name for name in kafka if passes(kafka[name]) and name in ringlog and not passes(ringlog[name])]
    return [name for name in failed if name not in DIFFERENCES]


def show(results):
    """The sums, and each test that is not the same on both."""
    for target, tests in results.items():
        states = collections.Counter(result["state"] for result in tests.values())
        counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        print(f"conformance: {target}: {counts or 'not run'}")
    for name, kafka in results["kafka"].items():
        ringlog = results["ringlog"].get(name)
        if ringlog and passes(kafka) != passes(ringlog):
            print(f"  {name}: Kafka {kafka['state']}, ringlog {ringlog['state']}: {DIFFERENCES.get(name, '?')}")


def told(result):
    """One cell."""
    if result is None:
        return "not run"
    if result["state"] == "FLAKY":
        return f"flaky ({result['failures']} of {result['runs']} failed)"
    return result["state"].lower()


def write(results):
    """Puts the table into the page."""
    kafka, ringlog = results["kafka"], results["ringlog"]
    lines = ["| test | Kafka | ringlog | |\n", "|---|---|---|---|\n"]
    for name in sorted(kafka.keys() | ringlog.keys()):
        one, other = kafka.get(name), ringlog.get(name)
        why = DIFFERENCES.get(name, "") if passes(one) and not passes(other) else ON_BOTH.get(name, "")
        if not why and "SKIPPED" in (one or {}).get("state", ""):
            why = f"skipped by itself: {one['why']}"
        lines.append(f"| {name} | {told(one)} | {told(other)} | {why.replace('|', '/')} |\n")
    local = collections.Counter(told(result) for result in results["local"].values())
    lines.append(f"\nTests that need no broker: {', '.join(f'{count} {state}' for state, count in local.most_common())}.\n")
    for name, result in sorted(results["local"].items()):
        if result["state"] != "PASSED":
            lines.append(f"- {name}: {told(result)}. {ON_BOTH.get(name) or result['why']}\n")
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + "".join(lines) + END + after)
