//! What is wanted of a place, and what would be written to it.

use crate::cpus;

/// What a place should hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Want {
    /// A number, at least this.
    AtLeast(u64),
    /// A number, at most this.
    AtMost(u64),
    /// Several numbers, each at least this.
    EachAtLeast(Vec<u64>),
    /// One of these words; the first that the kernel offers is written.
    OneOf(&'static [&'static str]),
    /// This text.
    Is(String),
    /// These processors, as a list or a mask is read.
    Cpus(Vec<usize>),
    /// These processors, written as a mask.
    Mask(Vec<usize>),
    /// A threshold of write-back (`20 ratio` or `1048576 bytes`): at most so many bytes, of this much memory.
    DirtyAtMost { bytes: u64, memory: u64 },
    /// Whatever is there.
    Anything,
}

impl Want {
    /// Whether this text is as wanted.
    pub(crate) fn fits(&self, now: &str) -> bool {
        let now = selected(now);
        let number = || now.trim().parse::<u64>().ok();
        match self {
            Self::AtLeast(least) => number().is_some_and(|number| number >= *least),
            Self::AtMost(most) => number().is_some_and(|number| number <= *most),
            Self::EachAtLeast(least) => {
                let numbers = numbers(now);
                numbers.len() == least.len()
                    && numbers.iter().zip(least).all(|(number, least)| number >= least)
            }
            Self::OneOf(words) => words.contains(&now.trim()),
            Self::Is(text) => now.trim() == text.trim(),
            Self::Cpus(cpus) => cpus::from_list(now) == *cpus,
            Self::Mask(cpus) => cpus::from_mask(now) == *cpus,
            Self::DirtyAtMost { bytes, memory } => {
                dirty_bytes(now, *memory).is_some_and(|dirty| dirty <= *bytes)
            }
            Self::Anything => true,
        }
    }

    /// What would be written where this text is not as wanted; `None` where the kernel does not offer it.
    pub(crate) fn target(&self, now: &str) -> Option<String> {
        match self {
            Self::AtLeast(number) | Self::AtMost(number) => Some(number.to_string()),
            Self::EachAtLeast(least) => {
                let now = numbers(now);
                let raised = least.iter().enumerate().map(|(at, least)| now.get(at).unwrap_or(&0).max(least));
                Some(raised.map(u64::to_string).collect::<Vec<_>>().join("\t"))
            }
            Self::OneOf(words) => {
                let offered = offered(now);
                let word = words.iter().find(|word| offered.is_empty() || offered.contains(word))?;
                Some((*word).to_owned())
            }
            Self::Is(text) => Some(text.clone()),
            Self::Cpus(cpus) => Some(cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")),
            Self::Mask(cpus) => Some(cpus::to_mask(cpus)),
            Self::DirtyAtMost { bytes, .. } => Some(format!("{bytes} bytes")),
            Self::Anything => None,
        }
    }

    /// In words.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::AtLeast(number) => format!("at least {number}"),
            Self::AtMost(0) => "0".into(),
            Self::AtMost(number) => format!("at most {number}"),
            Self::EachAtLeast(least) => {
                format!("at least {}", least.iter().map(u64::to_string).collect::<Vec<_>>().join(" "))
            }
            Self::OneOf(words) => words.join(" or "),
            Self::Is(text) if text.contains('\n') => "a file".into(),
            Self::Is(text) => text.clone(),
            Self::Cpus(_) | Self::Mask(_) => self.target("").unwrap_or_default(),
            Self::DirtyAtMost { bytes, .. } => format!("at most {bytes} bytes"),
            Self::Anything => "anything".into(),
        }
    }
}

/// The word in brackets, where the kernel shows a choice on one line as `always [madvise] never`; else the text itself.
pub fn selected(text: &str) -> &str {
    if text.trim_end().contains('\n') {
        return text;
    }
    let word = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    word.unwrap_or(text)
}

/// The words of a choice; none where there is no choice.
fn offered(text: &str) -> Vec<&str> {
    if !text.contains('[') {
        return Vec::new();
    }
    text.split_whitespace().map(|word| word.trim_matches(['[', ']'])).collect()
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().map_while(|word| word.parse().ok()).collect()
}

fn dirty_bytes(text: &str, memory: u64) -> Option<u64> {
    let (number, unit) = text.trim().split_once(' ')?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "bytes" => Some(number),
        "ratio" => Some(memory / 100 * number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_as_wanted_is_left_and_what_is_not_has_a_target() {
        let check = |want: Want, now: &str, target: Option<&str>| {
            let fits = want.fits(now);
            let told = if fits { None } else { want.target(now) };
            assert_eq!(told.as_deref(), target, "{want:?} {now:?}");
            if let Some(target) = told {
                assert!(want.fits(&target), "{want:?}: what is written must be what was wanted");
            }
        };
        check(Want::AtLeast(4096), "128\n", Some("4096"));
        check(Want::AtLeast(4096), "8192\n", None);
        check(Want::AtMost(1), "60\n", Some("1"));
        check(
            Want::EachAtLeast(vec![4096, 65536, 1 << 24]),
            "4096\t16384\t33554432\n",
            Some("4096\t65536\t33554432"),
        );
        check(Want::OneOf(&["madvise"]), "always [madvise] never\n", None);
        check(Want::OneOf(&["defer+madvise", "madvise"]), "[always] madvise never\n", Some("madvise"));
        check(Want::OneOf(&["none"]), "[none]\n", None);
        check(Want::Mask(vec![0, 1]), "0\n", Some("00000003"));
        check(Want::Mask(vec![0, 1]), "00000000,00000003\n", None);
        check(Want::Cpus(vec![1]), "0-3\n", Some("1"));
        check(Want::DirtyAtMost { bytes: 1 << 28, memory: 1 << 35 }, "10 ratio", Some("268435456 bytes"));
        check(Want::DirtyAtMost { bytes: 1 << 28, memory: 1 << 30 }, "10 ratio", None);
        check(Want::Anything, "whatever", None);
    }

    #[test]
    fn what_the_kernel_does_not_offer_is_not_written() {
        assert_eq!(Want::OneOf(&["tsc"]).target("[hpet] acpi_pm"), None);
    }
}
