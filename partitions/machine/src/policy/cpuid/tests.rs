//! Tests of the CPUID policy.

use super::*;
use proptest::prelude::*;

pub(crate) const PARAMETERS: CpuidParameters = CpuidParameters {
    processors: 1,
    tsc_hertz: 2_000_000_000,
    xcr0_mask: 7,
    physical_address_bits: 40,
    x2apic: false,
    pcid: false,
    rdtscp: false,
    speculation_control: false,
    kvm_leaves: false,
    withheld: Withheld(0),
};

/// A host that has everything.
fn all(leaf: u32, subleaf: u32) -> Leaf {
    match (leaf, subleaf) {
        (0, _) => [0x20, 0x756e_6547, 0x6c65_746e, 0x4965_6e69],
        (0x8000_0000, _) => [0x8000_0008, 0, 0, 0],
        (0x8000_0008, _) => [0x302e, 0, 0, 0],
        (4, 0..=2) => [0xfc00_4121 + (subleaf << 5), 0x01c0_003f, 0x3f, 0],
        (4, _) => [0; 4],
        (0xd, 0) => [0xe7, 0, 0, 0],
        (0xd, 2) => [256, 576, 0, 0],
        (0xd, 5) => [64, 1088, 0, 0],
        (0xd, 6) => [512, 1152, 2, 0],
        (0xd, 7) => [1024, 1664, 0, 0],
        _ => [u32::MAX; 4],
    }
}

#[test]
fn signature_and_hypervisor_bit() {
    let table = CpuidTable::new(&PARAMETERS, 0, all);
    let [maximum, ebx, ecx, edx] = table.lookup(0x4000_0000, 0);
    assert_eq!(maximum, 0x4000_0010);
    let text: alloc::vec::Vec<u8> = [ebx, ecx, edx].iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(text, SIGNATURE);
    assert_eq!(table.lookup(0x4000_0010, 0), [2_000_000, 2_000_000, 0, 0]);
    assert_eq!(table.lookup(0x4000_0100, 0), [0; 4]);
    assert_ne!(table.lookup(1, 0)[2] & 1 << 31, 0);
}

#[test]
fn nothing_that_is_not_backed_is_shown() {
    let table = CpuidTable::new(&PARAMETERS, 0, all);
    let [_, _, ecx, edx] = table.lookup(1, 0);
    // MONITOR, VMX, SMX, PDCM, PCID, DCA, x2APIC, OSXSAVE.
    for bit in [3, 5, 6, 15, 17, 18, 21, 27] {
        assert_eq!(ecx >> bit & 1, 0, "ECX bit {bit}");
    }
    // PSN, DS, ACPI, HTT, TM, PBE.
    for bit in [18, 21, 22, 28, 29, 31] {
        assert_eq!(edx >> bit & 1, 0, "EDX bit {bit}");
    }
    let [_, ebx, ecx, _] = table.lookup(7, 0);
    // SGX, HLE, INVPCID, RTM, PQM, MPX, PQE, AVX512F, PT.
    for bit in [2, 4, 10, 11, 12, 14, 15, 16, 25] {
        assert_eq!(ebx >> bit & 1, 0, "EBX bit {bit}");
    }
    // UMIP, PKU, OSPKE, WAITPKG, CET, LA57, RDPID.
    for bit in [2, 3, 4, 5, 7, 16, 22] {
        assert_eq!(ecx >> bit & 1, 0, "ECX bit {bit}");
    }
    for leaf in [5, 9, 0xa, 0xf, 0x10, 0x12, 0x14] {
        assert_eq!(table.lookup(leaf, 0), [0; 4], "leaf {leaf:#x}");
    }
    assert_eq!(table.lookup(7, 1), [0; 4]);
}

#[test]
fn states_are_those_of_the_mask() {
    let mut table = CpuidTable::new(&PARAMETERS, 0, all);
    assert_eq!(table.lookup(0xd, 0), [7, 576, 832, 0]);
    assert_eq!(table.lookup(0xd, 1), [0; 4]);
    assert_eq!(table.lookup(0xd, 2), [256, 576, 0, 0]);
    assert_eq!(table.lookup(0xd, 5), [0; 4]);
    table.set_xcr0(7);
    assert_eq!(table.lookup(0xd, 0)[1], 832);
    table.set_osxsave(true);
    assert_ne!(table.lookup(1, 0)[2] & 1 << 27, 0);
    let wide = CpuidTable::new(&CpuidParameters { xcr0_mask: 0xff, ..PARAMETERS }, 0, all);
    assert_eq!(wide.lookup(0xd, 0), [0xe7, 576, 2688, 0]);
    assert_ne!(wide.structured_ebx() & 1 << 16, 0);
    let none = CpuidTable::new(&CpuidParameters { xcr0_mask: 0, ..PARAMETERS }, 0, all);
    assert_eq!(none.lookup(0xd, 0), [0; 4]);
    assert_eq!(none.basic_ecx() & (1 << 26 | 1 << 28 | 1 << 12), 0);
}

#[test]
fn topology_follows_the_count() {
    let table = CpuidTable::new(&CpuidParameters { processors: 6, ..PARAMETERS }, 5, all);
    let [_, ebx, _, edx] = table.lookup(1, 0);
    assert_eq!((ebx >> 24, ebx >> 16 & 0xff), (5, 8));
    assert_ne!(edx & 1 << 28, 0);
    assert_eq!(table.lookup(0xb, 0), [0, 1, 0x100, 5]);
    assert_eq!(table.lookup(0xb, 1), [3, 6, 0x201, 5]);
    assert_eq!(table.lookup(0xb, 2), [0, 0, 2, 5]);
    assert_eq!(table.lookup(0x1f, 1), [3, 6, 0x201, 5]);
    assert_eq!(table.lookup(4, 0)[0] >> 26, 7);
    assert_eq!(table.lookup(4, 0)[0] >> 14 & 0xfff, 0);
    assert_eq!(table.lookup(4, 2)[0] >> 14 & 0xfff, 7);
    assert_eq!(table.lookup(4, 4), [0; 4]);
}

