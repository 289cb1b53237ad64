//! What this processor's VMX can do, from CPUID and the capability registers (SDM vol. 3, appendix A).

use crate::arch::msr;
use bulkhead_abi::CpuFeatures;
use bulkhead_core::page_table::PageSize;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use x86::msr::{
    IA32_FEATURE_CONTROL, IA32_VMX_BASIC, IA32_VMX_CR0_FIXED0, IA32_VMX_CR0_FIXED1, IA32_VMX_CR4_FIXED0,
    IA32_VMX_CR4_FIXED1, IA32_VMX_ENTRY_CTLS, IA32_VMX_EPT_VPID_CAP, IA32_VMX_EXIT_CTLS, IA32_VMX_MISC,
    IA32_VMX_PINBASED_CTLS, IA32_VMX_PROCBASED_CTLS, IA32_VMX_PROCBASED_CTLS2, IA32_VMX_TRUE_ENTRY_CTLS,
    IA32_VMX_TRUE_EXIT_CTLS, IA32_VMX_TRUE_PINBASED_CTLS, IA32_VMX_TRUE_PROCBASED_CTLS,
};
use x86::vmx::vmcs::control::{PinbasedControls, PrimaryControls, SecondaryControls};

/// IA32_FEATURE_CONTROL: the register is locked.
pub const FEATURE_CONTROL_LOCK: u64 = 1 << 0;
/// IA32_FEATURE_CONTROL: VMX may be used outside SMX.
pub const FEATURE_CONTROL_VMX: u64 = 1 << 2;
/// IA32_VMX_BASIC: the TRUE control registers exist.
const BASIC_TRUE_CONTROLS: u64 = 1 << 55;
/// IA32_VMX_EPT_VPID_CAP: page walks of length 4, write-back tables, INVEPT with single-context type.
const EPT_NEEDED: u64 = 1 << 6 | 1 << 14 | 1 << 20 | 1 << 25;
/// IA32_VMX_EPT_VPID_CAP: INVVPID with single-context type.
const VPID_NEEDED: u64 = 1 << 32 | 1 << 41;
/// IA32_VMX_EPT_VPID_CAP: EPT entries that map 2 MiB.
const EPT_2M: u64 = 1 << 16;
/// IA32_VMX_EPT_VPID_CAP: EPT entries that map 1 GiB.
const EPT_1G: u64 = 1 << 17;
/// Components of extended state that guests may use: x87, SSE, AVX and the three of AVX-512. The others are not switched.
const OFFERED_COMPONENTS: u64 = 0b1110_0111;
/// Components that fit in any case: x87, SSE, AVX.
const BASIC_COMPONENTS: u64 = 0b111;

/// The settings that a control field allows.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// Bits that must be 1.
    pub ones: u32,
    /// Bits that may be 1.
    pub may: u32,
}

impl Allowed {
    fn from_msr(value: u64) -> Self {
        Self { ones: value as u32, may: (value >> 32) as u32 }
    }

    /// The field for these wishes: what must be 1 is, what may not be 1 is not.
    pub const fn adjust(self, wanted: u32) -> u32 {
        (wanted | self.ones) & self.may
    }

    /// All of these bits may be 1.
    pub const fn offers(self, bits: u32) -> bool {
        self.may & bits == bits
    }
}

/// The capabilities of one processor's VMX.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// Revision identifier of its VMCS regions.
    pub revision: u32,
    /// Pin-based controls.
    pub pin: Allowed,
    /// Primary processor-based controls.
    pub primary: Allowed,
    /// Secondary processor-based controls; nothing allowed if there are none.
    pub secondary: Allowed,
    /// VM-exit controls.
    pub exit: Allowed,
    /// VM-entry controls.
    pub entry: Allowed,
    /// EPT and VPID capabilities; 0 if it has neither.
    pub ept_vpid: u64,
    /// The preemption timer counts down when this bit of the TSC changes.
    pub timer_shift: u32,
    /// Bits of CR0 that must be 1 in VMX operation, and those that may be.
    pub cr0: (u64, u64),
    /// Bits of CR4 that must be 1 in VMX operation, and those that may be.
    pub cr4: (u64, u64),
}

impl Capabilities {
    /// Those of the processor that executes this; nothing if it has no VMX.
    pub fn read() -> Option<Self> {
        if __cpuid(1).ecx & 1 << 5 == 0 {
            return None;
        }
        // SAFETY: with VMX these registers exist (SDM vol. 3, A.1 to A.8); the TRUE ones, the secondary controls' and the
        // EPT one are read only if the registers before them say that they exist.
        unsafe {
            let basic = msr::read(IA32_VMX_BASIC);
            let true_controls = basic & BASIC_TRUE_CONTROLS != 0;
            let controls = |exact, plain| Allowed::from_msr(msr::read(if true_controls { exact } else { plain }));
            let primary = controls(IA32_VMX_TRUE_PROCBASED_CTLS, IA32_VMX_PROCBASED_CTLS);
            let secondary = if primary.offers(PrimaryControls::SECONDARY_CONTROLS.bits()) {
                Allowed::from_msr(msr::read(IA32_VMX_PROCBASED_CTLS2))
            } else {
                Allowed { ones: 0, may: 0 }
            };
            let paging = SecondaryControls::ENABLE_EPT.bits() | SecondaryControls::ENABLE_VPID.bits();
            Some(Self {
                revision: basic as u32 & 0x7fff_ffff,
                pin: controls(IA32_VMX_TRUE_PINBASED_CTLS, IA32_VMX_PINBASED_CTLS),
                primary,
                secondary,
                exit: controls(IA32_VMX_TRUE_EXIT_CTLS, IA32_VMX_EXIT_CTLS),
                entry: controls(IA32_VMX_TRUE_ENTRY_CTLS, IA32_VMX_ENTRY_CTLS),
                ept_vpid: if secondary.may & paging != 0 { msr::read(IA32_VMX_EPT_VPID_CAP) } else { 0 },
                timer_shift: msr::read(IA32_VMX_MISC) as u32 & 0x1f,
                cr0: (msr::read(IA32_VMX_CR0_FIXED0), msr::read(IA32_VMX_CR0_FIXED1)),
                cr4: (msr::read(IA32_VMX_CR4_FIXED0), msr::read(IA32_VMX_CR4_FIXED1)),
            })
        }
    }

