//! Writing ACPI machine language (ACPI 6.5, chapter 20): as much of it as devices with constant resources need.

use alloc::vec::Vec;

const ZERO: u8 = 0x00;
const ONE: u8 = 0x01;
const BYTE: u8 = 0x0a;
const WORD: u8 = 0x0b;
const DWORD: u8 = 0x0c;
const STRING: u8 = 0x0d;
const QWORD: u8 = 0x0e;
const NAME: u8 = 0x08;
const SCOPE: u8 = 0x10;
const BUFFER: u8 = 0x11;
const PACKAGE: u8 = 0x12;
const EXTENDED: u8 = 0x5b;
const DEVICE: u8 = 0x82;

/// Terms, one after the other.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    bytes: Vec<u8>,
}

impl Terms {
    /// No terms.
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// The encoded terms.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// An integer constant, in its shortest form.
    pub fn integer(mut self, value: u64) -> Self {
        match value {
            0 => self.bytes.push(ZERO),
            1 => self.bytes.push(ONE),
            2..=0xff => self.bytes.extend_from_slice(&[BYTE, value as u8]),
            0x100..=0xffff => self.prefixed(WORD, &(value as u16).to_le_bytes()),
            0x1_0000..=0xffff_ffff => self.prefixed(DWORD, &(value as u32).to_le_bytes()),
            _ => self.prefixed(QWORD, &value.to_le_bytes()),
        }
        self
    }

    /// A string constant; it ends at its first NUL.
    pub fn string(mut self, text: &str) -> Self {
        let text = text.split('\0').next().unwrap_or_default();
        self.prefixed(STRING, text.as_bytes());
        self.bytes.push(0);
        self
    }

    /// A package of elements, each a constant.
    pub fn package(mut self, elements: &[Terms]) -> Self {
        let mut content = Vec::new();
        // More than 255 elements would need another opcode.
        let count = elements.len().min(255);
        content.push(count as u8);
        for element in elements.iter().take(count) {
            content.extend_from_slice(&element.bytes);
        }
        self.bytes.push(PACKAGE);
        self.with_length(&content);
        self
    }

    /// A buffer with a resource template.
    pub fn resources(mut self, resources: Resources) -> Self {
        let template = resources.finish();
        let mut content = Terms::new().integer(template.len() as u64).bytes;
        content.extend_from_slice(&template);
        self.bytes.push(BUFFER);
        self.with_length(&content);
        self
    }

    /// `Name (name, value)`. A name has up to four characters after a root prefix, if there is one.
    pub fn name(mut self, name: &str, value: Terms) -> Self {
        self.bytes.push(NAME);
        self.name_string(name);
        self.bytes.extend_from_slice(&value.bytes);
        self
    }

    /// `Scope (name) { content }`.
    pub fn scope(mut self, name: &str, content: Terms) -> Self {
        self.bytes.push(SCOPE);
        self.named_block(name, &content);
        self
    }

    /// `Device (name) { content }`.
    pub fn device(mut self, name: &str, content: Terms) -> Self {
        self.bytes.extend_from_slice(&[EXTENDED, DEVICE]);
        self.named_block(name, &content);
        self
    }

    /// The compressed form of a PNP identifier such as `PNP0A03` (ACPI 6.5, 19.3.4).
    pub fn eisa(self, identifier: &str) -> Self {
        let mut value = 0u32;
        for (index, character) in identifier.bytes().take(7).enumerate() {
            if index < 3 {
                value = value << 5 | u32::from(character.wrapping_sub(0x40) & 0x1f);
            } else {
                let digit = char::from(character).to_digit(16).unwrap_or(0);
                value = value << 4 | digit;
            }
        }
        self.integer(u64::from(value.swap_bytes()))
    }

    fn prefixed(&mut self, prefix: u8, bytes: &[u8]) {
        self.bytes.push(prefix);
        self.bytes.extend_from_slice(bytes);
    }

    fn name_string(&mut self, name: &str) {
        let segment = match name.strip_prefix('\\') {
            Some(rest) => {
                self.bytes.push(b'\\');
                rest
            }
            None => name,
        };
        self.bytes.extend(segment.bytes().chain(core::iter::repeat(b'_')).take(4));
    }

    fn named_block(&mut self, name: &str, content: &Terms) {
        let mut block = Terms::new();
        block.name_string(name);
        block.bytes.extend_from_slice(&content.bytes);
        self.with_length(&block.bytes);
    }

