//! The trial of a block service by its client: the whole range is written and read back, and what lies outside is not reached.

use crate::pattern;
use bulkhead_block_client::{BUFFER_BYTES, BlockClient, DEPTH, Doorbell};
use bulkhead_driver::{Command, CommandError, Completion, DmaMemory, SECTOR};
use bulkhead_runtime::abi::NO_DEADLINE;
use bulkhead_runtime::object::Notification;
use bulkhead_runtime::{Program, events, plan, println, time};
use heapless::Vec;

/// Sizes of requests, in turn, in sectors: whole blocks of 4 KiB, so that every drive takes them.
const WRITES: [u32; 4] = [128, 8, 32, 64];
const READS: [u32; 3] = [24, 128, 8];
/// Sectors of the requests that are to be refused.
const SMALL: u32 = 8;
/// Setting: seconds for which the range is written and read back at least, once in any case.
const SECONDS: &str = "seconds";

/// The way to the service.
struct Service(Notification);

impl Doorbell for Service {
    fn ring(&self) {
        let _ = self.0.signal(0);
    }
}

/// What a request under way is for.
#[derive(Clone, Copy)]
enum Job {
    Write,
    Verify,
    /// Its end is looked at by who waits for it.
    Alone,
}

/// A request under way.
#[derive(Clone, Copy)]
struct Flight {
    job: Job,
    first_sector: u64,
    sectors: u32,
}

struct Trial {
    client: BlockClient<'static, Service>,
    name: &'static str,
    seed: u64,
    flights: [Option<Flight>; DEPTH as usize],
    /// How a request ended that was alone.
    end: Option<Completion>,
}

/// Tries all disks of the environment, one after the other.
pub fn run(program: &Program) -> Result<(), &'static str> {
    let seconds = program.environment().text(SECONDS).map_or(Ok(0), str::parse::<u64>);
    let seconds = seconds.map_err(|_| "the setting `seconds` is no number")?;
    for (number, disk) in (1..).zip(program.environment().disks()) {
        let mut trial = Trial::new(program, &disk, seed_of(disk.name) ^ number)?;
        if disk.read_only { trial.read_only()? } else { trial.read_and_write(seconds)? }
    }
    Ok(())
}

/// Others write with other seeds.
fn seed_of(name: &str) -> u64 {
    name.bytes().fold(0x5eed, |seed: u64, byte| seed.wrapping_mul(0x100_0001).wrapping_add(byte.into()))
}

impl Trial {
    /// Waits until the service offers the disk.
    fn new(program: &Program, disk: &plan::Disk<'static>, seed: u64) -> Result<Self, &'static str> {
        let channel = program.channel(disk.name).ok_or("a disk has no channel")?;
        let (memory, _) = program.memory(disk.name).ok_or("a disk has no memory")?;
        let words = memory.atomics(0, memory.len() / 8).map_err(|_| "a disk's memory is not whole")?;
        let client = BlockClient::attach(channel.words(), words, Service(channel.peer));
        let client = client.ok_or("a disk's channel or memory is too small")?;
        let flights = [None; DEPTH as usize];
        let mut trial = Self { client, name: disk.name, seed, flights, end: None };
        while trial.client.information().is_none() {
            trial.wait()?;
        }
        println!("disk {}: {} sectors", trial.name, trial.sectors());
        if trial.sectors() == disk.sectors { Ok(trial) } else { Err("the disk is not what the manifest says") }
    }

    fn sectors(&self) -> u64 {
        self.client.information().map_or(0, |information| information.sectors)
    }

    fn read_only(&mut self) -> Result<(), &'static str> {
        let (first_sector, sectors) = (0, SMALL);
        self.is_refused(Command::Write { first_sector, sectors })?;
        self.alone(Command::Read { first_sector, sectors })?.map_err(|_| "a read failed")?;
        println!("disk {}: cannot be written, can be read", self.name);
        Ok(())
    }

