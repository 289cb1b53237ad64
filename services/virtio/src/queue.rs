//! The split virtqueue from the device's side (virtio 1.2, 2.7).

use crate::{Chain, GuestMemory, OutsideMemory, feature};
use bulkhead_channel::QueueConfiguration;
use core::sync::atomic::{Ordering::SeqCst, fence};

/// The driver broke the rules of the queue: the device needs a reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueueError {
    /// The queue, or an indirect table, does not lie in the guest's memory.
    Memory,
    /// The driver made more chains available than the queue can hold.
    AvailableIndex,
    /// A descriptor's number is not in its table.
    DescriptorIndex,
    /// A chain runs in a circle.
    Loop,
    /// A chain has more than [`crate::MAX_DESCRIPTORS`] descriptors.
    TooLong,
    /// A descriptor of length 0.
    EmptyDescriptor,
    /// A device-readable descriptor comes after a device-writable one.
    Order,
    /// An indirect descriptor that was not negotiated, is nested, has a successor or a table of a broken length.
    Indirect,
    /// A request has no place for its status.
    NoStatus,
    /// The driver made a chain available that it has not got back.
    InUse,
}

impl From<OutsideMemory> for QueueError {
    fn from(_: OutsideMemory) -> Self {
        Self::Memory
    }
}

const AVAILABLE_NO_INTERRUPT: u16 = 1;
const USED_NO_NOTIFY: u16 = 1;

/// A virtqueue that the driver enabled.
#[derive(Clone, Debug)]
pub struct Queue {
    at: QueueConfiguration,
    indirect: bool,
    event_index: bool,
    /// Chains taken, modulo 2^16; the driver's index follows it by at most the queue's size.
    taken: u16,
    /// Chains given back, modulo 2^16.
    used: u16,
    /// Value of `used` when the driver's wish for interrupts was last looked at.
    examined: u16,
}

impl Queue {
    /// A queue as the driver set it up, with the features it accepted.
    pub fn new(at: QueueConfiguration, features: u64, memory: &impl GuestMemory) -> Result<Self, QueueError> {
        let areas = [
            (at.descriptors, at.descriptors_length()),
            (at.driver, at.driver_length()),
            (at.device, at.device_length()),
        ];
        if at.size == 0 || areas.iter().any(|(address, length)| !memory.contains(*address, *length)) {
            return Err(QueueError::Memory);
        }
        Ok(Self {
            at,
            indirect: features & feature::INDIRECT_DESCRIPTORS != 0,
            event_index: features & feature::EVENT_INDEX != 0,
            taken: 0,
            used: 0,
            examined: 0,
        })
    }

    /// The same for a queue that has been in use: an earlier device has taken `outstanding` chains that it did not give back.
    pub fn resume(
        at: QueueConfiguration,
        features: u64,
        memory: &impl GuestMemory,
        outstanding: u16,
    ) -> Result<Self, QueueError> {
        let mut queue = Self::new(at, features, memory)?;
        queue.used = memory.load_u16(at.device + 2)?;
        queue.examined = queue.used;
        queue.taken = queue.used.wrapping_add(outstanding);
        Ok(queue)
    }

    /// Position of entry `count` in a ring. The size is a power of two, not 0.
    fn place(&self, count: u16) -> u64 {
        u64::from(count & self.at.size.wrapping_sub(1))
    }

    /// Chains that the driver has made available and that are not yet taken.
    pub fn available(&self, memory: &impl GuestMemory) -> Result<u16, QueueError> {
        let waiting = memory.load_u16(self.at.driver + 2)?.wrapping_sub(self.taken);
        if waiting > self.at.size { Err(QueueError::AvailableIndex) } else { Ok(waiting) }
    }

    /// Takes the next chain, if there is one.
    pub fn take(&mut self, memory: &impl GuestMemory) -> Result<Option<Chain>, QueueError> {
        let mut chain = Chain::new();
        Ok(self.take_into(memory, &mut chain)?.then_some(chain))
    }

