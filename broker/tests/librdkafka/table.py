"""What became of librdkafka's tests on Kafka and on ringlog, as docs/CONFORMANCE.md shows it, and why they differ."""

import collections

from launcher import ROOT

PAGE = ROOT / "docs" / "CONFORMANCE.md"
BEGIN = "<!-- the table of scripts/conformance -->\n"
END = "<!-- end of the table -->\n"

ACLS = "ACLs: there is no authorizer"
SHARE = "share groups (KIP-932) are not served"
TRANSACTIONS = "transactions are not served yet"

# Tests and sub-tests that pass on Kafka and do not on ringlog, each with the reason: what is not here is a defect.
DIFFERENCES = {
    "0055_producer_latency test_producer_latency: transactions (35ms)": TRANSACTIONS,
    "0061_consumer_lag do_test_consumer_lag: Test consumer lag with transactions": TRANSACTIONS,
    "0081_admin do_test_CreateAcls": ACLS,
    "0081_admin do_test_DeleteAcls": ACLS,
    "0081_admin do_test_DescribeAcls": ACLS,
    "0098_consumer_txn": TRANSACTIONS,
    "0103_transactions": TRANSACTIONS,
    "0109_auto_create_topics": ACLS,
    "0115_producer_auth": ACLS,
    "0119_consumer_auth": ACLS,
    "0129_fetch_aborted_msgs": TRANSACTIONS,
    "0137_barrier_batch_consume do_test_consume_batch_control_msgs: Testing control msgs flow": TRANSACTIONS,
    "0170_share_consumer_subscription": SHARE,
    "0171_share_consumer_consume": SHARE,
    "0172_share_consumer_acknowledge": SHARE,
    "0173_share_consumer_commit_async": SHARE,
    "0174_share_consumer_concurrency": SHARE,
    "0175_share_consumer_groups": SHARE,
    "0176_share_consumer_commit_sync": SHARE,
    "0177_share_consumer_transactions": SHARE,
    "0178_share_consumer_close": SHARE,
    "0179_share_consumer_destroy": SHARE,
    "0180_share_consumer_config": SHARE,
    "0181_share_consumer_topic_delete": SHARE,
    "0184_share_consumer_topic_recreate": SHARE,
    "0185_share_consumer_max_poll_interval": SHARE,
}

# What the tests that fail on Kafka, too, or are skipped there, want.
ON_BOTH = {}


def passes(result):
    return result is not None and result["state"] in ("PASSED", "FLAKY")


def differences(results):
    """What passes on Kafka and not on ringlog: tests, and of those that have sub-tests the ones that fail, as `test sub-test`."""
    for name, kafka in results["kafka"].items():
        ringlog = results["ringlog"].get(name)
        if ringlog and passes(kafka) and not passes(ringlog):
            failed = [subtest for subtest, why in ringlog.get("subtests", {}).items() if why]
            yield from [f"{name} {subtest}" for subtest in failed] or [name]


def unexplained(results):
    return [name for name in differences(results) if name not in DIFFERENCES]


def show(results):
    """The sums, and each test that is not the same on both."""
    for target, tests in results.items():
        states = collections.Counter(result["state"] for result in tests.values())
        counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        print(f"conformance: {target}: {counts or 'not run'}")
    for name in differences(results):
        print(f"  {name}: {DIFFERENCES.get(name, '?')}")


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
