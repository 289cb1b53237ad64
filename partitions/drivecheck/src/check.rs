//! The trial: all tags busy, all sectors written and read.

use crate::{Tsc, pattern};
use bulkhead_driver::{Clock, Command, Completion, DmaMemory, Drive, MAX_DEPTH, SECTOR, SubmitError};
use bulkhead_runtime::abi::NO_DEADLINE;
use bulkhead_runtime::program::DeviceInterrupt;
use bulkhead_runtime::{events, println, time};
use heapless::Vec;

/// What is written has this seed.
const SEED: u64 = 0x5eed_0001;
/// Most sectors of a command; fewer if the drive takes fewer.
const SECTORS: u32 = 64;
/// Sizes of commands, in turn: whole blocks of 4 KiB, so that every drive takes them.
const WRITES: [u32; 4] = [64, 8, 32, 16];
const READS: [u32; 3] = [24, 64, 8];
const BUFFER: usize = SECTORS as usize * SECTOR as usize;
/// Sectors that every drive takes at once.
const SMALL: u32 = 8;
/// Sectors of the range that is made zero.
const ZEROES: u32 = 64;

/// What a command under way is for.
#[derive(Clone, Copy)]
enum Job {
    Write,
    Verify,
    VerifyZero,
    Other,
}

/// A command under way.
#[derive(Clone, Copy)]
struct Flight {
    job: Job,
    first: u64,
    sectors: u32,
}

/// A drive and the buffers of its tags.
pub struct Check<D> {
    drive: D,
    interrupt: DeviceInterrupt,
    buffers: Vec<DmaMemory<'static>, { MAX_DEPTH as usize }>,
    flights: [Option<Flight>; MAX_DEPTH as usize],
    commands: u64,
    interrupts: u64,
}

impl<D: Drive> Check<D> {
    /// A trial with as many tags as there are buffers for.
    pub fn new(drive: D, interrupt: DeviceInterrupt, mut memory: DmaMemory<'static>) -> Option<Self> {
        let mut buffers = Vec::new();
        for _ in 0..drive.information().depth {
            let Some(buffer) = memory.take(BUFFER, 4096) else { break };
            buffers.push(buffer).ok()?;
        }
        let flights = [None; MAX_DEPTH as usize];
        (!buffers.is_empty()).then_some(Self { drive, interrupt, buffers, flights, commands: 0, interrupts: 0 })
    }

