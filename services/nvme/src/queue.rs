//! A pair of submission queue and completion queue (NVMe 1.4, 4.1, 4.2, 4.6).

use bulkhead_driver::DmaMemory;

/// Entries of each queue, if the controller has so many: a page of commands.
pub const ENTRIES: u16 = 64;
const COMMAND_BYTES: usize = 64;
const COMPLETION_BYTES: usize = 16;

/// What all commands have in common (4.2).
#[derive(Clone, Copy, Default, Debug)]
pub struct Entry {
    pub opcode: u8,
    pub namespace: u32,
    /// PRP entries 1 and 2 (4.3).
    pub data: [u64; 2],
    /// Command words 10 to 15.
    pub words: [u32; 6],
}

/// A completion (4.6), as it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completed {
    /// Command identifier.
    pub identifier: u16,
    /// Status code type and status code; 0 is success.
    pub status: u16,
    /// Command-specific result.
    pub result: u32,
}

/// Memory of a pair, a page each.
#[derive(Clone, Copy)]
pub struct QueueMemory<'a> {
    pub submission: DmaMemory<'a>,
    pub completion: DmaMemory<'a>,
}

/// A pair of queues of the same length.
pub struct QueuePair<'a> {
    memory: QueueMemory<'a>,
    entries: u16,
    tail: u16,
    head: u16,
    /// The phase bit of new completions.
    phase: bool,
}

impl<'a> QueuePair<'a> {
    /// Empty queues of 2 to [`ENTRIES`] entries. The memory is cleared, so that all phase bits are old.
    pub fn new(memory: QueueMemory<'a>, entries: u16) -> Self {
        memory.completion.clear();
        Self { memory, entries: entries.clamp(2, ENTRIES), tail: 0, head: 0, phase: true }
    }

    /// Physical addresses of submission queue and completion queue.
    pub fn addresses(&self) -> (u64, u64) {
        (self.memory.submission.physical(), self.memory.completion.physical())
    }

    /// Entries of each queue.
    pub fn entries(&self) -> u16 {
        self.entries
    }

    /// Puts a command behind the last one; returns the new tail. The caller has fewer commands in flight than there are entries
    /// but one, so that there is always room.
    pub fn push(&mut self, entry: &Entry, identifier: u16) -> u16 {
        let at = usize::from(self.tail) * COMMAND_BYTES;
        let write = |word: usize, value: u64| self.memory.submission.write_u64(at + 8 * word, value);
        write(0, u64::from(entry.opcode) | u64::from(identifier) << 16 | u64::from(entry.namespace) << 32);
        write(1, 0);
        write(2, 0);
        let [first, second] = entry.data;
        write(3, first);
        write(4, second);
        for (index, pair) in entry.words.chunks(2).enumerate() {
            if let [low, high] = pair {
                write(5 + index, u64::from(*low) | u64::from(*high) << 32);
            }
        }
        self.tail = self.after(self.tail);
        self.tail
    }

    /// Takes the next completion, if there is one.
    pub fn pop(&mut self) -> Option<Completed> {
        let at = usize::from(self.head) * COMPLETION_BYTES;
        // The half with the phase bit comes in one piece, and before the other one is read.
        let upper = self.memory.completion.read_u64(at + 8);
        if (upper >> 48 & 1 != 0) != self.phase {
            return None;
        }
        let result = self.memory.completion.read_u32(at);
        self.head = self.after(self.head);
        if self.head == 0 {
            self.phase = !self.phase;
        }
        Some(Completed { identifier: (upper >> 32) as u16, status: (upper >> 49 & 0x7ff) as u16, result })
    }

    /// The head, to be told when completions were taken.
    pub fn head(&self) -> u16 {
        self.head
    }

    fn after(&self, index: u16) -> u16 {
        if index + 1 < self.entries { index + 1 } else { 0 }
    }
}
