//! A request on its way, in memory that is there for the next one, too.

use bulkhead_driver::{Command, PhysicalSegment};
use bulkhead_virtio::{Chain, GuestMemory, Operation, Request, SECTOR};

/// A place for a request.
#[derive(Default)]
pub(crate) struct Transfer {
    pub(crate) chain: Chain,
    /// The request; none if the place is free.
    pub(crate) request: Option<Request>,
    /// Number of its queue.
    pub(crate) queue: usize,
    /// Bytes that are done.
    pub(crate) done: u64,
    /// The drive works on it.
    pub(crate) at_drive: bool,
}

impl Transfer {
    /// Bytes that are not done; those of requests without data are done at once.
    pub(crate) fn left(&self) -> u64 {
        self.request.map_or(0, |request| (request.sectors * SECTOR).saturating_sub(self.done))
    }

    /// Guest-physical addresses and lengths of the next `bytes` of its data.
    pub(crate) fn data(&self, bytes: u64) -> impl Iterator<Item = (u64, u64)> + Clone + '_ {
        self.request.into_iter().flat_map(move |request| request.data(&self.chain, self.done, bytes))
    }

    /// The same as the device sees them. Ends early where there is no memory.
    pub(crate) fn pieces<'m, M: GuestMemory>(
        &'m self,
        memory: &'m M,
        bytes: u64,
    ) -> impl Iterator<Item = PhysicalSegment> + 'm {
        self.data(bytes).flat_map(move |(address, length)| {
            let mut rest = (address, length);
            core::iter::from_fn(move || {
                let (address, length) = rest;
                if length == 0 {
                    return None;
                }
                let piece = memory.translate(address, length).ok().filter(|piece| piece.length != 0)?;
                let taken = piece.length.min(length);
                rest = (address.wrapping_add(taken), length - taken);
                Some(PhysicalSegment { address: piece.address, length: taken })
            })
        })
    }

    /// The drive's command for `bytes` from sector `first_sector` of the drive on.
    pub(crate) fn command(&self, first_sector: u64, bytes: u64) -> Option<Command> {
        let sectors = u32::try_from(bytes / SECTOR).ok()?;
        Some(match self.request?.operation {
            Operation::Read => Command::Read { first_sector, sectors },
            Operation::Write => Command::Write { first_sector, sectors },
            Operation::Flush => Command::Flush,
            Operation::Discard => Command::Discard { first_sector, sectors },
            Operation::WriteZeroes { unmap } => Command::WriteZeroes { first_sector, sectors, unmap },
        })
    }
}
