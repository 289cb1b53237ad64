//! A disk whose data this program copies: the guest's virtqueues are served here, over a client of the block service, which shares memory
//! for this disk with this program alone. The service never sees the guest's memory.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use bulkhead_block_client::{BUFFERS_AT, BlockClient, Buffers, CopyDrive, Doorbell, SameAddress};
use bulkhead_block_device::{Disk, DiskRange, NoBounce, Service, Withheld};
use bulkhead_channel::{AtomicU64, DEVICE_CHANNEL_WORDS};
use bulkhead_driver::Drive;
use bulkhead_guest_memory::Ram;
use bulkhead_runtime::object::Notification;
use bulkhead_runtime::program::Channel;
use bulkhead_runtime::shared::SharedMemory;
use bulkhead_runtime::time::{self, Tsc};
use bulkhead_runtime::{Program, events, plan};

/// The way to the service.
struct ToService(Notification);

impl Doorbell for ToService {
    fn ring(&self) {
        // A service that is gone answers nothing; its successor reads the page anew.
        let _ = self.0.signal(0);
    }
}

/// The buffers that are shared with the service.
struct SharedBuffers(SharedMemory<'static>);

impl Buffers for SharedBuffers {
    fn read(&self, offset: usize, destination: &mut [u8]) -> bool {
        self.0.read(offset, destination).is_ok()
    }

    fn write(&self, offset: usize, source: &[u8]) -> bool {
        self.0.write(offset, source).is_ok()
    }
}

/// The drive behind the emulator.
type Copier = CopyDrive<'static, ToService, Ram, SharedBuffers>;
type Emulator = Service<'static, Copier, Tsc, SameAddress<Ram>, NoBounce>;

/// The data plane of such a disk.
pub struct CopiedDisk {
    /// On the heap: it is large beside the stack.
    emulator: Box<Emulator>,
    /// What the control plane and the emulator share, as it would be with a service.
    pub page: &'static [AtomicU64],
    /// This program, to go on later; and the mask of the service's signals.
    own: Notification,
    signal: u64,
}

/// An emulator without disks; apart, so that the stack has it only while it is made.
#[inline(never)]
fn boxed(drive: Copier) -> Box<Emulator> {
    Box::new(Service::new(drive, Tsc, NoBounce))
}

impl CopiedDisk {
    /// Connects to the service of a disk that is copied, and waits until `limit` for it to offer the disk; `None` if the service works on the
    /// guest's memory.
    #[inline(never)]
    pub fn connect(
        program: &Program,
        disk: &plan::Disk<'static>,
        channel: &Channel,
        guest: &str,
        limit: u64,
    ) -> Result<Option<Self>, String> {
        let Some((memory, _)) = program.memory(disk.name) else {
            return Ok(None);
        };
        let words = memory.atomics(0, memory.len() / size_of::<AtomicU64>()).unwrap_or_default();
        let mut client = BlockClient::attach(channel.words(), words, ToService(channel.peer))
            .ok_or("a disk's channel or memory is too small")?;
        while client.information().is_none() && time::now() < limit {
            events::wait(limit);
            // Nothing has been asked for yet.
            client.poll(&mut |_, _| {});
        }
        let (Some(ram), Some(of_emulator)) = (Ram::new(program, guest), Ram::new(program, guest)) else {
            return Err(String::from("the guest's memory is not mapped"));
        };
        let buffers = memory.part(BUFFERS_AT, memory.len().saturating_sub(BUFFERS_AT));
        let buffers = SharedBuffers(buffers.map_err(|_| "a disk's memory is too small")?);
        let drive = CopyDrive::new(client, buffers, ram)
            .ok_or_else(|| format!("device {}: its service offers no disk", disk.name))?;
        // What is withheld the service does not offer in the first place.
        let range = DiskRange {
            name: disk.name,
            first_sector: 0,
            sectors: drive.information().sectors,
            read_only: disk.read_only,
            withheld: Withheld::default(),
        };
        let page: &'static [AtomicU64] = Box::leak((0..DEVICE_CHANNEL_WORDS).map(|_| AtomicU64::new(0)).collect());
        let mut emulator = boxed(drive);
        let emulated = Disk::publish(page, SameAddress(of_emulator), range, emulator.information());
        let emulated = emulated.map_err(|error| format!("device {}: {error:?}", disk.name))?;
        // The service tells of several answers together already.
        emulator.add(emulated.with_prompt_answers()).map_err(|error| format!("device {}: {error:?}", disk.name))?;
        Ok(Some(Self { emulator, page, own: program.notification(), signal: channel.signal }))
    }

    /// Takes what the service has done, obeys the control plane, and moves data: no more than a bounded number of requests.
    pub fn serve(&mut self) {
        self.emulator.on_interrupt();
        if self.emulator.work() {
            // The notification is this program's own, and lives as long as it.
            let _ = self.own.signal(self.signal);
        }
    }
}
