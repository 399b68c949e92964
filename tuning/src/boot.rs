//! The systemd unit that applies settings when the machine starts.

use crate::apply::Change;
use crate::finding::Choice;
use crate::machine::Machine;
use crate::place::Place;
use crate::want::Want;
use std::path::Path;
use std::process::Command;

/// What is to be applied at each start of the machine: this choice, with this binary.
pub struct Boot {
    unit: String,
}

const UNIT: &str = "/etc/systemd/system/ringlog-tune.service";
const LINK: &str = "/etc/systemd/system/multi-user.target.wants/ringlog-tune.service";

impl Boot {
    /// What its places are called among the knobs.
    pub(crate) const KNOB: &str = "boot";

    /// A unit that runs this binary as it was run now.
    pub fn new(machine: &Machine, choice: &Choice, binary: &Path, state: Option<&Path>) -> Self {
        let mut words = vec![
            binary.to_string_lossy().into_owned(),
            "tune".into(),
            "--apply".into(),
            "--profile".into(),
            machine.profile().name().into(),
        ];
        for dir in machine.data() {
            words.extend(["--data".into(), dir.to_string_lossy().into_owned()]);
        }
        if let Some(state) = state {
            words.extend(["--state".into(), state.to_string_lossy().into_owned()]);
        }
        words.extend(choice.options());
        let command = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        // What cannot be set on this machine must not keep the broker from starting, hence Before without Requires.
        let unit = format!(
            "# Written by `ringlog tune --persist`; `ringlog tune --revert` removes it.\n\
             [Unit]\n\
             Description=Settings of the machine for ringlog\n\
             Documentation=man:ringlog-tune(1)\n\
             After=local-fs.target network.target systemd-sysctl.service systemd-udev-settle.service irqbalance.service tuned.service\n\
             Before=ringlog.service\n\
             \n\
             [Service]\n\
             Type=oneshot\n\
             RemainAfterExit=yes\n\
             ExecStart={command}\n\
             \n\
             [Install]\n\
             WantedBy=multi-user.target\n"
        );
        Self { unit }
    }

    /// The unit and the link that enables it.
    pub(crate) fn changes(&self) -> Vec<Change> {
        let change = |place, to: &str| Change {
            knob: Self::KNOB,
            place,
            along: Vec::new(),
            want: Want::Is(to.to_owned()),
            to: to.to_owned(),
        };
        vec![change(Place::Own(UNIT.into()), &self.unit), change(Place::Link(LINK.into()), UNIT)]
    }
}

/// Lets a running systemd read its units again. Where none runs, the files are all there is to do.
pub(crate) fn reload_systemd(machine: &Machine) {
    if !machine.is_made_up() && Path::new("/run/systemd/system").exists() {
        // It reads its units at the next start of the machine in any case.
        let _ = Command::new("systemctl").arg("daemon-reload").status();
    }
}

/// As systemd.syntax(7) and systemd.service(5) want a word of ExecStart=.
fn quoted(word: &str) -> String {
    let word = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    let plain = !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./=,:@".contains(&byte));
    if plain { word } else { format!("\"{word}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_unit_stay_words() {
        assert_eq!(quoted("/usr/bin/ringlog"), "/usr/bin/ringlog");
        assert_eq!(quoted("/my data/50%"), "\"/my data/50%%\"");
        assert_eq!(quoted("a\"b$c\\"), "\"a\\\"b$$c\\\\\"");
    }
}
