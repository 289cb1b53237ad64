//! A network card as the uplink.

use bulkhead_driver::{
    Checksum, Link, MAX_FRAME, MIN_FRAME, Nic, NicInformation, NicStatistics, Offload, Received, TransmitError,
};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// What the card has, and what the test does with it.
pub struct State {
    information: NicInformation,
    /// Frames that were sent, checksums filled in.
    pub sent: RefCell<Vec<Vec<u8>>>,
    /// What it was to do with the last one.
    pub offload: Cell<Offload>,
    /// Frames that are to be received.
    pub arriving: RefCell<VecDeque<Vec<u8>>>,
    pub link: Cell<bool>,
    pub promiscuous: Cell<bool>,
}

/// A card without receive offload.
#[derive(Clone)]
pub struct Card(pub Rc<State>);

impl Card {
    /// A card that fills in checksums, and cuts trains of segments, or not.
    pub fn new(transmit_checksum: bool, segmentation: bool) -> Self {
        let information = NicInformation {
            mac: [2, 0, 0, 0, 1, 0],
            mtu: 1500,
            queues: 1,
            transmit_checksum,
            receive_checksum: false,
            segmentation,
        };
        Self(Rc::new(State {
            information,
            sent: RefCell::default(),
            offload: Cell::default(),
            arriving: RefCell::default(),
            link: Cell::new(true),
            promiscuous: Cell::new(false),
        }))
    }

    /// A frame comes from outside.
    pub fn arrive(&self, frame: &[u8]) {
        self.0.arriving.borrow_mut().push_back(frame.to_vec());
    }

    /// What has been sent since the last time.
    pub fn sent(&self) -> Vec<Vec<u8>> {
        self.0.sent.take()
    }
}

/// The sum of 16-bit words (RFC 1071), as its section 1 says it.
pub fn sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |sum: u16, pair| {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

impl Nic for Card {
    fn information(&self) -> &NicInformation {
        &self.0.information
    }

    fn link(&self) -> Link {
        Link { up: self.0.link.get(), speed: 1000, full_duplex: true }
    }

    fn transmit(&mut self, frame: &[u8], offload: Offload) -> Result<(), TransmitError> {
        let longest = if offload.segment.is_some() { 65_549 } else { MAX_FRAME };
        if !(MIN_FRAME..=longest).contains(&frame.len()) {
            return Err(TransmitError::Size);
        }
        if offload.segment.is_some() && !(self.0.information.segmentation && offload.checksum.is_some()) {
            return Err(TransmitError::Unsupported);
        }
        let mut frame = frame.to_vec();
        if let Some(Checksum { start, offset }) = offload.checksum {
            if !self.0.information.transmit_checksum {
                return Err(TransmitError::Unsupported);
            }
            let (start, offset) = (usize::from(start), usize::from(offset));
            assert!(start >= MIN_FRAME && start + offset + 2 <= frame.len(), "offsets lie in the frame");
            let value = !sum(&frame[start..]);
            frame[start + offset..][..2].copy_from_slice(&value.to_be_bytes());
        }
        self.0.offload.set(offload);
        self.0.sent.borrow_mut().push(frame);
        Ok(())
    }

    fn receive(&mut self, take: &mut dyn FnMut(&[u8], Received)) -> bool {
        let Some(frame) = self.0.arriving.borrow_mut().pop_front() else { return false };
        take(&frame, Received::default());
        true
    }

    fn set_promiscuous(&mut self, promiscuous: bool) {
        self.0.promiscuous.set(promiscuous);
    }

    fn on_interrupt(&mut self) -> bool {
        true
    }

    fn statistics(&self) -> NicStatistics {
        NicStatistics::default()
    }

    fn is_dead(&self) -> bool {
        false
    }
}
