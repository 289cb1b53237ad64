//! Sizes and times as manifests write them.

/// `"128 MiB"` in bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.replace('_', "").parse::<u64>().ok()?.checked_mul(factor)
}

/// `"2 ms"` in microseconds; decimals are allowed down to a microsecond.
pub(super) fn microseconds(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let digits = match unit {
        "us" | "µs" => 0,
        "ms" => 3,
        "s" => 6,
        _ => return None,
    };
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if all_digits(fraction) => (whole, fraction),
        Some(_) => return None,
        None => (number, ""),
    };
    if !all_digits(whole) || fraction.len() > digits {
        return None;
    }
    format!("{whole}{fraction:0<digits$}").parse().ok()
}

/// Most CPUs that a text names: many more than a guest has.
const MAX_CPUS: u64 = 256;

/// `"0-3,6"` as numbers, in this order.
pub(super) fn cpus(text: &str) -> Option<Vec<u64>> {
    let number = |text: &str| text.trim().parse::<u64>().ok().filter(|cpu| *cpu < MAX_CPUS);
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last && cpus.len() as u64 <= MAX_CPUS).then(|| cpus.extend(first..=last))?;
    }
    Some(cpus)
}

fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let unit = text.find(|character: char| character.is_alphabetic())?;
    let (number, unit) = text.split_at_checked(unit)?;
    let number = number.trim_end();
    number.starts_with(|first: char| first.is_ascii_digit()).then_some((number, unit))
}

/// A size as a person would write it.
pub(crate) fn show_size(bytes: u64) -> String {
    for (factor, unit) in [(1u64 << 30, "GiB"), (1 << 20, "MiB")] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{} {unit}", bytes / factor);
        }
    }
    if bytes >= 1 << 20 {
        let tenths = (u128::from(bytes) * 10).div_ceil(1 << 20);
        return format!("{}.{} MiB", tenths / 10, tenths % 10);
    }
    if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) {
        return format!("{} KiB", bytes >> 10);
    }
    format!("{bytes} B")
}

/// A time as a person would write it.
pub(crate) fn show_time(microseconds: u64) -> String {
    for (factor, unit) in [(1_000_000, "s"), (1_000, "ms")] {
        if microseconds >= factor && microseconds.is_multiple_of(factor) {
            return format!("{} {unit}", microseconds / factor);
        }
    }
    format!("{microseconds} us")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        assert_eq!(size("128 MiB"), Some(128 << 20));
        assert_eq!(size("4KiB"), Some(4096));
        assert_eq!(size("1_024 B"), Some(1024));
        for wrong in ["", "128", "MiB", "-1 MiB", "1.5 MiB", "1 MB", "20000000000 GiB", "1 MiB x"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(microseconds("2 ms"), Some(2_000));
        assert_eq!(microseconds("1.5 s"), Some(1_500_000));
        assert_eq!(microseconds("7 us"), Some(7));
        for wrong in ["", "2", "1.5 us", "1. ms", "-2 ms", "2 minutes", "1e3 s"] {
            assert_eq!(microseconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sets_of_cpus() {
        assert_eq!(cpus("0-3"), Some(vec![0, 1, 2, 3]));
        assert_eq!(cpus("6, 0 - 1,6"), Some(vec![6, 0, 1, 6]));
        for wrong in ["", "3-1", "0-", "-1", "a", "0-1-2", "0,,1", "0-18446744073709551615", "256"] {
            assert_eq!(cpus(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read(pages in 0u64..1 << 40) {
            prop_assert_eq!(microseconds(&show_time(pages)), Some(pages));
            let whole = (pages % (1 << 30)) << 10;
            if whole < 1 << 20 || whole.is_multiple_of(1 << 20) {
                prop_assert_eq!(size(&show_size(whole)), Some(whole));
            }
        }

        #[test]
        fn any_text_is_answered(text in ".*") {
            let _ = (size(&text), microseconds(&text), cpus(&text));
        }
    }
}
