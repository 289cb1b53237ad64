//! The VM-execution, VM-exit and VM-entry controls that guests run under (SDM vol. 3, 25.6 to 25.8).

use crate::vmx::capabilities::Capabilities;
use crate::vmx::vmcs::Vmcs;
use bulkhead_abi::GuestPaging;
use x86::vmx::vmcs::control::{
    self, EntryControls, ExitControls, PinbasedControls, PrimaryControls, SecondaryControls,
};

/// CR0.PE.
const CR0_PE: u64 = 1 << 0;
/// CR0.WP.
pub const CR0_WP: u64 = 1 << 16;
/// CR0.ET, which is always 1.
const CR0_ET: u64 = 1 << 4;
/// CR0.NE, which VMX wants to be 1.
const CR0_NE: u64 = 1 << 5;
/// CR0.NW.
const CR0_NW: u64 = 1 << 29;
/// CR0.CD: guests do not switch the processor's cache off.
const CR0_CD: u64 = 1 << 30;
/// CR0.PG.
const CR0_PG: u64 = 1 << 31;
/// CR4.PAE.
pub const CR4_PAE: u64 = 1 << 5;
/// CR4: PSE, PAE, PGE, SMEP, SMAP.
const CR4_PAGING: u64 = 0x0030_00b0;
/// CR4.MCE: machine checks are the host's affair.
const CR4_MCE: u64 = 1 << 6;
/// Bits of CR4 that guests may change as they like, if the processor has them: VME, PVI, TSD, DE, PSE, PAE, PGE, PCE, OSFXSR,
/// OSXMMEXCPT, FSGSBASE, OSXSAVE, SMEP, SMAP. Of others their monitors know whether they were offered.
const CR4_GUEST: u64 = 0x0035_07bf;
/// Exception vector of machine checks.
const MACHINE_CHECK: u64 = 18;
/// Exception vector of page faults.
const PAGE_FAULT: u64 = 14;

/// The controls of one vCPU, and which bits of the control registers stay the kernel's.
#[derive(Clone, Copy, Debug)]
pub struct Controls {
    /// Pin-based, without the preemption timer.
    pub pin: u32,
    /// The same with posted-interrupt processing, if the processor offers it: for vCPUs whose local APIC it virtualizes.
    pub pin_with_posting: u32,
    /// Primary processor-based, without windows.
    pub primary: u32,
    /// Secondary processor-based, without virtualization of the local APIC.
    pub secondary: u32,
    exit: u32,
    /// Exceptions that exit.
    exceptions: u64,
    /// VM-entry, without the guest's mode.
    pub entry: u32,
    /// Bits of CR0 that the guest reads from the shadow, and the values that they have in truth.
    pub cr0: OwnedBits,
    /// The same for CR4.
    pub cr4: OwnedBits,
}

/// Bits of a control register that belong to the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnedBits {
    /// Which they are.
    pub mask: u64,
    /// Their values while the guest runs.
    pub values: u64,
}

impl OwnedBits {
    /// The register's true value for this value as the guest sees it.
    pub const fn merge(self, guest_view: u64) -> u64 {
        guest_view & !self.mask | self.values
    }

    /// Whether the guest can be in the mode that this value of CR0 means: without unrestricted guests it must have paging.
    #[inline(always)]
    pub const fn allows_mode(self, cr0: u64) -> bool {
        let forced = self.values & (CR0_PE | CR0_PG);
        cr0 & forced == forced
    }

    /// The guest's view of this true value, given the shadow.
    pub const fn view(self, truth: u64, shadow: u64) -> u64 {
        truth & !self.mask | shadow & self.mask
    }
}

