"""What is in the binary that is shipped: a bill of materials (CycloneDX 1.6) and the licences, from Cargo's own tree.

    bill.py check                  every crate comes from crates.io with a checksum and has a licence that may be shipped
    bill.py write DIRECTORY        checks, and writes ringlog.cdx.json and THIRD-PARTY-LICENSES there

Both are the same for the same sources and tools: the time in the bill is SOURCE_DATE_EPOCH.
"""

import datetime
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = f"{platform.machine()}-unknown-linux-gnu"
# What may be shipped, the one to take first where a crate lets choose. .cargo/deny.toml has the same for all of the workspace.
ALLOWED = ["Apache-2.0", "MIT", "BSD-3-Clause", "Zlib", "Unicode-3.0"]
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"
TEXTS = ("license", "licence", "copying", "notice")
WIDTH = 100


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


class Crate:
    """A crate of the tree: what Cargo.lock, its manifest and its folder say of it."""

    def __init__(self, package, checksum):
        self.name, self.version = package["name"], package["version"]
        self.source, self.checksum = package["source"], checksum
        self.folder = pathlib.Path(package["manifest_path"]).parent
        self.about, self.repository = package["description"], package["repository"]
        # Old manifests write a slash for OR.
        self.expression = (package["license"] or "").replace("/", " OR ")
        self.needs, self.linked = set(), False

    @property
    def ours(self):
        return self.source is None

    @property
    def purl(self):
        return f"pkg:cargo/{self.name}@{self.version.replace('+', '%2B')}"

    def licences(self):
        """Those that are taken of what the crate offers, or nothing where none of it may be shipped."""
        taken = []
        for part in re.split(r"\s+AND\s+", self.expression.replace("(", "").replace(")", "")):
            offered = [word.strip() for word in part.split(" OR ")]
            fit = [licence for licence in ALLOWED if licence in offered]
            if not fit:
                return []
            taken.append(fit[0])
        return sorted(set(taken))

    def texts(self):
        """What it says of its licence itself, but for the Apache License, which is the same everywhere."""
        wanted = [licence for licence in self.licences() if licence != "Apache-2.0"]
        files = sorted(path for path in self.folder.iterdir() if path.is_file() and path.name.lower().startswith(TEXTS))
        for path in files:
            name = path.name.lower()
            if name.startswith("notice") or (wanted and "apache" not in name):
                yield path.read_text(errors="replace").strip()

    def faults(self):
        if not self.ours and (self.source != REGISTRY or not self.checksum):
            yield f"{self.name} {self.version} is not from crates.io with a checksum: {self.source}"
        if not self.licences():
            yield f"{self.name} {self.version}: `{self.expression}` has no licence of {', '.join(ALLOWED)}"
        if self.linked and set(self.licences()) - {"Apache-2.0"} and not any(self.texts()):
            yield f"{self.name} {self.version} has no text of its licence, {self.expression}"


def tree():
    """All crates that ringlog is built from, ringlog first. What runs while it is built is among them, but not `linked`."""
    # The slowest part by far asks nobody: what is locked has been fetched by then.
    metadata = json.loads(output("cargo", "metadata", "--format-version=1", "--locked"))
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in locked}
    known = {}
    for package in metadata["packages"]:
        key = (package["name"], package["version"])
        known[key] = Crate(package, checksums[key])
    crates = {}
    for edges in ("normal", "normal,build"):
        lines = output(
            "cargo", "tree", "--locked", "-p", "ringlog", "-e", edges, "--target", TARGET, "--prefix", "depth", "--no-dedupe",
            "--format", " {p}",
        )
        # The crates from ringlog down to this line's, each with whether it is part of the binary.
        path = []
        for line in lines.splitlines():
            depth, name, version, *rest = line.split()
            crate = known[name, version.removeprefix("v")]
            del path[int(depth):]
            linked = edges == "normal" and "(proc-macro)" not in rest and all(part for _, part in path)
            crate.linked |= linked
            if path:
                path[-1][0].needs.add(crate)
            path.append((crate, linked))
            crates[crate.name, crate.version] = crate
    return sorted(crates.values(), key=lambda crate: (crate.name != "ringlog", crate.name, crate.version))


def beside():
    """What the linker adds that is no crate: name, version, licence, what of, its web page."""
    rust = output("rustc", "--version").split()[1]
    libc = output("getconf", "GNU_LIBC_VERSION").split()[1]
    compiler = output("cc", "-dumpfullversion").strip()
    return [
        ("glibc", libc, "LGPL-2.1-or-later", "The GNU C Library, linked statically.", "https://www.gnu.org/software/libc/"),
        ("libgcc", compiler, "GPL-3.0-or-later WITH GCC-exception-3.1", "The compiler's run-time support.", "https://gcc.gnu.org/"),
        ("rust-std", rust, "MIT OR Apache-2.0", "Rust's standard library.", "https://www.rust-lang.org/"),
    ]


