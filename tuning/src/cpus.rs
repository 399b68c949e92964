//! Sets of processors as the kernel writes them: lists like `0-3,8` and masks like `00000000,0000000f`.

/// Reads a list; what is no number is left out.
pub(crate) fn from_list(text: &str) -> Vec<usize> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
            cpus.extend(first..=last.min(CPUS_MAX));
        }
    }
    cpus.sort_unstable();
    cpus.dedup();
    cpus
}

/// Reads a mask: groups of 32 bits in hexadecimal digits, the highest first.
pub(crate) fn from_mask(text: &str) -> Vec<usize> {
    let groups = text.trim().split(',').rev().enumerate();
    let bits = groups.flat_map(|(group, digits)| {
        let value = u32::from_str_radix(digits, 16).unwrap_or(0);
        (0..32).filter(move |bit| value >> bit & 1 == 1).map(move |bit| group * 32 + bit)
    });
    bits.collect()
}

/// Writes a mask.
pub(crate) fn to_mask(cpus: &[usize]) -> String {
    let mut groups = vec![0_u32; cpus.iter().max().map_or(1, |last| last / 32 + 1)];
    for cpu in cpus {
        groups[cpu / 32] |= 1 << (cpu % 32);
    }
    let digits: Vec<String> = groups.iter().rev().map(|group| format!("{group:08x}")).collect();
    digits.join(",")
}

/// More than any kernel is built for.
const CPUS_MAX: usize = 8191;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_masks_are_read_as_the_kernel_writes_them() {
        assert_eq!(from_list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(from_list("\n"), [] as [usize; 0]);
        assert_eq!(from_mask("0000000f\n"), [0, 1, 2, 3]);
        assert_eq!(from_mask("1,80000000"), [31, 32]);
        assert_eq!(from_mask("0"), [] as [usize; 0]);
        for cpus in [vec![0], vec![0, 1, 31], vec![33, 64]] {
            assert_eq!(from_mask(&to_mask(&cpus)), cpus);
        }
    }
}