    /// Extended page tables as this kernel uses them.
    pub fn has_ept(&self) -> bool {
        self.secondary.offers(SecondaryControls::ENABLE_EPT.bits()) && self.ept_vpid & EPT_NEEDED == EPT_NEEDED
    }

    /// Virtual-processor identifiers as this kernel uses them.
    pub fn has_vpid(&self) -> bool {
        self.secondary.offers(SecondaryControls::ENABLE_VPID.bits()) && self.ept_vpid & VPID_NEEDED == VPID_NEEDED
    }

    /// The VMX-preemption timer.
    pub fn has_preemption_timer(&self) -> bool {
        self.pin.offers(PinbasedControls::VMX_PREEMPTION_TIMER.bits())
    }

    /// The largest page that an EPT entry may map: any, if only software reads them.
    pub fn largest_page(&self) -> PageSize {
        match self.ept_vpid & (EPT_2M | EPT_1G) {
            0 if self.has_ept() => PageSize::Small,
            EPT_2M => PageSize::Large,
            _ => PageSize::Huge,
        }
    }

    /// APIC-register virtualization and virtual-interrupt delivery, for xAPIC and x2APIC mode.
    pub fn has_virtual_apic(&self) -> bool {
        let delivery = SecondaryControls::VIRTUALIZE_APIC
            | SecondaryControls::VIRTUALIZE_X2APIC
            | SecondaryControls::VIRTUALIZE_APIC_REGISTER
            | SecondaryControls::VIRTUAL_INTERRUPT_DELIVERY;
        self.has_tpr_shadow() && self.secondary.offers(delivery.bits())
    }

    /// The task priority of guests in the virtual-APIC page.
    pub fn has_tpr_shadow(&self) -> bool {
        self.primary.offers(PrimaryControls::USE_TPR_SHADOW.bits())
    }
}

/// The features of the processor that executes this. VMX counts only if the firmware has not locked it away.
pub fn detect() -> CpuFeatures {
    let mut features = CpuFeatures::empty();
    features.set(CpuFeatures::XSAVE, extended_components() != 0);
    if __cpuid(0x8000_0000).eax >= 0x8000_0007 {
        features.set(CpuFeatures::INVARIANT_TSC, __cpuid(0x8000_0007).edx & 1 << 8 != 0);
    }
    let Some(capabilities) = Capabilities::read() else { return features };
    // SAFETY: the register exists where VMX does (SDM vol. 3, 24.7).
    let control = unsafe { msr::read(IA32_FEATURE_CONTROL) };
    if control & FEATURE_CONTROL_LOCK != 0 && control & FEATURE_CONTROL_VMX == 0 {
        return features;
    }
    let unrestricted = SecondaryControls::UNRESTRICTED_GUEST.bits();
    let found = [
        (CpuFeatures::VMX, true),
        (CpuFeatures::EPT, capabilities.has_ept()),
        (CpuFeatures::UNRESTRICTED_GUEST, capabilities.has_ept() && capabilities.secondary.offers(unrestricted)),
        (CpuFeatures::PREEMPTION_TIMER, capabilities.has_preemption_timer()),
        (CpuFeatures::VPID, capabilities.has_vpid()),
        (CpuFeatures::VIRTUAL_APIC, capabilities.has_virtual_apic()),
        (CpuFeatures::TPR_SHADOW, capabilities.has_tpr_shadow()),
    ];
    found.into_iter().for_each(|(feature, is_there)| features.set(feature, is_there));
    features
}

/// The processor has RDTSCP and with it IA32_TSC_AUX.
pub fn has_tsc_aux() -> bool {
    __cpuid(0x8000_0000).eax >= 0x8000_0001 && __cpuid(0x8000_0001).edx & 1 << 27 != 0
}

/// The components of extended state that guests may be given, as in XCR0; 0 if the processor has no XSAVE.
pub fn extended_components() -> u64 {
    if __cpuid(1).ecx & 1 << 26 == 0 || __cpuid(0).eax < 0xd {
        return 0;
    }
    let leaf = __cpuid_count(0xd, 0);
    let supported = (u64::from(leaf.edx) << 32 | u64::from(leaf.eax)) & OFFERED_COMPONENTS;
    let fits = (2..8).filter(|component| supported & 1 << component != 0).all(|component| {
        let place = __cpuid_count(0xd, component);
        place.eax as usize + place.ebx as usize <= crate::vmx::fpu::AREA_BYTES
    });
    if fits { supported } else { supported & BASIC_COMPONENTS }
}
