//! Signals: what the console and the devices' services have to say, to the first processor's thread. Most interrupts of devices do not come
//! here: the kernel posts them for the guest's processor.

use crate::device::DeviceLink;
use crate::monitor::Monitor;
use bulkhead_machine::virtio::Event;
use bulkhead_runtime::abi::NO_DEADLINE;
use bulkhead_runtime::events as signals;
use bulkhead_runtime::status::COMMAND_SIGNAL;
use bulkhead_runtime::time;

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
                    machine.with_function(&self.model, index, |function| device.service_did(function, bits));
                }
            }
            let index = links.devices.len();
            if let Some(ports) = links.ports.as_mut().filter(|ports| bits & ports.signal != 0) {
                machine.with_function(&self.model, index, |function| ports.serve(function));
                self.recall = ports.again.unwrap_or(NO_DEADLINE);
            }
        }
        self.receive();
        self.driver_events();
    }

    /// Does what it was time for.
    pub(crate) fn timed(&mut self) {
        let now = time::now();
        self.guest.machine.advance(&mut self.model, now);
        if now >= self.recall {
            self.recall = NO_DEADLINE;
            let ports = self.guest.links.lock().ports.as_ref().map_or(0, |ports| ports.signal);
            self.signalled(ports);
        }
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
            let (mut any, mut moved) = (false, false);
            while let Some(Some(event)) = machine.with_function(&self.model, index, |function| function.take_event()) {
                moved |= event == Event::MessagesMoved;
                device.driver_did(event, self.guest.space);
                any = true;
            }
            if any && device.serve() {
                machine.with_function(&self.model, index, |function| device.service_did(function, 0));
            }
            if moved {
                self.redirect(index, device);
            }
        }
        let index = links.devices.len();
        if let Some(ports) = &mut links.ports {
            let served = machine.with_function(&self.model, index, |function| {
                let mut any = false;
                while let Some(event) = function.take_event() {
                    ports.driver_did(event, function);
                    any = true;
                }
                any
            });
            if served == Some(true) {
                ports.call();
            }
        }
        drop(links);
        self.follow_addresses();
    }
}

impl Monitor {
    /// Has the kernel carry a device's interrupts to where its messages lead now.
    fn redirect(&self, index: usize, device: &mut DeviceLink) {
        let machine = &self.guest.machine;
        device.redirect(machine.host(), |queue| {
            let message = machine.with_function(&self.model, index, |function| function.message(queue))??;
            machine.posts_at(message)
        });
    }

    /// Has interrupts of devices follow the processors, after an access that may have changed how this one is addressed.
    #[inline]
    pub(crate) fn follow_addresses(&mut self) {
        let moves = self.guest.machine.moves();
        if moves != self.moves {
            self.moves = moves;
            self.redirect_all();
        }
    }

    #[cold]
    fn redirect_all(&self) {
        for (index, device) in self.guest.links.lock().devices.iter_mut().enumerate() {
            self.redirect(index, device);
        }
    }
}

/// The bit by which this program's threads wake each other.
const OWN: u64 = 1 << bulkhead_runtime::plan::layout::OWN_BIT;
const _: () = assert!(OWN == COMMAND_SIGNAL, "init's signal is no device's");
