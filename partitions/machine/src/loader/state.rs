//! The state in which a guest processor starts.

use super::placement::{GDT, PAGE_TABLES};
use crate::memory::{GuestMemory, GuestPhysical, OutOfGuest};
use bulkhead_abi::{NO_DEADLINE, Segment, StateGroups, VcpuState, register, segment};

const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
/// CR0 after reset and INIT: ET, and caches off.
const CR0_AFTER_RESET: u64 = 1 << 30 | 1 << 29 | CR0_ET;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// Selector of the boot code segment (`__BOOT_CS` of the Linux boot protocol).
const CODE_SELECTOR: u64 = 0x10;
/// Selector of the boot data segment (`__BOOT_DS`).
const DATA_SELECTOR: u64 = 0x18;

/// Access rights in VMX format (SDM vol. 3, 25.4.1, table 25-2): present, accessed.
mod access {
    pub const CODE_16: u32 = 0x009b;
    pub const CODE_32: u32 = 0xc09b;
    pub const CODE_64: u32 = 0xa09b;
    pub const DATA_16: u32 = 0x0093;
    pub const DATA_32: u32 = 0xc093;
    pub const LDT: u32 = 0x0082;
    pub const TSS_BUSY: u32 = 0x008b;
}

/// The state of a processor before its first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootState {
    /// General registers in encoding order; RSP is in `rsp`.
    pub registers: [u64; 16],
    /// Entry point, as an offset in CS.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
    /// Segment registers, by [`segment`].
    pub segments: [Segment; 8],
    /// GDTR.
    pub gdtr: Segment,
    /// IDTR.
    pub idtr: Segment,
}

fn flat(selector: u64, access: u32) -> Segment {
    Segment { base: 0, limit: 0xffff_ffff, access, selector }
}

fn table(base: u64, limit: u32) -> Segment {
    Segment { base, limit, access: 0, selector: 0 }
}

impl BootState {
    /// The state after INIT and a start-up IPI with `vector` (SDM vol. 3, 9.4.4 and table 9-1): real mode at `vector` * 4 KiB.
    pub fn startup(vector: u8) -> Self {
        let mut state = Self::real_mode(0);
        state.cr0 = CR0_AFTER_RESET;
        if let Some(code) = state.segments.get_mut(segment::CS) {
            code.selector = u64::from(vector) << 8;
            code.base = u64::from(vector) << 12;
        }
        state
    }

    /// The state after a reset (SDM vol. 3, 9.1.4 and table 9-1): real mode with caches off, 16 bytes below 4 GiB.
    /// `signature` is what CPUID says of family, model and stepping.
    pub fn reset(signature: u32) -> Self {
        let mut state = Self::real_mode(0);
        state.rip = 0xfff0;
        state.registers[register::RDX] = u64::from(signature);
        state.cr0 = CR0_AFTER_RESET;
        if let Some(code) = state.segments.get_mut(segment::CS) {
            code.selector = 0xf000;
            code.base = 0xffff_0000;
        }
        state
    }

    /// Real mode at linear address `entry`, all segments at base 0, the stack right below.
    pub fn real_mode(entry: u16) -> Self {
        let data = Segment { base: 0, limit: 0xffff, access: access::DATA_16, selector: 0 };
        let code = Segment { access: access::CODE_16, ..data };
        Self {
            registers: [0; 16],
            rip: u64::from(entry),
            rsp: u64::from(entry),
            rflags: 2,
            cr0: CR0_ET,
            cr3: 0,
            cr4: 0,
            efer: 0,
            segments: [
                data,
                code,
                data,
                data,
                data,
                data,
                Segment { access: access::LDT, ..data },
                Segment { access: access::TSS_BUSY, ..data },
            ],
            gdtr: table(0, 0xffff),
            idtr: table(0, 0xffff),
        }
    }

    fn with_flat_segments(code: u32) -> Self {
        let data = flat(DATA_SELECTOR, access::DATA_32);
        let mut state = Self::real_mode(0);
        state.segments = [
            data,
            flat(CODE_SELECTOR, code),
            data,
            data,
            data,
            data,
            Segment { base: 0, limit: 0xffff, access: access::LDT, selector: 0 },
            Segment { base: 0, limit: 0xffff, access: access::TSS_BUSY, selector: 0x20 },
        ];
        state.gdtr = table(GDT.0, 4 * 8 - 1);
        state.idtr = table(0, 0);
        state
    }

    /// 32-bit protected mode without paging, flat segments. [`write_gdt`] must have been called.
    pub fn protected_mode(entry: u32, stack: u32) -> Self {
        let mut state = Self::with_flat_segments(access::CODE_32);
        state.rip = u64::from(entry);
        state.rsp = u64::from(stack);
        state.cr0 |= CR0_PE;
        state
    }

    /// 64-bit mode on the identity page tables. [`write_gdt`] and [`write_page_tables`] must have been called.
    pub fn long_mode(entry: u64, stack: u64) -> Self {
        let mut state = Self::with_flat_segments(access::CODE_64);
        state.rip = entry;
        state.rsp = stack;
        state.cr0 |= CR0_PE | CR0_PG;
        state.cr3 = PAGE_TABLES.0;
        state.cr4 = CR4_PAE;
        state.efer = EFER_LME | EFER_LMA;
        state
    }

