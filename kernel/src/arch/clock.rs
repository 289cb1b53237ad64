//! Legacy timing hardware, used once: the PIT to calibrate the TSC, and the PICs to be silenced.

use crate::arch::msr;
use x86::io::{inb, outb};

/// Ticks a second of the PIT (8254).
const PIT_HERTZ: u64 = 1_193_182;
/// PIT ticks of one measurement: 10 ms.
const SPAN: u64 = PIT_HERTZ / 100;
/// Measurements; the shortest counts, since only delays can falsify one.
const ROUNDS: usize = 3;

/// TSC ticks a second, by channel 2 of the PIT behind port 0x61; 0 if the PIT does not answer.
pub fn measure_tsc() -> u64 {
    let shortest = (0..ROUNDS).filter_map(|_| measure_once()).min();
    shortest.map_or(0, |ticks| (u128::from(ticks) * u128::from(PIT_HERTZ) / u128::from(SPAN)) as u64)
}

fn measure_once() -> Option<u64> {
    // SAFETY: the PIT's channel 2 and its gate belong to nobody else at this time; the speaker stays off.
    unsafe {
        outb(0x61, inb(0x61) & !2 | 1);
        outb(0x43, 0xb0);
        outb(0x42, SPAN as u8);
        outb(0x42, (SPAN >> 8) as u8);
        // The gate's rising edge is not needed in mode 0: counting begins with the second byte.
        let start = msr::tsc();
        let limit = start + (1 << 34);
        while inb(0x61) & 0x20 == 0 {
            if msr::tsc() > limit {
                return None;
            }
        }
        Some(msr::tsc() - start)
    }
}

/// Masks both PICs, moved to vectors that the kernel takes for spurious ones.
pub fn silence_pics() {
    // SAFETY: initialisation sequence of the 8259A; afterwards both are masked.
    unsafe {
        for (port, values) in [(0x20u16, [0x11u8, 0x20, 4, 1]), (0xa0, [0x11, 0x28, 2, 1])] {
            outb(port, values[0]);
            for value in &values[1..] {
                outb(port + 1, *value);
            }
            outb(port + 1, 0xff);
        }
    }
}
