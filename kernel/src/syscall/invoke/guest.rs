//! Methods of `GuestSpace` and `Vcpu`.

use super::partition::{donate, map, unmap};
use super::{Call, DONE, Outcome};
use crate::arch::cpu;
use crate::arch::traps::vector;
use crate::object::guest;
use crate::schedule;
use crate::vmx::{GuestSpace, Vcpu};
use bulkhead_abi::{Error, GuestSpaceMethod, Rights, StateGroups, VcpuMethod};

/// Guest-physical addresses end here: 4-level tables.
const GUEST_END: u64 = 1 << 46;

/// A method of `GuestSpace`.
pub fn invoke_space(call: &Call, method: u64) -> Result<Outcome, Error> {
    let guest = call.slot.expect_object::<GuestSpace>(Rights::CONTROL)?;
    let space = guest.header();
    let [first, second, ..] = call.arguments;
    let port = u16::try_from(first).map_err(|_| Error::OutOfRange);
    match GuestSpaceMethod::from_number(method).ok_or(Error::UnknownMethod)? {
        // Memory may be writable and executable: what is code is the guest's business.
        GuestSpaceMethod::Map => map(call, space, 0, Rights::all(), GUEST_END),
        GuestSpaceMethod::Unmap => unmap(call, space),
        GuestSpaceMethod::Donate => donate(call, space),
        GuestSpaceMethod::BindDoorbell => {
            guest::bind_doorbell(guest, port?, call.notification(second, Rights::SIGNAL)?)
        }
        GuestSpaceMethod::UnbindDoorbell => guest::unbind_doorbell(guest, port?),
        GuestSpaceMethod::MapApicPage if cpu::this().vmx.has_virtual_apic.get() => guest.map_apic_page().and(DONE),
        GuestSpaceMethod::MapApicPage => Err(Error::Unsupported),
    }
}

/// A method of `Vcpu`.
pub fn invoke_vcpu(call: &Call, method: u64) -> Result<Outcome, Error> {
    let vcpu = call.slot.expect_object::<Vcpu>(Rights::CONTROL)?;
    let [first, second, _, _] = call.arguments;
    match VcpuMethod::from_number(method).ok_or(Error::UnknownMethod)? {
        VcpuMethod::MapState => {
            let partition = call.thread.partition.get().ok_or(Error::Gone)?;
            guest::map_state(vcpu, partition, first).and(DONE)
        }
        VcpuMethod::Fetch => {
            let groups = StateGroups::from_bits(first).ok_or(Error::BadArgument)?;
            Error::WrongCpu.when(vcpu.cpu.get() != cpu::this().number.get())?;
            Error::WrongState.when(vcpu.runner.get().is_some())?;
            if vcpu.fetch(&cpu::this().vmx, groups) { DONE } else { Err(Error::WrongState) }
        }
        VcpuMethod::PassMsr => {
            let register = u32::try_from(first).map_err(|_| Error::BadArgument)?;
            Error::BadArgument.when(second > 3)?;
            vcpu.pass_msr(register, second & 1 != 0, second & 2 != 0).and(DONE)
        }
        VcpuMethod::Notify => {
            if let Some(thread) = vcpu.runner.get() {
                schedule::interrupt_guest(thread, vector::POSTED);
            }
            DONE
        }
        VcpuMethod::Direct => vcpu.set_direct(first, second).and(DONE),
    }
}