#[test]
fn frequencies() {
    let table = CpuidTable::new(&PARAMETERS, 0, all);
    assert_eq!(table.lookup(0x15, 0), [1, 1, 2_000_000_000, 0]);
    assert_eq!(table.lookup(0x16, 0)[0], 2000);
    let fast = CpuidTable::new(&CpuidParameters { tsc_hertz: 5_000_000_000, ..PARAMETERS }, 0, all);
    assert_eq!(fast.lookup(0x15, 0), [1, 2, 2_500_000_000, 0]);
    assert_eq!(table.lookup(0x8000_0007, 0)[3], 1 << 8);
    assert_eq!(table.physical_address_bits(), 40);
}

#[test]
fn a_small_host_gives_a_small_guest() {
    let table = CpuidTable::new(&PARAMETERS, 0, |leaf, _| match leaf {
        0 => [0xa, 0x756e_6547, 0x6c65_746e, 0x4965_6e69],
        0x8000_0000 => [0x8000_0008, 0, 0, 0],
        1 => [0x0001_067a, 0x0001_0800, 0x0008_e3fd, 0xbfeb_fbff],
        0x8000_0008 => [0x3024, 0, 0, 0],
        _ => [0; 4],
    });
    assert_eq!(table.xcr0_mask(), 0);
    assert_eq!(table.structured_ebx(), 1 << 1);
    assert_eq!(table.physical_address_bits(), 36);
}

#[test]
fn linux_paravirtual_leaves_are_a_choice() {
    let table = CpuidTable::new(&CpuidParameters { kvm_leaves: true, x2apic: true, ..PARAMETERS }, 0, all);
    assert_eq!(table.lookup(0x4000_0100, 0), [0x4000_0101, 0x4b4d_564b, 0x564b_4d56, 0x4d]);
    assert_ne!(table.basic_ecx() & 1 << 21, 0);
}

proptest! {
    #[test]
    fn any_question_is_answered(leaf: u32, subleaf: u32, eax: u32, processors: u32) {
        let parameters = CpuidParameters { processors, ..PARAMETERS };
        let table = CpuidTable::new(&parameters, 0, |_, _| [eax; 4]);
        for base in [0, 0x4000_0000, 0x8000_0000] {
            table.lookup(base | leaf & 0x1ff, subleaf & 0x7f);
        }
        table.lookup(leaf, subleaf);
    }
}

/// A table without these features, on a host that has everything.
fn without(names: &[&str]) -> CpuidTable {
    let bits = names.iter().map(|name| Withheld::named(name).unwrap().0);
    let withheld = Withheld(bits.fold(0, |all, bit| all | bit));
    CpuidTable::new(&CpuidParameters { xcr0_mask: 0xe7, x2apic: true, withheld, ..PARAMETERS }, 0, all)
}

/// All bits that features are told by.
fn shown(table: &CpuidTable) -> [u32; 6] {
    let [_, ebx, ecx, edx] = table.lookup(7, 0);
    [table.lookup(1, 0)[2], ebx, ecx, edx, table.lookup(0x8000_0001, 0)[3], table.lookup(0xd, 0)[0]]
}

#[test]
fn withheld_features_are_not_shown_and_others_are() {
    let [basic, ebx, ecx, edx, extended, states] = shown(&without(&[]));
    assert_eq!(
        shown(&without(&["rdrand", "sha", "large-pages"])),
        [basic & !(1 << 30), ebx & !(1 << 29), ecx, edx, extended & !(1 << 26), states]
    );
    assert_eq!(shown(&without(&["aes"]))[0], basic & !(1 << 25));
    assert_eq!(shown(&without(&["aes"]))[2] & (1 << 9 | 1 << 10), 0, "no VAES without AES");
}

/// The states go with the instructions: XCR0 does not let the guest enable them, nor CR4 what it does not have.
#[test]
fn withheld_states_cannot_be_enabled() {
    use crate::policy::control::{ControlPolicy, ControlRegisters};
    let current = ControlRegisters { cr0: 0x11, xcr0: 1, ..Default::default() };
    let may = |names: &[&str], xcr0| ControlPolicy::new(&without(names)).write_xcr(&current, 0, xcr0).is_ok();
    assert!(may(&[], 0xe7));
    assert!(!may(&["avx512"], 0xe7) && may(&["avx512"], 7));
    assert!(!may(&["avx"], 7) && may(&["avx"], 3));
    assert!(!may(&["avx2"], 0xe7) && may(&["avx2"], 7));
    let [_, ebx, ecx, edx] = without(&["avx2"]).lookup(7, 0);
    assert_eq!(ebx & (1 << 5 | 1 << 16 | 1 << 31), 0);
    assert_eq!((ecx & (1 << 11), edx & (1 << 2)), (0, 0));
    assert_eq!(without(&["avx"]).lookup(0xd, 0), [3, 576, 576, 0]);
    let no_xsave = without(&["xsave"]);
    assert_eq!(no_xsave.lookup(0xd, 0), [0; 4]);
    assert_eq!(no_xsave.basic_ecx() & (1 << 26 | 1 << 28), 0);
    let cr4 = |names: &[&str], bit: u32| ControlPolicy::new(&without(names)).write_cr4(&current, 1 << bit).is_ok();
    for (name, bit) in [("smep", 20), ("smap", 21), ("fsgsbase", 16), ("xsave", 18)] {
        assert!(cr4(&[], bit) && !cr4(&[name], bit), "{name}");
    }
}
