//! Block requests: a driver with a model disk, and a driver that writes anything anywhere.

mod common;
use common::*;

use bulkhead_virtio::*;
use proptest::prelude::*;

const SECTORS: u64 = 64;
const SERIAL: [u8; 20] = *b"bulkhead-disk-000001";

fn limits() -> Limits {
    Limits {
        sectors: SECTORS,
        block_sectors: 1,
        read_only: false,
        flush: true,
        discard: Some(16),
        write_zeroes: Some(32),
        serial: SERIAL,
    }
}

/// Serves everything that is available, with a disk in memory. Returns whether the queue still works.
fn serve(queue: &mut Queue, memory: &Memory, limits: &Limits, disk: &mut [u8]) -> Result<(), QueueError> {
    while let Some(chain) = queue.take(memory)? {
        match parse(&chain, limits, memory)? {
            Parsed::Answer(reply, status) => reply.send(queue, memory, status)?,
            Parsed::Serve(request) => {
                let mut offset = request.first_sector as usize * 512;
                let bytes = request.sectors * 512;
                if !request.operation.has_data() {
                    let range = offset..offset + bytes as usize;
                    if request.operation != Operation::Flush {
                        disk[range].fill(0);
                    }
                    request.reply.send(queue, memory, Status::Ok)?;
                    continue;
                }
                let data = request.data(&chain, 0, bytes);
                assert_eq!(data.clone().map(|(_, length)| length).sum::<u64>(), bytes);
                for (address, length) in data {
                    let range = offset..offset + length as usize;
                    match request.operation {
                        Operation::Read => memory.write(address, &disk[range]).unwrap(),
                        _ => memory.read(address, &mut disk[range]).unwrap(),
                    }
                    offset += length as usize;
                }
                request.reply.send(queue, memory, Status::Ok)?;
            }
        }
    }
    Ok(())
}

/// A request as a driver would make it: header, data and status cut into descriptors at `cuts`.
#[derive(Debug)]
struct Shape {
    kind: u32,
    sector: u64,
    data: u32,
    cuts: Vec<u32>,
    indirect: bool,
}

const HEADER: u64 = DATA;
const BUFFER: u64 = DATA + 0x800;
const TABLE: u64 = DATA + 0x400;

/// Puts the request to the queue; returns the address of its status byte.
fn submit(driver: &mut Driver, memory: &Memory, shape: &Shape) -> u64 {
    let header = u128::from(shape.kind) | u128::from(shape.sector) << 64;
    // Header and data are contiguous in the guest, so that descriptors may span them.
    let header_at = BUFFER - 16;
    memory.write(header_at, &header.to_le_bytes()).unwrap();
    let status = BUFFER + u64::from(shape.data);
    memory.write(status, &[0xff]).unwrap();
    let written = if matches!(shape.kind, 1 | 11 | 13) { shape.data } else { 0 };
    let mut segments = Vec::new();
    let mut piece = |mut at: u64, mut length: u32, writable: bool| {
        for cut in shape.cuts.iter().chain([&u32::MAX]) {
            let now = (*cut).max(1).min(length);
            if (now == length || segments.len() < 60) && now > 0 {
                segments.push((Segment { address: at, length: now }, writable));
                (at, length) = (at + u64::from(now), length - now);
            }
        }
    };
    piece(header_at, 16 + written, false);
    piece(BUFFER + u64::from(written), shape.data - written + 1, true);
    // Too many for the queue's own table: then indirect.
    let indirect = shape.indirect || segments.len() > usize::from(SIZE);
    let table = if indirect { TABLE } else { DESCRIPTORS };
    let last = segments.len() - 1;
    for (index, (segment, writable)) in segments.into_iter().enumerate() {
        let flags = u16::from(index != last) | u16::from(writable) << 1;
        memory.descriptor(table, index as u16, segment, flags, index as u16 + 1);
    }
    if indirect {
        let length = 16 * (last as u32 + 1);
        memory.descriptor(DESCRIPTORS, 0, Segment { address: TABLE, length }, 4, 0);
    }
    driver.make_available(memory, 0);
    status
}

