//! Writes of control registers, EFER and XCR0: what the guest may set, and what follows from it (SDM vol. 3, 2.5 and 4.1).

use super::GeneralProtection;
use super::cpuid::CpuidTable;
use super::features::{basic_ecx, extended};
use crate::memory::{GuestMemory, GuestPhysical};

/// CR0.
pub mod cr0 {
    /// Protection enable.
    pub const PE: u64 = 1 << 0;
    /// Extension type: always 1.
    pub const ET: u64 = 1 << 4;
    /// Numeric error.
    pub const NE: u64 = 1 << 5;
    /// Not write-through.
    pub const NW: u64 = 1 << 29;
    /// Cache disable.
    pub const CD: u64 = 1 << 30;
    /// Paging.
    pub const PG: u64 = 1 << 31;
    /// All defined bits: those above, MP, EM, TS, WP, AM.
    pub const DEFINED: u64 = PE | ET | NE | NW | CD | PG | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 16 | 1 << 18;
}

/// CR4.
pub mod cr4 {
    /// Page-size extensions.
    pub const PSE: u64 = 1 << 4;
    /// Physical-address extension.
    pub const PAE: u64 = 1 << 5;
    /// Global pages.
    pub const PGE: u64 = 1 << 7;
    /// Process-context identifiers.
    pub const PCIDE: u64 = 1 << 17;
    /// XSAVE enable.
    pub const OSXSAVE: u64 = 1 << 18;
    /// Supervisor-mode execution prevention.
    pub const SMEP: u64 = 1 << 20;
    /// Supervisor-mode access prevention.
    pub const SMAP: u64 = 1 << 21;
}

/// EFER.
pub mod efer {
    /// SYSCALL enable.
    pub const SCE: u64 = 1 << 0;
    /// Long mode enable.
    pub const LME: u64 = 1 << 8;
    /// Long mode active.
    pub const LMA: u64 = 1 << 10;
    /// No-execute enable.
    pub const NXE: u64 = 1 << 11;
}

/// The registers as the guest sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ControlRegisters {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
    /// XCR0.
    pub xcr0: u64,
}

impl ControlRegisters {
    /// IA-32e mode is active.
    pub const fn long_mode(&self) -> bool {
        self.efer & efer::LMA != 0
    }

    /// PAE paging (of 32-bit mode) is active: its four page-directory pointers are registers.
    pub const fn pae_paging(&self) -> bool {
        self.cr0 & cr0::PG != 0 && self.cr4 & cr4::PAE != 0 && !self.long_mode()
    }
}

/// What a successful write leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlChange {
    /// The new values. EFER.LMA follows CR0.PG and EFER.LME; the VM-entry control "IA-32e mode guest" equals it.
    pub registers: ControlRegisters,
    /// The page-directory pointers of PAE paging are to be loaded from memory at CR3; the guest takes #GP instead of the change
    /// if one of them has a reserved bit set.
    pub load_page_directory_pointers: bool,
    /// The guest's cached translations are void.
    pub flush_translations: bool,
}

/// What this guest's registers may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlPolicy {
    cr4_allowed: u64,
    efer_allowed: u64,
    xcr0_allowed: u64,
    /// Bits of CR3 above the guest-physical addresses that exist.
    cr3_reserved: u64,
}

impl ControlPolicy {
    /// The values that the features in `table` imply.
    pub const fn new(table: &CpuidTable) -> Self {
        // VME, PVI, TSD, DE, PSE, PAE, MCE, PGE, PCE, OSFXSR, OSXMMEXCPT: on every processor with VMX.
        let mut cr4_allowed = 0x7ff;
        if table.structured_ebx() & 1 != 0 {
            cr4_allowed |= 1 << 16;
        }
        if table.basic_ecx() & basic_ecx::PCID != 0 {
            cr4_allowed |= cr4::PCIDE;
        }
        if table.basic_ecx() & basic_ecx::XSAVE != 0 {
            cr4_allowed |= cr4::OSXSAVE;
        }
        if table.structured_ebx() & 1 << 7 != 0 {
            cr4_allowed |= cr4::SMEP;
        }
        if table.structured_ebx() & 1 << 20 != 0 {
            cr4_allowed |= cr4::SMAP;
        }
        let mut efer_allowed = efer::LMA;
        if table.extended_edx() & extended::SYSCALL != 0 {
            efer_allowed |= efer::SCE;
        }
        if table.extended_edx() & extended::LONG_MODE != 0 {
            efer_allowed |= efer::LME;
        }
        if table.extended_edx() & extended::NO_EXECUTE != 0 {
            efer_allowed |= efer::NXE;
        }
        Self {
            cr4_allowed,
            efer_allowed,
            xcr0_allowed: table.xcr0_mask(),
            cr3_reserved: !((1 << table.physical_address_bits()) - 1),
        }
    }

