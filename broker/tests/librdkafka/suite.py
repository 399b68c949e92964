"""librdkafka's own tests against Apache Kafka and against ringlog, one process for each test; `scripts/conformance` calls it."""

import argparse
import collections
import concurrent.futures
import contextlib
import datetime
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients"))

import table
from launcher import ROOT, Kafka, Ringlog

FOLDER = ROOT / "target" / "conformance"
TESTS = FOLDER / "package" / "deps" / "librdkafka" / "tests"
RUNNER = TESTS / "test-runner"
KAFKA_VERSION = "4.3.1"

# What the tests rely on: those of sessions that end, and topics with enough partitions for several consumers.
SETTINGS = {
    "group.initial.rebalance.delay.ms": 1000,
    "group.min.session.timeout.ms": 100,
    "num.partitions": 4,
}
# An authorizer that lets everybody do everything until a test forbids something.
KAFKA_SETTINGS = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
}
# A test says which of these it wants; both are the suite's own names.
SCENARIOS = {"default": "true", "noautocreate": "false"}

# Tests end themselves after a time of their own; this is for one that does not.
SECONDS_MAX = 3600
# A test of what ringlog does not serve needs no more than this to show that it does not, and would wait for much longer.
UNSERVED_SECONDS_MAX = 60
# The suite's own factor on its timeouts, for a run with brokers started by its own tools.
PATIENCE = 2

PASSED_SUBTEST = re.compile(r"\[ (\w+):(\d+)(?:: (.*))?: PASS \(")

Outcome = collections.namedtuple("Outcome", "state seconds why")


def main():
    options = arguments()
    if options.write:
        table.write(read_results())
        return
    os.environ.pop("CI", None)
    numbers = options.tests or list(dict.fromkeys(name[:4] for name in declared()))
    for target in options.only or ("local", "kafka", "ringlog"):
        Run(target, numbers, options).all()
    results = read_results()
    table.show(results)
    unexplained = table.unexplained(results)
    for name in unexplained:
        print(f"conformance: {name} passes on Kafka and not on ringlog: nobody has said why", file=sys.stderr)
    sys.exit(1 if unexplained else 0)


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/conformance")
    parser.add_argument("--only", action="append", choices=("local", "kafka", "ringlog"))
    parser.add_argument("--tests", type=lambda text: text.split(","))
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    return parser.parse_args()


@functools.cache
def declared():
    """The parts of all tests by their names, each as the runner's table has it; but for those that somebody has to watch."""
    listed = (TESTS / "test.c").read_text().partition("struct test tests[] = {")[2].partition("{NULL}")[0]
    parts = (text.partition(",") for text in re.split(r"\n +_TEST\(", listed)[1:])
    return {name: text for name, _, text in parts if "TEST_F_MANUAL" not in text}


def parts_for(target, scenario):
    """Those that a run has; one that wants another scenario than the default names it."""
    return {
        name
        for name, text in declared().items()
        if ("TEST_F_LOCAL" in text) == (target == "local")
        and (f'"{scenario}' in text or (scenario == "default" and ".scenario" not in text))
    }


def results_file(target):
    return FOLDER / "results" / f"{target}.json"


def read_results():
    """target -> test -> what became of it, of all runs so far."""
    files = {target: results_file(target) for target in ("local", "kafka", "ringlog")}
    return {target: json.loads(file.read_text()) if file.exists() else {} for target, file in files.items()}


