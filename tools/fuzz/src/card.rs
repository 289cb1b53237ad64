//! A network card whose outside sends anything.

use bulkhead_driver::{
    Link, MAX_FRAME, MIN_FRAME, Nic, NicInformation, NicStatistics, Offload, Received, TransmitError,
};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

const INFORMATION: NicInformation = NicInformation {
    mac: [2, 0, 0, 0, 1, 0],
    mtu: 1500,
    queues: 1,
    transmit_checksum: true,
    receive_checksum: false,
    segmentation: false,
};

/// What comes from outside.
pub type Arriving = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// The card. `leaving` looks at every frame that is sent.
pub struct Card<F> {
    pub arriving: Arriving,
    pub leaving: F,
}

impl<F: FnMut(&[u8])> Nic for Card<F> {
    fn information(&self) -> &NicInformation {
        &INFORMATION
    }

    fn link(&self) -> Link {
        Link { up: true, speed: 1000, full_duplex: true }
    }

    fn transmit(&mut self, frame: &[u8], offload: Offload) -> Result<(), TransmitError> {
        if offload.segment.is_some() {
            return Err(TransmitError::Unsupported);
        }
        assert!((MIN_FRAME..=MAX_FRAME).contains(&frame.len()), "a frame of {} bytes", frame.len());
        if let Some(checksum) = offload.checksum {
            let (start, place) =
                (usize::from(checksum.start), usize::from(checksum.start) + usize::from(checksum.offset));
            assert!(start >= MIN_FRAME && place + 2 <= frame.len(), "a checksum beside the frame");
        }
        (self.leaving)(frame);
        Ok(())
    }

    fn receive(&mut self, take: &mut dyn FnMut(&[u8], Received)) -> bool {
        let Some(frame) = self.arriving.borrow_mut().pop_front() else { return false };
        take(&frame, Received::default());
        true
    }

    fn set_promiscuous(&mut self, _: bool) {}

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
