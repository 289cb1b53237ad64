//! The block device.

use super::{Bus, Chain, Device, Fault, INDIRECT, VERSION_1};

/// All that the driver knows, and more: geometry, writeback, several queues, event indexes.
pub const FEATURES: u64 = VERSION_1 | INDIRECT | 1 << 33 | 1 << 29 | 0x6646 | 1 << 4 | 1 << 11 | 1 << 12;

impl Bus {
    /// A disk of so many sectors.
    pub fn blk(block: u32, sectors: u64) -> Self {
        let mut configuration = vec![0; 60];
        configuration[..8].copy_from_slice(&sectors.to_le_bytes());
        let mut set = |at: usize, value: u32| configuration[at..at + 4].copy_from_slice(&value.to_le_bytes());
        set(8, 0x1_0000);
        set(12, 126);
        set(20, block);
        set(24, 3);
        set(36, 0x3f_ffff);
        set(40, 1);
        set(44, block / 512);
        set(48, 0x3f_fff9);
        set(52, 1);
        set(56, 1);
        Self::new(Device::new(false, FEATURES, configuration))
    }
}

impl Device {
    /// Does the pending request number `at`.
    pub fn execute(&mut self, at: usize) {
        let chain = self.pending.remove(at);
        let (status_at, one) = *chain.writable.last().expect("a status");
        assert_eq!(one, 1);
        if matches!(self.fault, Fault::Silent | Fault::Gone | Fault::NeverResets | Fault::Failed) {
            return;
        }
        let status = match self.fault {
            Fault::Status(status) => Some(status),
            Fault::Unwritten => None,
            _ => Some(self.request(&chain)),
        };
        if let Some(status) = status {
            self.poke(status_at, status);
        }
        let length = chain.writable.iter().map(|(_, length)| length).sum();
        self.finish(&chain, length);
    }

    fn request(&mut self, chain: &Chain) -> u8 {
        let (header, data) = chain.readable.split_first().expect("a header");
        assert_eq!(header.1, 16);
        let (kind, sector) = (self.load(header.0, 4) as u32, self.load(header.0 + 8, 8));
        assert_eq!(self.load(header.0 + 4, 4), 0);
        self.kinds.push(kind);
        let into = &chain.writable[..chain.writable.len() - 1];
        let sectors = u64::from_le_bytes(self.configuration[..8].try_into().unwrap());
        if kind < 2 {
            let parts = if kind == 0 { into } else { data };
            let limit = |at: usize| u32::from_le_bytes(self.configuration[at..at + 4].try_into().unwrap());
            let size_max = if self.accepted & 2 == 0 { u32::MAX } else { limit(8) };
            let seg_max = if self.accepted & 4 == 0 { 1 } else { limit(12) };
            assert!(parts.iter().all(|(_, length)| *length <= size_max));
            assert!(parts.len() <= seg_max as usize);
        }
        match kind {
            0 => {
                assert!(data.is_empty());
                let bytes: u32 = into.iter().map(|(_, length)| length).sum();
                assert!(bytes.is_multiple_of(512) && sector + u64::from(bytes) / 512 <= sectors);
                let content: Vec<u8> = (sector..sector + u64::from(bytes) / 512)
                    .flat_map(|sector| self.disk.get(&sector).cloned().unwrap_or(vec![0; 512]))
                    .collect();
                self.scatter(into, &content);
            }
            1 => {
                assert!(into.is_empty());
                let content = self.gather(data);
                assert!(content.len().is_multiple_of(512) && sector + content.len() as u64 / 512 <= sectors);
                for (sector, content) in (sector..).zip(content.chunks(512)) {
                    self.disk.insert(sector, content.to_vec());
                }
            }
            4 => assert!(sector == 0 && data.is_empty() && into.is_empty()),
            8 => {
                let serial = self.serial;
                assert_eq!(into, [(into[0].0, 20)]);
                self.scatter(into, &serial);
            }
            11 | 13 => {
                assert!(sector == 0 && into.is_empty() && data == [(data[0].0, 16)]);
                let at = data[0].0;
                let (first, count, flags) = (self.load(at, 8), self.load(at + 8, 4), self.load(at + 12, 4));
                assert!(count > 0 && first + count <= sectors && flags <= u64::from(kind == 13));
                for sector in first..first + count {
                    self.disk.remove(&sector);
                }
            }
            other => panic!("request {other}"),
        }
        0
    }
}