    /// The same into a chain that is there: a large value is not moved. Returns whether there was one.
    pub fn take_into(&mut self, memory: &impl GuestMemory, chain: &mut Chain) -> Result<bool, QueueError> {
        if self.available(memory)? == 0 {
            return Ok(false);
        }
        let head = memory.load_u16(self.at.driver + 4 + 2 * self.place(self.taken))?;
        self.walk(memory, head, chain)?;
        self.taken = self.taken.wrapping_add(1);
        Ok(true)
    }

    /// Takes back the taking of the last `count` chains, of which none was given back.
    pub fn untake(&mut self, count: u16) {
        self.taken = self.taken.wrapping_sub(count);
    }

    /// Writes the `number`-th of several used elements that [`Queue::publish_used`] will show together.
    pub fn put_used(&self, memory: &impl GuestMemory, number: u16, head: u16, written: u32) -> Result<(), QueueError> {
        let element = u64::from(head) | u64::from(written) << 32;
        let place = self.place(self.used.wrapping_add(number));
        Ok(memory.write(self.at.device + 4 + 8 * place, &element.to_le_bytes())?)
    }

    /// Gives back the chains whose elements have been put.
    pub fn publish_used(&mut self, memory: &impl GuestMemory, count: u16) -> Result<(), QueueError> {
        self.used = self.used.wrapping_add(count);
        Ok(memory.store_u16(self.at.device + 2, self.used)?)
    }

    /// Walks the chain that begins at a head which was taken before.
    pub fn walk(&self, memory: &impl GuestMemory, head: u16, chain: &mut Chain) -> Result<(), QueueError> {
        chain.walk(memory, self.at.descriptors, self.at.size, head, self.indirect)
    }

    /// Chains given back, modulo 2^16, as the driver reads it.
    pub fn used(&self) -> u16 {
        self.used
    }

    /// Descriptors of the queue.
    pub fn size(&self) -> u16 {
        self.at.size
    }

    /// Gives the chain with this head back, with so many bytes written to it.
    pub fn give_back(&mut self, memory: &impl GuestMemory, head: u16, written: u32) -> Result<(), QueueError> {
        self.put_used(memory, 0, head, written)?;
        self.publish_used(memory, 1)
    }

    /// Whether the driver wants an interrupt for what was given back since this was asked last.
    pub fn wants_interrupt(&mut self, memory: &impl GuestMemory) -> Result<bool, QueueError> {
        let (before, now) = (self.examined, self.used);
        if before == now {
            return Ok(false);
        }
        self.examined = now;
        // The driver writes its wish, then looks at the used index; here it is the other way round.
        fence(SeqCst);
        if self.event_index {
            let event = memory.load_u16(self.at.driver + 4 + 2 * u64::from(self.at.size))?;
            // The index has passed `event` (virtio 1.2, 2.7.7.2).
            Ok(now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(before))
        } else {
            Ok(memory.load_u16(self.at.driver)? & AVAILABLE_NO_INTERRUPT == 0)
        }
    }

    /// Tells the driver not to ring: the queue will be looked at anyhow.
    pub fn suppress_doorbell(&mut self, memory: &impl GuestMemory) -> Result<(), QueueError> {
        // With event indexes there is nothing to do: the event index stays behind the driver's.
        if !self.event_index {
            memory.store_u16(self.at.device, USED_NO_NOTIFY)?;
        }
        Ok(())
    }

    /// Tells the driver to ring for the next chain. Returns whether there is one already, for which it may not have rung.
    pub fn request_doorbell(&mut self, memory: &impl GuestMemory) -> Result<bool, QueueError> {
        if self.event_index {
            memory.store_u16(self.at.device + 4 + 8 * u64::from(self.at.size), self.taken)?;
        } else {
            memory.store_u16(self.at.device, 0)?;
        }
        fence(SeqCst);
        Ok(self.available(memory)? != 0)
    }
}
