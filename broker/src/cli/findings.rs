//! The table of a machine's knobs as people read it, and as programs do: a sign, a word and a colour for each line.

use ringlog_tuning::{Finding, Verdict};
use serde_json::{Value, json};
use std::io::IsTerminal;

/// How a line is marked: never by its colour alone. Blue and yellow stay apart without colour vision.
struct Mark {
    sign: char,
    word: &'static str,
    colour: &'static str,
}

const FIT: Mark = Mark { sign: '+', word: "ok", colour: "36" };
const CHANGE: Mark = Mark { sign: '>', word: "change", colour: "1;33" };
const ADVICE: Mark = Mark { sign: '?', word: "advice", colour: "35" };
const ABSENT: Mark = Mark { sign: '.', word: "absent", colour: "2" };
const MEND: Mark = Mark { sign: '!', word: "mend", colour: "1;31" };

/// Whether to colour standard output: <https://no-color.org>.
pub(super) fn coloured() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    std::io::stdout().is_terminal() && !refused && !dumb
}

/// A line of what a broker needs, beside the knobs.
pub(super) fn need(well: bool, text: &str, coloured: bool) -> String {
    format!("{}  {text}", marked(if well { &FIT } else { &MEND }, coloured))
}

/// The table. Places of one knob that are alike but for their names (each core's governor) are one line.
pub(super) fn table(findings: &[Finding], coloured: bool) -> Vec<String> {
    let mut rows: Vec<(&Finding, usize)> = Vec::new();
    for finding in findings {
        match rows.last_mut() {
            Some((first, alike)) if is_alike(first, finding) => *alike += 1,
            _ => rows.push((finding, 0)),
        }
    }
    let names: Vec<String> = rows
        .iter()
        .map(|(finding, alike)| match alike {
            0 => finding.what.clone(),
            alike => format!("{} and {alike} more", finding.what),
        })
        .collect();
    let knob_width = rows.iter().map(|(finding, _)| finding.knob.name.len()).max().unwrap_or(0);
    let name_width = names.iter().map(String::len).filter(|len| *len <= NAME_WIDTH_MAX).max().unwrap_or(0);
    let mut lines = Vec::new();
    for ((finding, _), name) in rows.iter().zip(names) {
        let state = match &finding.verdict {
            Verdict::Fit | Verdict::Advice => finding.now.clone(),
            Verdict::Change(_) => format!("{} -> {}", finding.now, finding.target()),
            Verdict::Absent => String::new(),
        };
        let mut rest: Vec<&str> = vec![&state, &finding.hint];
        rest.retain(|text| !text.is_empty());
        let knob = finding.knob.name;
        let mark = marked(mark(&finding.verdict), coloured);
        let line = if name.is_empty() {
            format!("{mark}  {knob:knob_width$}  {}", rest.join("; "))
        } else {
            format!("{mark}  {knob:knob_width$}  {name:name_width$}  {}", rest.join("; "))
        };
        lines.push(line.trim_end().to_owned());
    }
    lines
}

/// Wider names push their own line, not all of them.
const NAME_WIDTH_MAX: usize = 52;

/// The same as JSON: one object for each place.
pub(super) fn as_json(findings: &[Finding]) -> Vec<Value> {
    let object = |finding: &Finding| {
        let to = match &finding.verdict {
            Verdict::Change(to) => Some(to),
            _ => None,
        };
        json!({
            "knob": finding.knob.name,
            "topic": finding.knob.topic.name(),
            "place": finding.what,
            "now": finding.now,
            "wanted": finding.wanted,
            "verdict": mark(&finding.verdict).word,
            "to": to,
            "hint": finding.hint,
        })
    };
    findings.iter().map(object).collect()
}

fn is_alike(first: &Finding, other: &Finding) -> bool {
    let number = |name: &str| name.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>();
    first.knob.name == other.knob.name
        && first.now == other.now
        && first.verdict == other.verdict
        && first.hint == other.hint
        && number(&first.what) == number(&other.what)
}

fn mark(verdict: &Verdict) -> &'static Mark {
    match verdict {
        Verdict::Fit => &FIT,
        Verdict::Change(_) => &CHANGE,
        Verdict::Advice => &ADVICE,
        Verdict::Absent => &ABSENT,
    }
}

fn marked(mark: &Mark, coloured: bool) -> String {
    let text = format!("{} {:6}", mark.sign, mark.word);
    if coloured { format!("\x1b[{}m{text}\x1b[0m", mark.colour) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_by_sign_and_word_what_its_colour_says() {
        assert_eq!(need(true, "kernel", false), "+ ok      kernel");
        assert_eq!(need(false, "kernel", true), "\x1b[1;31m! mend  \x1b[0m  kernel");
        let marks = [&FIT, &CHANGE, &ADVICE, &ABSENT, &MEND];
        for (at, one) in marks.iter().enumerate() {
            for other in &marks[at + 1..] {
                assert!(one.sign != other.sign && one.word != other.word && one.colour != other.colour);
            }
        }
    }
}
