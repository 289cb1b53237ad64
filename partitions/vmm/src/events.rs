//! Signals: what the console and the devices' services have to say, to the first processor's thread.

use crate::monitor::Monitor;
use bulkhead_runtime::events as signals;
use bulkhead_runtime::status::COMMAND_SIGNAL;

impl Monitor {
    /// Serves signal bits. Those of other threads of this program are done by having ended the wait. Init asks for a sign of life by the
    /// same bit, so that a guest that runs for long costs an exit only when its monitor is asked.
    pub(crate) fn signalled(&mut self, bits: u64) {
        if bits & OWN != 0 {
            signals::live();
        }
        if bits & !OWN == 0 {
            return;
        }
        let machine = &self.guest.machine;
        {
            let mut links = self.guest.links.lock();
            if bits & links.input.signal != 0 {
                machine.flush_serial(&self.model);
            }
            for (index, device) in links.devices.iter_mut().enumerate() {
                if bits & device.signal != 0 {
                    device.serve();
                    machine.with_function(&self.model, index, |function| device.service_did(function));
                }
            }
            let index = links.devices.len();
            if let Some(ports) = links.ports.as_mut().filter(|ports| bits & ports.signal != 0) {
                machine.with_function(&self.model, index, |function| ports.serve(function));
            }
        }
        self.receive();
        self.driver_events();
    }

    /// Hands what was typed to the guest's serial port, as far as there is room.
    pub(crate) fn receive(&mut self) {
        let machine = &self.guest.machine;
        let room = machine.serial_room();
        if room != 0 {
            self.guest.links.lock().input.receive(room, |byte| {
                machine.receive(&self.model, byte);
            });
        }
    }

    /// Passes on what the guest's drivers did to their devices, after an access to the PCI bus.
    pub(crate) fn driver_events(&mut self) {
        let machine = &self.guest.machine;
        let mut links = self.guest.links.lock();
        for (index, device) in links.devices.iter_mut().enumerate() {
            let mut any = false;
            while let Some(Some(event)) = machine.with_function(&self.model, index, |function| function.take_event()) {
                device.driver_did(event, self.guest.space);
                any = true;
            }
            if any && device.serve() {
                machine.with_function(&self.model, index, |function| device.service_did(function));
            }
        }
        let index = links.devices.len();
        if let Some(ports) = &mut links.ports {
            machine.with_function(&self.model, index, |function| {
                while let Some(event) = function.take_event() {
                    ports.driver_did(event, function);
                }
            });
        }
    }
}

/// The bit by which this program's threads wake each other.
const OWN: u64 = 1 << bulkhead_runtime::plan::layout::OWN_BIT;
const _: () = assert!(OWN == COMMAND_SIGNAL, "init's signal is no device's");