    /// MOV to CR0, LMSW, CLTS. `code_is_64_bit`: CS.L of the guest.
    pub const fn write_cr0(
        &self,
        current: &ControlRegisters,
        code_is_64_bit: bool,
        value: u64,
    ) -> Result<ControlChange, GeneralProtection> {
        if value >> 32 != 0
            || value & cr0::PG != 0 && value & cr0::PE == 0
            || value & cr0::NW != 0 && value & cr0::CD == 0
        {
            return Err(GeneralProtection);
        }
        let mut new = *current;
        // Reserved bits below bit 32 are ignored.
        new.cr0 = value & cr0::DEFINED | cr0::ET;
        let starts_paging = new.cr0 & !current.cr0 & cr0::PG != 0;
        let stops_paging = current.cr0 & !new.cr0 & cr0::PG != 0;
        if starts_paging && current.efer & efer::LME != 0 {
            if current.cr4 & cr4::PAE == 0 || code_is_64_bit {
                return Err(GeneralProtection);
            }
            new.efer |= efer::LMA;
        }
        if stops_paging {
            if current.long_mode() && code_is_64_bit || current.cr4 & cr4::PCIDE != 0 {
                return Err(GeneralProtection);
            }
            new.efer &= !efer::LMA;
        }
        // CD, NW and PG are what a change of loads the page-directory pointers anew.
        let relevant = (current.cr0 ^ new.cr0) & (cr0::PG | cr0::CD | cr0::NW) != 0;
        Ok(ControlChange {
            registers: new,
            load_page_directory_pointers: relevant && new.pae_paging(),
            flush_translations: (current.cr0 ^ new.cr0) & (cr0::PG | cr0::PE | 1 << 16) != 0,
        })
    }

    /// MOV to CR3.
    pub const fn write_cr3(&self, current: &ControlRegisters, value: u64) -> Result<ControlChange, GeneralProtection> {
        let mut value = value;
        let keeps_translations = current.cr4 & cr4::PCIDE != 0 && value >> 63 != 0;
        if current.cr4 & cr4::PCIDE != 0 {
            value &= !(1 << 63);
        }
        if current.long_mode() && value & self.cr3_reserved != 0 {
            return Err(GeneralProtection);
        }
        let mut new = *current;
        new.cr3 = if current.long_mode() { value } else { value & 0xffff_ffff };
        Ok(ControlChange {
            registers: new,
            load_page_directory_pointers: new.pae_paging(),
            flush_translations: !keeps_translations,
        })
    }

    /// MOV to CR4.
    pub const fn write_cr4(&self, current: &ControlRegisters, value: u64) -> Result<ControlChange, GeneralProtection> {
        let sets_pcide = value & !current.cr4 & cr4::PCIDE != 0;
        if value & !self.cr4_allowed != 0
            || current.long_mode() && value & cr4::PAE == 0
            || sets_pcide && (!current.long_mode() || current.cr3 & 0xfff != 0)
        {
            return Err(GeneralProtection);
        }
        let mut new = *current;
        new.cr4 = value;
        let changed = current.cr4 ^ value;
        let paging = cr4::PSE | cr4::PAE | cr4::PGE | cr4::SMEP;
        Ok(ControlChange {
            registers: new,
            load_page_directory_pointers: changed & paging != 0 && new.pae_paging(),
            flush_translations: changed & (paging | cr4::SMAP | cr4::PCIDE) != 0,
        })
    }

    /// WRMSR to IA32_EFER.
    pub const fn write_efer(&self, current: &ControlRegisters, value: u64) -> Result<ControlChange, GeneralProtection> {
        let changes_mode = (current.efer ^ value) & efer::LME != 0;
        if value & !self.efer_allowed != 0 || changes_mode && current.cr0 & cr0::PG != 0 {
            return Err(GeneralProtection);
        }
        let mut new = *current;
        // LMA is read-only: the value written there is ignored.
        new.efer = value & !efer::LMA | current.efer & efer::LMA;
        let flush_translations = (current.efer ^ new.efer) & efer::NXE != 0;
        Ok(ControlChange { registers: new, load_page_directory_pointers: false, flush_translations })
    }

