//! What CPUID answers: computed once for each processor, so that an exit is a look-up.

use super::features as feature;
use super::withheld::Withheld;

/// EAX, EBX, ECX, EDX.
pub type Leaf = [u32; 4];

/// The hypervisor's signature at leaf 0x4000_0000.
pub const SIGNATURE: &[u8; 12] = b"BulkheadBulk";

/// What the guest's processors are to be like, beside what the host's are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuidParameters {
    /// Processors: 1 to 64, each a core of one package.
    pub processors: u32,
    /// TSC frequency in Hz.
    pub tsc_hertz: u64,
    /// XSAVE states (bits of XCR0) that the kernel lets a guest use.
    pub xcr0_mask: u64,
    /// Width of guest-physical addresses, at most the host's.
    pub physical_address_bits: u32,
    /// x2APIC mode may be used.
    pub x2apic: bool,
    /// Process-context identifiers and INVPCID may be used, where the host has them.
    pub pcid: bool,
    /// RDTSCP may be used, where the host has it: the kernel switches IA32_TSC_AUX.
    pub rdtscp: bool,
    /// IA32_SPEC_CTRL and IA32_PRED_CMD may be used, where the host has them: the kernel switches them.
    pub speculation_control: bool,
    /// Besides the own signature, Linux' paravirtual leaves (signature KVMKVMKVM at 0x4000_0100) offer x2APIC without interrupt
    /// remapping and I/O without delays.
    pub kvm_leaves: bool,
    /// Features that this guest is not to have, whatever the host has.
    pub withheld: Withheld,
}

/// Highest basic leaf.
const MAXIMUM_BASIC: u32 = 0x1f;
/// Basic leaves with subleaves.
const SUBLEAVES: u32 = 1 << 4 | 1 << 7 | 1 << 0xb | 1 << 0xd | 1 << 0x1f;
/// Highest extended leaf.
const MAXIMUM_EXTENDED: u32 = 0x8000_0008;
/// Highest leaf of Linux' paravirtual interface.
const MAXIMUM_KVM: u32 = 0x4000_0101;
/// Legacy region and header of the XSAVE area.
const XSAVE_MINIMUM: u32 = 576;

/// Right shift that makes the TSC's frequency one that leaf 0x15 can tell: the local APIC timer counts at the result.
pub const fn timer_shift(tsc_hertz: u64) -> u32 {
    let mut shift = 0;
    while tsc_hertz >> shift > u32::MAX as u64 {
        shift += 1;
    }
    shift
}

/// The answers for one processor.
#[derive(Clone, Debug)]
pub struct CpuidTable {
    basic: [Leaf; MAXIMUM_BASIC as usize + 1],
    caches: [Leaf; 5],
    topology: [Leaf; 2],
    /// Leaf 0xD: subleaves 0 and 1, then one for each state.
    states: [Leaf; 64],
    extended: [Leaf; 9],
    hypervisor: [Leaf; 2],
    timing: Leaf,
    kvm: [Leaf; 2],
    xcr0_mask: u64,
    /// XCR0 that the sizes are of.
    xcr0: u64,
}

