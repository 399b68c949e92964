"""What scripts/package has made, tried as it will be used: the static binary alone in an empty root, the .deb installed in a throwaway
copy of this machine and its service run by systemd there, completions by their shells, manual pages by man.

What takes root is left out without, and said so.
"""

import contextlib
import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "target" / "package"
BINARY = PACKAGE / "ringlog"
HERE = pathlib.Path(__file__).resolve().parent
WITHOUT_IO_URING = [sys.executable, str(ROOT / "broker" / "tests" / "clients" / "seccomp.py"), "--"]
SECONDS = 60
# systemd's own measure, from 0 (all is closed) to 100 (nothing is). What is left: the network, and being a user of its own.
EXPOSURE_MAX = 14


def equal(actual, expected, what):
    if actual != expected:
        raise AssertionError(f"{what}: expected {expected!r}, got {actual!r}")


def run(*command, **options):
    """What a command prints; it fails with all it said."""
    options = {"stdin": subprocess.DEVNULL, **options}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=SECONDS, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


# ---- the binary ----


def the_binary_asks_for_no_library(_):
    headers = run("readelf", "--wide", "--program-headers", "--dynamic", BINARY)
    equal("INTERP" in headers, False, "an interpreter")
    equal(re.findall(r"\(NEEDED\).*", headers), [], "libraries")


