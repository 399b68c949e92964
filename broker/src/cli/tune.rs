//! `ringlog tune`: the machine's knobs: shown, changed when asked to, and put back.

use super::{Failure, findings};
use clap::{Args, ValueEnum};
use ringlog_tuning::{
    Boot, Choice, Ended, Finding, KNOBS, Machine, Profile, STATE_FILE, State, Step, Verdict,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Without --apply nothing is changed. Exit code 1: something was to be changed or put back, and could not be.
#[derive(Args)]
pub(super) struct Arguments {
    /// Change what would be better, and look again; what was there is kept first
    #[arg(long)]
    apply: bool,
    /// Put back exactly what was there before the first change
    #[arg(long, conflicts_with_all = ["apply", "persist"])]
    revert: bool,
    /// Only tell what would be done; without --apply or --revert that is so anyway
    #[arg(long)]
    dry_run: bool,
    /// With --apply: do so at each start of the machine too, by a systemd unit, which --revert removes
    #[arg(long, requires = "apply")]
    persist: bool,
    /// Tell of one knob why it matters, how it is checked and changed, and where the advice comes from
    #[arg(long, value_name = "KNOB", conflicts_with_all = ["apply", "revert"])]
    explain: Option<String>,
    /// Only this knob; may be given several times
    #[arg(long, value_name = "KNOB")]
    only: Vec<String>,
    /// All but this knob; may be given several times
    #[arg(long, value_name = "KNOB")]
    skip: Vec<String>,
    #[command(flatten)]
    of: Of,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Look at a folder with a /proc, /sys and /etc in it instead of at this machine
    #[arg(long, value_name = "DIR", default_value = "/", hide_default_value = true)]
    root: PathBuf,
    /// Keep originals in this file; /var/lib/ringlog-tune/originals.json by default
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

/// What the machine is, and what of it is the broker's.
#[derive(Args)]
pub(super) struct Of {
    /// A data directory, whose disks and mounts are meant; may be given several times [default: ./data, or the service's]
    #[arg(long, value_name = "DIR")]
    data: Vec<PathBuf>,
    /// What kind of machine it is; guessed if not given
    #[arg(long, value_enum)]
    profile: Option<ProfileName>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ProfileName {
    /// A server that is the broker's
    BareMetal,
    /// A virtual machine
    CloudVm,
    /// A developer's machine
    Laptop,
}

/// Where the package's service keeps its data.
const SERVICE_DATA: &str = "/var/lib/ringlog";

impl Of {
    /// The data directories: those that were given, or the one that is there.
    pub(super) fn data(&self) -> Vec<PathBuf> {
        if !self.data.is_empty() {
            return self.data.clone();
        }
        let here = Path::new("./data");
        let service = Path::new(SERVICE_DATA);
        vec![if !here.exists() && service.exists() { service.into() } else { here.into() }]
    }

    /// The machine that is looked at.
    pub(super) fn machine(&self, root: &Path) -> Machine {
        let profile = self.profile.map(|name| match name {
            ProfileName::BareMetal => Profile::BareMetal,
            ProfileName::CloudVm => Profile::CloudVm,
            ProfileName::Laptop => Profile::Laptop,
        });
        Machine::new(root, &self.data(), profile)
    }
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    if let Some(name) = &arguments.explain {
        return explain(name);
    }
    let choice = Choice::new(&arguments.only, &arguments.skip)?;
    let machine = arguments.of.machine(&arguments.root);
    let open = || {
        let default = arguments.root.join(STATE_FILE.trim_start_matches('/'));
        State::open(&machine, arguments.state.as_deref().unwrap_or(&default))
    };
    if arguments.revert {
        let mut state = open()?;
        let steps = if arguments.dry_run {
            ringlog_tuning::to_revert(&machine, &choice, &state)
        } else {
            ringlog_tuning::revert(&machine, &choice, &mut state)?
        };
        return report(&arguments, &machine, &steps, state.expired());
    }
    let found = ringlog_tuning::look(&machine, &choice);
    if !arguments.apply || arguments.dry_run {
        return show(&arguments, &machine, &found);
    }
    let boot = if arguments.persist {
        let binary = std::env::current_exe()?;
        let state = arguments.state.as_deref().map(std::path::absolute).transpose()?;
        Some(Boot::new(&machine, &choice, &binary, state.as_deref()))
    } else {
        None
    };
    let mut state = open()?;
    let steps = ringlog_tuning::apply(&machine, &found, boot.as_ref(), &mut state)?;
    report(&arguments, &machine, &steps, state.expired())
}

/// The table, and how to go on.
fn show(arguments: &Arguments, machine: &Machine, found: &[Finding]) -> Result<(), Failure> {
    let profile = machine.profile().name();
    if arguments.json {
        return print_json(&json!({ "profile": profile, "findings": findings::as_json(found) }));
    }
    for line in findings::table(found, findings::coloured()) {
        println!("{line}");
    }
    let changes = found.iter().filter(|finding| matches!(finding.verdict, Verdict::Change(_))).count();
    println!();
    match changes {
        0 => println!("profile {profile}: nothing to change"),
        _ => println!(
            "profile {profile}: {changes} would be changed by `ringlog tune --apply`, and put back by `--revert`; `--explain KNOB` tells why"
        ),
    }
    Ok(())
}

/// What became of each place.
fn report(arguments: &Arguments, machine: &Machine, steps: &[Step], expired: usize) -> Result<(), Failure> {
    let failed = steps.iter().filter(|step| matches!(step.ended, Ended::Failed(_))).count();
    if arguments.json {
        let steps: Vec<Value> = steps.iter().map(as_json).collect();
        print_json(
            &json!({ "profile": machine.profile().name(), "steps": steps, "gone_with_a_restart": expired }),
        )?;
    } else {
        for step in steps {
            println!("{}", line(step));
        }
        if expired > 0 {
            println!("{expired} settings went when the machine started anew, and need no putting back");
        }
        if steps.is_empty() {
            println!("{}", if arguments.revert { "nothing to put back" } else { "nothing to change" });
        }
    }
    match failed {
        0 => Ok(()),
        _ if arguments.revert => Err(Failure(format!(
            "{failed} of {} could not be put back, and are still kept; `--revert` again tries again",
            steps.len()
        ))),
        _ => Err(Failure(format!(
            "{failed} of {} could not be changed; `--skip` leaves a knob out, and root is needed for most",
            steps.len()
        ))),
    }
}

fn line(step: &Step) -> String {
    let shown = |text: &Option<String>| match text {
        None => "nothing".to_owned(),
        Some(text) if text.trim().contains('\n') => "a file".to_owned(),
        Some(text) => ringlog_tuning::selected(text).split_whitespace().collect::<Vec<_>>().join(" "),
    };
    let change = format!("{}: {} -> {}", step.what, shown(&step.from), shown(&step.to));
    match &step.ended {
        Ended::Done => change,
        Ended::Planned => format!("would be put back: {change}"),
        Ended::DoneOver(_) => format!("{change} (somebody had changed it since)"),
        Ended::Failed(why) => format!("NOT DONE {change}: {why}"),
        Ended::Gone => format!("{}: it is gone, and nothing is left to put back", step.what),
    }
}

fn as_json(step: &Step) -> Value {
    let (ended, why) = match &step.ended {
        Ended::Done => ("done", None),
        Ended::Planned => ("planned", None),
        Ended::DoneOver(found) => ("done over another change", Some(found)),
        Ended::Failed(why) => ("failed", Some(why)),
        Ended::Gone => ("gone", None),
    };
    json!({ "knob": step.knob, "place": step.what, "from": step.from, "to": step.to, "ended": ended, "why": why })
}

fn explain(name: &str) -> Result<(), Failure> {
    Choice::new(&[name.to_owned()], &[])?;
    let knob = KNOBS.iter().find(|knob| knob.name == name).expect("a choice names knobs that are there");
    println!("{} ({})\n\n{}\n\nchecked: {}", knob.name, knob.topic.name(), knob.why, knob.checked);
    for (profile, recommended) in Profile::ALL.iter().zip(knob.recommended) {
        println!("{}: {recommended}", profile.name());
    }
    println!("changed: {}", knob.applied);
    for (name, evidence) in knob.evidence_lines() {
        println!("{}: {evidence}", name.to_lowercase());
    }
    Ok(())
}

pub(super) fn print_json(value: &Value) -> Result<(), Failure> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
