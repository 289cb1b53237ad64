//! A port: bytes between its two queues and the two rings of a channel.

use crate::Budget;
use crate::control::Due;
use crate::line::Line;
use bulkhead_channel::{ByteReceiver, ByteSender, TextChannel};
use bulkhead_virtio::{Chain, GuestMemory, Queue, QueueError, cut};

/// Bytes that are copied at a time.
const PIECE: usize = 1024;

/// One port of the console.
pub(crate) struct Port<'a> {
    pub(crate) name: &'a str,
    sender: ByteSender<'a>,
    receiver: ByteReceiver<'a>,
    pub(crate) receive: Option<Queue>,
    pub(crate) transmit: Option<Queue>,
    /// A program of the guest has the port open. While none has, the driver would drop what it is given.
    pub(crate) open: bool,
    /// What the driver is to be told.
    pub(crate) due: Due,
    /// The driver knows its name, and is told whether the other end is open.
    pub(crate) is_named: bool,
    /// The other end.
    pub(crate) line: Line,
    /// The chain that is being moved.
    chain: Chain,
    /// Its bytes that are in the ring, if it is one to transmit that has not been given back.
    sent: Option<u64>,
    /// The other end has to be signalled.
    pub(crate) signal: bool,
}

impl<'a> Port<'a> {
    pub(crate) fn new(name: &'a str, channel: TextChannel<'a>) -> Self {
        let (sender, receiver) = channel.split();
        Self {
            name,
            sender,
            receiver,
            receive: None,
            transmit: None,
            open: false,
            due: Due::Nothing,
            is_named: false,
            line: Line::new(),
            chain: Chain::new(),
            sent: None,
            signal: false,
        }
    }

    /// Forgets the driver. What it had made available and is not in the ring yet is lost with its queue.
    pub(crate) fn reset(&mut self) {
        (self.receive, self.transmit) = (None, None);
        (self.open, self.sent) = (false, None);
        self.announce(Due::Nothing);
    }

    /// The driver asks to be told of the port from here on.
    pub(crate) fn announce(&mut self, due: Due) {
        (self.due, self.is_named) = (due, false);
        self.line.forget();
    }

    /// Who was at the other end is gone.
    pub(crate) fn cut(&mut self) {
        self.line.cut(self.receiver.available());
    }

    /// What the driver is to be told of the other end: whether it is open. The end comes behind the bytes before it, unless no program
    /// takes them.
    pub(crate) fn due_of_line(&mut self, now: u64) -> Option<bool> {
        let due = self.line.due(now)?;
        let is_taken = self.open && self.receive.is_some();
        let is_behind = !due && is_taken && self.line.deliverable(self.receiver.available()) != 0;
        (!is_behind).then_some(due)
    }

    /// From the guest to the ring. A chain that does not fit waits, and with it those behind it. What is for somebody who is gone is given
    /// back; what of it is in the ring stays there.
    pub(crate) fn send(&mut self, memory: &impl GuestMemory, budget: &mut Budget) -> Result<(), QueueError> {
        let Some(queue) = &mut self.transmit else { return Ok(()) };
        if self.line.is_dead() {
            if self.sent.take().is_some() {
                queue.give_back(memory, self.chain.head(), 0)?;
            }
            while !budget.is_spent() && queue.take_into(memory, &mut self.chain)? {
                budget.spend(Budget::CHAIN);
                queue.give_back(memory, self.chain.head(), 0)?;
            }
            return Ok(());
        }
        let mut bytes = [0; PIECE];
        while !budget.is_spent() {
            let sent = match self.sent {
                Some(sent) => sent,
                None if queue.take_into(memory, &mut self.chain)? => 0,
                None => break,
            };
            self.sent = Some(sent);
            let Some((address, length)) = cut(self.chain.readable(), sent, budget.piece(PIECE)).next() else {
                budget.spend(Budget::CHAIN);
                queue.give_back(memory, self.chain.head(), 0)?;
                self.sent = None;
                continue;
            };
            // A piece has at most as many bytes.
            let piece = bytes.get_mut(..length as usize).unwrap_or_default();
            memory.read(address, piece)?;
            let transfer = self.sender.send(piece);
            self.signal |= transfer.signal;
            self.sent = Some(sent + transfer.bytes as u64);
            budget.spend(transfer.bytes);
            if transfer.bytes < piece.len() {
                // The ring is full: its reader signals when it no longer is.
                break;
            }
        }
        Ok(())
    }

    /// From the ring to the guest, as long as both have something. A buffer is given back with what there is.
    pub(crate) fn deliver(&mut self, memory: &impl GuestMemory, budget: &mut Budget) -> Result<(), QueueError> {
        let Some(queue) = self.receive.as_mut().filter(|_| self.open) else { return Ok(()) };
        let mut chain = Chain::new();
        let mut bytes = [0; PIECE];
        loop {
            let most = self.line.deliverable(self.receiver.available());
            if budget.is_spent() || most == 0 || !queue.take_into(memory, &mut chain)? {
                break;
            }
            let mut written = 0;
            while !budget.is_spent()
                && let most = self.line.deliverable(self.receiver.available()).min(PIECE)
                && let Some((address, length)) = cut(chain.writable(), written, budget.piece(most)).next()
            {
                let piece = bytes.get_mut(..length as usize).unwrap_or_default();
                let transfer = self.receiver.receive(piece);
                self.signal |= transfer.signal;
                let received = piece.get(..transfer.bytes).unwrap_or_default();
                self.line.delivered(received.len());
                memory.write(address, received)?;
                written += received.len() as u64;
                budget.spend(received.len());
                if received.len() < piece.len() {
                    break;
                }
            }
            if written == 0 && !chain.writable().is_empty() {
                // The other end took its bytes back. An empty buffer would be the end of the stream to the guest.
                queue.untake(1);
                break;
            }
            budget.spend(Budget::CHAIN);
            // The budget ends far below 2^32 bytes.
            queue.give_back(memory, chain.head(), written as u32)?;
        }
        Ok(())
    }
}
