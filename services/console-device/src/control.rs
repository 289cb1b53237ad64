//! The messages about ports (virtio 1.2, 5.3.6.2), and their queues.

use crate::Budget;
use crate::port::Port;
use bulkhead_virtio::{Chain, GuestMemory, Queue, QueueError, cut};

/// Bytes of a message, before the name that one kind of it has.
const MESSAGE_BYTES: usize = 8;
/// Most bytes of a name that are told.
const NAME_BYTES: usize = 56;

/// What a message says.
mod event {
    pub const DEVICE_READY: u16 = 0;
    pub const PORT_ADD: u16 = 1;
    pub const PORT_READY: u16 = 3;
    pub const PORT_OPEN: u16 = 6;
    pub const PORT_NAME: u16 = 7;
}

/// What the driver is to be told of a port, next first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Due {
    /// Nothing.
    #[default]
    Nothing,
    /// That there is such a port.
    Add,
    /// Its name, then whether its other end is open.
    Name,
}

/// The queues of messages: to the driver, and from it.
#[derive(Default)]
pub(crate) struct Control {
    pub(crate) receive: Option<Queue>,
    pub(crate) transmit: Option<Queue>,
    chain: Chain,
}

impl Control {
    pub(crate) fn reset(&mut self) {
        (self.receive, self.transmit) = (None, None);
    }

    /// Obeys the driver's messages.
    pub(crate) fn obey(
        &mut self,
        ports: &mut [Port<'_>],
        memory: &impl GuestMemory,
        budget: &mut Budget,
    ) -> Result<(), QueueError> {
        let Some(queue) = &mut self.transmit else { return Ok(()) };
        while !budget.is_spent() && queue.take_into(memory, &mut self.chain)? {
            budget.spend(Budget::CHAIN);
            if let Some(message) = read_message(&self.chain, memory)? {
                obey(ports, message);
            }
            queue.give_back(memory, self.chain.head(), 0)?;
        }
        Ok(())
    }

    /// Tells the driver what is due, as far as it has buffers. What it has no buffer for stays due. Whether a port is open again, whose
    /// bytes have waited for that.
    pub(crate) fn tell(
        &mut self,
        ports: &mut [Port<'_>],
        memory: &impl GuestMemory,
        now: u64,
        pause: u64,
    ) -> Result<bool, QueueError> {
        let Some(queue) = &mut self.receive else { return Ok(false) };
        let mut is_open_again = false;
        for (id, port) in (0u32..).zip(ports) {
            while let Some((what, value)) = next(port, now) {
                if !queue.take_into(memory, &mut self.chain)? {
                    return Ok(is_open_again);
                }
                let name = if what == event::PORT_NAME { port.name.as_bytes() } else { &[] };
                let written = write_message(&self.chain, memory, (id, what, value), name)?;
                queue.give_back(memory, self.chain.head(), written)?;
                match (what, value) {
                    (event::PORT_ADD, _) => port.due = Due::Nothing,
                    (event::PORT_NAME, _) => (port.due, port.is_named) = (Due::Nothing, true),
                    (_, 0) => port.line.closed(now.saturating_add(pause)),
                    _ => {
                        is_open_again |= port.line.is_dead();
                        port.line.opened();
                    }
                }
            }
        }
        Ok(is_open_again)
    }
}

/// What the driver is to be told of a port next, and the value that says it.
fn next(port: &mut Port<'_>, now: u64) -> Option<(u16, u16)> {
    match port.due {
        Due::Add => Some((event::PORT_ADD, 1)),
        Due::Name => Some((event::PORT_NAME, 1)),
        Due::Nothing if port.is_named => match port.due_of_line(now)? {
            true => Some((event::PORT_OPEN, 1)),
            false => Some((event::PORT_OPEN, 0)),
        },
        Due::Nothing => None,
    }
}

/// Port, event and value of the driver's message; nothing if it is too short for one.
fn read_message(chain: &Chain, memory: &impl GuestMemory) -> Result<Option<(u32, u16, u16)>, QueueError> {
    let mut bytes = [0; MESSAGE_BYTES];
    let mut done = 0;
    for (address, length) in cut(chain.readable(), 0, MESSAGE_BYTES as u64) {
        // All pieces together are no longer than a message.
        let Some(part) = bytes.get_mut(done..done + length as usize) else { break };
        memory.read(address, part)?;
        done += part.len();
    }
    if done < MESSAGE_BYTES {
        return Ok(None);
    }
    let value = u64::from_le_bytes(bytes);
    Ok(Some((value as u32, (value >> 32) as u16, (value >> 48) as u16)))
}

/// Does what a message asks for. Ports that are not there, and what a driver has no say in, are passed over.
fn obey(ports: &mut [Port<'_>], (id, what, value): (u32, u16, u16)) {
    if what == event::DEVICE_READY {
        // A driver that failed (0) is told of no port.
        let due = if value == 1 { Due::Add } else { Due::Nothing };
        return ports.iter_mut().for_each(|port| port.announce(due));
    }
    let Some(port) = usize::try_from(id).ok().and_then(|id| ports.get_mut(id)) else { return };
    match what {
        event::PORT_READY if value == 1 => port.announce(Due::Name),
        event::PORT_OPEN => port.open = value == 1,
        _ => (),
    }
}

/// Writes a message, as much of it as the buffer holds. Returns the bytes written.
fn write_message(
    chain: &Chain,
    memory: &impl GuestMemory,
    (id, what, value): (u32, u16, u16),
    name: &[u8],
) -> Result<u32, QueueError> {
    let head = u64::from(id) | u64::from(what) << 32 | u64::from(value) << 48;
    let name = name.get(..NAME_BYTES).unwrap_or(name);
    let mut bytes = [0; MESSAGE_BYTES + NAME_BYTES];
    let message = head.to_le_bytes();
    for (to, from) in bytes.iter_mut().zip(message.iter().chain(name)) {
        *to = *from;
    }
    let mut rest = bytes.get(..MESSAGE_BYTES + name.len()).unwrap_or_default();
    let mut written = 0;
    for (address, length) in cut(chain.writable(), 0, rest.len() as u64) {
        let Some((now, later)) = rest.split_at_checked(length as usize) else { break };
        memory.write(address, now)?;
        rest = later;
        written += length as u32;
    }
    Ok(written)
}
