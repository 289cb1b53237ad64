//! Models of the devices that every guest finds in its virtual PC. Each is driven by the clock that its caller passes in.

pub mod calendar;
pub mod clock;
pub mod fw_cfg;
pub mod hpet;
pub mod i8042;
pub mod interrupts;
pub mod ioapic;
pub mod lapic;
pub mod message;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod power;
pub mod rtc;
pub mod uart;
