//! Methods of `GuestSpace` and `Vcpu`.

use super::partition::{donate, map, mapping_rights, unmap};
use super::{Call, DONE, Outcome};
use crate::arch::cpu;
use crate::arch::traps::vector;
use crate::object::guest;
use crate::object::notification::Notification;
use crate::schedule;
use crate::vmx::{GuestSpace, Vcpu};
use bulkhead_abi::{Error, GuestSpaceMethod, Rights, StateGroups, VcpuMethod};

/// Guest-physical addresses end here: 4-level tables.
const GUEST_END: u64 = 1 << 46;

/// A method of `GuestSpace`.
pub fn invoke_space(call: &Call, method: u64) -> Result<Outcome, Error> {
    let guest = call.slot.expect_object::<GuestSpace>(Rights::CONTROL)?;
    let space = guest.header();
    let [first, second, third, _] = call.arguments;
    match GuestSpaceMethod::from_number(method).ok_or(Error::UnknownMethod)? {
        GuestSpaceMethod::Map => {
            let rights = guest_rights(third)?;
            map(call, space, rights, GUEST_END)
        }
        GuestSpaceMethod::Unmap => unmap(call, space),
        GuestSpaceMethod::Donate => donate(call, space),
        GuestSpaceMethod::BindDoorbell => {
            let port = u16::try_from(first).map_err(|_| Error::OutOfRange)?;
            let slot = call.slot_at(second)?;
            slot.expect_object::<Notification>(Rights::SIGNAL)?;
            guest::bind_doorbell(guest, port, slot)
        }
        GuestSpaceMethod::UnbindDoorbell => {
            let port = u16::try_from(first).map_err(|_| Error::OutOfRange)?;
            guest::unbind_doorbell(guest, port)
        }
        GuestSpaceMethod::MapApicPage if crate::vmx::has_virtual_apic() => {
            guest.map_apic_page()?;
            DONE
        }
        GuestSpaceMethod::MapApicPage => Err(Error::Unsupported),
    }
}

/// A guest's memory may be writable and executable: what is code is the guest's business.
fn guest_rights(word: u64) -> Result<Rights, Error> {
    let both = Rights::WRITE | Rights::EXECUTE;
    let rights = u16::try_from(word).ok().and_then(Rights::from_bits).ok_or(Error::BadArgument)?;
    mapping_rights(u64::from((rights - Rights::EXECUTE).bits()))?;
    if rights.intersects(both) || rights == Rights::READ { Ok(rights) } else { Err(Error::BadArgument) }
}

/// A method of `Vcpu`.
pub fn invoke_vcpu(call: &Call, method: u64) -> Result<Outcome, Error> {
    let vcpu = call.slot.expect_object::<Vcpu>(Rights::CONTROL)?;
    let [first, second, _, _] = call.arguments;
    match VcpuMethod::from_number(method).ok_or(Error::UnknownMethod)? {
        VcpuMethod::MapState => {
            let partition = call.thread.partition.get().ok_or(Error::Gone)?;
            guest::map_state(vcpu, partition, first)?;
            DONE
        }
        VcpuMethod::Fetch => {
            let groups = StateGroups::from_bits(first).ok_or(Error::BadArgument)?;
            if vcpu.cpu.get() != cpu::this().number.get() {
                return Err(Error::WrongCpu);
            }
            if vcpu.runner.get().is_some() {
                return Err(Error::WrongState);
            }
            if vcpu.fetch(&cpu::this().vmx, groups) { DONE } else { Err(Error::WrongState) }
        }
        VcpuMethod::PassMsr => {
            let register = u32::try_from(first).map_err(|_| Error::BadArgument)?;
            if second > 3 {
                return Err(Error::BadArgument);
            }
            vcpu.pass_msr(register, second & 1 != 0, second & 2 != 0)?;
            DONE
        }
        VcpuMethod::Notify => {
            if let Some(thread) = vcpu.runner.get() {
                schedule::interrupt_guest(thread, vector::POSTED);
            }
            DONE
        }
    }
}
