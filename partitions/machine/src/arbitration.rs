//! What a processor is interrupted by at its next entry.

/// What decides whether a processor takes an event at its next entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Readiness {
    /// RFLAGS.
    pub rflags: u64,
    /// Interruptibility state as VMX has it (SDM vol. 3, 25.4.2). Whoever skips an instruction for the guest, HLT too, ends
    /// the blocking by STI and MOV SS first.
    pub interruptibility: u32,
    /// Another event (an exception, or one whose delivery was cut short) is injected at the next entry already.
    pub occupied: bool,
}

impl Readiness {
    const INTERRUPT_FLAG: u64 = 1 << 9;
    const BLOCKING_BY_STI: u32 = 1 << 0;
    const BLOCKING_BY_MOV_SS: u32 = 1 << 1;
    const BLOCKING_BY_NMI: u32 = 1 << 3;

    /// Whether it takes an interrupt.
    pub const fn interrupts(&self) -> bool {
        self.rflags & Self::INTERRUPT_FLAG != 0
            && self.interruptibility & (Self::BLOCKING_BY_STI | Self::BLOCKING_BY_MOV_SS) == 0
            && !self.occupied
    }

    /// Whether it takes an NMI.
    pub const fn nmi(&self) -> bool {
        let blocking = Self::BLOCKING_BY_STI | Self::BLOCKING_BY_MOV_SS | Self::BLOCKING_BY_NMI;
        self.interruptibility & blocking == 0 && !self.occupied
    }
}

/// What the next entry is to do about pending events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arbitration {
    /// The event to inject, in VM-entry interruption-information format (SDM vol. 3, 25.8.3); 0 for none.
    pub injection: u32,
    /// Exit as soon as the guest can take an interrupt.
    pub interrupt_window: bool,
    /// Exit as soon as the guest can take an NMI.
    pub nmi_window: bool,
}

impl Arbitration {
    const VALID: u32 = 1 << 31;
    const NMI: u32 = 2 << 8;

    /// Injects an external interrupt.
    pub const fn external(vector: u8) -> u32 {
        Self::VALID | vector as u32
    }

    /// Injects an NMI.
    pub const fn nmi() -> u32 {
        Self::VALID | Self::NMI | 2
    }
}
