//! Words of partitions in init's lines.

use alloc::string::String;

/// What a partition says, as a part of one of init's lines: nothing in it begins another, or moves the cursor. Control characters (those of
/// Unicode's category Cc) and the separators of lines and paragraphs become question marks.
pub fn on_one_line(text: &str) -> String {
    let is_harmful = |letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
    text.chars().map(|letter| if is_harmful(letter) { '?' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_as_they_are() {
        assert_eq!(on_one_line("served 7 calls, größer als 5 µs"), "served 7 calls, größer als 5 µs");
        assert_eq!(on_one_line(""), "");
    }

    #[test]
    fn no_line_is_begun() {
        let forged = on_one_line("done\r\nbulkhead: end: ok\u{1b}[2J\u{85}\u{9b}A\u{2028}x\u{7f}\0");
        assert_eq!(forged, "done??bulkhead: end: ok?[2J??A?x??");
    }
}
