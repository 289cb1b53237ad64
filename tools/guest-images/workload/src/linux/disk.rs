//! A disk that is read past the cache, one request at a time or many.

#![allow(unsafe_code)]

use core::ffi::CStr;

use super::{
    Failure,
    call::{FSYNC, IO_GETEVENTS, IO_SETUP, IO_SUBMIT, MMAP, OPEN, PREAD64, PWRITE64, call, call_with_numbers},
};

/// O_DIRECT, O_RDWR.
const DIRECT: usize = 0x4000;
const READ_AND_WRITE: usize = 2;
/// PROT_READ | PROT_WRITE.
const READ_WRITE: usize = 3;
/// MAP_PRIVATE | MAP_ANONYMOUS.
const PRIVATE_ANONYMOUS: usize = 0x2 | 0x20;
/// IOCB_CMD_PREAD.
const READ: u16 = 0;
/// Most requests at a time.
const MOST: usize = 64;

/// An open disk with a buffer.
pub struct Disk {
    file: usize,
    buffer: usize,
    length: usize,
    /// Context of asynchronous requests.
    context: usize,
}

/// A request (struct iocb of linux/aio_abi.h).
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Block {
    data: u64,
    key: u32,
    flags: u32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    more_flags: u32,
    event_file: u32,
}

/// The end of a request (struct io_event).
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Event {
    data: u64,
    block: u64,
    result: i64,
    result2: i64,
}

impl Disk {
    /// Opens it to be read, with a buffer of `length` bytes, in pages wherever they are.
    pub fn open(path: &CStr, length: usize) -> Result<Self, Failure> {
        Self::open_with(path, length, DIRECT)
    }

    /// The same to be read and written.
    pub fn open_to_write(path: &CStr, length: usize) -> Result<Self, Failure> {
        Self::open_with(path, length, DIRECT | READ_AND_WRITE)
    }

    fn open_with(path: &CStr, length: usize, flags: usize) -> Result<Self, Failure> {
        // SAFETY: the kernel reads the path.
        let file = unsafe { call("open", OPEN, [path.as_ptr().addr(), flags, 0, 0, 0, 0]) }?;
        let mapping = [0, length, READ_WRITE, PRIVATE_ANONYMOUS, usize::MAX, 0];
        // SAFETY: the new memory is nobody else's.
        let buffer = unsafe { call("mmap", MMAP, mapping) }?;
        let mut context = 0usize;
        // SAFETY: the kernel writes the context.
        unsafe { call("io_setup", IO_SETUP, [MOST, core::ptr::from_mut(&mut context).addr(), 0, 0, 0, 0]) }?;
        Ok(Self { file, buffer, length, context })
    }

    /// Reads so many bytes at a byte offset.
    pub fn read(&mut self, offset: usize, bytes: usize) -> Result<(), Failure> {
        let arguments = [self.file, self.buffer, bytes.min(self.length), offset, 0, 0];
        // SAFETY: the kernel writes to the buffer, which nobody refers to.
        match unsafe { call("pread", PREAD64, arguments) }? {
            read if read == bytes => Ok(()),
            read => Err(Failure::wrong("length of a request:", read as u64)),
        }
    }

    /// Writes so many bytes of the buffer at a byte offset.
    pub fn write(&mut self, offset: usize, bytes: usize) -> Result<(), Failure> {
        let arguments = [self.file, self.buffer, bytes.min(self.length), offset, 0, 0];
        // SAFETY: the kernel reads the buffer, which nobody refers to.
        match unsafe { call("pwrite", PWRITE64, arguments) }? {
            written if written == bytes => Ok(()),
            written => Err(Failure::wrong("length of a request:", written as u64)),
        }
    }

    /// Waits until what was written is durable.
    pub fn flush(&self) -> Result<(), Failure> {
        call_with_numbers("fsync", FSYNC, [self.file]).map(drop)
    }

    /// The buffer as numbers.
    pub fn buffer(&mut self) -> &mut [u64] {
        // SAFETY: the memory is mapped for good, this object's alone, and borrowed with it; the kernel writes to it during calls only.
        unsafe { core::slice::from_raw_parts_mut(core::ptr::with_exposed_provenance_mut(self.buffer), self.length / 8) }
    }

    /// Reads `count` times `bytes`, with `depth` requests on their way, at the offsets that `next` says.
    pub fn read_many(
        &mut self,
        depth: usize,
        count: usize,
        bytes: usize,
        mut next: impl FnMut() -> usize,
    ) -> Result<(), Failure> {
        let mut blocks = [Block::default(); MOST];
        let depth = depth.min(MOST).min(self.length / bytes.max(1));
        let (mut submitted, mut ended) = (0, 0);
        let mut free = [0usize; MOST];
        for (number, place) in free.iter_mut().enumerate() {
            *place = number;
        }
        let mut free_count = depth;
        while ended < count {
            let mut pointers = [0usize; MOST];
            let mut ready = 0;
            while free_count > 0 && submitted < count {
                free_count -= 1;
                let number = free[free_count];
                blocks[number] = Block {
                    data: number as u64,
                    opcode: READ,
                    file: self.file as u32,
                    buffer: (self.buffer + number * bytes) as u64,
                    bytes: bytes as u64,
                    offset: next() as i64,
                    ..Block::default()
                };
                pointers[ready] = core::ptr::from_ref(&blocks[number]).addr();
                ready += 1;
                submitted += 1;
            }
            if ready > 0 {
                // SAFETY: the kernel reads the blocks now, and writes later to the parts of the buffer that they name.
                let taken =
                    unsafe { call("io_submit", IO_SUBMIT, [self.context, ready, pointers.as_ptr().addr(), 0, 0, 0]) }?;
                if taken != ready {
                    return Err(Failure::wrong("number of requests taken:", taken as u64));
                }
            }
            let mut events = [Event::default(); MOST];
            let arguments = [self.context, 1, MOST, events.as_mut_ptr().addr(), 0, 0];
            // SAFETY: the kernel writes the events.
            let found = unsafe { call("io_getevents", IO_GETEVENTS, arguments) }?;
            for event in events.iter().take(found) {
                if event.result != bytes as i64 || event.data >= depth as u64 {
                    return Err(Failure::wrong("result of a request:", event.result as u64));
                }
                free[free_count] = event.data as usize;
                free_count += 1;
                ended += 1;
            }
        }
        Ok(())
    }
}
