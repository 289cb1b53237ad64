//! Signals: what the console and the disks' services have to say.

use crate::processor::Guest;

impl Guest {
    /// Serves signal bits.
    pub(crate) fn signalled(&mut self, bits: u64) {
        if bits & self.input.signal != 0 {
            self.machine.flush_serial();
        }
        self.receive();
        for (index, disk) in self.disks.iter_mut().enumerate() {
            if bits & disk.signal != 0 {
                self.machine.with_function(index, |function| disk.service_did(function));
            }
        }
        self.driver_events();
    }

    /// Hands what was typed to the guest's serial port, as far as there is room.
    pub(crate) fn receive(&mut self) {
        let room = self.machine.serial_room();
        let machine = &mut self.machine;
        self.input.receive(room, |byte| {
            machine.receive(byte);
        });
    }

    /// Passes on what the guest's drivers did to their devices, after an access to the PCI bus.
    pub(crate) fn driver_events(&mut self) {
        for (index, disk) in self.disks.iter_mut().enumerate() {
            while let Some(Some(event)) = self.machine.with_function(index, |function| function.take_event()) {
                disk.driver_did(event, self.space);
            }
        }
    }
}