    /// Puts this state, and the reset value of everything else, into `state`, marked for the kernel to load.
    pub fn apply(&self, state: &mut VcpuState) {
        self.apply_init(state);
        state.xcr0 = 1;
        state.dr7 = 0x400;
        state.star = 0;
        state.lstar = 0;
        state.cstar = 0;
        state.fmask = 0;
        state.kernel_gs_base = 0;
        state.sysenter_cs = 0;
        state.sysenter_esp = 0;
        state.sysenter_eip = 0;
        // SDM vol. 3, 12.12.4: the page attribute table after reset.
        state.pat = 0x0007_0406_0007_0406;
        // The page outlives the monitor: what its last life waited for is not this one's.
        (state.interrupt_window, state.nmi_window, state.deadline) = (0, 0, NO_DEADLINE);
        (state.interrupt_status, state.tsc_offset, state.pdptes) = (0, 0, [0; 4]);
        state.dirty |= Self::STARTED.bits();
    }

    /// What [`Self::apply`] sets beside [`Self::GROUPS`].
    const STARTED: StateGroups = StateGroups::SYSTEM_REGISTERS
        .union(StateGroups::XCR0)
        .union(StateGroups::WINDOWS)
        .union(StateGroups::DEADLINE)
        .union(StateGroups::INTERRUPT_STATUS)
        .union(StateGroups::TSC_OFFSET)
        .union(StateGroups::PDPTES);

    /// The same after INIT, which leaves model-specific registers and XCR0 as they were (SDM vol. 3, table 10-1).
    pub fn apply_init(&self, state: &mut VcpuState) {
        state.registers = self.registers;
        state.rip = self.rip;
        state.rsp = self.rsp;
        state.rflags = self.rflags;
        state.cr0 = self.cr0;
        state.cr2 = 0;
        state.cr3 = self.cr3;
        state.cr4 = self.cr4;
        state.efer = self.efer;
        state.segments = self.segments;
        state.gdtr = self.gdtr;
        state.idtr = self.idtr;
        state.interruptibility = 0;
        state.activity = 0;
        state.injection = 0;
        state.dr = [0; 4];
        state.dr6 = 0xffff_0ff0;
        state.pending_debug = 0;
        state.dirty |= Self::GROUPS.bits();
    }

    /// What [`Self::apply_init`] sets.
    pub const GROUPS: StateGroups = StateGroups::RIP
        .union(StateGroups::RFLAGS)
        .union(StateGroups::RSP)
        .union(StateGroups::INJECTION)
        .union(StateGroups::INTERRUPTIBILITY)
        .union(StateGroups::CONTROL_REGISTERS)
        .union(StateGroups::SEGMENTS)
        .union(StateGroups::DEBUG)
        .union(StateGroups::PENDING_DEBUG);
}

/// Writes the boot GDT: null, unused, code, data. `long`: the code segment is a 64-bit one.
pub fn write_gdt(memory: &impl GuestMemory, long: bool) -> Result<(), OutOfGuest> {
    let code: u64 = if long { 0x00af_9b00_0000_ffff } else { 0x00cf_9b00_0000_ffff };
    let data: u64 = 0x00cf_9300_0000_ffff;
    for (index, descriptor) in [0, 0, code, data].into_iter().enumerate() {
        memory.write(GDT.offset(8 * index as u64), &descriptor.to_le_bytes())?;
    }
    Ok(())
}

/// Writes page tables that map the first 4 GiB one to one with 2 MiB pages.
pub fn write_page_tables(memory: &impl GuestMemory) -> Result<(), OutOfGuest> {
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    const DIRECTORIES: u64 = 4;
    let pdpt = PAGE_TABLES.offset(0x1000);
    memory.fill(PAGE_TABLES, 0x2000, 0)?;
    memory.write(PAGE_TABLES, &(pdpt.0 | PRESENT_WRITABLE).to_le_bytes())?;
    for gigabyte in 0..DIRECTORIES {
        let directory = pdpt.offset(0x1000 * (gigabyte + 1));
        memory.write(pdpt.offset(8 * gigabyte), &(directory.0 | PRESENT_WRITABLE).to_le_bytes())?;
        for index in 0..512 {
            let frame = (gigabyte << 30) | (index << 21);
            let entry = frame | LARGE | PRESENT_WRITABLE;
            memory.write(GuestPhysical(directory.0 + 8 * index), &entry.to_le_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn what_an_earlier_life_of_the_monitor_waited_for_is_forgotten() {
        let mut state = VcpuState::new_zeroed();
        (state.interrupt_window, state.nmi_window, state.deadline) = (1, 1, 1000);
        (state.interrupt_status, state.injection, state.pending_debug) = (0x3031, 1 << 31 | 0x30, 1 << 14);
        BootState::startup(0x9a).apply(&mut state);
        assert_eq!((state.interrupt_window, state.nmi_window, state.deadline), (0, 0, NO_DEADLINE));
        assert_eq!((state.interrupt_status, state.injection, state.pending_debug), (0, 0, 0));
        let kept = StateGroups::WINDOWS | StateGroups::DEADLINE | StateGroups::INTERRUPT_STATUS;
        assert!(StateGroups::from_bits_truncate(state.dirty).contains(kept));
    }

    #[test]
    fn a_started_processor_is_in_real_mode_at_its_vector() {
        let mut state = VcpuState::new_zeroed();
        BootState::startup(0x9a).apply(&mut state);
        let code = state.segments[segment::CS];
        assert_eq!((code.selector, code.base, code.access, state.rip), (0x9a00, 0x9_a000, 0x9b, 0));
        assert_eq!((state.cr0, state.rflags, state.dr7, state.xcr0), (0x6000_0010, 2, 0x400, 1));
        assert_eq!(state.dirty, (BootState::GROUPS | BootState::STARTED).bits());
    }
}