fn shape() -> impl Strategy<Value = (Shape, Vec<u8>)> {
    let kind = prop_oneof![4 => Just(0u32), 4 => Just(1), 1 => Just(4), 1 => Just(8), 2 => Just(11), 2 => Just(13), 1 => any::<u32>()];
    let sector = prop_oneof![8 => 0..SECTORS + 4, 1 => any::<u64>()];
    let data = prop_oneof![6 => (0u32..16).prop_map(|sectors| sectors * 512), 1 => 0u32..4096];
    let cuts = proptest::collection::vec(prop_oneof![Just(512u32), 1u32..700], 0..20);
    let range =
        (prop_oneof![8 => 0..SECTORS + 4, 1 => any::<u64>()], 0u32..40, prop_oneof![6 => Just(0u32), 3 => 1u32..3]);
    (kind, sector, data, cuts, any::<bool>(), any::<u64>(), range).prop_map(
        |(kind, sector, data, cuts, indirect, seed, range)| {
            if matches!(kind, 11 | 13) {
                let value = u128::from(range.0) | u128::from(range.1) << 64 | u128::from(range.2) << 96;
                return (Shape { kind, sector, data: 16, cuts, indirect }, value.to_le_bytes().to_vec());
            }
            let content =
                (0..data as u64).map(|at| (seed.rotate_left((at % 64) as u32).wrapping_add(at)) as u8).collect();
            (Shape { kind, sector, data, cuts, indirect }, content)
        },
    )
}

proptest! {
    #[test]
    fn requests_do_what_a_model_disk_does(requests in proptest::collection::vec(shape(), 1..40), read_only: bool) {
        let memory = Memory::new(0x10000);
        let limits = Limits { read_only, ..limits() };
        let mut driver = Driver::default();
        let mut queue = Queue::new(configuration(), feature::INDIRECT_DESCRIPTORS, &memory).unwrap();
        let mut disk = vec![0; SECTORS as usize * 512];
        let mut model = disk.clone();
        for (shape, content) in requests {
            let length = shape.data as usize;
            memory.write(BUFFER, &content).unwrap();
            let status_at = submit(&mut driver, &memory, &shape);
            serve(&mut queue, &memory, &limits, &mut disk).unwrap();
            let start = shape.sector.saturating_mul(512);
            let fits = length > 0 && length.is_multiple_of(512) && start.saturating_add(length as u64) <= model.len() as u64;
            let range = || start as usize..start as usize + length;
            let (status, written) = match shape.kind {
                0 if fits => {
                    prop_assert_eq!(memory.bytes(BUFFER, length), &model[range()]);
                    (0, length as u32 + 1)
                }
                1 if fits && !read_only => {
                    model[range()].copy_from_slice(&content);
                    (0, 1)
                }
                0 | 1 => (1, 1),
                11 | 13 if read_only => (1, 1),
                11 | 13 => {
                    let number = |at: usize| u32::from_le_bytes(content[at..at + 4].try_into().unwrap());
                    let first = u64::from(number(0)) | u64::from(number(4)) << 32;
                    let (count, flags, most) = (number(8), number(12), if shape.kind == 11 { 16 } else { 32 });
                    if flags > u32::from(shape.kind == 13) {
                        (2, 1)
                    } else if count == 0 || count > most || first.saturating_add(count.into()) > SECTORS {
                        (1, 1)
                    } else {
                        model[first as usize * 512..(first as usize + count as usize) * 512].fill(0);
                        (0, 1)
                    }
                }
                4 => (0, 1),
                8 => {
                    let length = length.min(20);
                    prop_assert_eq!(memory.bytes(BUFFER, length), &SERIAL[..length]);
                    (0, length as u32 + 1)
                }
                _ => (2, 1),
            };
            prop_assert_eq!(memory.bytes(status_at, 1), vec![status]);
            prop_assert_eq!(driver.next_used(&memory), Some((0, written)));
            prop_assert_eq!(&disk, &model);
        }
    }

    /// A driver that writes anything anywhere meets an error or a status, never a panic; and memory that it did not
    /// name stays as it is.
    #[test]
    fn a_hostile_driver_harms_itself_alone(
        descriptors in proptest::collection::vec(
            (prop_oneof![BASE..BASE + 0x5000, any::<u64>(), Just(u64::MAX)], prop_oneof![0u32..2048, any::<u32>()], 0u16..8, 0u16..20), 16),
        header in (prop_oneof![0u32..12, any::<u32>()], prop_oneof![0u64..80, any::<u64>()]),
        available in 0u16..20, heads in proptest::collection::vec(0u16..20, 16))
    {
        let memory = Memory::new(0x5000);
        memory.write(HEADER, &(u128::from(header.0) | u128::from(header.1) << 64).to_le_bytes()).unwrap();
        for (index, (address, length, flags, next)) in descriptors.into_iter().enumerate() {
            let address = if index == 0 { HEADER } else { address };
            memory.descriptor(DESCRIPTORS, index as u16, Segment { address, length }, flags, next);
        }
        for (index, head) in heads.into_iter().enumerate() {
            memory.set_u16(DRIVER + 4 + 2 * index as u64, head);
        }
        memory.set_u16(DRIVER + 2, available);
        let mut queue = Queue::new(configuration(), feature::INDIRECT_DESCRIPTORS, &memory).unwrap();
        // A request may overwrite the queue itself and so offer ever new chains: hence the bound.
        for _ in 0..64 {
            match queue.take(&memory) {
                Ok(None) | Err(_) => break,
                Ok(Some(chain)) => match parse(&chain, &limits(), &memory) {
                    Err(_) => break,
                    Ok(Parsed::Answer(reply, status)) => { let _ = reply.send(&mut queue, &memory, status); }
                    Ok(Parsed::Serve(request)) => {
                        prop_assert!(request.first_sector + request.sectors <= SECTORS);
                        prop_assert!(request.data(&chain, 0, u64::MAX).take(1).all(|(address, _)| memory.contains(address, 1)));
                        let _ = request.reply.send(&mut queue, &memory, Status::Ok);
                    }
                },
            }
        }
    }
}

