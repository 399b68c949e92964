//! docs/TUNING.md, written from the table.

use crate::Topic;
use crate::knobs::KNOBS;
use std::fmt::Write;

/// The page.
pub fn document() -> String {
    let mut text = String::from(INTRODUCTION);
    for topic in [Topic::Limits, Topic::Memory, Topic::Processor, Topic::Network, Topic::Disk] {
        let _ = writeln!(text, "\n## {}", capital(topic.name()));
        for knob in KNOBS.iter().filter(|knob| knob.topic == topic) {
            let [bare_metal, cloud_vm, laptop] = knob.recommended;
            let _ = write!(
                text,
                "\n### `{}`\n\n{}\n\n| | |\n|---|---|\n| Checked | {} |\n| Bare metal | {bare_metal} |\n| Cloud VM | {cloud_vm} |\n\
                 | Laptop | {laptop} |\n| Changed | {} |\n",
                knob.name, knob.why, knob.checked, knob.applied
            );
            for (name, evidence) in knob.evidence_lines() {
                let evidence =
                    if evidence.starts_with("https:") { format!("<{evidence}>") } else { evidence.into() };
                let _ = writeln!(text, "| {name} | {evidence} |");
            }
        }
    }
    text
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

const INTRODUCTION: &str = "\
# Tuning the machine

`ringlog tune` looks at every knob below on the machine it runs on, and tells what is fit, what it would change and why. It changes nothing
unless asked to. `ringlog check` shows the same table beside what else a broker needs.

```
ringlog tune                       # what is, and what would be changed; --json for programs
ringlog tune --explain thp         # one knob: why it matters, how it is checked, where the advice comes from
ringlog tune --only thp --apply    # changes this one, and looks again
ringlog tune --apply --persist     # changes all, and again at each start of the machine (a systemd unit)
ringlog tune --revert              # puts back exactly what was there before the first change, and removes the unit
```

- **Profiles.** `--profile bare-metal`, `cloud-vm` or `laptop`; guessed if not given (a hypervisor, a battery, or neither).
- **The way back.** What was there is written to `/var/lib/ringlog-tune/originals.json` and synced before the first change, so a `--revert` leads back even if
  `--apply` was killed halfway. A second `--apply` keeps the first originals. When the machine starts anew, what the kernel holds is gone with its originals; files (the unit,
  limits) stay, and so do theirs.
- **What is refused** (by a driver, a hypervisor, a container) is told, and does not keep the rest from being changed; the exit code is then 1.
- `--only KNOB` and `--skip KNOB` choose, and may be given several times; `--data DIR` says whose disks and mounts are meant.

This page is written from the table in `tuning/src/knobs`; a test keeps them the same. What was measured, and how far to
trust it: [tuning.md](../bench/results/2026-11-21-two-cores/tuning.md).
";
