//! All functions on all buses.

use crate::function::{Address, ConfigurationSpace, Identity};

/// Calls `visit` with each function, in the order of addresses.
///
/// Every bus is looked at, not only those that bridges lead to: a machine can have several root buses, and what a bridge says of
/// its buses need not be believed.
pub fn functions(space: &impl ConfigurationSpace, mut visit: impl FnMut(Identity)) {
    for bus in 0..=u8::MAX {
        for device in 0..32u16 {
            let first = Address(u16::from(bus) << 8 | device << 3);
            let Some(identity) = Identity::read(space, first) else {
                continue;
            };
            visit(identity);
            if !identity.has_siblings {
                continue;
            }
            for function in 1..8 {
                if let Some(sibling) = Identity::read(space, Address(first.0 | function)) {
                    visit(sibling);
                }
            }
        }
    }
}
