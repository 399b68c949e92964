//! `ringlog check`: is this machine fit? What a broker needs, and the table of what makes it better. Only the first decides the exit code.

use super::tune::{Of, print_json};
use super::{Failure, findings};
use clap::Args;
use ringlog_engine::io::DirFacts;
use ringlog_engine::io::host::{cores, uring_refusal};
use ringlog_tuning::{Choice, Verdict};
use serde_json::json;
use std::fs;
use std::path::Path;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    of: Of,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One thing that is needed.
struct Finding {
    well: bool,
    text: String,
}

/// Descriptors a broker with some thousand partitions and connections wants.
const FILES_WANTED: u64 = 65_536;

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut needs = vec![kernel(), uring(), files()];
    match cores() {
        Ok(cores) => needs.push(Finding { well: true, text: format!("cores: {} may be used", cores.len()) }),
        Err(error) => needs.push(Finding { well: false, text: format!("cores: {error}") }),
    }
    needs.extend(arguments.of.data().iter().map(|dir| directory(dir)));
    let machine = arguments.of.machine(Path::new("/"));
    let knobs = ringlog_tuning::look(&machine, &Choice::default());
    let profile = machine.profile().name();
    if arguments.json {
        let objects: Vec<_> =
            needs.iter().map(|need| json!({ "ok": need.well, "text": need.text })).collect();
        let knobs = findings::as_json(&knobs);
        print_json(&json!({ "profile": profile, "needs": objects, "findings": knobs }))?;
    } else {
        let coloured = findings::coloured();
        println!("What a broker needs:");
        for Finding { well, text } in &needs {
            println!("{}", findings::need(*well, text, coloured));
        }
        println!("\nWhat makes it better (profile {profile}; `ringlog tune` changes it, and puts it back):");
        for line in findings::table(&knobs, coloured) {
            println!("{line}");
        }
        let better = |finding: &&ringlog_tuning::Finding| {
            matches!(finding.verdict, Verdict::Change(_) | Verdict::Advice)
        };
        println!(
            "\n{} of {} knobs' places could be better",
            knobs.iter().filter(better).count(),
            knobs.len()
        );
    }
    match needs.iter().filter(|need| !need.well).count() {
        0 => Ok(()),
        unfit => Err(Failure(format!(
            "{unfit} of {} things a broker needs are not at their best; each line says what mends it",
            needs.len()
        ))),
    }
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let well = version >= (6, 1);
    let hint = if well { "" } else { ": Linux 6.1 or newer is needed for io_uring as ringlog uses it" };
    Finding { well, text: format!("kernel: Linux {release}{hint}") }
}

fn uring() -> Finding {
    match uring_refusal() {
        None => Finding { well: true, text: "io_uring: offered".into() },
        Some(why) => {
            Finding { well: false, text: format!("io_uring: {why}; without it the broker runs on poll") }
        }
    }
}

fn files() -> Finding {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    let soft = line.split_whitespace().nth(3).unwrap_or_default();
    let well = soft == "unlimited" || soft.parse::<u64>().is_ok_and(|files| files >= FILES_WANTED);
    let hint = if well {
        String::new()
    } else {
        format!(": `ulimit -n {FILES_WANTED}` (LimitNOFILE in a systemd unit)")
    };
    Finding { well, text: format!("open files: {soft}{hint}") }
}

fn directory(path: &Path) -> Finding {
    // What would be made is looked for where it would be made.
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    match DirFacts::probe(existing) {
        Ok(facts) => Finding { well: facts.direct && facts.shared_flush, text: format!("data {facts}") },
        Err(error) => Finding { well: false, text: format!("data {}: {error}", path.display()) },
    }
}
