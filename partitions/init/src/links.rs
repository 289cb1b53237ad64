//! Who learns of whose lives: the ends of channels, and the clients and servers of endpoints.

use alloc::vec::Vec;
use bulkhead_plan::{EndpointSide, Plan, Resource};

/// A partition that learns of the lives of another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// The one whose lives it learns of, by its number in the plan.
    pub of: usize,
    /// The one that learns.
    pub to: usize,
    /// The bits by which it is signalled.
    pub bits: u64,
}

/// All links of a plan. Init itself is nobody's: it has one life. `look` are the bits that tell a partition to look at its status page.
pub fn links(plan: &Plan<'_>, look: u64) -> Vec<Link> {
    let mut links = Vec::new();
    let mut add = |of: usize, to: usize, bits| {
        if of != 0 && to != 0 {
            links.push(Link { of, to, bits });
        }
    };
    for channel in plan.channels() {
        let [first, second] = &channel.ends;
        for (of, to) in [(first, second), (second, first)] {
            add(of.partition as usize, to.partition as usize, 1u64.checked_shl(to.bit).unwrap_or(0));
        }
    }
    for client in plan.partitions() {
        for grant in client.grants() {
            if let Resource::Endpoint { index, side: EndpointSide::Client, .. } = grant.resource
                && let Some(endpoint) = plan.endpoints().get(index)
            {
                add(endpoint.server as usize, client.index, look);
                add(client.index, endpoint.server as usize, look);
            }
        }
    }
    links
}
