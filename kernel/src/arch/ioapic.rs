//! The I/O APICs: routes global system interrupts to processors.

use crate::arch::traps::vector;
use core::cell::Cell;
use heapless::Vec;
use spin::Once;

/// Most I/O APICs.
pub const MAX_CONTROLLERS: usize = 8;
/// Global system interrupts that the kernel has vectors for.
pub const MAX_INTERRUPTS: u32 = 96;

const MASKED: u32 = 1 << 16;

/// One I/O APIC (ICH datasheets; 82093AA).
#[derive(Clone, Copy)]
struct Controller {
    /// Virtual address of the registers.
    page: u64,
    /// Its first global system interrupt.
    first: u32,
    /// Inputs.
    count: u32,
}

struct Controllers {
    list: Vec<Controller, MAX_CONTROLLERS>,
    entries: [Cell<u32>; MAX_INTERRUPTS as usize],
}
// SAFETY: the cells are used under the kernel lock only.
unsafe impl Sync for Controllers {}
// SAFETY: nothing in it belongs to one processor.
unsafe impl Send for Controllers {}

static CONTROLLERS: Once<Controllers> = Once::new();

impl Controller {
    fn write(&self, register: u32, value: u32) {
        // SAFETY: the register pages were mapped uncached at start-up; index and data register as the 82093AA has them.
        unsafe {
            (self.page as *mut u32).write_volatile(register);
            ((self.page + 16) as *mut u32).write_volatile(value);
        }
    }
    fn read(&self, register: u32) -> u32 {
        // SAFETY: as in `write`.
        unsafe {
            (self.page as *mut u32).write_volatile(register);
            ((self.page + 16) as *mut u32).read_volatile()
        }
    }
}

/// Takes over the controllers: (virtual address of the registers, first global system interrupt) each. Masks everything.
pub fn initialise(found: &[(u64, u32)]) {
    let mut list = Vec::new();
    for &(page, first) in found {
        let mut controller = Controller { page, first, count: 0 };
        controller.count = (controller.read(1) >> 16 & 0xff) + 1;
        for input in 0..controller.count {
            controller.write(0x10 + input * 2, MASKED);
        }
        // More controllers than the list holds stay masked and unused.
        let _ = list.push(controller);
    }
    CONTROLLERS.call_once(|| Controllers { list, entries: [const { Cell::new(0) }; MAX_INTERRUPTS as usize] });
}

fn find(interrupt: u32) -> Option<(&'static Controllers, Controller, u32)> {
    let controllers = CONTROLLERS.get()?;
    let controller = controllers.list.iter().find(|one| interrupt >= one.first && interrupt - one.first < one.count)?;
    if interrupt >= MAX_INTERRUPTS { None } else { Some((controllers, *controller, interrupt - controller.first)) }
}

/// Whether an interrupt of this number exists.
pub fn exists(interrupt: u32) -> bool {
    find(interrupt).is_some()
}

/// Routes and unmasks.
pub fn route(interrupt: u32, apic_id: u32, level: bool, active_low: bool) -> bool {
    let Some((controllers, controller, input)) = find(interrupt) else {
        return false;
    };
    let mode = u32::from(level) << 15 | u32::from(active_low) << 13;
    let entry = mode | (u32::from(vector::FIRST_DEVICE) + interrupt);
    controller.write(0x10 + input * 2, MASKED);
    controller.write(0x11 + input * 2, apic_id << 24);
    controller.write(0x10 + input * 2, entry);
    if let Some(cell) = controllers.entries.get(interrupt as usize) {
        cell.set(entry);
    }
    true
}

/// Masks or unmasks an interrupt that has been routed.
pub fn set_masked(interrupt: u32, masked: bool) {
    let Some((controllers, controller, input)) = find(interrupt) else {
        return;
    };
    let entry = controllers.entries.get(interrupt as usize).map_or(0, Cell::get);
    if entry != 0 {
        controller.write(0x10 + input * 2, if masked { entry | MASKED } else { entry });
    }
}

/// Whether the interrupt was routed as level-triggered.
pub fn is_level(interrupt: u32) -> bool {
    find(interrupt).is_some_and(|(controllers, _, _)| {
        controllers.entries.get(interrupt as usize).is_some_and(|entry| entry.get() & 1 << 15 != 0)
    })
}
