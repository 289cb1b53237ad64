//! The network card.

use super::{Bus, Device, Fault, INDIRECT, VERSION_1};

/// All that the driver knows, and more: checksums on receipt, merged buffers, a control queue.
pub const FEATURES: u64 = VERSION_1 | INDIRECT | 1 << 33 | 0x829 | 1 << 16 | 1 << 1 | 1 << 7 | 1 << 15 | 1 << 17;
pub const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

impl Bus {
    pub fn net(mtu: u16) -> Self {
        let mut configuration = MAC.to_vec();
        for value in [1u16, 1, mtu] {
            configuration.extend(value.to_le_bytes());
        }
        Self::new(Device::new(true, FEATURES, configuration))
    }
}

impl Device {
    pub(super) fn notified_net(&mut self, index: usize) {
        if index == 0 {
            return;
        }
        while let Some(chain) = self.fetch(index) {
            assert!(chain.writable.is_empty());
            self.pending.push(chain);
        }
        while self.at_once && !self.pending.is_empty() && self.fault != Fault::Silent {
            self.send(0);
        }
    }

    /// Sends the pending frame number `at`.
    pub fn send(&mut self, at: usize) {
        let chain = self.pending.remove(at);
        self.sent.push(self.gather(&chain.readable));
        self.finish(&chain, 0);
    }

    /// Puts a frame into the next buffer; false if there is none.
    pub fn deliver(&mut self, frame: &[u8]) -> bool {
        let Some(chain) = self.fetch(0) else { return false };
        assert!(chain.readable.is_empty());
        let mut bytes = vec![0; 10];
        bytes.extend([1, 0]);
        bytes.extend(frame);
        self.scatter(&chain.writable, &bytes);
        self.finish(&chain, bytes.len() as u32);
        true
    }
}