class Run:
    """The tests with these numbers on one of the brokers, or those that need none."""

    def __init__(self, target, numbers, options):
        self.target = target
        self.numbers = numbers
        self.jobs = options.jobs
        self.repeat = options.repeat
        self.results = read_results()[target]
        self.output = FOLDER / "output" / target
        self.output.mkdir(parents=True, exist_ok=True)
        results_file(target).parent.mkdir(exist_ok=True)
        self.lock = threading.Lock()

    def all(self):
        for scenario, auto_create in SCENARIOS.items():
            parts = parts_for(self.target, scenario)
            numbers = [number for number in self.numbers if any(name.startswith(f"{number}_") for name in parts)]
            if not numbers:
                continue
            with self.broker({**SETTINGS, "auto.create.topics.enable": auto_create}) as broker:
                with concurrent.futures.ThreadPoolExecutor(self.jobs) as lanes:
                    failed = list(lanes.map(lambda number: self.first(broker, scenario, number), numbers))
                for number, names in zip(numbers, failed):
                    self.again(broker, scenario, number, names)

    def broker(self, settings):
        if self.target == "local":
            return contextlib.nullcontext()
        return Kafka({**settings, **KAFKA_SETTINGS}) if self.target == "kafka" else Ringlog(settings)

    def first(self, broker, scenario, number):
        """Runs a test beside others; tells which of its parts failed."""
        outcomes = self.once(broker, scenario, number, 1, self.jobs)
        self.keep({
            name: {**outcome._asdict(), "failures": int(is_bad(outcome)), "runs": 1} for name, outcome in outcomes.items()
        })
        return [name for name, outcome in outcomes.items() if is_bad(outcome)]

    def again(self, broker, scenario, number, failed):
        """What failed is run by itself: once it passes it is flaky, and else it has failed."""
        for attempt in range(2, 2 + self.repeat if failed else 2):
            outcomes = self.once(broker, scenario, number, attempt, 1)
            for name in failed:
                result = dict(self.results[name], runs=attempt)
                # One that an earlier part took with it may not have been told of.
                outcome = outcomes.get(name, Outcome("FAILED", 0, "was not run"))
                if is_bad(outcome):
                    result.update(outcome._asdict(), failures=result["failures"] + 1)
                else:
                    result.update(state="FLAKY", seconds=outcome.seconds)
                self.keep({name: result})
            failed = [name for name in failed if self.results[name]["state"] != "FLAKY"]
            if not failed:
                break
        if self.target == "ringlog" and len(failed) == 1 and failed[0] not in table.DIFFERENCES:
            self.by_subtests(broker, scenario, number, failed[0])

    def by_subtests(self, broker, scenario, number, name):
        """A test ends with its first failure, so what else it tests is run by itself: each sub-test that Kafka has passed."""
        log = FOLDER / "output" / "kafka" / f"{number}.{scenario}.1.log"
        passed = PASSED_SUBTEST.findall(log.read_text(errors="replace")) if log.exists() else []
        subtests = {}
        for function, line, variant in passed:
            # The runner takes what a sub-test's title begins with. Some titles have a client's number in them, another one each time;
            # one ends with a number that means nothing.
            variant = "" if "#" in variant else re.sub(r" \(linger\.ms=-?\d+\)$", "", variant)
            subtest = f"{function}: {variant}" if variant else function
            if subtest not in subtests:
                title = f"{function}:{line}: {variant}" if variant else f"{function}:"
                subtests[subtest] = self.subtest(broker, scenario, number, len(subtests) + 100, name, title)
                print(f"{self.target} {name} {subtest}: {subtests[subtest] or 'passed'}", flush=True)
        self.keep({name: dict(self.results[name], subtests=subtests)})

    def subtest(self, broker, scenario, number, attempt, name, title):
        """Why a sub-test did not pass; "" where it did."""
        outcome = self.once(broker, scenario, number, attempt, 1, title).get(name)
        if outcome is None or is_bad(outcome):
            return (outcome and outcome.why) or "failed"
        log = self.output / f"{number}.{scenario}.{attempt}.log"
        return "" if PASSED_SUBTEST.search(log.read_text(errors="replace")) else "was not run"

    def keep(self, results):
        with self.lock:
            self.results.update(results)
            stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
            for name in results:
                self.results[name]["date"] = stamp
            results_file(self.target).write_text(json.dumps(dict(sorted(self.results.items())), indent=1))
        for name, result in results.items():
            why = f" {result['why']}" if result["why"] else ""
            print(f"{self.target} {name} {result['state']} {result['seconds']:.0f} s, run {result['runs']}{why}", flush=True)

    def once(self, broker, scenario, number, attempt, beside, subtest=None):
        """One process with one test; tells its parts' outcomes by their names."""
        stem = f"{number}.{scenario}.{attempt}"
        conf = self.output / f"{stem}.conf"
        address = broker.address if broker else "127.0.0.1:1"
        patience = PATIENCE + (beside / 3 if beside > 1 else 0)
        conf.write_text(f"bootstrap.servers={address}\ntest.timeout.multiplier={patience}\n")
        environment = {
            **os.environ,
            "TESTS": number,
            "RDKAFKA_TEST_CONF": str(conf),
            "TEST_KAFKA_VERSION": KAFKA_VERSION,
            "KAFKA_PATH": str(FOLDER / "kafka"),
            "BROKERS": address,
            "LD_LIBRARY_PATH": f"{TESTS.parent}/src:{TESTS.parent}/src-cpp",
        }
        parts = {name for name in parts_for(self.target, scenario) if name.startswith(f"{number}_")}
        is_unserved = self.target == "ringlog" and all(table.DIFFERENCES.get(name) == table.TRANSACTIONS for name in parts)
        # Those that librdkafka itself knows to fail are run only where nothing else is.
        is_known = all(re.search(r"TEST_F_KNOWN_ISSUE\b", declared()[name]) for name in parts)
        if subtest:
            environment["SUBTESTS"] = subtest
        log = self.output / f"{stem}.log"
        # Else its summary would be lost with a runner that aborts.
        command = ["stdbuf", "-oL", RUNNER, "-p1", "-l" if self.target == "local" else "-L", "-s", scenario, *(["-k"] if is_known else [])]
        with open(log, "wb") as said:
            process = subprocess.Popen(
                command,
                cwd=TESTS,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(UNSERVED_SECONDS_MAX if is_unserved else SECONDS_MAX)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                # Java programs that a test has started, too.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        outcomes = read_outcomes(log.read_text(errors="replace"), code)
        outcomes = {name: outcome for name, outcome in outcomes.items() if name in parts}
        if broker and not broker.alive():
            with self.lock:
                if not broker.alive():
                    (self.output / f"{stem}.broker").write_text(broker.log_tail(20000))
                    broker.start()
            outcomes = {name: Outcome("FAILED", outcome.seconds, "the broker died") for name, outcome in outcomes.items()}
        return outcomes


def is_bad(outcome):
    return outcome.state == "FAILED"


def read_outcomes(text, code):
    """What the runner said of each test: in its summary, or, where it was ended before that, along the way."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    begun = re.findall(r"=+ Running test (\w+) =+", text)
    outcomes = {}
    for name, state, seconds, why in re.findall(r"^\| (\w+) +\| +(\w+) \| +([\d.]+)s \|(.*)", text, re.MULTILINE):
        # The runner lists those that it was not asked for, too.
        if name in begun or (state == "SKIPPED" and why.strip()):
            outcomes[name] = Outcome("FAILED" if state == "RUNNING" else state, float(seconds), why.strip())
    ended = dict(re.findall(r"=+ Test (\w+) (PASSED|SKIPPED|FAILED) =+", text))
    for name in begun:
        if name not in outcomes:
            state = ended.get(name, "FAILED")
            why = "did not end" if code is None else f"the runner ended with {code}"
            outcomes[name] = Outcome(state, 0.0, "" if state == "PASSED" else why)
    # What a test left behind (a thread of the client's) is found when all of this process are over.
    if code != 0 and not any(is_bad(outcome) for outcome in outcomes.values()):
        why = first_failure(text, "<MAIN>") or f"the runner ended with {code}"
        outcomes = {name: Outcome("FAILED", outcome.seconds, why) for name, outcome in outcomes.items()}
    # The summary tells only the beginning of it.
    return {
        name: outcome._replace(why=first_failure(text, name) or outcome.why) if is_bad(outcome) else outcome
        for name, outcome in outcomes.items()
    }


def first_failure(text, name):
    found = re.search(rf'^### Test "{name}(?: \((.*)\))?" failed at .*\n(.*)', text, re.MULTILINE)
    return ": ".join(filter(None, (part and part.strip() for part in found.groups()))) if found else None


if __name__ == "__main__":
    main()
