//! Models of the devices that every guest finds in its virtual PC. Each is driven by the clock that its caller passes in.

pub mod message;
pub mod pci;
