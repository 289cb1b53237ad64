//! The files that the boot loader brought: mapped, and compared with what the manifest was compiled with.

use crate::allocator::Allocator;
use crate::failure::{Cause, Failure};
use alloc::vec::Vec;
use blake2::{Blake2b, Digest, digest::consts::U32};
use bulkhead_runtime::abi::{BootInfo, PAGE_SIZE, init_slot};
use bulkhead_runtime::mapping;
use bulkhead_runtime::object::Memory;
use bulkhead_runtime::plan::{ModuleRecord, Plan};
use bulkhead_runtime::syscall::Slot;

/// Name of the module that holds the plan.
const PLAN: &str = "plan";
/// Where init maps the first module; nothing else of init's lies there.
const FIRST_ADDRESS: u64 = 0x10_0000_0000;
/// Modules' addresses are aligned to this, so that large pages can be used and tables are not shared.
const ALIGNMENT: u64 = 2 << 20;

/// A module that is what it should be.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// Its memory.
    pub root: Memory,
    /// Its contents.
    pub bytes: &'static [u8],
}

/// Maps modules one after the other.
pub struct Modules<'a> {
    boot: &'a BootInfo,
    next_address: u64,
}

impl<'a> Modules<'a> {
    /// No module is mapped yet.
    pub fn new(boot: &'a BootInfo) -> Self {
        Self { boot, next_address: FIRST_ADDRESS }
    }

    /// Pages of page tables that mapping all modules needs at most.
    pub fn table_pages(&self) -> u64 {
        let modules = self.boot.modules.iter().take(self.boot.module_count as usize);
        4 + modules.map(|module| module.length / ALIGNMENT + 3).sum::<u64>()
    }

    /// Maps the plan's bytes.
    pub fn plan(&mut self, allocator: &mut Allocator) -> Result<&'static [u8], Failure> {
        Ok(self.map(PLAN, allocator)?.bytes)
    }

    fn map(&mut self, name: &str, allocator: &mut Allocator) -> Result<Module, Failure> {
        let failure = |cause| Failure::new("map the module", name, cause);
        let count = self.boot.module_count as usize;
        let index = self
            .boot
            .modules
            .iter()
            .take(count)
            .position(|module| is_named(&module.name, name))
            .ok_or_else(|| failure(Cause::ModuleMissing))?;
        let address = self.next_address;
        let slot = allocator.slot().map_err(failure)?;
        let bytes =
            mapping::map_module(self.boot, index, slot, address).map_err(|error| failure(Cause::Kernel(error)))?;
        self.next_address += (bytes.len() as u64 + PAGE_SIZE).next_multiple_of(ALIGNMENT);
        let root = Memory(Slot(init_slot::FIRST_MODULE + index as u64));
        Ok(Module { root, bytes })
    }

    /// Maps and verifies all modules that the plan names, in the plan's order.
    pub fn verified(mut self, plan: &Plan<'_>, allocator: &mut Allocator) -> Result<Vec<Module>, Failure> {
        let mut modules = Vec::with_capacity(plan.modules().len());
        for record in plan.modules() {
            let name = record.name.as_str();
            let module = self.map(name, allocator)?;
            verify(record, module.bytes).map_err(|cause| Failure::new("accept the module", name, cause))?;
            modules.push(module);
        }
        Ok(modules)
    }
}

fn is_named(padded: &[u8], name: &str) -> bool {
    let length = padded.iter().position(|byte| *byte == 0).unwrap_or(padded.len());
    padded.get(..length) == Some(name.as_bytes())
}

fn verify(record: &ModuleRecord, bytes: &[u8]) -> Result<(), Cause> {
    if bytes.len() as u64 != record.length {
        return Err(Cause::ModuleDiffers { what: "length" });
    }
    if Blake2b::<U32>::digest(bytes).as_slice() != record.digest {
        return Err(Cause::ModuleDiffers { what: "BLAKE2b-256" });
    }
    Ok(())
}
