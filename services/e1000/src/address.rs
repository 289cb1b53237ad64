//! The card's own address.

use crate::registers::Card;
use bulkhead_driver::{Clock, Registers};

/// The address of a card after its reset, as the three words that EEPROM and registers have: what it read from its EEPROM itself,
/// or else the EEPROM's first words (5.6.1). `None` if that is no address of a card either.
pub fn find<R: Registers>(card: &Card<R>, clock: &impl Clock) -> Option<[u16; 3]> {
    card.address().filter(is_own).or_else(|| {
        let words = [card.eeprom_word(clock, 0)?, card.eeprom_word(clock, 1)?, card.eeprom_word(clock, 2)?];
        Some(words).filter(is_own)
    })
}

/// Whether it is neither zero nor that of a group. All ones, which nobody answers, are a group.
fn is_own(words: &[u16; 3]) -> bool {
    let [first, ..] = words;
    first & 1 == 0 && *words != [0; 3]
}

/// The bytes as on the wire.
pub fn bytes(words: [u16; 3]) -> [u8; 6] {
    let [[a, b], [c, d], [e, f]] = words.map(u16::to_le_bytes);
    [a, b, c, d, e, f]
}