    /// XSETBV of register `index`. The caller has checked CR4.OSXSAVE and CPL 0.
    pub const fn write_xcr(
        &self,
        current: &ControlRegisters,
        index: u32,
        value: u64,
    ) -> Result<ControlChange, GeneralProtection> {
        const SSE: u64 = 1 << 1;
        const AVX: u64 = 1 << 2;
        const AVX512: u64 = 7 << 5;
        if index != 0
            || value & 1 == 0
            || value & !self.xcr0_allowed != 0
            || value & AVX != 0 && value & SSE == 0
            || value & AVX512 != 0 && value & (AVX512 | AVX) != AVX512 | AVX
        {
            return Err(GeneralProtection);
        }
        let mut new = *current;
        new.xcr0 = value;
        Ok(ControlChange { registers: new, load_page_directory_pointers: false, flush_translations: false })
    }

    /// The registers of PAE paging, as they are loaded from memory (SDM vol. 3, 5.4.1).
    ///
    /// # Errors
    /// They are not in memory, or one that is present has a reserved bit set (table 5-8): the guest's change is none.
    pub fn page_directory_pointers(&self, memory: &impl GuestMemory, cr3: u64) -> Result<[u64; 4], GeneralProtection> {
        const PRESENT: u64 = 1 << 0;
        const RESERVED: u64 = 0x1e6;
        let base = GuestPhysical(cr3 & 0xffff_ffe0);
        let mut pointers = [0; 4];
        for (index, pointer) in (0..).zip(&mut pointers) {
            *pointer = memory.read_u64(base.offset(8 * index)).map_err(|_| GeneralProtection)?;
            if *pointer & PRESENT != 0 && *pointer & (RESERVED | self.cr3_reserved) != 0 {
                return Err(GeneralProtection);
            }
        }
        Ok(pointers)
    }

