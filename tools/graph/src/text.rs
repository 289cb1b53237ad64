//! How wide texts are, whatever sans-serif font is used: as wide as in DejaVu Sans, than which the usual ones are not wider.

/// How bold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    Normal,
    Bold,
}

/// Widths of space to `~`, in thousandths of the font's size.
const NORMAL: [u16; 95] = [
    318, 401, 460, 838, 637, 951, 780, 275, 391, 391, 500, 838, 318, 361, 318, 337, 637, 637, 637, 637, 637, 637, 637,
    637, 637, 637, 337, 337, 838, 838, 838, 531, 1000, 685, 687, 699, 771, 632, 576, 775, 752, 295, 295, 656, 558, 863,
    749, 788, 604, 788, 695, 635, 611, 732, 685, 989, 686, 611, 686, 391, 337, 391, 838, 500, 500, 613, 635, 550, 635,
    616, 353, 635, 634, 278, 278, 580, 278, 975, 634, 612, 635, 635, 412, 521, 393, 634, 592, 818, 592, 592, 525, 637,
    337, 637, 838,
];
const BOLD: [u16; 95] = [
    349, 457, 521, 838, 696, 1002, 873, 307, 458, 458, 523, 838, 380, 416, 380, 366, 696, 696, 696, 696, 696, 696, 696,
    696, 696, 696, 400, 400, 838, 838, 838, 581, 1000, 774, 763, 734, 831, 684, 684, 821, 837, 373, 373, 775, 638, 996,
    837, 851, 733, 851, 771, 721, 683, 813, 774, 1104, 771, 725, 726, 458, 366, 458, 838, 500, 500, 675, 716, 593, 716,
    679, 436, 716, 712, 343, 343, 666, 343, 1042, 712, 688, 716, 716, 494, 596, 479, 712, 652, 924, 646, 652, 583, 712,
    366, 712, 838,
];
/// Width of the middle dot that separates words here.
const DOT: u16 = 380;
/// Width of any other character: arrows have 838.
const OTHER: u16 = 1000;

/// How wide a text is, at most.
pub(crate) fn width(text: &str, size: f64, weight: Weight) -> f64 {
    let table = if weight == Weight::Bold { &BOLD } else { &NORMAL };
    let of = |character: char| match character {
        '·' => DOT,
        _ => (character as usize).checked_sub(0x20).and_then(|index| table.get(index)).copied().unwrap_or(OTHER),
    };
    text.chars().map(|character| f64::from(of(character))).sum::<f64>() * size / 1000.0
}

/// Breaks words into lines that are not wider than `most`, unless a word is.
pub(crate) fn wrap(words: &[String], separator: &str, size: f64, most: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if width(&format!("{line}{separator}{word}"), size, Weight::Normal) <= most => {
                line.push_str(separator);
                line.push_str(word);
            }
            _ => lines.push(word.clone()),
        }
    }
    lines
}