    /// The package length, which counts itself, and the content (ACPI 6.5, 20.2.4).
    fn with_length(&mut self, content: &[u8]) {
        let length = content.len();
        if length < 0x3f {
            self.bytes.push((length + 1) as u8);
        } else {
            let following = if length < 0xffe {
                1
            } else if length < 0xf_fffd {
                2
            } else {
                3
            };
            let total = length + 1 + following;
            self.bytes.push((following << 6 | total & 0xf) as u8);
            self.bytes.extend((0..following).map(|index| (total >> (4 + 8 * index)) as u8));
        }
        self.bytes.extend_from_slice(content);
    }
}

/// A resource template (ACPI 6.5, 6.4).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resources {
    bytes: Vec<u8>,
}

/// Address space descriptors: minimum and maximum are fixed, positively decoded, produced for devices behind.
const FIXED: u8 = 0x0c;

impl Resources {
    /// No resources.
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Ports that the device itself decodes.
    pub fn ports(mut self, start: u16, length: u8) -> Self {
        let [low, high] = start.to_le_bytes();
        self.bytes.extend_from_slice(&[0x47, 1, low, high, low, high, 1, length]);
        self
    }

    /// Memory that the device itself decodes: writable.
    pub fn memory(mut self, start: u32, length: u32) -> Self {
        self.bytes.extend_from_slice(&[0x86, 9, 0, 1]);
        self.bytes.extend_from_slice(&start.to_le_bytes());
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self
    }

    /// An edge-triggered ISA interrupt request.
    pub fn interrupt(mut self, request: u8) -> Self {
        let [low, high] = (1u16 << (request & 15)).to_le_bytes();
        self.bytes.extend_from_slice(&[0x22, low, high]);
        self
    }

    /// Bus numbers behind a bridge.
    pub fn buses(mut self, first: u16, last: u16) -> Self {
        self.words(2, 0, first, last);
        self
    }

    /// Ports behind a bridge.
    pub fn port_window(mut self, first: u16, last: u16) -> Self {
        // Entire range.
        self.words(1, 3, first, last);
        self
    }

    /// Memory behind a bridge: not cacheable, writable.
    pub fn memory_window(mut self, first: u32, last: u32) -> Self {
        self.bytes.extend_from_slice(&[0x87, 0x17, 0, 0, FIXED, 1]);
        let length = last.wrapping_sub(first).wrapping_add(1);
        for value in [0, first, last, 0, length] {
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
        self
    }

    fn words(&mut self, kind: u8, flags: u8, first: u16, last: u16) {
        self.bytes.extend_from_slice(&[0x88, 0x0d, 0, kind, FIXED, flags]);
        let length = last.wrapping_sub(first).wrapping_add(1);
        for value in [0, first, last, 0, length] {
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn finish(mut self) -> Vec<u8> {
        // End tag; a checksum of 0 is always right.
        self.bytes.extend_from_slice(&[0x79, 0]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_short() {
        let encode = |value| Terms::new().integer(value).into_bytes();
        assert_eq!(encode(0), [0]);
        assert_eq!(encode(1), [1]);
        assert_eq!(encode(5), [0x0a, 5]);
        assert_eq!(encode(0x1234), [0x0b, 0x34, 0x12]);
        assert_eq!(encode(0x1_ffff), [0x0c, 0xff, 0xff, 1, 0]);
        assert_eq!(encode(1 << 40).len(), 9);
    }

    #[test]
    fn identifiers_and_names() {
        assert_eq!(Terms::new().eisa("PNP0A03").into_bytes(), [0x0c, 0x41, 0xd0, 0x0a, 0x03]);
        assert_eq!(Terms::new().name("\\_S5", Terms::new().integer(1)).into_bytes(), b"\x08\\_S5_\x01");
        assert_eq!(Terms::new().string("a\0b").into_bytes(), b"\x0da\0");
    }

    #[test]
    fn lengths_have_up_to_four_bytes() {
        for (content, lead) in [(10usize, 1usize), (0x3e, 1), (0x3f, 2), (0xffd, 2), (0xffe, 3), (0xf_fffd, 4)] {
            let mut terms = Terms::new();
            terms.with_length(&alloc::vec![0xaa; content]);
            assert_eq!(terms.bytes.len(), content + lead, "{content:#x}");
            let first = usize::from(terms.bytes[0]);
            let decoded = if first >> 6 == 0 {
                first
            } else {
                (1..=first >> 6).rev().fold(0, |value, index| value << 8 | usize::from(terms.bytes[index])) << 4
                    | first & 0xf
            };
            assert_eq!(decoded, content + lead);
        }
    }
}
