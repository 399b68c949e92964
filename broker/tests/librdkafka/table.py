"""What became of librdkafka's tests on Kafka and on ringlog, as docs/CONFORMANCE.md shows it, and why they differ."""

import collections

from launcher import ROOT

PAGE = ROOT / "docs" / "CONFORMANCE.md"
BEGIN = "<!-- the table of scripts/conformance -->\n"
END = "<!-- end of the table -->\n"

ACLS = "ACLs: there is no authorizer"
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
    "0177_share_consumer_transactions": TRANSACTIONS,
}

# Why tests do not pass on Kafka, either.
ON_BOTH = {
    "0028_long_topicnames": "librdkafka knows that it fails: the topic's name is too long",
    "0047_partial_buf_tmout": "librdkafka knows that it fails: its own queue is full",
    "0092_mixed_msgver": "skipped: message format 1 went with Kafka 4.0",
    "0097_ssl_verify": "skipped: wants TLS",
    "0101_fetch_from_follower": "wants three nodes",
    "0102_static_group_rebalance_mock": "librdkafka's mock cluster has no static members in the classic protocol",
    "0126_oauthbearer_oidc": "skipped: wants SASL",
    "0135_sasl_credentials": "skipped: wants SASL",
    "0142_reauthentication": "skipped: wants SASL",
    "0147_consumer_group_consumer_mock": "is about the consumer protocol (KIP-848)",
    "0148_offset_fetch_commit_error_mock": "is about the consumer protocol (KIP-848)",
    "0153_memberid": "is about the consumer protocol (KIP-848)",
    "0173_share_consumer_commit_async": "a share group's test: on Kafka it waits too short a time for locks that end",
}


# Why a test that passes does not always.
FLAKY = {
    "0050_subscribe_adds": "on Kafka, beside four others",
    "0055_producer_latency": "a limit of 52 ms on Kafka's transactions, beside four others",
    "0077_compaction": "on ringlog, on a busy machine: compaction, which runs at the lowest priority, took longer than the 30 s the test waits",
}


def passes(result):
    return result is not None and result["state"] in ("PASSED", "FLAKY")


def differences(results):
    """What passes on Kafka and not on ringlog: tests, and of those that have sub-tests the ones that fail, as `test sub-test`."""
    for name, kafka in results["kafka"].items():
        ringlog = results["ringlog"].get(name)
        if ringlog and passes(kafka) and not passes(ringlog):
            failed = [subtest for subtest, why in ringlog.get("subtests", {}).items() if why]
            yield from [f"{name} {subtest}" for subtest in failed] or [name]


def reason(name):
    """Of a test, or of a sub-test, for which the reason may be that of the whole test."""
    return DIFFERENCES.get(name) or DIFFERENCES.get(name.partition(" ")[0])


def unexplained(results):
    return [name for name in differences(results) if reason(name) is None]


def show(results):
    """The sums, and each test that is not the same on both."""
    for target, tests in results.items():
        states = collections.Counter(result["state"] for result in tests.values())
        counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        print(f"conformance: {target}: {counts or 'not run'}")
    for name in differences(results):
        print(f"  {name}: {reason(name) or '?'}")


def told(result):
    """One cell."""
    if result is None:
        return "not run"
    if result["state"] == "FLAKY":
        return f"flaky ({result['failures']} of {result['runs']} failed)"
    return result["state"].lower()


def write(results):
    """Puts the sums and the table into the page."""
    kafka, ringlog = results["kafka"], results["ringlog"]
    good = [name for name in kafka if passes(kafka[name])]
    same = [name for name in good if passes(ringlog.get(name))]
    reasons = collections.Counter(DIFFERENCES.get(name) or partly(name, ringlog.get(name)) for name in good if name not in same)
    local = collections.Counter(told(result).partition(" ")[0] for result in results["local"].values())
    dates = sorted(result["date"] for tests in results.values() for result in tests.values())
    lines = [
        f"Of {len(kafka)} tests {len(good)} pass on Kafka (flaky ones counted). Of those {len(same)} pass on ringlog, all of it; the others:\n\n",
        *(f"- {count}: {reason}\n" for reason, count in reasons.most_common()),
        f"\nOf {sum(local.values())} tests that need no broker {local['passed']} pass and {local['skipped']} skip themselves.\n",
        f"Run from {dates[0]} to {dates[-1]}.\n\n",
        "| test | Kafka | ringlog | |\n|---|---|---|---|\n",
    ]
    for name in sorted(kafka.keys() | ringlog.keys()):
        one, other = kafka.get(name), ringlog.get(name)
        why = why_different(name, other) if passes(one) and not passes(other) else ON_BOTH.get(name, "")
        flaky = FLAKY.get(name, "") if "FLAKY" in ((one or {}).get("state"), (other or {}).get("state")) else ""
        lines.append(f"| {name} | {told(one)} | {told(other)} | {'; '.join(filter(None, (why, flaky)))} |\n")
    lines.append("\n| test without a broker | | |\n|---|---|---|\n")
    for name, result in sorted(results["local"].items()):
        if result["state"] != "PASSED":
            lines.append(f"| {name} | {told(result)} | {ON_BOTH.get(name, '')} |\n")
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + "".join(lines) + END + after)


def why_different(name, result):
    if name in DIFFERENCES:
        return DIFFERENCES[name]
    subtests = (result or {}).get("subtests", {})
    passed = sum(not why for why in subtests.values())
    failed = [subtest for subtest, why in subtests.items() if why]
    listed = "; ".join(f"{subtest}: {reason(f'{name} {subtest}') or '?'}" for subtest in failed)
    return f"{passed} of {len(subtests)} sub-tests pass. {listed}"


def partly(name, result):
    """The reasons of a test of which only some sub-tests fail."""
    subtests = (result or {}).get("subtests", {})
    reasons = {reason(f"{name} {subtest}") or "?" for subtest, why in subtests.items() if why}
    return " / ".join(sorted(reasons)) + " (in some of its sub-tests)" if reasons else "?"
