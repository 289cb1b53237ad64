//! A local APIC that the processor virtualizes (SDM vol. 3, chapter 30): its registers are in the virtual-APIC page, the
//! guest reads and writes them and takes and ends interrupts there without an exit. The model keeps what has a meaning
//! beyond the page (timer, command, addresses) and copies its registers there; requests, service and priority are the page's.

use crate::atomics::{AtomicU32, Ordering};
use crate::devices::lapic::LocalApic;
use crate::devices::lapic::vectors::VectorSet;
use crate::posted::Posted;

/// Byte offsets of registers in the page (SDM vol. 3, table 11-1).
mod offset {
    pub const IDENTIFIER: u32 = 0x20;
    pub const TASK_PRIORITY: u32 = 0x80;
    pub const PROCESSOR_PRIORITY: u32 = 0xa0;
    pub const LOGICAL_DESTINATION: u32 = 0xd0;
    pub const SPURIOUS: u32 = 0xf0;
    pub const IN_SERVICE: u32 = 0x100;
    pub const TRIGGER_MODE: u32 = 0x180;
    pub const REQUESTS: u32 = 0x200;
    pub const ERROR_STATUS: u32 = 0x280;
    pub const COMMAND_LOW: u32 = 0x300;
    pub const COMMAND_HIGH: u32 = 0x310;
}

/// Registers that are copied as they are: version, destination format, spurious, errors, LVT, initial count, divide.
const COPIED: [u32; 12] = [0x30, 0xe0, 0xf0, 0x280, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x3e0];
/// 32-bit words of the page.
const WORDS: usize = 1024;

/// The page, and which vectors' ends exit.
#[derive(Clone, Debug)]
pub struct VirtualApic {
    page: &'static [AtomicU32],
    eoi_exits: VectorSet,
}

impl VirtualApic {
    /// The virtual-APIC page in `page`; nothing if that is too short.
    pub fn new(page: &'static [AtomicU32]) -> Option<Self> {
        (page.len() >= WORDS).then_some(Self { page, eoi_exits: VectorSet::default() })
    }

    /// Where interrupts are posted for it.
    pub fn posted(&self) -> Posted {
        Posted::new(self.page)
    }