    fn read_and_write(&mut self, seconds: u64) -> Result<(), &'static str> {
        let end = time::now().saturating_add(time::milliseconds(1000 * seconds));
        let (mut rounds, seed) = (0, self.seed);
        while rounds == 0 || time::now() < end {
            rounds += 1;
            self.seed = seed ^ rounds << 32;
            self.sweep(false)?;
            if self.client.information().is_some_and(|information| information.flush) {
                self.alone(Command::Flush)?.map_err(|_| "a flush failed")?;
            }
            self.sweep(true)?;
        }
        println!("disk {}: written and read back {rounds} times", self.name);
        self.outside()?;
        // Nothing of it had an effect.
        self.sweep(true)
    }

    /// Nothing outside the range is reached.
    fn outside(&mut self) -> Result<(), &'static str> {
        let (all, sectors) = (self.sectors(), SMALL);
        for first_sector in [all, all - u64::from(SMALL) / 2, u64::MAX - u64::from(SMALL), u64::MAX / SECTOR] {
            self.is_refused(Command::Read { first_sector, sectors })?;
            self.is_refused(Command::Write { first_sector, sectors })?;
        }
        println!("disk {}: nothing outside it is reached", self.name);
        Ok(())
    }

    fn is_refused(&mut self, command: Command) -> Result<(), &'static str> {
        match self.alone(command)? {
            Err(CommandError::Drive) => Ok(()),
            end => {
                println!("{command:?} ended with {end:?}");
                Err("a request was not refused")
            }
        }
    }

    /// Writes all sectors from the first one on, or verifies them from the last one back.
    fn sweep(&mut self, verify: bool) -> Result<(), &'static str> {
        let (all, sizes) = (self.sectors(), if verify { &READS[..] } else { &WRITES[..] });
        let (mut done, mut turn) = (0, sizes.iter().cycle());
        while done < all {
            let left = u32::try_from(all - done).unwrap_or(u32::MAX);
            let sectors = turn.next().copied().unwrap_or(SMALL).min(left);
            let first_sector = if verify { all - done - u64::from(sectors) } else { done };
            let tag = self.free_tag()?;
            let buffer = self.buffer(tag, sectors)?;
            let (job, command) = if verify {
                buffer.write_u64(0, !0);
                (Job::Verify, Command::Read { first_sector, sectors })
            } else {
                pattern::fill(&buffer, first_sector, self.seed);
                (Job::Write, Command::Write { first_sector, sectors })
            };
            self.submit(tag, command, Flight { job, first_sector, sectors })?;
            done += u64::from(sectors);
        }
        self.wait_for_all()
    }

    fn alone(&mut self, command: Command) -> Result<Completion, &'static str> {
        self.end = None;
        self.submit(0, command, Flight { job: Job::Alone, first_sector: 0, sectors: 0 })?;
        self.wait_for_all()?;
        self.end.ok_or("a request has no end")
    }

    fn submit(&mut self, tag: u16, command: Command, flight: Flight) -> Result<(), &'static str> {
        self.client.submit(tag, command).map_err(|_| "the client takes no request")?;
        *self.flights.get_mut(usize::from(tag)).ok_or("no such tag")? = Some(flight);
        Ok(())
    }

    fn buffer(&self, tag: u16, sectors: u32) -> Result<DmaMemory<'static>, &'static str> {
        let bytes = sectors as usize * SECTOR as usize;
        let buffer = self.client.buffer(tag).filter(|_| bytes <= BUFFER_BYTES).ok_or("no such buffer")?;
        buffer.part(0, bytes).ok_or("no such buffer")
    }

    fn free_tag(&mut self) -> Result<u16, &'static str> {
        loop {
            if let Some(tag) = (0..DEPTH).find(|tag| self.client.is_free(*tag)) {
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

    /// Waits for a signal of the service, and takes the ends of requests.
    fn wait(&mut self) -> Result<(), &'static str> {
        events::wait(NO_DEADLINE);
        let mut ends: Vec<(u16, Completion), { DEPTH as usize }> = Vec::new();
        let mut lost = false;
        self.client.poll(&mut |tag, end| lost |= ends.push((tag, end)).is_err());
        for (tag, end) in ends {
            let flight =
                self.flights.get_mut(usize::from(tag)).and_then(Option::take).ok_or("a request ended twice")?;
            self.finish(tag, flight, end)?;
        }
        if lost { Err("too many requests ended") } else { Ok(()) }
    }

    fn finish(&mut self, tag: u16, flight: Flight, end: Completion) -> Result<(), &'static str> {
        let right = match flight.job {
            Job::Write => end.is_ok(),
            Job::Verify => {
                end.is_ok() && pattern::holds(&self.buffer(tag, flight.sectors)?, flight.first_sector, self.seed)
            }
            Job::Alone => {
                self.end = Some(end);
                true
            }
        };
        if right {
            return Ok(());
        }
        println!("disk {}: {} sectors from {}: {end:?}", self.name, flight.sectors, flight.first_sector);
        Err("data are wrong")
    }
}