impl CpuidTable {
    /// The answers for the processor with this APIC identifier. `host` executes CPUID with a leaf and a subleaf.
    pub fn new(parameters: &CpuidParameters, identifier: u32, host: impl Fn(u32, u32) -> Leaf) -> Self {
        let count = parameters.processors.clamp(1, 64);
        let host_maximum = host(0, 0)[0];
        let supported = |leaf: u32, subleaf: u32| {
            if leaf <= host_maximum { host(leaf, subleaf) } else { [0; 4] }
        };
        let [_, _, host_ecx, _] = supported(1, 0);
        let hidden = parameters.withheld.hidden();
        let states = parameters.xcr0_mask & !hidden.states;
        let xsave = host_ecx & feature::basic_ecx::XSAVE != 0 && states & 3 == 3;
        let xcr0_mask = if xsave { allowed_states(states, supported(0xd, 0)) } else { 0 };
        let mut table = Self {
            basic: [[0; 4]; MAXIMUM_BASIC as usize + 1],
            caches: core::array::from_fn(|index| cache(supported(4, index as u32), count)),
            topology: topology(count, identifier),
            states: [[0; 4]; 64],
            extended: [[0; 4]; 9],
            hypervisor: hypervisor_leaves(),
            timing: [0; 4],
            kvm: [[0; 4]; 2],
            xcr0_mask,
            xcr0: 0,
        };
        let [_, vendor0, vendor1, vendor2] = host(0, 0);
        table.basic[0] = [MAXIMUM_BASIC, vendor0, vendor1, vendor2];
        table.basic[1] = basic(supported(1, 0), parameters, count, identifier, xcr0_mask);
        table.basic[2] = supported(2, 0);
        // The local APIC timer always runs.
        table.basic[6] = [1 << 2, 0, 0, 0];
        table.basic[7] = structured(supported(7, 0), parameters, xcr0_mask);
        let shift = timer_shift(parameters.tsc_hertz);
        let crystal = (parameters.tsc_hertz >> shift) as u32;
        let megahertz = (parameters.tsc_hertz / 1_000_000).min(0xffff) as u32;
        table.basic[0x15] = [1, 1 << shift, crystal, 0];
        table.basic[0x16] = [megahertz, megahertz, 100, 0];
        table.timing = [kilohertz(parameters.tsc_hertz), crystal / 1000, 0, 0];
        if parameters.kvm_leaves {
            table.kvm = kvm_leaves();
        }
        if xsave {
            table.fill_states(supported);
        }
        table.fill_extended(parameters, host);
        table.basic[1][2] &= !hidden.basic_ecx;
        table.basic[7][1] &= !hidden.structured_ebx;
        table.basic[7][2] &= !hidden.structured_ecx;
        table.extended[1][3] &= !hidden.extended_edx;
        table
    }

    /// The answer to CPUID.
    #[inline]
    pub fn lookup(&self, leaf: u32, subleaf: u32) -> Leaf {
        match self.basic.get(leaf as usize) {
            Some(answer) if SUBLEAVES >> leaf & 1 == 0 => *answer,
            Some(_) => self.lookup_subleaf(leaf, subleaf),
            None => self.lookup_beyond(leaf),
        }
    }

    fn lookup_subleaf(&self, leaf: u32, subleaf: u32) -> Leaf {
        let index = subleaf as usize;
        match leaf {
            4 => self.caches.get(index).copied().unwrap_or_default(),
            7 if subleaf == 0 => self.basic[7],
            0xb | 0x1f => match self.topology.get(index) {
                Some(answer) => *answer,
                None => [0, 0, subleaf & 0xff, self.topology[0][3]],
            },
            0xd => self.states.get(index).copied().unwrap_or_default(),
            _ => [0; 4],
        }
    }

    fn lookup_beyond(&self, leaf: u32) -> Leaf {
        let [_, _, _, identifier] = self.topology[0];
        match leaf {
            0x4000_0000..0x4000_0010 => self.hypervisor.get((leaf & 0xf) as usize).copied().unwrap_or_default(),
            0x4000_0010 => self.timing,
            0x4000_0100..0x4000_0200 => self.kvm.get((leaf & 0xff) as usize).copied().unwrap_or_default(),
            0x4000_0011..0x4000_0100 | 0x4000_0200..0x5000_0000 => [0; 4],
            0x8000_0000..=MAXIMUM_EXTENDED => self.extended.get((leaf & 0xf) as usize).copied().unwrap_or_default(),
            // Beyond the ranges a processor answers as for its highest basic leaf.
            _ => [0, 0, 0, identifier],
        }
    }

    /// The guest changed CR4.OSXSAVE.
    pub const fn set_osxsave(&mut self, enabled: bool) {
        if enabled {
            self.basic[1][2] |= feature::basic_ecx::OSXSAVE;
        } else {
            self.basic[1][2] &= !feature::basic_ecx::OSXSAVE;
        }
    }

    /// The guest changed the enable bit of IA32_APIC_BASE.
    pub const fn set_apic_enabled(&mut self, enabled: bool) {
        if enabled {
            self.basic[1][3] |= feature::basic_edx::APIC;
        } else {
            self.basic[1][3] &= !feature::basic_edx::APIC;
        }
    }

