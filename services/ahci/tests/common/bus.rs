//! The registers of the whole controller, and the clock.

use super::{Controller, DMA_PHYSICAL, DRIVE, Fault};
use bulkhead_driver::{Clock, DmaMemory, Registers};
use std::cell::RefCell;
use std::rc::Rc;

/// The registers and the clock of a shared controller.
#[derive(Clone)]
pub struct Bus(pub Rc<RefCell<Controller>>);

impl Bus {
    pub fn new(logical: usize, sectors: u64) -> Self {
        Self(Rc::new(RefCell::new(Controller::new(logical, sectors))))
    }

    pub fn dma(&self) -> DmaMemory<'static> {
        DmaMemory::new(self.0.borrow().words, DMA_PHYSICAL)
    }
}

impl Clock for Bus {
    fn milliseconds(&self) -> u64 {
        let mut controller = self.0.borrow_mut();
        controller.now += 1;
        controller.now
    }
}

impl Registers for Bus {
    fn read_u8(&self, offset: u32) -> u8 {
        panic!("read of 8 bits at {offset:#x}")
    }

    fn read_u16(&self, offset: u32) -> u16 {
        panic!("read of 16 bits at {offset:#x}")
    }

    fn read_u32(&self, offset: u32) -> u32 {
        let controller = self.0.borrow();
        if controller.fault == Fault::Gone {
            return u32::MAX;
        }
        match offset {
            0x00 => controller.capabilities,
            0x04 => controller.control,
            0x08 => controller.pending_interrupts,
            0x0c => 0b1101,
            0x24 => 1,
            0x28 => controller.handoff,
            0x100..0x280 => {
                // A packet device at port 0, ready at once; nothing at port 2.
                assert!(!(0x180..0x200).contains(&offset), "a port that is not there");
                match offset {
                    0x120 => 0x50,
                    0x124 => 0xeb14_0101,
                    0x128 => 0x113,
                    _ => 0,
                }
            }
            0x280.. => controller.read_port(offset - 0x100 - DRIVE * 0x80),
            other => panic!("read at {other:#x}"),
        }
    }

    fn write_u8(&self, offset: u32, _: u8) {
        panic!("write of 8 bits at {offset:#x}")
    }

    fn write_u16(&self, offset: u32, _: u16) {
        panic!("write of 16 bits at {offset:#x}")
    }

    fn write_u32(&self, offset: u32, value: u32) {
        let mut controller = self.0.borrow_mut();
        match offset {
            _ if controller.fault == Fault::Gone => {}
            0x04 if value & 1 != 0 => controller.reset_host(),
            0x04 => {
                assert_ne!(value >> 31, 0);
                controller.control = value & !1 | controller.control & 1;
            }
            0x08 => {
                let again = controller.events & controller.enabled != 0;
                controller.pending_interrupts &= !value | u32::from(again) << DRIVE;
            }
            0x28 => {
                assert_eq!(value & 2, 2);
                if controller.fault != Fault::Firmware {
                    controller.handoff = 2;
                }
            }
            0x100..0x280 => assert!(!(0x180..0x200).contains(&offset)),
            0x280.. => controller.write_port(offset - 0x100 - DRIVE * 0x80, value),
            other => panic!("write at {other:#x}"),
        }
    }
}
