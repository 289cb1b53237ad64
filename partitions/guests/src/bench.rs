//! What exits cost, measured inside the guest: each figure is the plain difference of two readings of the counter.

use crate::machine::{Ports, SELF_TEST, cpuid, read_register, ticks};
use crate::println;

/// Repetitions of a measurement.
pub const COUNT: usize = 1000;
/// Repetitions before that.
pub const WARM_UP: usize = 100;
/// Register select of the I/O APIC.
const IO_APIC: u32 = 0xfec0_0000;

/// Takes all figures. Their names end with `variant`.
pub fn run(variant: &str) {
    // A guest without a hypervisor leaf measures the bare machine.
    measure("exit.cpuid", variant, || {
        core::hint::black_box(cpuid(0, 0));
    });
    measure("exit.pio", variant, || Ports::write_u8(SELF_TEST, 0));
    measure("exit.mmio", variant, || {
        read_register(IO_APIC);
    });
    measure("guest.nothing", variant, || {});
}

/// Measures an operation.
#[inline(always)]
pub fn measure(name: &str, variant: &str, operation: impl FnMut()) {
    measure_between(name, variant, || {}, operation);
}

/// The same; `mark` is called before the first and after the last repetition that counts.
#[inline(always)]
pub fn measure_between(name: &str, variant: &str, mark: impl Fn(), mut operation: impl FnMut()) {
    for _ in 0..WARM_UP {
        operation();
    }
    let mut figures = [0; COUNT];
    mark();
    for figure in &mut figures {
        // Half of the counter is enough for a difference, and costs no instructions to put together.
        let start = ticks() as u32;
        operation();
        *figure = u64::from((ticks() as u32).wrapping_sub(start));
    }
    mark();
    figures.sort_unstable();
    print(name, variant, &figures);
}

/// Prints a figure, given its values in ascending order.
pub fn print(name: &str, variant: &str, figures: &[u64; COUNT]) {
    println!(
        "{{\"name\": \"{name}{variant}\", \"unit\": \"instructions\", \"n\": {COUNT}, \"min\": {}, \"median\": {}, \"p95\": {}}}",
        figures[0],
        figures[COUNT / 2],
        figures[COUNT * 95 / 100]
    );
}
