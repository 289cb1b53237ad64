//! Inputs: random bytes, with the values that break things more often than chance has it, and changed copies of earlier ones.

/// Values that are often wrong.
const SPECIAL: [u64; 12] =
    [0, 1, 2, 15, 16, 255, 256, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff];
/// Most bytes of an input.
const LONGEST: u64 = 2048;
/// Inputs that are kept to be changed.
const KEPT: usize = 32;

/// Makes inputs.
#[derive(Clone, Debug)]
pub struct Generator {
    state: u64,
    kept: Vec<Vec<u8>>,
}

impl Generator {
    /// The same seed gives the same inputs.
    pub fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, kept: Vec::new() }
    }

    /// The next random number (xorshift64*).
    fn number(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> usize {
        ((self.number() >> 16) % end.max(1)) as usize
    }

    /// The next input.
    pub fn input(&mut self) -> Vec<u8> {
        let old = match self.kept.len() {
            0 => None,
            count => {
                let index = self.below(2 * count as u64);
                self.kept.get(index).cloned()
            }
        };
        let bytes = match old {
            Some(bytes) => self.changed(bytes),
            None => {
                let length = self.below(LONGEST);
                (0..length).map(|_| self.number() as u8).collect()
            }
        };
        if self.kept.len() < KEPT {
            self.kept.push(bytes.clone());
        } else {
            let place = self.below(KEPT as u64);
            self.kept[place].clone_from(&bytes);
        }
        bytes
    }

    fn changed(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.below(8) {
            let at = self.below(bytes.len() as u64 + 1);
            match self.below(4) {
                0 => {
                    let value = self.number() as u8;
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = value;
                    }
                }
                1 => {
                    let index = self.below(SPECIAL.len() as u64);
                    for (to, from) in bytes.iter_mut().skip(at).zip(SPECIAL[index].to_be_bytes()) {
                        *to = from;
                    }
                }
                2 => bytes.truncate(at),
                _ => {
                    let more: Vec<u8> = (0..self.below(64)).map(|_| self.number() as u8).collect();
                    bytes.splice(at..at, more);
                }
            }
        }
        bytes.truncate(LONGEST as usize);
        bytes
    }
}