#[test]
fn whole_blocks_are_demanded() {
    let memory = Memory::new(0x10000);
    let mut driver = Driver::default();
    let mut queue = Queue::new(configuration(), 0, &memory).unwrap();
    let limits = Limits { block_sectors: 8, ..limits() };
    let mut disk = vec![0; SECTORS as usize * 512];
    for (sector, data, status) in [(8, 4096, 0), (1, 4096, 1), (8, 512, 1), (56, 4096, 0), (64, 4096, 1)] {
        let shape = Shape { kind: 0, sector, data, cuts: Vec::new(), indirect: false };
        let at = submit(&mut driver, &memory, &shape);
        serve(&mut queue, &memory, &limits, &mut disk).unwrap();
        assert_eq!(memory.bytes(at, 1), [status], "{sector} {data}");
    }
}

#[test]
fn flush_is_unsupported_where_it_is_not_offered() {
    let memory = Memory::new(0x10000);
    let mut driver = Driver::default();
    let mut queue = Queue::new(configuration(), 0, &memory).unwrap();
    let shape = Shape { kind: 4, sector: 0, data: 0, cuts: Vec::new(), indirect: false };
    let at = submit(&mut driver, &memory, &shape);
    serve(&mut queue, &memory, &Limits { flush: false, ..limits() }, &mut []).unwrap();
    assert_eq!(memory.bytes(at, 1), [2]);
}

#[test]
fn a_request_without_a_status_byte_stops_the_queue() {
    let memory = Memory::new(0x10000);
    let mut queue = Queue::new(configuration(), 0, &memory).unwrap();
    memory.descriptor(DESCRIPTORS, 0, Segment { address: HEADER, length: 16 }, 0, 0);
    memory.descriptor(DESCRIPTORS, 1, Segment { address: u64::MAX, length: 1 }, 2, 0);
    let mut driver = Driver::default();
    for head in [0, 1] {
        driver.make_available(&memory, head);
        let chain = queue.take(&memory).unwrap().unwrap();
        assert_eq!(parse(&chain, &limits(), &memory), Err(QueueError::NoStatus));
    }
}
