"""The page that shows the broker, in a real browser (headless Chromium) over a real broker: its figures are those of what clients did, it asks
nobody but its broker, who cannot see colours or has a phone can use it, and when the broker is gone it says so. Also: the dashboard and the
alerts in docs/grafana ask for metrics that there are. With RINGLOG_TEST_SHOTS=FOLDER it leaves pictures to look at."""

import contextlib
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request

from axe_playwright_python.sync_playwright import Axe
from cases import case, checked, equal, main
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from launcher import ROOT, broker as new_broker, free_port
from playwright.sync_api import sync_playwright

PARTITIONS = 3
HOSTILE = """<img src=x onerror="document.title='taken'"> & 'b' \\ "q\""""
CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium") or "chromium is not installed"
# The second where the machine that runs this has little room left.
WELL = ["All is well", "Needs attention"]
# For what is to come some time; a machine may have much else to do.
TIMEOUT_MS = 120_000
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}


@contextlib.contextmanager
def browsing(broker, size=DESK, dark=False, may_fail=False):
    """The page, once it shows figures; afterwards: nothing went elsewhere, and the browser had nothing to complain about."""
    origin, asked, said = f"http://{broker.http}/", [], []
    with chromium().new_context(viewport=size, color_scheme="dark" if dark else "light") as context:
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"a dialog: {dialog.message}"))
        page.goto(origin)
        page.wait_for_selector("#main:not([hidden]) #topics tbody tr, #main:not([hidden]) #topics-none:not(:empty)", state="attached")
        yield page
        elsewhere = [url for url in asked if not url.startswith(origin) and not url.startswith("data:")]
        equal(elsewhere, [], "requests that left the broker")
        equal([line for line in said if not may_fail], [], "what the browser complains of")


@functools.cache
def chromium():
    """One for all cases; it ends with the program."""
    return sync_playwright().start().chromium.launch(executable_path=CHROMIUM)


def shot(page, name, **how):
    if folder := os.environ.get("RINGLOG_TEST_SHOTS"):
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=pathlib.Path(folder) / f"{name}.png", **how)


def create(broker, name, partitions=PARTITIONS):
    admin = AdminClient({"bootstrap.servers": broker.address})
    (made,) = admin.create_topics([NewTopic(name, partitions, 1)]).values()
    made.result()
    return name


def fill(broker, topic, count, producer=None):
    """As many records in each partition."""
    producer = producer or Producer({"bootstrap.servers": broker.address})
    for n in range(count):
        for partition in range(PARTITIONS):
            producer.produce(topic, b"%0100d" % n, partition=partition)
        producer.poll(0)
    equal(producer.flush(60), 0, "records not acknowledged")
    checked(count * PARTITIONS)


def commit(broker, group, topic, offsets):
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, partition, offset) for partition, offset in enumerate(offsets)], asynchronous=False)
    consumer.close()


def wait_for(page, what, condition, argument=None):
    """Waits until the page's own look at itself is so."""
    try:
        page.wait_for_function(condition, arg=argument, timeout=TIMEOUT_MS)
    except Exception as error:
        raise AssertionError(f"{what}: {error}\n{page.inner_text('body')[:3000]}") from None


# The words in a row of a table, by what its first cell says; nothing where there is none.
ROW = """(table, key) => [...document.querySelectorAll(`#${table} > tbody > tr[data-key]`)]
    .filter((row) => row.dataset.key === key).map((row) => [...row.cells].map((cell) => cell.textContent))[0]"""


def row_says(page, table, key, column, wanted):
    wait_for(page, f"{table}, {key}: {wanted}", f"([table, key, column, wanted]) => (({ROW})(table, key) || [])[column] === wanted", [table, key, column, wanted])