impl Controls {
    /// The controls for a processor with these capabilities and this CR4; nothing if it lacks one that guests with this paging
    /// cannot do without. `with_rdtscp`: the guest has IA32_TSC_AUX, and so the instructions that read it.
    ///
    /// With shadow paging there is an exit for whatever has to do with paging. IA32_EFER goes through the MSR areas, for the
    /// first processors with VMX have no controls for it; and IA32_PAT is the host's, whatever the guest writes to its own.
    pub fn compute(
        capabilities: &Capabilities,
        paging: GuestPaging,
        with_vpid: bool,
        with_rdtscp: bool,
        host_cr4: u64,
    ) -> Option<Self> {
        let needed_pin = PinbasedControls::EXTERNAL_INTERRUPT_EXITING | PinbasedControls::NMI_EXITING;
        let mut needed_primary = PrimaryControls::USE_TSC_OFFSETTING
            | PrimaryControls::HLT_EXITING
            | PrimaryControls::MWAIT_EXITING
            | PrimaryControls::RDPMC_EXITING
            | PrimaryControls::CR8_LOAD_EXITING
            | PrimaryControls::CR8_STORE_EXITING
            | PrimaryControls::MOV_DR_EXITING
            | PrimaryControls::USE_IO_BITMAPS
            | PrimaryControls::USE_MSR_BITMAPS
            | PrimaryControls::MONITOR_EXITING
            | PrimaryControls::SECONDARY_CONTROLS;
        let mut needed_exit = ExitControls::HOST_ADDRESS_SPACE_SIZE
            | ExitControls::ACK_INTERRUPT_ON_EXIT
            | ExitControls::SAVE_DEBUG_CONTROLS;
        let mut needed_entry = EntryControls::LOAD_DEBUG_CONTROLS;
        let mut secondary = SecondaryControls::WBINVD_EXITING;
        secondary.set(SecondaryControls::ENABLE_VPID, with_vpid);
        secondary.set(SecondaryControls::ENABLE_RDTSCP, with_rdtscp);
        let paging_exits =
            PrimaryControls::CR3_LOAD_EXITING | PrimaryControls::CR3_STORE_EXITING | PrimaryControls::INVLPG_EXITING;
        let is_shadowed = paging == GuestPaging::Shadow;
        if is_shadowed {
            needed_primary |= paging_exits;
        } else {
            secondary |= SecondaryControls::ENABLE_EPT | SecondaryControls::UNRESTRICTED_GUEST;
            needed_exit |= ExitControls::SAVE_IA32_PAT
                | ExitControls::LOAD_IA32_PAT
                | ExitControls::SAVE_IA32_EFER
                | ExitControls::LOAD_IA32_EFER;
            needed_entry |= EntryControls::LOAD_IA32_PAT | EntryControls::LOAD_IA32_EFER;
        }
        let complete = (is_shadowed || capabilities.has_ept() && capabilities.primary.ones & paging_exits.bits() == 0)
            && capabilities.pin.offers(needed_pin.bits())
            && capabilities.primary.offers(needed_primary.bits())
            && capabilities.exit.offers(needed_exit.bits())
            && capabilities.entry.offers(needed_entry.bits());
        if !complete {
            return None;
        }
        let secondary = capabilities.secondary.adjust(secondary.bits());
        // With unrestricted guests paging and protection are the guest's own, whatever the fixed bits say (SDM vol. 3, 24.8).
        let unrestricted = secondary & SecondaryControls::UNRESTRICTED_GUEST.bits() != 0;
        let mut cr0_fixed = capabilities.cr0.0 & if unrestricted { !(CR0_PE | CR0_PG) } else { !0 };
        let mut cr4_values = capabilities.cr4.0 | host_cr4 & CR4_MCE;
        let mut cr4_guest = CR4_GUEST & capabilities.cr4.1;
        let mut exceptions = 1 << MACHINE_CHECK;
        if is_shadowed {
            cr0_fixed |= CR0_WP;
            cr4_values |= CR4_PAE;
            cr4_guest &= !CR4_PAGING;
            exceptions |= 1 << PAGE_FAULT;
        }
        let pin = needed_pin | PinbasedControls::VMX_PREEMPTION_TIMER | PinbasedControls::VIRTUAL_NMIS;
        Some(Self {
            pin_with_posting: capabilities.pin.adjust((pin | PinbasedControls::POSTED_INTERRUPTS).bits()),
            pin: capabilities.pin.adjust(pin.bits()),
            primary: capabilities.primary.adjust(needed_primary.bits()),
            secondary,
            exit: capabilities.exit.adjust(needed_exit.bits()),
            exceptions,
            entry: capabilities.entry.adjust(needed_entry.bits()),
            cr0: OwnedBits { mask: cr0_fixed | CR0_NE | CR0_CD | CR0_NW, values: cr0_fixed | CR0_NE | CR0_ET },
            cr4: OwnedBits { mask: !cr4_guest | cr4_values, values: cr4_values },
        })
    }

    /// Virtual NMIs are on, so that NMI windows can be asked for.
    pub const fn has_nmi_window(&self) -> bool {
        self.pin & PinbasedControls::VIRTUAL_NMIS.bits() != 0
    }

    /// Writes them to the VMCS, with the fields that never change.
    pub fn load(&self, vmcs: Vmcs) {
        // SAFETY: controls that the processor allows; none lets a guest out of its page tables or past the kernel. Counts of
        // MSR areas, and addresses, are written by their owners.
        unsafe {
            vmcs.write(control::PINBASED_EXEC_CONTROLS, u64::from(self.pin));
            vmcs.write(control::PRIMARY_PROCBASED_EXEC_CONTROLS, u64::from(self.primary));
            vmcs.write(control::SECONDARY_PROCBASED_EXEC_CONTROLS, u64::from(self.secondary));
            vmcs.write(control::VMEXIT_CONTROLS, u64::from(self.exit));
            vmcs.write(control::VMENTRY_CONTROLS, u64::from(self.entry));
            vmcs.write(control::EXCEPTION_BITMAP, self.exceptions);
            vmcs.write(control::PAGE_FAULT_ERR_CODE_MASK, 0);
            vmcs.write(control::PAGE_FAULT_ERR_CODE_MATCH, 0);
            vmcs.write(control::CR3_TARGET_COUNT, 0);
            vmcs.write(control::VMENTRY_INTERRUPTION_INFO_FIELD, 0);
            vmcs.write(control::CR0_GUEST_HOST_MASK, self.cr0.mask);
            vmcs.write(control::CR4_GUEST_HOST_MASK, self.cr4.mask);
        }
    }
}
