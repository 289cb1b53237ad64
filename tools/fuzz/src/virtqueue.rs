//! The device's side of a virtqueue, and block requests in it.

use crate::Input;
use crate::memory::{self, QUEUE, offer, queue};
use bulkhead_virtio::{GuestMemory, Limits, Parsed, Queue, SECTOR, Status, feature, parse};

const SECTORS: u64 = 64;

/// Writes anything to the queue, and takes what it then holds.
pub fn run(input: &mut Input<'_>) {
    let memory = memory::memory(0);
    let at = queue(0);
    let features = if input.byte() & 1 != 0 { feature::EVENT_INDEX } else { 0 } | feature::INDIRECT_DESCRIPTORS;
    let Ok(mut device) = Queue::new(at, features, &memory) else { return };
    let limits = Limits {
        sectors: SECTORS,
        block_sectors: 1,
        read_only: false,
        flush: true,
        discard: Some(8),
        write_zeroes: Some(8),
        serial: [b's'; 20],
    };
    while !input.is_empty() {
        match input.byte() % 4 {
            0 => drop(memory.write(input.below(0x1000), &input.number(8).to_le_bytes())),
            1 => offer(&memory, &at, (input.byte() % 20).into()),
            2 => {
                let _ = device.wants_interrupt(&memory).and_then(|_| device.request_doorbell(&memory));
            }
            _ => {
                let Ok(Some(chain)) = device.take(&memory) else { continue };
                match parse(&chain, &limits, &memory) {
                    Ok(Parsed::Serve(request)) => {
                        assert!(request.first_sector + request.sectors <= SECTORS, "a request leaves the disk");
                        if request.operation.has_data() {
                            let data = request.data(&chain, 0, request.sectors * SECTOR);
                            let mut bytes = 0;
                            for (address, length) in data {
                                assert!(memory.contains(address, length), "a request leaves the memory");
                                bytes += length;
                            }
                            assert_eq!(bytes, request.sectors * SECTOR);
                        }
                        let _ = request.reply.send(&mut device, &memory, Status::Ok);
                    }
                    Ok(Parsed::Answer(reply, status)) => drop(reply.send(&mut device, &memory, status)),
                    Err(_) => return,
                }
            }
        }
    }
    assert!(device.available(&memory).is_ok_and(|count| count <= QUEUE) || device.available(&memory).is_err());
}