    /// The guest changed XCR0.
    #[inline]
    pub fn set_xcr0(&mut self, xcr0: u64) {
        if xcr0 != self.xcr0 {
            self.update_sizes(xcr0);
        }
    }

    fn update_sizes(&mut self, xcr0: u64) {
        self.xcr0 = xcr0;
        self.states[0][1] = self.standard_size(xcr0);
    }

    /// XSAVE states that the guest may enable; 0 without XSAVE.
    pub const fn xcr0_mask(&self) -> u64 {
        self.xcr0_mask
    }

    /// Leaf 1, ECX.
    pub const fn basic_ecx(&self) -> u32 {
        self.basic[1][2]
    }

    /// Leaf 1, EDX.
    pub const fn basic_edx(&self) -> u32 {
        self.basic[1][3]
    }

    /// Leaf 7, EBX.
    pub const fn structured_ebx(&self) -> u32 {
        self.basic[7][1]
    }

    /// Leaf 7, EDX.
    pub const fn structured_edx(&self) -> u32 {
        self.basic[7][3]
    }

    /// Leaf 0x8000_0001, EDX.
    pub const fn extended_edx(&self) -> u32 {
        self.extended[1][3]
    }

    /// Width of guest-physical addresses.
    pub const fn physical_address_bits(&self) -> u32 {
        self.extended[8][0] & 0xff
    }

    fn fill_states(&mut self, host: impl Fn(u32, u32) -> Leaf) {
        for (state, leaf) in self.states.iter_mut().enumerate().skip(2) {
            if self.xcr0_mask >> state & 1 != 0 {
                *leaf = host(0xd, state as u32);
            }
        }
        let size = self.standard_size(self.xcr0_mask);
        self.states[0] = [self.xcr0_mask as u32, 0, size, (self.xcr0_mask >> 32) as u32];
        // XSAVEOPT, XSAVEC, XGETBV with ECX = 1 and XSAVES are not offered. Bochs 2.7's XSAVEC puts the parts of its compacted
        // area behind SSE's at offset 416 instead of 576, so that the header overwrites a half of YMM6, and processes of a
        // guest that trusts it lose data.
        self.states[1] = [0; 4];
        self.set_xcr0(1);
    }

    fn enabled_states(&self, xcr0: u64) -> impl Iterator<Item = &Leaf> {
        self.states.iter().enumerate().skip(2).filter(move |(state, _)| xcr0 >> state & 1 != 0).map(|(_, leaf)| leaf)
    }

    /// Bytes of the standard XSAVE area.
    fn standard_size(&self, xcr0: u64) -> u32 {
        if self.xcr0_mask == 0 {
            return 0;
        }
        self.enabled_states(xcr0)
            .fold(XSAVE_MINIMUM, |size, [bytes, offset, ..]| size.max(bytes.saturating_add(*offset)))
    }

    fn fill_extended(&mut self, parameters: &CpuidParameters, host: impl Fn(u32, u32) -> Leaf) {
        let [maximum, ..] = host(0x8000_0000, 0);
        let supported = |leaf: u32| {
            if leaf <= maximum && maximum >= 0x8000_0000 { host(leaf, 0) } else { [0; 4] }
        };
        let [_, _, ecx, edx] = supported(0x8000_0001);
        let rdtscp = if parameters.rdtscp { feature::extended::RDTSCP } else { 0 };
        let mask = feature::extended::PASSED_EDX | rdtscp;
        self.extended[0] = [MAXIMUM_EXTENDED, 0, 0, 0];
        self.extended[1] = [0, 0, ecx & feature::extended::PASSED_ECX, edx & mask];
        // Brand string, caches.
        for (answer, leaf) in self.extended.iter_mut().zip(0x8000_0000..=0x8000_0006).skip(2) {
            *answer = supported(leaf);
        }
        self.extended[7] = [0, 0, 0, supported(0x8000_0007)[3] & feature::INVARIANT_TSC];
        let [widths, ..] = supported(0x8000_0008);
        let host_bits = if widths & 0xff == 0 { 36 } else { widths & 0xff };
        let bits = parameters.physical_address_bits.clamp(36, 52).min(host_bits);
        self.extended[8] = [48 << 8 | bits, 0, 0, 0];
    }
}