    /// The register at a byte offset.
    pub fn read(&self, offset: u32) -> u32 {
        self.page.get(offset as usize / 4).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn write(&self, offset: u32, value: u32) {
        if let Some(word) = self.page.get(offset as usize / 4) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Whether the register at this offset is the page's alone.
    pub const fn owns(offset: u32) -> bool {
        matches!(offset & 0xff0, offset::TASK_PRIORITY | offset::PROCESSOR_PRIORITY)
            || offset >= offset::IN_SERVICE && offset < offset::ERROR_STATUS
    }

    /// Requests a vector. Whether the set of vectors whose end exits has changed: level-triggered ones do.
    pub fn request(&mut self, vector: u8, level_triggered: bool) -> bool {
        let (register, bit) = (u32::from(vector >> 5) * 16, 1 << (vector & 31));
        let place = offset::REQUESTS + register;
        self.write(place, self.read(place) | bit);
        if level_triggered == self.eoi_exits.contains(vector) {
            return false;
        }
        let modes = self.read(offset::TRIGGER_MODE + register);
        if level_triggered {
            self.eoi_exits.insert(vector);
            self.write(offset::TRIGGER_MODE + register, modes | bit);
        } else {
            self.eoi_exits.remove(vector);
            self.write(offset::TRIGGER_MODE + register, modes & !bit);
        }
        true
    }

    /// The highest vector of a set of eight registers; 0 for none.
    fn highest(&self, set: u32) -> u32 {
        for index in (0..8).rev() {
            let word = self.read(set + 16 * index);
            if word != 0 {
                return 32 * index + 31 - word.leading_zeros();
            }
        }
        0
    }

    /// Guest interrupt status: highest requested vector, and highest in service in bits 15 to 8 (SDM vol. 3, 25.4.2).
    pub fn status(&self) -> u32 {
        self.highest(offset::REQUESTS) | self.highest(offset::IN_SERVICE) << 8
    }

    /// Whether a requested vector would interrupt the processor if its interrupts were enabled.
    pub fn is_deliverable(&self) -> bool {
        let priority = self.read(offset::TASK_PRIORITY).max(self.highest(offset::IN_SERVICE));
        self.highest(offset::REQUESTS) >> 4 > priority >> 4
    }

    /// The task priority.
    pub fn task_priority(&self) -> u8 {
        self.read(offset::TASK_PRIORITY) as u8
    }

    /// Sets the task priority.
    pub fn set_task_priority(&self, value: u32) {
        self.write(offset::TASK_PRIORITY, value & 0xff);
    }

    /// Ends the interrupt of the highest vector in service: that vector, if it is level-triggered.
    pub fn end_of_interrupt(&self) -> Option<u8> {
        let vector = self.highest(offset::IN_SERVICE);
        let place = offset::IN_SERVICE + (vector >> 5) * 16;
        self.write(place, self.read(place) & !(1 << (vector & 31)));
        Some(vector as u8).filter(|vector| self.eoi_exits.contains(*vector))
    }

    /// Vectors whose end exits, 64 a word.
    pub const fn eoi_exits(&self) -> [u64; 4] {
        self.eoi_exits.words()
    }

    /// Requests the vectors that are posted. Whether there were any.
    pub fn request_posted(&mut self) -> bool {
        let mut any = false;
        for vector in self.posted().take() {
            self.request(vector, false);
            any = true;
        }
        any
    }

    /// After reset: nothing requested or in service.
    pub fn reset(&mut self) {
        self.posted().take().for_each(drop);
        self.eoi_exits = VectorSet::default();
        for place in (offset::IN_SERVICE..offset::ERROR_STATUS).step_by(16) {
            self.write(place, 0);
        }
        self.write(offset::TASK_PRIORITY, 0);
        self.write(offset::PROCESSOR_PRIORITY, 0);
    }

    /// Copies the model's registers to the page.
    pub fn copy(&self, apic: &mut LocalApic, now: u64) {
        for place in COPIED {
            self.write(place, apic.read_memory(u64::from(place), now));
        }
        self.copy_command(apic);
        let wide = apic.is_x2apic();
        let narrow = |place: u32, apic: &mut LocalApic| apic.read_memory(u64::from(place), now);
        let logical = match apic.read_x2apic(offset::LOGICAL_DESTINATION >> 4, now) {
            Ok(value) => value as u32,
            Err(_) => narrow(offset::LOGICAL_DESTINATION, apic),
        };
        self.write(offset::LOGICAL_DESTINATION, logical);
        self.write(offset::IDENTIFIER, if wide { apic.identifier() } else { apic.identifier() << 24 });
    }

    /// Copies what a write to the model's register at `offset` may have changed.
    pub fn copy_register(&self, apic: &mut LocalApic, offset: u32, now: u64) {
        match offset & 0xff0 {
            offset::COMMAND_LOW => self.copy_command(apic),
            // Switching the local APIC off masks its local vectors.
            offset::SPURIOUS | offset::LOGICAL_DESTINATION => self.copy(apic, now),
            place => self.write(place, apic.read_memory(u64::from(place), now)),
        }
    }

    fn copy_command(&self, apic: &LocalApic) {
        let command = apic.command();
        self.write(offset::COMMAND_LOW, command as u32);
        // In x2APIC mode the command is one register of 64 bits.
        let high = if apic.is_x2apic() { offset::COMMAND_LOW + 4 } else { offset::COMMAND_HIGH };
        self.write(high, (command >> 32) as u32);
    }

    /// Offset of the command register's upper half, which the guest writes without an exit.
    pub const COMMAND_HIGH: u32 = offset::COMMAND_HIGH;
    /// Offset of its lower half.
    pub const COMMAND_LOW: u32 = offset::COMMAND_LOW;
    /// Offset of the task-priority register.
    pub const TASK_PRIORITY: u32 = offset::TASK_PRIORITY;
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use alloc::vec::Vec;

    fn page() -> VirtualApic {
        let words: Vec<_> = (0..WORDS).map(|_| AtomicU32::new(0)).collect();
        VirtualApic::new(Box::leak(words.into_boxed_slice())).unwrap()
    }

    #[test]
    fn requests_and_priorities() {
        let mut apic = page();
        assert!(!apic.is_deliverable());
        assert!(!apic.request(0x31, false));
        assert!(!apic.request(0xec, false));
        assert_eq!(apic.status(), 0xec);
        assert!(apic.is_deliverable());
        apic.set_task_priority(0xe0);
        assert!(!apic.is_deliverable(), "the same class waits");
        assert!(apic.request(0x41, true));
        assert!(!apic.request(0x41, true));
        assert_eq!(apic.eoi_exits(), [0, 2, 0, 0]);
        apic.write(offset::IN_SERVICE + 0x20, 2);
        assert_eq!(apic.status(), 0x41ec);
        assert_eq!(apic.end_of_interrupt(), Some(0x41));
        assert!(apic.request(0x41, false));
        assert_eq!(apic.end_of_interrupt(), None);
        apic.reset();
        assert_eq!((apic.status(), apic.eoi_exits()), (0, [0; 4]));
    }

    #[test]
    fn registers_are_copied_in_both_modes() {
        let page = page();
        let mut apic = LocalApic::new(3, 0);
        apic.write_memory(0xf0, 0x1ff, 0);
        apic.write_memory(0xd0, 0x0800_0000, 0);
        apic.write_memory(0x310, 0x0200_0000, 0);
        page.copy(&mut apic, 0);
        assert_eq!((page.read(0x20), page.read(0xd0)), (3 << 24, 0x0800_0000));
        assert_eq!((page.read(0xf0), page.read(0x310), page.read(0x320)), (0x1ff, 0x0200_0000, 0x1_0000));
        apic.set_x2apic();
        page.copy(&mut apic, 0);
        assert_eq!((page.read(0x20), page.read(0xd0)), (3, 8));
    }
}