@case
def figures_are_those_of_what_clients_did(broker):
    topic = create(broker, "orders")
    fill(broker, topic, 100)
    commit(broker, "billing", topic, [100, 90, 40])
    with browsing(broker) as page:
        equal(page.inner_text("#words") in WELL, True, page.inner_text("#words"))
        row_says(page, "topics", topic, 3, "300")
        row_says(page, "topics", topic, 1, str(PARTITIONS))
        row_says(page, "groups", "billing", 4, "70")
        row_says(page, "groups", "billing", 1, "Empty")
        if page.evaluate(ROW.replace("(table, key)", "([table, key])"), ["groups", "billing"])[5] in ("–", "0 s"):
            raise AssertionError("a group that lags has a lag in time")
        # Rates are of what happens: somebody goes on producing until the page has seen it.
        seen, sent = threading.Event(), []

        def go_on():
            producer = Producer({"bootstrap.servers": broker.address})
            while not seen.is_set():
                fill(broker, topic, 10, producer)
                sent.append(10)

        producing = threading.Thread(target=go_on)
        producing.start()
        try:
            wait_for(page, "a rate of the topic", f"([table, key]) => !['0', '–'].includes(({ROW})(table, key)[2])", ["topics", topic])
            wait_for(page, "records a second", "() => parseFloat(document.querySelector('#tiles dd').textContent) > 0")
            wait_for(page, "a percentile of Produce", "() => /[mµ]?s/.test(document.querySelectorAll('#c-time .key b')[1].textContent)")
            wait_for(page, "lines", "() => [...document.querySelectorAll('#c-rate .s0')].some((line) => (line.getAttribute('d') || '').includes('L'))")
            shot(page, "desk")
        finally:
            seen.set()
            producing.join()
        total = 300 + PARTITIONS * sum(sent)
        row_says(page, "topics", topic, 3, f"{total:,}")
        row_says(page, "groups", "billing", 4, f"{total - 230:,}")
        commit(broker, "billing", topic, [total // PARTITIONS] * PARTITIONS)
        row_says(page, "groups", "billing", 4, "0")
        row_says(page, "groups", "billing", 5, "0 s")


@case
def names_of_clients_are_text_and_keys_open_rows(broker):
    topic = create(broker, "names")
    fill(broker, topic, 10)
    commit(broker, HOSTILE, topic, [4, 4, 4])
    with browsing(broker) as page:
        row_says(page, "groups", HOSTILE, 4, "18")
        equal((page.locator("img").count(), "taken" in page.title()), (0, False), "elements that a group's name has made")
        button = page.locator("#groups button.name", has_text="<img src=x")
        button.focus()
        page.keyboard.press("Enter")
        wait_for(page, "what the group has committed", "() => document.querySelectorAll('#groups-inside > tbody > tr').length === 3")
        equal(page.inner_text("#groups-inside > tbody > tr:nth-child(2)").split(), ["names-1", "4", "6", *page.inner_text("#groups-inside > tbody > tr:nth-child(2) td:last-child").split()], "a partition's lag")
        # Figures come and go meanwhile; who is on a button stays there.
        before = page.inner_text("#when")
        wait_for(page, "the next figures", "(before) => document.getElementById('when').textContent !== before", before)
        equal(page.evaluate("document.activeElement.textContent"), HOSTILE, "what has the focus")
        page.keyboard.press("Enter")
        wait_for(page, "the row closed", "() => !document.getElementById('groups-inside')")
        page.fill("#topics-filter", "NAM")
        wait_for(page, "one topic", "() => document.querySelectorAll('#topics > tbody > tr').length === 1")
        page.fill("#topics-filter", "nothing is called so")
        wait_for(page, "no topic", "() => document.getElementById('topics-none').textContent === 'None has a name like this.'")
        page.fill("#topics-filter", "")
        page.select_option("#topics-order", "name")
        wait_for(page, "topics by name", """() => {
            const names = [...document.querySelectorAll('#topics button.name')].map((one) => one.textContent);
            return names.length > 2 && names.join() === [...names].sort().join();
        }""")


@case
def many_topics_and_partitions_come_in_parts(broker):
    admin = AdminClient({"bootstrap.servers": broker.address})
    made = admin.create_topics([NewTopic(f"many-{n:02}", 1, 1) for n in range(40)] + [NewTopic("wide", 60, 1)])
    for one in made.values():
        one.result()
    with browsing(broker) as page:
        page.fill("#topics-filter", "many-")
        wait_for(page, "the first of them", "() => document.querySelectorAll('#topics > tbody > tr').length === 25")
        page.click("#topics-more")
        wait_for(page, "all of them", "() => document.querySelectorAll('#topics > tbody > tr').length === 40")
        page.fill("#topics-filter", "wide")
        wait_for(page, "one", "() => document.querySelectorAll('#topics > tbody > tr').length === 1")
        page.click("#topics button.name")
        wait_for(page, "its first partitions", "() => document.querySelectorAll('#topics-inside > tbody > tr').length === 25")
        for _ in range(2):
            page.click("#topics button:has-text('Later')")
        wait_for(page, "its last ones", "() => (document.querySelector('#topics-inside > tbody') || {}).textContent?.startsWith('50')")
        equal(page.locator("#topics button:has-text('Later')").is_disabled(), True, "there are no later ones")


@case
def it_is_for_phones_and_for_who_sees_no_colours(broker):
    topic = create(broker, "a-topic-with-a-name-as-long-as-somebody-may-think-of.and-then-some-more-of-it-without-any-space")
    fill(broker, topic, 50)
    commit(broker, "a group whose name has-no-end-" + "x" * 150, topic, [10, 10, 10])
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    for name, size, dark in (("phone", PHONE, False), ("dark", DESK, True), ("phone-dark", PHONE, True), ("light", DESK, False)):
        with browsing(broker, size, dark) as page:
            row_says(page, "topics", topic, 3, "150")
            page.click("#topics button.name:has-text('a-topic-with')")
            page.click("#groups button.name:has-text('a group whose')")
            wait_for(page, "both opened", "() => document.querySelectorAll('#groups-inside tbody tr, #topics-inside tbody tr').length === 6")
            wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            equal(wide <= window, True, f"{name}: the page is {wide} wide, the window {window}")
            found = Axe().run(page, options=rules).response
            bad = [f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes'][:3]]}" for one in found["violations"] if one["impact"] != "minor"]
            equal(bad, [], f"{name}: what axe finds")
            equal(len(found["passes"]) > 20, True, f"axe has looked: {len(found['passes'])} rules")
            shot(page, name, full_page=True)
            page.evaluate("document.documentElement.style.filter = 'grayscale(1)'")
            shot(page, f"{name}-gray")


@case
def a_broker_that_is_gone_is_said_to_be(broker):
    with browsing(broker, may_fail=True) as page:
        equal(page.inner_text("#words") in WELL, True, page.inner_text("#words"))
        broker.kill()
        wait_for(page, "the broker is gone", "() => document.getElementById('words').textContent === 'The broker cannot be reached'")
        wait_for(page, "figures are not live", "() => document.body.classList.contains('stale') && document.getElementById('when').textContent.startsWith('What is below was so at')")
        equal("cannot be reached" in page.title(), True, page.title())
        shot(page, "gone")
        broker.start()
        wait_for(page, "the broker is back", "(well) => well.includes(document.getElementById('words').textContent) && !document.body.classList.contains('stale')", WELL)
        wait_for(page, "its history is its own", "() => past.time.length > 0 && past.time.length === past.next")


@case
def a_directory_that_is_offline_is_said_first(broker):
    with tempfile.TemporaryDirectory(prefix="ringlog-page-") as folder:
        dead = pathlib.Path(folder) / "dead"
        dead.write_text("no directory")
        with new_broker({"http.listen": "127.0.0.1:0"}, options=["--data", str(dead)]) as ill, browsing(ill) as page:
            equal(page.inner_text("#words"), "In trouble", "the state")
            equal(page.inner_text("#conditions li:first-child"), f"Data directory {dead} is offline", "what is not well")
            equal("■ offline" in page.inner_text("#disks"), True, page.inner_text("#disks"))
            equal("free," in page.inner_text("#disks li:first-child"), True, "the other disk has room")
            shot(page, "trouble")


@case
def only_what_may_be_asked_is_answered(broker):
    def ask(path, method="GET"):
        try:
            with urllib.request.urlopen(urllib.request.Request(f"http://{broker.http}{path}", method=method), timeout=10) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers, ""

    for path, method, status in (("/", "GET", 200), ("/", "HEAD", 200), ("/", "POST", 405), ("/metrics", "DELETE", 405), ("/x", "GET", 404), ("/overview.json", "PUT", 405)):
        equal(ask(path, method)[0], status, f"{method} {path}")
    headers = ask("/")[1]
    equal("default-src 'none'; script-src 'sha256-" in headers["Content-Security-Policy"], True, headers["Content-Security-Policy"])
    told = json.loads(ask("/overview.json?since=99999999999999999999&topics_max=-1&order=%00&topic=%ff&group_from=9e99")[2])
    equal((told["topic"]["all"], len(told["topics"]["rows"]) <= 25), (0, True), "an odd question")


@case
def the_dashboard_and_the_alerts_ask_for_what_there_is(broker):
    topic = create(broker, "watched")
    fill(broker, topic, 10)
    commit(broker, "watching", topic, [1, 2, 3])
    admin = AdminClient({"bootstrap.servers": broker.address})
    (refused,) = admin.delete_topics(["not-there"]).values()
    equal("UNKNOWN_TOPIC" in str(refused.exception()), True, "an error, for there to be one")
    page = urllib.request.urlopen(f"http://{broker.http}/metrics", timeout=10).read().decode()
    known = set(re.findall(r"^(\w+)[{ ]", page, re.MULTILINE)) | {"up"}
    labels = {(name, label) for name, pairs in re.findall(r"^(\w+)\{(.*)\} ", page, re.MULTILINE) for label in re.findall(r'(\w+)="', pairs)}
    dashboard = json.loads((ROOT / "docs/grafana/ringlog.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    equal(len({panel["id"] for panel in dashboard["panels"]}), len(dashboard["panels"]), "ids of panels")
    variables = {one["name"] for one in dashboard["templating"]["list"]}
    expressions = []
    for panel in panels:
        for target in panel["targets"]:
            equal((target["datasource"], panel["datasource"]), ({"type": "prometheus", "uid": "${datasource}"},) * 2, panel["title"])
            expressions.append(target["expr"])
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(panel))) - {"__rate_interval"}
        equal(used - variables, set(), f"{panel['title']}: variables that there are not")
    rules = (ROOT / "docs/grafana/alerts.yml").read_text()
    expressions += re.findall(r"^\s*expr: (.*)$", rules, re.MULTILINE)
    equal(len(expressions) > 40, True, "expressions")
    for expression in expressions:
        asked = set(re.findall(r"\b((?:kafka|ringlog|process)_\w+|up)\b", expression))
        equal((asked - known, bool(asked)), (set(), True), f"metrics that there are not, in {expression}")
        for name, chosen in re.findall(r"\b((?:kafka|ringlog|process)_\w+)\{([^}]*)\}", expression):
            wanted = set(re.findall(r'(\w+)=?[=!~]+"', chosen)) - {"job", "instance"}
            equal({label for label in wanted if (name, label) not in labels}, set(), f"labels that {name} does not have")
    if promtool := shutil.which("promtool"):
        done = subprocess.run([promtool, "check", "rules", ROOT / "docs/grafana/alerts.yml"], capture_output=True, text=True)
        equal(done.returncode, 0, done.stdout + done.stderr)
    checked(len(expressions))


if __name__ == "__main__":
    main("page", new_broker({"http.listen": f"127.0.0.1:{free_port()}"}))
