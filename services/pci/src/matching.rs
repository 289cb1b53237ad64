//! Which function is which device of the plan.

use crate::function::{Address, Identity};
use bulkhead_plan::DeviceSelector;

/// Whether a function is what a selector describes; `values` as in `bulkhead_plan::DeviceRecord`.
pub fn fits(identity: &Identity, selector: DeviceSelector, values: [u32; 2]) -> bool {
    // A bridge is nobody's: who has it can reroute what is behind it.
    !identity.is_bridge()
        && match selector {
            DeviceSelector::Identifier => values.contains(&identity.identifier),
            DeviceSelector::Class => values[0] == identity.class,
            DeviceSelector::Address => values[0] == u32::from(identity.address.0),
        }
}

/// Chooses a function for each of the wanted devices: those with addresses first, then each the first that fits and that none
/// before it has taken.
pub fn choose<const N: usize>(functions: &[Identity], wanted: &[(DeviceSelector, [u32; 2])]) -> [Option<Identity>; N] {
    let mut chosen: [Option<Identity>; N] = [None; N];
    for by_address in [true, false] {
        for (index, (selector, values)) in wanted.iter().enumerate() {
            if (*selector == DeviceSelector::Address) != by_address {
                continue;
            }
            let taken = |address: Address| chosen.iter().flatten().any(|other| other.address == address);
            let found = functions.iter().find(|one| fits(one, *selector, *values) && !taken(one.address)).copied();
            if let Some(place) = chosen.get_mut(index) {
                *place = found;
            }
        }
    }
    chosen
}
