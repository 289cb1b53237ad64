//! Page walks against tables built by hand.

use super::*;
use crate::memory::test::VecMemory;
use bulkhead_abi::segment;
use proptest::prelude::*;
use zerocopy::FromZeros;

fn state(cr0: u64, cr4: u64, efer: u64) -> VcpuState {
    let mut state = VcpuState::new_zeroed();
    state.cr0 = CR0_PG | 1 | cr0;
    state.cr3 = 0x1000;
    state.cr4 = cr4;
    state.efer = efer;
    state
}

fn user(mut state: VcpuState) -> VcpuState {
    state.segments[segment::CS].access = 3 << 5;
    state
}

fn go(memory: &VecMemory, state: &VcpuState, linear: u64, access: Access) -> Result<u64, u32> {
    walk(memory, &Paging::new(state), GuestLinear(linear), access).map(|address| address.0).map_err(|fault| {
        assert_eq!(fault.address, GuestLinear(linear));
        fault.code
    })
}

/// Four levels, rights `leaf` in the last: 0x4000_0000 + 0x5000 -> 0x1_2345_6000.
fn four_levels(leaf: u64) -> VecMemory {
    let memory = VecMemory::new(0x1_0000);
    memory.write_u64(0x1000, 0x2007);
    memory.write_u64(0x2008, 0x3007);
    memory.write_u64(0x3000, 0x4007);
    memory.write_u64(0x4000 + 5 * 8, 0x1_2345_6000 | leaf);
    memory
}

#[test]
fn four_level_rights() {
    const LINEAR: u64 = 0x4000_5678;
    const TARGET: u64 = 0x1_2345_6678;
    let kernel = state(CR0_WP, 0, EFER_LMA | EFER_NXE);
    let application = user(kernel);
    let memory = four_levels(USER | PRESENT);
    assert_eq!(go(&memory, &kernel, LINEAR, Access::Read), Ok(TARGET));
    assert_eq!(memory.u64(0x1000), 0x2027);
    assert_eq!(memory.u64(0x4028), 0x1_2345_6025);
    assert_eq!(go(&memory, &application, LINEAR, Access::Fetch), Ok(TARGET));
    assert_eq!(go(&memory, &application, LINEAR, Access::Write), Err(7));
    assert_eq!(go(&memory, &kernel, LINEAR, Access::Write), Err(3));
    assert_eq!(go(&memory, &state(0, 0, EFER_LMA), LINEAR, Access::Write), Ok(TARGET));
    assert_eq!(memory.u64(0x4028), 0x1_2345_6065);
    assert_eq!(go(&memory, &kernel, 0x4000_6000, Access::Read), Err(0));
    assert_eq!(go(&memory, &application, 0x4000_6000, Access::Fetch), Err(0x14));
    let supervisor_page = four_levels(PRESENT | WRITABLE);
    assert_eq!(go(&supervisor_page, &application, LINEAR, Access::Read), Err(5));
    assert_eq!(go(&supervisor_page, &kernel, LINEAR, Access::Write), Ok(TARGET));
    let data_page = four_levels(PRESENT | USER | NO_EXECUTE);
    assert_eq!(go(&data_page, &application, LINEAR, Access::Fetch), Err(0x15));
    assert_eq!(go(&data_page, &state(0, 0, EFER_LMA), LINEAR, Access::Read), Err(9));
}

#[test]
fn supervisor_mode_prevention() {
    let memory = four_levels(PRESENT | WRITABLE | USER);
    let guarded = state(CR0_WP, CR4_SMEP | CR4_SMAP, EFER_LMA);
    assert_eq!(go(&memory, &guarded, 0x4000_5000, Access::Read), Err(1));
    assert_eq!(go(&memory, &guarded, 0x4000_5000, Access::Write), Err(3));
    assert_eq!(go(&memory, &guarded, 0x4000_5000, Access::Fetch), Err(0x11));
    let mut lifted = guarded;
    lifted.rflags = flags::AC;
    assert_eq!(go(&memory, &lifted, 0x4000_5000, Access::Write), Ok(0x1_2345_6000));
    assert_eq!(go(&memory, &user(guarded), 0x4000_5000, Access::Fetch), Ok(0x1_2345_6000));
}

#[test]
fn large_pages() {
    let memory = VecMemory::new(0x1_0000);
    memory.write_u64(0x1000, 0x2003);
    memory.write_u64(0x2000, 0x3003);
    memory.write_u64(0x2008, 0x4000_0083);
    memory.write_u64(0x3008, 0x0060_0083);
    memory.write_u64(0x3010, 0x0060_2083);
    let kernel = state(0, 0, EFER_LMA);
    assert_eq!(go(&memory, &kernel, 0x20_1234, Access::Write), Ok(0x60_1234));
    assert_eq!(memory.u64(0x3008), 0x0060_00e3);
    assert_eq!(go(&memory, &kernel, 0x7fff_ffff, Access::Read), Ok(0x7fff_ffff));
    assert_eq!(go(&memory, &kernel, 0x40_0000, Access::Read), Err(9));
}

#[test]
fn two_levels_and_pae() {
    let memory = VecMemory::new(0x1_0000);
    memory.write_u32(0x1000, 0x2007);
    memory.write_u32(0x1004, 0x0080_0087);
    memory.write_u32(0x2004, 0x5003);
    let two = state(0, CR4_PSE, 0);
    assert_eq!(go(&memory, &two, 0x1abc, Access::Write), Ok(0x5abc));
    assert_eq!((memory.u32(0x1000), memory.u32(0x2004)), (0x2027, 0x5063));
    assert_eq!(go(&memory, &two, 0x40_0123, Access::Read), Ok(0x80_0123));
    assert_eq!(go(&memory, &user(two), 0x1000, Access::Read), Err(5));

    let memory = VecMemory::new(0x1_0000);
    memory.write_u64(0x1020 + 3 * 8, 0x2001);
    memory.write_u64(0x2000 + 0x1ff * 8, 0x3003);
    memory.write_u64(0x3000 + 0x1ff * 8, 0x8_0000_4003);
    let mut pae = state(0, CR4_PAE, EFER_NXE);
    pae.cr3 = 0x1020;
    assert_eq!(go(&memory, &pae, 0xffff_f800, Access::Write), Ok(0x8_0000_4800));
    pae.valid = StateGroups::PDPTES.bits();
    assert_eq!(go(&memory, &pae, 0xffff_f800, Access::Write), Err(2));
    pae.pdptes[3] = 0x2001;
    assert_eq!(go(&memory, &pae, 0xffff_f800, Access::Read), Ok(0x8_0000_4800));
    pae.cr0 = 0;
    assert_eq!(go(&memory, &pae, 0x1234, Access::Read), Ok(0x1234));
}

proptest! {
    #[test]
    fn no_table_panics(entries in prop::collection::vec((0u64..0x8000, any::<u64>()), 0..64), linear: u64, cr4: u64, efer: u64, cr3: u64) {
        let memory = VecMemory::new(0x8000);
        for (offset, value) in entries {
            memory.write_u64(offset & !7, value & 0xffff_0000_0000_7fff);
        }
        let mut state = state(0, cr4, efer);
        state.cr3 = cr3 & 0x7fff;
        for access in [Access::Read, Access::Write, Access::Fetch] {
            let _ = walk(&memory, &Paging::new(&state), GuestLinear(linear), access);
        }
    }
}