    /// Tries everything, again and again until the counter has reached `end`; once at least.
    pub fn run(mut self, end: u64) -> Result<(), &'static str> {
        loop {
            self.once()?;
            if time::now() >= end {
                return Ok(());
            }
        }
    }

    fn once(&mut self) -> Result<(), &'static str> {
        let sectors = self.drive.information().sectors / u64::from(SECTORS) * u64::from(SECTORS);
        println!("{} commands in flight", self.buffers.len());
        self.timed("written", sectors, |check| check.sweep(sectors, false))?;
        self.timed("flushed", 0, |check| check.alone(Command::Flush))?;
        self.timed("read back", sectors, |check| check.sweep(sectors, true))?;
        self.ranges(sectors)
    }

    fn timed(
        &mut self,
        what: &str,
        sectors: u64,
        step: impl FnOnce(&mut Self) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        let (start, commands, interrupts) = (time::now(), self.commands, self.interrupts);
        step(self)?;
        let milliseconds = time::to_microseconds(time::now() - start) / 1000;
        let (commands, interrupts) = (self.commands - commands, self.interrupts - interrupts);
        println!("{what}: {} KiB, {commands} commands, {interrupts} interrupts, {milliseconds} ms", sectors / 2);
        Ok(())
    }

    /// Writes all sectors from the first one on, or verifies them from the last one back.
    fn sweep(&mut self, all: u64, verify: bool) -> Result<(), &'static str> {
        let sizes = if verify { &READS[..] } else { &WRITES[..] };
        let most = u32::try_from(self.drive.information().command_bytes / SECTOR).unwrap_or(SECTORS);
        let (mut done, mut turn) = (0, sizes.iter().cycle());
        while done < all {
            let left = u32::try_from(all - done).unwrap_or(SECTORS);
            let sectors = turn.next().copied().unwrap_or(SECTORS).min(left).min(most);
            let first = if verify { all - done - u64::from(sectors) } else { done };
            let tag = self.free_tag()?;
            self.start(tag, Flight { job: if verify { Job::Verify } else { Job::Write }, first, sectors })?;
            done += u64::from(sectors);
        }
        self.wait_for_all()
    }

    /// Makes ranges zero, and discards, if the drive can.
    fn ranges(&mut self, all: u64) -> Result<(), &'static str> {
        let information = *self.drive.information();
        let first = all - u64::from(2 * ZEROES);
        if information.write_zeroes.is_some() {
            self.alone(Command::WriteZeroes { first_sector: first, sectors: ZEROES, unmap: true })?;
            let tag = self.free_tag()?;
            self.start(tag, Flight { job: Job::VerifyZero, first, sectors: SMALL })?;
            self.wait_for_all()?;
            println!("zeroes read back");
        }
        if information.discard.is_some() {
            self.alone(Command::Discard { first_sector: first + u64::from(ZEROES), sectors: ZEROES })?;
            println!("discarded");
        }
        // What lies before is as it was.
        let tag = self.free_tag()?;
        self.start(tag, Flight { job: Job::Verify, first: first - u64::from(SMALL), sectors: SMALL })?;
        self.wait_for_all()
    }

    fn alone(&mut self, command: Command) -> Result<(), &'static str> {
        self.wait_for_all()?;
        self.submit(0, command, Flight { job: Job::Other, first: 0, sectors: 0 })?;
        self.wait_for_all()
    }

    fn start(&mut self, tag: u16, flight: Flight) -> Result<(), &'static str> {
        let (first_sector, sectors) = (flight.first, flight.sectors);
        let command = match flight.job {
            Job::Write => {
                let buffer = self.buffer(tag, sectors)?;
                pattern::fill(&buffer, first_sector, SEED);
                Command::Write { first_sector, sectors }
            }
            Job::Verify | Job::VerifyZero | Job::Other => {
                self.buffer(tag, sectors)?.write_u64(0, !0);
                Command::Read { first_sector, sectors }
            }
        };
        self.submit(tag, command, flight)
    }

    fn submit(&mut self, tag: u16, command: Command, flight: Flight) -> Result<(), &'static str> {
        let segment = self.buffer(tag, flight.sectors)?.segment();
        let segments = (flight.sectors != 0).then_some(segment);
        loop {
            match self.drive.submit(tag, command, segments) {
                Ok(()) => break,
                Err(SubmitError::Busy) if !self.drive.is_dead() => self.wait()?,
                Err(error) => {
                    println!("{command:?} is refused: {error:?}");
                    return Err("a command is refused");
                }
            }
        }
        self.commands += 1;
        *self.flights.get_mut(usize::from(tag)).ok_or("no such tag")? = Some(flight);
        Ok(())
    }

    fn buffer(&self, tag: u16, sectors: u32) -> Result<DmaMemory<'static>, &'static str> {
        let buffer = self.buffers.get(usize::from(tag)).ok_or("no such tag")?;
        buffer.part(0, sectors as usize * SECTOR as usize).ok_or("the buffer is too small")
    }

    fn free_tag(&mut self) -> Result<u16, &'static str> {
        loop {
            let free = (0..).zip(&self.buffers).zip(&self.flights).find(|(_, flight)| flight.is_none());
            if let Some(((tag, _), _)) = free {
                return Ok(tag);
            }
            self.wait()?;
        }
    }

    fn wait_for_all(&mut self) -> Result<(), &'static str> {
        while self.flights.iter().any(Option::is_some) {
            self.wait()?;
        }
        Ok(())
    }

    /// Waits for an interrupt or the drive's deadline, and takes the ends of commands.
    fn wait(&mut self) -> Result<(), &'static str> {
        // Rounded up, so that the deadline has come when the wait ends.
        let deadline =
            self.drive.deadline().map_or(NO_DEADLINE, |deadline| time::milliseconds(deadline.saturating_add(1)));
        let signals = events::wait(deadline);
        let mut ends: Vec<(u16, Completion), { 2 * MAX_DEPTH as usize }> = Vec::new();
        let mut lost = false;
        let mut take = |tag, end| lost |= ends.push((tag, end)).is_err();
        if signals & self.interrupt.signal != 0 {
            self.interrupts += 1;
            self.drive.on_interrupt(&mut take);
            // A line is acknowledged when it has been served; a message needs no acknowledgement.
            let _ = self.interrupt.interrupt.acknowledge();
        }
        if self.drive.deadline().is_some_and(|deadline| Tsc.milliseconds() >= deadline) {
            self.drive.on_time(&mut take);
        }
        for (tag, end) in ends {
            let flight =
                self.flights.get_mut(usize::from(tag)).and_then(Option::take).ok_or("a command ended twice")?;
            self.finish(tag, flight, end)?;
        }
        if lost { Err("too many commands ended") } else { Ok(()) }
    }

    fn finish(&self, tag: u16, flight: Flight, end: Completion) -> Result<(), &'static str> {
        if let Err(error) = end {
            println!("sector {}: {error:?}", flight.first);
            return Err("a command failed");
        }
        let buffer = self.buffer(tag, flight.sectors)?;
        let right = match flight.job {
            Job::Verify => pattern::holds(&buffer, flight.first, SEED),
            Job::VerifyZero => pattern::is_zero(&buffer),
            Job::Write | Job::Other => true,
        };
        if right {
            return Ok(());
        }
        println!("sectors {} to {}: not what was written", flight.first, flight.first + u64::from(flight.sectors));
        Err("data are wrong")
    }
}