def the_service_manager_is_told(folder):
    """sd_notify(3), with a path and with an abstract name."""
    for name in (str(folder / "notify"), f"@ringlog-packaging-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind("\0" + name[1:] if name.startswith("@") else name)
            listener.settimeout(SECONDS)
            command = [BINARY, "serve", "--listen", "127.0.0.1:0", "--data", folder / "data"]
            broker = subprocess.Popen(
                command, env={"NOTIFY_SOCKET": name}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            try:
                equal(listener.recv(100), b"READY=1\n", "what is told at the start")
                equal(broker.stdout.readline().startswith("ringlog ready: "), True, "that it is ready, by then")
                broker.send_signal(signal.SIGTERM)
                equal(listener.recv(100), b"STOPPING=1\n", "what is told at the stop")
                equal(broker.wait(SECONDS), 0, "exit status")
            finally:
                broker.kill()
                broker.wait()


# ---- what it is made of ----


def the_bill_goes_with_every_package(folder):
    """In each package: the same binary, what it is made of, and the licences, which name every part of the bill that is in the binary."""
    bill = json.loads((PACKAGE / "ringlog.cdx.json").read_text())
    licences = (PACKAGE / "THIRD-PARTY-LICENSES").read_text()
    parts = {(part["name"], part["version"]) for part in bill["components"] if part["scope"] == "required"}
    equal(len(parts) > 50, True, f"{len(parts)} parts")
    missing = [name for name, version in parts if not name.startswith("ringlog-") and f"\n{name} {version} " not in licences]
    equal(missing, [], "parts whose licence is not told")
    for text in ("GNU LESSER GENERAL PUBLIC LICENSE", "Apache License"):
        equal(text in licences, True, f"the text of the {text}")
    run("dpkg-deb", "--extract", *PACKAGE.glob("*.deb"), folder / "deb")
    run("tar", "--extract", "--file", *PACKAGE.glob("*.tar.gz"), "--directory", folder)
    (archive,) = folder.glob("ringlog-*")
    equal((archive / "LICENSE").read_text(), (ROOT / "LICENSE").read_text(), "the licence in the archive")
    for root in (folder / "deb", archive):
        equal((root / "usr/bin/ringlog").read_bytes() == BINARY.read_bytes(), True, f"the binary in {root.name}")
    for name in ("ringlog.cdx.json", "THIRD-PARTY-LICENSES"):
        shipped = (PACKAGE / name).read_bytes()
        equal((archive / name).read_bytes() == shipped, True, f"{name} in the archive")
        zipped = folder / "deb/usr/share/doc/ringlog" / f"{name}.gz"
        equal(gzip.decompress(zipped.read_bytes()) == shipped, True, f"{name} in the .deb")


# ---- the container ----


class Container:
    """What a container runtime makes of the Containerfile: an empty root, its user, its environment, a network and processes of its own."""

    def __init__(self, folder, environment=()):
        self.context = PACKAGE / "container"
        self.root = folder / "root"
        self.user, self.command, self.environment = None, [], {"HOSTNAME": "container"}
        for word, rest in self.instructions():
            match word:
                case "FROM":
                    equal(rest, "scratch", "what the image is built on")
                case "COPY":
                    self.copy(rest)
                case "USER":
                    self.user = rest
                case "ENV":
                    name, _, value = rest.partition("=")
                    self.environment[name] = value
                case "ENTRYPOINT" | "CMD":
                    self.command += re.findall(r'"([^"]*)"', rest)
        self.environment.update(environment)
        (self.root / "proc").mkdir()
        # Runtimes make this one.
        (self.root / "etc").mkdir()
        (self.root / "etc" / "hosts").write_text("127.0.0.1 localhost broker.test\n")
        # Names of plugins, which only a machine's own C library can load, and a static binary is not to try.
        (self.root / "etc" / "nsswitch.conf").write_text("hosts: myhostname\n")

    def instructions(self):
        for line in (self.context / "Containerfile").read_text().splitlines():
            if line and not line.startswith("#"):
                word, _, rest = line.partition(" ")
                yield word, rest

    def copy(self, words):
        *flags, source, target = words.split()
        source, target = self.context / source, self.root / target.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
        for flag in flags:
            user, _, group = flag.removeprefix("--chown=").partition(":")
            os.chown(target, int(user), int(group))

    @contextlib.contextmanager
    def up(self, wrapper=()):
        """Runs it; stops it as `docker stop` does, and looks whether it ended well."""
        alone = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child"]
        # The root is a mount, as a container's is.
        enter = 'mount --bind "$1" "$1"; mount -t proc none "$1/proc"; exec chroot --userspec="$2" "$1" "${@:3}"'
        command = [*wrapper, *alone, "bash", "-ec", enter, "container", str(self.root), self.user, *self.command]
        log = open(self.root.parent / "log", "w+")
        path = {"PATH": os.environ["PATH"]}
        outer = subprocess.Popen(command, env={**path, **self.environment}, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            self.ready = outer.stdout.readline()
            log.seek(0)
            self.log = log.read()
            equal(self.ready.startswith("ringlog ready: "), True, f"a start\n{self.log}")
            children = pathlib.Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
            (self.pid,) = map(int, children)
            run("nsenter", f"--net=/proc/{self.pid}/ns/net", "ip", "link", "set", "lo", "up")
            yield self
            os.kill(self.pid, signal.SIGTERM)
            equal(outer.wait(SECONDS), 0, "exit status")
        finally:
            outer.kill()
            outer.wait()
            log.close()

    def ringlog(self, *words, **options):
        """Another process in the container, as `docker exec` starts it."""
        inside = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "chroot", f"--userspec={self.user}", self.root, "/ringlog"]
        return run(*inside, *words, **options)


def the_container_starts_by_itself(folder):
    """Where seccomp refuses io_uring as Docker's profile does it runs on poll, elsewhere on io_uring; the data outlives both."""
    container = Container(folder, {"RINGLOG_SET_ADVERTISED_LISTENERS": "PLAINTEXT://broker.test:9092"})
    there = sorted(path.name for path in container.root.iterdir())
    equal(there, ["THIRD-PARTY-LICENSES", "data", "etc", "proc", "ringlog", "ringlog.cdx.json"], "what is in the root")
    sent = []
    for driver, wrapper in (("poll", WITHOUT_IO_URING), ("uring", ()), ("poll", WITHOUT_IO_URING)):
        with container.up(wrapper):
            equal(f"io: {driver} (" in container.log, True, f"{driver} in {container.log!r}")
            equal("seccomp" in container.log, driver == "poll", f"the reason in {container.log!r}")
            sent.append(f"by {driver} {len(sent)}")
            # A name, which nothing but /etc/hosts knows.
            broker = ("--broker", "broker.test:9092")
            if len(sent) == 1:
                container.ringlog("topic", "create", "events", *broker)
            container.ringlog("produce", "events", *broker, stdin=None, input=sent[-1] + "\n")
            got = container.ringlog("consume", "events", "--from-beginning", "--count", str(len(sent)), *broker)
            equal(got.splitlines(), sent, "records")


# ---- completions and manual pages ----


def installed(folder):
    """The files of the .deb, somewhere."""
    root = folder / "files"
    if not root.exists():
        run("dpkg-deb", "--extract", *PACKAGE.glob("*.deb"), root)
    return root / "usr" / "share"


def completed_by(name, said):
    """The shell offers what begins with `t`."""
    offered = {word.split("\t")[0].strip() for word in said.splitlines()}
    equal({"topic", "to-kafka"} <= offered and "serve" not in offered, True, f"{name} offers {offered} for `ringlog t`")


def bash_completes(folder):
    script = installed(folder) / "bash-completion/completions/ringlog"
    ask = """
        source "$1"
        COMP_WORDS=(ringlog t) COMP_CWORD=1
        function=$(complete -p ringlog | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        "$function" ringlog t ringlog
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    completed_by("bash", run("bash", "--noprofile", "--norc", "-c", ask, "bash", script))


def zsh_completes(folder):
    """In a terminal, since completion is the line editor's: what is listed after the tab is taken from the screen."""
    site = installed(folder) / "zsh/vendor-completions"
    run("zsh", "-n", site / "_ringlog")
    ask = """
        zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell "PS1=; fpath=($1 \\$fpath); autoload -Uz compinit; compinit -u -D; setopt no_beep; echo up''on"
        zpty -r shell said '*upon*'
        zpty -w -n shell $'ringlog t\\t\\t'
        zpty -r shell said '*to-kafka*topic*'
        print -r -- $said
    """
    said = run("zsh", "-f", "-c", ask, "zsh", site)
    lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", said).splitlines()
    completed_by("zsh", "\n".join(line.split()[0] for line in lines if line.strip()))


def fish_completes(folder):
    script = installed(folder) / "fish/vendor_completions.d/ringlog.fish"
    home = {**os.environ, "HOME": str(folder)}
    completed_by("fish", run("fish", "--no-config", "-c", f"source {script}; complete --do-complete 'ringlog t'", env=home))


def manual_pages_are_whole(folder):
    pages = sorted((installed(folder) / "man/man1").iterdir())
    names = {page.name.removesuffix(".1.gz") for page in pages}
    equal({"ringlog", "ringlog-serve", "ringlog-topic-create", "ringlog-group-reset"} <= names, True, f"pages: {names}")
    for page in pages:
        said = subprocess.run(["mandoc", "-T", "lint", "-W", "error", page], capture_output=True, text=True)
        equal((said.returncode, said.stdout), (0, ""), f"mandoc on {page.name}")
        text = run("man", "--local-file", "--warnings=w", page, env={**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8"})
        equal("SYNOPSIS" in text, True, f"{page.name} has a synopsis")
    serve = run("man", "--local-file", pages[0].parent / "ringlog-serve.1.gz")
    equal("--listen" in serve, True, "--listen in ringlog-serve(1)")


# ---- the .deb, and its service ----


def unit_is_right(folder):
    """Of the installed unit: no word that systemd does not know, and little that an attacker could do with it."""
    root = folder / "unit"
    run("dpkg-deb", "--extract", *PACKAGE.glob("*.deb"), root)
    unit = root / "usr/lib/systemd/system/ringlog.service"
    # It is to start the binary that is beside it.
    unit.write_text(unit.read_text().replace("/usr/bin/ringlog", str(root / "usr/bin/ringlog")))
    said = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=SECONDS)
    equal((said.returncode, [line for line in said.stderr.splitlines() if "ringlog" in line]), (0, []), "systemd-analyze verify")
    run("systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", unit)


class Machine:
    """A copy of this machine that is thrown away: its files under an overlay, so that nothing here changes."""

    def __init__(self, folder):
        self.layers, self.root = folder / "layers", folder / "machine"

    def __enter__(self):
        self.layers.mkdir(), self.root.mkdir()
        run("mount", "-t", "tmpfs", "none", self.layers)
        for name in ("upper", "work"):
            (self.layers / name).mkdir()
        run("mount", "-t", "overlay", "none", "-o", f"lowerdir=/,upperdir={self.layers}/upper,workdir={self.layers}/work", self.root)
        return self

    def __exit__(self, *_):
        for point in (self.root, self.layers):
            subprocess.run(["umount", "--lazy", point], capture_output=True)

    def run(self, *command, **options):
        return run("systemd-nspawn", *QUIETLY, "-D", self.root, *command, **options)


# nspawn has a filter of its own, which lets nobody use io_uring.
QUIETLY = ["--quiet", "--register=no", "--keep-unit", "--pipe", "--system-call-filter=io_uring_setup io_uring_enter io_uring_register"]

INSIDE = """[Unit]
Description=Tries ringlog.service
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
StandardOutput=file:/tried.log
StandardError=inherit
ExecStart=/bin/bash /try-service
[Install]
WantedBy=multi-user.target
"""


def the_service_runs(folder):
    """Installed, started by systemd, killed, stopped, removed."""
    with Machine(folder) as machine:
        (deb,) = PACKAGE.glob("*.deb")
        shutil.copy(deb, machine.root / "ringlog.deb")
        machine.run("dpkg", "--install", "/ringlog.deb")
        equal(machine.run("systemctl", "is-enabled", "ringlog.service").strip(), "enabled", "the service")
        shutil.copy(HERE / "try-service", machine.root / "try-service")
        (machine.root / "etc/systemd/system/try-ringlog.service").write_text(INSIDE)
        booted = subprocess.run(
            ["systemd-nspawn", *QUIETLY, "--private-network", "-D", machine.root, "--boot", "--", "--unit=try-ringlog.service"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * SECONDS,
        )
        tried = machine.root / "tried.log"
        said = tried.read_text() if tried.exists() else booted.stdout + booted.stderr
        print("   " + said.replace("\n", "\n   ").rstrip(), flush=True)
        equal(said.rstrip().splitlines()[-1:], ["all is well"], "the last line")
        machine.run("dpkg", "--purge", "ringlog")
        data = machine.root / "var/lib/ringlog"
        equal((data / "meta.properties").exists(), True, "the data after a purge")
        for path in ("usr/bin/ringlog", "etc/ringlog/ringlog.toml", "etc/systemd/system/multi-user.target.wants/ringlog.service"):
            equal(os.path.lexists(machine.root / path), False, f"{path} after a purge")


def can_boot(folder):
    """Why no machine can be booted here, or nothing."""
    if os.geteuid() != 0:
        return "that takes root"
    try:
        with Machine(folder) as machine:
            machine.run("true")
    except AssertionError as failure:
        return str(failure).strip().splitlines()[-1]
    return ""


def main():
    cases = [
        the_binary_asks_for_no_library, the_service_manager_is_told, the_bill_goes_with_every_package,
        bash_completes, zsh_completes, fish_completes,
        manual_pages_are_whole, unit_is_right,
    ]
    with_root = [the_container_starts_by_itself, the_service_runs]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ringlog-packaging-"))
    folder.chmod(0o755)
    passed = failed = 0
    try:
        (folder / "can").mkdir()
        if why := can_boot(folder / "can"):
            print(f"!!! NOT TESTED: the container and the service: {why}", file=sys.stderr)
        else:
            cases += with_root
        for case in cases:
            if sys.argv[1:] and case.__name__ not in sys.argv[1:]:
                continue
            started = time.monotonic()
            own = folder / case.__name__
            own.mkdir()
            own.chmod(0o755)
            try:
                case(own)
                passed += 1
                print(f"ok packaging/{case.__name__} ({time.monotonic() - started:.1f} s)", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED packaging/{case.__name__}\n{traceback.format_exc()}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"packaging: cases={passed}")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