    /// XCR0 values that the guest may set.
    pub const fn xcr0_allowed(&self) -> u64 {
        self.xcr0_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::test::VecMemory;
    use proptest::prelude::*;

    const POLICY: ControlPolicy = ControlPolicy {
        cr4_allowed: 0x3f_07ff & !(1 << 19),
        efer_allowed: 0xd01,
        xcr0_allowed: 0xe7,
        cr3_reserved: !((1 << 40) - 1),
    };

    #[test]
    fn long_mode_is_entered_and_left() {
        let start = ControlRegisters { cr0: 0x11, ..Default::default() };
        let Ok(change) = POLICY.write_efer(&start, 0x100) else { panic!() };
        let enabled = change.registers;
        assert_eq!(POLICY.write_cr0(&enabled, false, 0x8000_0011), Err(GeneralProtection), "without PAE");
        let Ok(change) = POLICY.write_cr4(&enabled, 0x20) else { panic!() };
        let Ok(change) = POLICY.write_cr0(&change.registers, false, 0x8000_0011) else { panic!() };
        let active = change.registers;
        assert!(active.long_mode());
        assert!(!change.load_page_directory_pointers);
        assert!(change.flush_translations);
        assert_eq!(POLICY.write_cr4(&active, 0), Err(GeneralProtection));
        assert_eq!(POLICY.write_efer(&active, 0), Err(GeneralProtection));
        assert!(POLICY.write_efer(&active, 0x901).is_ok_and(|change| change.registers.efer == 0xd01));
        assert_eq!(POLICY.write_cr0(&active, true, 0x11), Err(GeneralProtection), "in 64-bit code");
        let Ok(change) = POLICY.write_cr0(&active, false, 0x11) else { panic!() };
        assert!(!change.registers.long_mode());
    }

    #[test]
    fn cr0_combinations() {
        let start = ControlRegisters { cr0: 0x11, ..Default::default() };
        assert_eq!(POLICY.write_cr0(&start, false, 0x8000_0010), Err(GeneralProtection));
        assert_eq!(POLICY.write_cr0(&start, false, 0x2000_0011), Err(GeneralProtection));
        assert_eq!(POLICY.write_cr0(&start, false, 1 << 32), Err(GeneralProtection));
        assert!(POLICY.write_cr0(&start, false, 0).is_ok_and(|change| change.registers.cr0 == 0x10));
    }

    #[test]
    fn pae_paging_loads_its_pointers() {
        let start = ControlRegisters { cr0: 0x11, cr4: 0x20, ..Default::default() };
        let Ok(change) = POLICY.write_cr0(&start, false, 0x8000_0011) else { panic!() };
        assert!(change.load_page_directory_pointers);
        assert!(POLICY.write_cr3(&change.registers, 0x1000).is_ok_and(|change| change.load_page_directory_pointers));
        assert!(POLICY.write_cr4(&change.registers, 0xa0).is_ok_and(|change| change.load_page_directory_pointers));
    }

    #[test]
    fn pointers_with_reserved_bits_are_refused() {
        let memory = VecMemory::new(1 << 20);
        // Bit 63, or whatever is above the physical addresses, matters where the entry is present.
        let entries = [0x2001, 0xffff_ffff_ffff_fffe, 0x3019, 0x4e01];
        for (index, entry) in (0..).zip(entries) {
            memory.write(GuestPhysical(0x1020 + 8 * index), &u64::to_le_bytes(entry)).unwrap();
        }
        assert_eq!(POLICY.page_directory_pointers(&memory, 0x103f), Ok(entries));
        for reserved in [1 << 1, 1 << 2, 1 << 5, 1 << 8, 1 << 63] {
            memory.write(GuestPhysical(0x1038), &u64::to_le_bytes(0x4001 | reserved)).unwrap();
            assert_eq!(POLICY.page_directory_pointers(&memory, 0x1020), Err(GeneralProtection), "{reserved:#x}");
        }
        assert_eq!(POLICY.page_directory_pointers(&memory, 0x20_0000), Err(GeneralProtection));
    }

    #[test]
    fn process_context_identifiers() {
        let long = ControlRegisters { cr0: 0x8000_0011, cr4: 0x20, efer: 0x500, cr3: 0x1001, xcr0: 1 };
        assert_eq!(POLICY.write_cr4(&long, 0x2_0020), Err(GeneralProtection));
        let aligned = ControlRegisters { cr3: 0x1000, ..long };
        let Ok(change) = POLICY.write_cr4(&aligned, 0x2_0020) else { panic!() };
        assert!(POLICY.write_cr3(&change.registers, 1 << 63 | 0x2002).is_ok_and(|change| !change.flush_translations));
        assert_eq!(POLICY.write_cr3(&long, 1 << 63), Err(GeneralProtection));
        assert_eq!(POLICY.write_cr0(&change.registers, false, 0x11), Err(GeneralProtection));
    }

    #[test]
    fn extended_states() {
        let start = ControlRegisters { xcr0: 1, ..Default::default() };
        for (value, valid) in
            [(1, true), (3, true), (7, true), (0xe7, true), (0, false), (5, false), (0x27, false), (9, false)]
        {
            assert_eq!(POLICY.write_xcr(&start, 0, value).is_ok(), valid, "{value:#x}");
        }
        assert!(POLICY.write_xcr(&start, 1, 1).is_err());
    }

    proptest! {
        #[test]
        fn invariants_hold(steps in proptest::collection::vec((0u8..4, any::<bool>(), any::<u64>()), 0..100)) {
            let mut registers = ControlRegisters { cr0: 0x10, xcr0: 1, ..Default::default() };
            for (which, code, value) in steps {
                let change = match which {
                    0 => POLICY.write_cr0(&registers, code, value & 0xe005_003f),
                    1 => POLICY.write_cr4(&registers, value & 0x3f_ffff),
                    2 => POLICY.write_efer(&registers, value & 0xfff),
                    _ => POLICY.write_cr3(&registers, value),
                };
                if let Ok(change) = change { registers = change.registers; }
                let paging = registers.cr0 & cr0::PG != 0;
                prop_assert!(!paging || registers.cr0 & cr0::PE != 0);
                prop_assert_eq!(registers.long_mode(), paging && registers.efer & efer::LME != 0);
                prop_assert!(!registers.long_mode() || registers.cr4 & cr4::PAE != 0);
                prop_assert!(registers.cr4 & cr4::PCIDE == 0 || registers.long_mode());
            }
        }
    }
}