def bill(crates):
    """The bill of materials, as CycloneDX 1.6."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    components = []
    for crate in crates[1:]:
        component = {
            "type": "library", "bom-ref": crate.purl, "name": crate.name, "version": crate.version,
            "scope": "required" if crate.linked else "excluded", "purl": crate.purl,
            "licenses": [{"expression": crate.expression}],
        }
        if crate.checksum:
            component["hashes"] = [{"alg": "SHA-256", "content": crate.checksum}]
        if crate.repository:
            component["externalReferences"] = [{"type": "vcs", "url": crate.repository}]
        components.append(component)
    for name, version, licence, about, page in beside():
        components.append({
            "type": "library", "bom-ref": f"{name}@{version}", "name": name, "version": version, "description": about,
            "scope": "required", "licenses": [{"expression": licence}], "externalReferences": [{"type": "website", "url": page}],
        })
    ringlog = crates[0]
    dependencies = [{"ref": crate.purl, "dependsOn": sorted(other.purl for other in crate.needs)} for crate in crates]
    dependencies[0]["dependsOn"] += [f"{name}@{version}" for name, version, *_ in beside()]
    body = {
        "metadata": {
            "timestamp": datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application", "bom-ref": ringlog.purl, "name": "ringlog", "version": ringlog.version,
                "licenses": [{"expression": ringlog.expression}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, "ringlog " + json.dumps(body, sort_keys=True))
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": serial.urn, "version": 1} | body


def notices(crates):
    """The licences of what is in the binary: a line for each part, then each text once with whose it is."""
    linked = [crate for crate in crates if crate.linked and not crate.ours]
    lines = [
        "What the binary of ringlog is made of besides ringlog itself, and under which licence each part is used. ringlog.cdx.json",
        "has the same for programs, with checksums and with what is only used while building.",
        "",
    ]
    rows = [(crate.name, crate.version, " AND ".join(crate.licences()), crate.repository or "") for crate in linked]
    rows += [(name, version, licence, page) for name, version, licence, _, page in beside()]
    lines += ["  ".join((f"{name} {version}".ljust(36), licence.ljust(40), page)).rstrip() for name, version, licence, page in rows]
    lines += [
        "",
        "The GNU C Library is linked statically. ringlog's sources, Cargo.lock and scripts/static-binary are all that is needed to link",
        "it with another version of that library, as its licence wants it to be possible.",
    ]
    texts = {}
    for crate in linked:
        for text in crate.texts():
            # Wrapped differently it is the same text.
            texts.setdefault(" ".join(text.split()), (text, []))[1].append(crate)
    for text, of in texts.values():
        lines += ["", "=" * WIDTH, ", ".join(f"{crate.name} {crate.version}" for crate in of), "=" * WIDTH, "", text]
    common = pathlib.Path("/usr/share/common-licenses/LGPL-2.1")
    if not common.exists():
        sys.exit(f"bill.py: {common} is missing, which the C library's licence wants shipped (Debian has it)")
    copying = pathlib.Path("/usr/share/doc/libc6/copyright")
    for name, path in (("Apache-2.0, of ringlog and of each part that is used under it", ROOT / "LICENSE"),
                       ("LGPL-2.1, of the GNU C Library", common), ("the GNU C Library's own notices", copying)):
        if path.exists():
            lines += ["", "=" * WIDTH, name, "=" * WIDTH, "", path.read_text(errors="replace").strip()]
    return "\n".join(lines) + "\n"


def main():
    if sys.argv[1:2] not in (["check"], ["write"]) or len(sys.argv) != (2 if sys.argv[1] == "check" else 3):
        sys.exit(__doc__.strip())
    crates = tree()
    faults = [fault for crate in crates for fault in crate.faults()]
    if faults:
        sys.exit("\n".join(faults))
    if sys.argv[1] == "write":
        folder = pathlib.Path(sys.argv[2])
        (folder / "ringlog.cdx.json").write_text(json.dumps(bill(crates), indent=1, ensure_ascii=False) + "\n")
        (folder / "THIRD-PARTY-LICENSES").write_text(notices(crates))
    linked = sum(crate.linked for crate in crates if not crate.ours)
    building = sum(not crate.linked for crate in crates)
    print(f"bill: {linked} crates of others in the binary, {building} more to build it; licences and sources are fit")


if __name__ == "__main__":
    main()