fn kilohertz(hertz: u64) -> u32 {
    (hertz / 1000).min(u64::from(u32::MAX)) as u32
}

/// The states of `mask` that the host has; those that only go together stay together.
fn allowed_states(mask: u64, host: Leaf) -> u64 {
    const AVX: u64 = 1 << 2;
    const AVX512: u64 = 7 << 5;
    let [low, _, _, high] = host;
    let mut states = mask & (u64::from(high) << 32 | u64::from(low)) & (3 | AVX | AVX512);
    if states & AVX == 0 || states & AVX512 != AVX512 {
        states &= !AVX512;
    }
    states
}

fn has(states: u64, bits: u64, features: u32) -> u32 {
    if states & bits == bits { features } else { 0 }
}

fn basic(host: Leaf, parameters: &CpuidParameters, count: u32, identifier: u32, states: u64) -> Leaf {
    use feature::{basic_ecx as c, basic_edx as d};
    let [signature, ebx, ecx, edx] = host;
    let mut mask = c::INSTRUCTIONS | has(states, 3, c::XSAVE) | has(states, 7, c::AVX);
    if parameters.pcid {
        mask |= c::PCID;
    }
    let mut ecx = ecx & mask | c::TSC_DEADLINE | c::HYPERVISOR;
    if parameters.x2apic {
        ecx |= c::X2APIC;
    }
    let mut edx = edx & d::PASSED | d::APIC;
    if count > 1 {
        edx |= d::HTT;
    }
    // Brand index and CLFLUSH line size are the host's.
    let ebx = ebx & 0xffff | count.next_power_of_two() << 16 | identifier << 24;
    [signature & 0x0fff_3fff, ebx, ecx, edx]
}

fn structured(host: Leaf, parameters: &CpuidParameters, states: u64) -> Leaf {
    use feature::{structured_ebx as b, structured_ecx as c, structured_edx as d};
    let [_, ebx, ecx, edx] = host;
    let avx = |features| has(states, 7, features);
    let avx512 = |features| has(states, 0xe7, features);
    let invpcid = if parameters.pcid { b::INVPCID } else { 0 };
    let speculation = if parameters.speculation_control { d::IBRS | d::STIBP | d::SSBD } else { 0 };
    [
        0,
        ebx & (b::PASSED | invpcid | avx(b::AVX) | avx512(b::AVX512)) | b::TSC_ADJUST,
        ecx & (c::PASSED | avx(c::AVX) | avx512(c::AVX512)),
        edx & (d::PASSED | speculation | avx512(d::AVX512)),
    ]
}

/// A cache description: each core has its own, except that all share one of level 3 and above.
fn cache(host: Leaf, count: u32) -> Leaf {
    let [eax, ebx, ecx, edx] = host;
    if eax & 0x1f == 0 {
        return [0; 4];
    }
    let cores = count.next_power_of_two() - 1;
    let sharing = if eax >> 5 & 7 >= 3 { cores } else { 0 };
    [eax & 0x3ff | sharing << 14 | cores.min(63) << 26, ebx, ecx, edx]
}

/// Leaf 0xB: one thread in each core, `count` cores in the package.
fn topology(count: u32, identifier: u32) -> [Leaf; 2] {
    let bits = count.next_power_of_two().trailing_zeros();
    [[0, 1, 0x100, identifier], [bits, count, 0x201, identifier]]
}

fn signature(text: &[u8; 12], maximum: u32) -> Leaf {
    let word = |start: usize| text.iter().skip(start).take(4).rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    [maximum, word(0), word(4), word(8)]
}

fn hypervisor_leaves() -> [Leaf; 2] {
    [signature(SIGNATURE, 0x4000_0010), [0; 4]]
}

fn kvm_leaves() -> [Leaf; 2] {
    // KVM_FEATURE_NOP_IO_DELAY alone: no hypercall and no shared memory is promised.
    [signature(b"KVMKVMKVM\0\0\0", MAXIMUM_KVM), [1 << 1, 0, 0, 0]]
}

#[cfg(test)]
mod tests;
