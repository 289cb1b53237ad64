//! A virtio function on the PCI bus: configuration space, registers, interrupts.

use crate::Input;
use bulkhead_machine::bus::Width;
use bulkhead_machine::devices::pci::{PciFunction as _, Space};
use bulkhead_machine::virtio::{BarPlaces, CONFIGURATION_BYTES, Device, Event, VirtioPci};

const DEVICE: Device = Device {
    device_type: 2,
    class: 0x01_8000,
    features: 0x3000_0247,
    queues: 3,
    queue_size: 128,
    configuration: [0x5a; CONFIGURATION_BYTES],
};
const WIDTHS: [Width; 4] = [Width::Byte, Width::Word, Width::Dword, Width::Qword];

/// Accesses of a guest, in any order, and what the emulator does in between.
pub fn run(input: &mut Input<'_>) {
    let mut function = VirtioPci::new(DEVICE, BarPlaces { ports: 0xc000, memory: 0xfe00_0000 });
    while !input.is_empty() {
        let width = WIDTHS[usize::from(input.byte() % 4)];
        let narrow = if width == Width::Qword { Width::Dword } else { width };
        let offset = input.byte() & !(narrow.bytes() as u8 - 1);
        match input.byte() % 8 {
            0 => drop(function.read_config(offset, narrow)),
            1 | 2 => function.write_config(offset, narrow, input.number(4) as u32),
            3 => {
                let place = function.decode(Space::Memory, 0xfe00_0000 + input.below(0x4000));
                if let Some(place) = place {
                    function.read_bar(place, width);
                }
            }
            4 | 5 => {
                let address = 0xfe00_0000 + input.below(0x4000);
                let address = if input.byte() & 3 == 0 { address } else { 0xfe00_0000 + address % 0x40 };
                if let Some(place) = function.decode(Space::Memory, address) {
                    function.write_bar(place, width, input.number(8));
                }
            }
            6 => function.raise(input.byte().into()),
            _ => match input.byte() % 3 {
                0 => function.reset_done(),
                1 => function.set_needs_reset(),
                _ => function.set_device(DEVICE),
            },
        }
        while let Some(event) = function.take_event() {
            if let Event::DriverReady(chosen) = event {
                assert_eq!(chosen.features & !(DEVICE.features | 1 << 32), 0, "a feature that is not offered");
                for queue in chosen.queues.iter().flatten() {
                    assert!(queue.size.is_power_of_two() && queue.size <= DEVICE.queue_size);
                }
            }
        }
        while function.take_message().is_some() {}
        let _ = function.interrupt_asserted();
    }
}
