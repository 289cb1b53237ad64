//! One drive: from submission of a command to the interrupt that ends it.

use crate::ports::{bus_master, command_block, control, status};
use crate::{Bank, Ports, PrdError, PrdTable};
use bulkhead_ata::{IDENTIFY_WORDS, Identity, Unusable};
use bulkhead_driver::{
    Clock, Command, CommandError, Completion, Completions, Drive, DriveInformation, PhysicalSegment, SECTOR,
    SubmitError,
};

const COMMAND_READ_DMA: u8 = 0xc8;
const COMMAND_READ_DMA_EXT: u8 = 0x25;
const COMMAND_WRITE_DMA: u8 = 0xca;
const COMMAND_WRITE_DMA_EXT: u8 = 0x35;
const COMMAND_FLUSH: u8 = 0xe7;
const COMMAND_FLUSH_EXT: u8 = 0xea;
const COMMAND_IDENTIFY: u8 = 0xec;

const DEVICE_LBA: u8 = 0xe0;
const DEVICE_SECOND: u8 = 0x10;

/// How long a drive may take for a transfer, in milliseconds.
const TRANSFER_LIMIT: u64 = 10_000;
/// How long it may take to empty its cache (ATA/ATAPI-7 volume 1, 6.14 says: more than 30 s may be needed).
const FLUSH_LIMIT: u64 = 60_000;
/// How long it may take to be ready after a reset (ATA/ATAPI-7 volume 2, 11.2).
const RESET_LIMIT: u64 = 31_000;
/// How long the reset bit stays set; 5 microseconds would do.
const RESET_HOLD: u64 = 1;
/// How long to wait after a reset before the status means something.
const RESET_PAUSE: u64 = 2;
/// How long a drive may take to answer IDENTIFY DEVICE.
const IDENTIFY_LIMIT: u64 = 5_000;

/// Which drive of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Position {
    /// Device 0, the "master".
    First,
    /// Device 1, the "slave".
    Second,
}

/// Why a drive could not be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// No drive answers.
    Absent,
    /// It stayed busy.
    Timeout,
    /// It refused IDENTIFY DEVICE, as packet devices do.
    Refused,
    /// It is not a drive for this driver.
    Unusable(Unusable),
}

/// The tag of the one command that the drive does at a time.
const TAG: u16 = 0;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Transfer {
        deadline: u64,
    },
    Flush {
        deadline: u64,
    },
    /// The reset bit is set.
    ResetHeld {
        until: u64,
        deadline: u64,
    },
    /// The reset bit is clear again; the drive gets ready.
    Resetting {
        look: u64,
        deadline: u64,
    },
    Dead,
}

/// One drive of a channel, with that channel's bus master.
pub struct IdeDrive<'a, P, C> {
    ports: P,
    clock: C,
    table: PrdTable<'a>,
    position: Position,
    identity: Identity,
    information: DriveInformation,
    state: State,
}

impl<'a, P: Ports, C: Clock> IdeDrive<'a, P, C> {
    /// Resets the channel, asks the drive what it is, and lets it interrupt. This waits, within limits.
    pub fn start(ports: P, clock: C, table: PrdTable<'a>, position: Position) -> Result<Self, StartError> {
        if ports.read_u8(Bank::Command, command_block::STATUS_COMMAND) == u8::MAX {
            return Err(StartError::Absent);
        }
        ports.write_u8(Bank::BusMaster, bus_master::COMMAND, 0);
        let identity = identify(&ports, &clock, position)?;
        // The task file has no way to say less than a sector, and this driver none to count in larger ones.
        if identity.logical_bytes != SECTOR as u32 {
            return Err(StartError::Unusable(Unusable::SectorSize));
        }
        ports.write_u8(Bank::Control, 0, 0);
        let information = identity.information(1, None);
        let drive = Self { ports, clock, table, position, identity, information, state: State::Idle };
        drive.acknowledge();
        Ok(drive)
    }

    /// Whether a command can be submitted.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    fn transfer(
        &mut self,
        read: bool,
        first_sector: u64,
        sectors: u32,
        segments: impl IntoIterator<Item = PhysicalSegment>,
    ) -> Result<(), SubmitError> {
        let end = first_sector.checked_add(sectors.into()).ok_or(SubmitError::Range)?;
        if sectors == 0 || sectors > self.identity.command_sectors() || end > self.information.sectors {
            return Err(SubmitError::Range);
        }
        let described = self.table.fill(segments).map_err(|error| match error {
            PrdError::Empty => SubmitError::Length,
            PrdError::Table | PrdError::Segment(_) | PrdError::Full => SubmitError::Segments,
        })?;
        if described != u64::from(sectors) * SECTOR {
            return Err(SubmitError::Length);
        }
        let direction = if read { bus_master::TO_MEMORY } else { 0 };
        self.ports.write_u8(Bank::BusMaster, bus_master::COMMAND, direction);
        self.ports.write_u32(Bank::BusMaster, bus_master::TABLE, self.table.physical());
        self.clear_bus_master();
        let command = self.address(read, first_sector, sectors);
        self.ports.write_u8(Bank::Command, command_block::STATUS_COMMAND, command);
        self.ports.write_u8(Bank::BusMaster, bus_master::COMMAND, direction | bus_master::START);
        self.state = State::Transfer { deadline: self.after(TRANSFER_LIMIT) };
        Ok(())
    }

    /// Writes the task file; returns the command. Values of 256 or 65536 sectors are written as 0.
    fn address(&self, read: bool, first_sector: u64, sectors: u32) -> u8 {
        let write = |register, value: u64| self.ports.write_u8(Bank::Command, register, value as u8);
        let selected = u64::from(self.device());
        // Short addresses save ports, wherever the sectors can be reached by them.
        if first_sector + u64::from(sectors) <= 1 << 28 && sectors <= 256 {
            write(command_block::DEVICE, selected | first_sector >> 24 & 0xf);
            write(command_block::SECTOR_COUNT, sectors.into());
            write(command_block::LBA_LOW, first_sector);
            write(command_block::LBA_MID, first_sector >> 8);
            write(command_block::LBA_HIGH, first_sector >> 16);
            if read { COMMAND_READ_DMA } else { COMMAND_WRITE_DMA }
        } else {
            // Each register holds two bytes; the upper is written first.
            write(command_block::DEVICE, selected);
            write(command_block::SECTOR_COUNT, u64::from(sectors) >> 8);
            write(command_block::LBA_LOW, first_sector >> 24);
            write(command_block::LBA_MID, first_sector >> 32);
            write(command_block::LBA_HIGH, first_sector >> 40);
            write(command_block::SECTOR_COUNT, sectors.into());
            write(command_block::LBA_LOW, first_sector);
            write(command_block::LBA_MID, first_sector >> 8);
            write(command_block::LBA_HIGH, first_sector >> 16);
            if read { COMMAND_READ_DMA_EXT } else { COMMAND_WRITE_DMA_EXT }
        }
    }

    fn flush(&mut self) -> Result<(), SubmitError> {
        let command = match (self.identity.flush_ext, self.identity.flush) {
            (true, _) => COMMAND_FLUSH_EXT,
            (false, true) => COMMAND_FLUSH,
            (false, false) => return Err(SubmitError::Unsupported),
        };
        self.clear_bus_master();
        self.ports.write_u8(Bank::Command, command_block::DEVICE, self.device());
        self.ports.write_u8(Bank::Command, command_block::STATUS_COMMAND, command);
        self.state = State::Flush { deadline: self.after(FLUSH_LIMIT) };
        Ok(())
    }

    /// Looks at an interrupt. Returns the end of the command if it came to its end.
    fn interrupt(&mut self) -> Option<Completion> {
        match self.state {
            State::Transfer { .. } => {
                let master = self.ports.read_u8(Bank::BusMaster, bus_master::STATUS);
                if master & bus_master::INTERRUPT == 0 {
                    return None;
                }
                self.ports.write_u8(Bank::BusMaster, bus_master::COMMAND, 0);
                let status = self.acknowledge();
                self.state = State::Idle;
                let unfinished = status & (status::BUSY | status::DATA_REQUEST) != 0;
                Some(if status & (status::ERROR | status::DEVICE_FAULT) != 0 {
                    Err(CommandError::Drive)
                } else if master & (bus_master::ERROR | bus_master::ACTIVE) != 0 || unfinished {
                    Err(CommandError::Transfer)
                } else {
                    Ok(())
                })
            }
            State::Flush { .. } => {
                if self.ports.read_u8(Bank::Control, 0) & status::BUSY != 0 {
                    return None;
                }
                let failed = self.acknowledge() & (status::ERROR | status::DEVICE_FAULT) != 0;
                self.state = State::Idle;
                Some(if failed { Err(CommandError::Drive) } else { Ok(()) })
            }
            State::Idle | State::ResetHeld { .. } | State::Resetting { .. } | State::Dead => {
                self.acknowledge();
                None
            }
        }
    }

    /// Looks at the time. Returns the end of a command that the drive did not answer.
    fn time(&mut self) -> Option<Completion> {
        let now = self.clock.milliseconds();
        match self.state {
            State::Transfer { deadline } | State::Flush { deadline } if now >= deadline => {
                // The interrupt may have been lost; then the status tells.
                let completion = self.interrupt();
                if completion.is_none() {
                    self.ports.write_u8(Bank::BusMaster, bus_master::COMMAND, 0);
                    self.ports.write_u8(Bank::Control, 0, control::SOFT_RESET | control::NO_INTERRUPTS);
                    self.state = State::ResetHeld { until: self.after(RESET_HOLD), deadline: self.after(RESET_LIMIT) };
                }
                completion
            }
            State::ResetHeld { until, deadline } if now >= until => {
                self.ports.write_u8(Bank::Control, 0, control::NO_INTERRUPTS);
                self.state = State::Resetting { look: self.after(RESET_PAUSE), deadline };
                None
            }
            State::Resetting { look, deadline } if now >= look => {
                if self.ports.read_u8(Bank::Control, 0) & status::BUSY == 0 {
                    self.ports.write_u8(Bank::Control, 0, 0);
                    self.acknowledge();
                    self.state = State::Idle;
                    Some(Err(CommandError::Timeout))
                } else if now >= deadline {
                    self.state = State::Dead;
                    Some(Err(CommandError::Dead))
                } else {
                    self.state = State::Resetting { look: self.after(RESET_PAUSE), deadline };
                    None
                }
            }
            _ => None,
        }
    }

    /// Clears the interrupt in drive and controller; returns the drive's status.
    fn acknowledge(&self) -> u8 {
        let status = self.ports.read_u8(Bank::Command, command_block::STATUS_COMMAND);
        self.clear_bus_master();
        status
    }

    fn clear_bus_master(&self) {
        let kept = self.ports.read_u8(Bank::BusMaster, bus_master::STATUS) & bus_master::DRIVES;
        self.ports.write_u8(Bank::BusMaster, bus_master::STATUS, kept | bus_master::ERROR | bus_master::INTERRUPT);
    }

    fn device(&self) -> u8 {
        device(self.position)
    }

    fn after(&self, milliseconds: u64) -> u64 {
        self.clock.milliseconds().saturating_add(milliseconds)
    }
}

impl<P: Ports, C: Clock> Drive for IdeDrive<'_, P, C> {
    fn information(&self) -> &DriveInformation {
        &self.information
    }

    fn fitting(&self, segments: impl IntoIterator<Item = PhysicalSegment>, limit: u64) -> u64 {
        self.table.fitting(segments, limit.min(self.information.command_bytes))
    }

    fn submit(
        &mut self,
        tag: u16,
        command: Command,
        segments: impl IntoIterator<Item = PhysicalSegment>,
    ) -> Result<(), SubmitError> {
        if tag != TAG || self.state != State::Idle {
            return Err(SubmitError::Busy);
        }
        match command {
            Command::Read { first_sector, sectors } => self.transfer(true, first_sector, sectors, segments),
            Command::Write { first_sector, sectors } => self.transfer(false, first_sector, sectors, segments),
            Command::Flush => self.flush(),
            Command::Discard { .. } | Command::WriteZeroes { .. } => Err(SubmitError::Unsupported),
        }
    }

    fn on_interrupt(&mut self, completions: Completions<'_>) {
        if let Some(completion) = self.interrupt() {
            completions(TAG, completion);
        }
    }

    fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Idle | State::Dead => None,
            State::Transfer { deadline } | State::Flush { deadline } => Some(deadline),
            State::ResetHeld { until, .. } => Some(until),
            State::Resetting { look, .. } => Some(look),
        }
    }

    fn on_time(&mut self, completions: Completions<'_>) {
        if let Some(completion) = self.time() {
            completions(TAG, completion);
        }
    }

    fn is_dead(&self) -> bool {
        self.state == State::Dead
    }
}

fn device(position: Position) -> u8 {
    match position {
        Position::First => DEVICE_LBA,
        Position::Second => DEVICE_LBA | DEVICE_SECOND,
    }
}

/// Waits until the drive is not busy; returns its status.
fn wait_ready(ports: &impl Ports, clock: &impl Clock, limit: u64) -> Result<u8, StartError> {
    let mut status = status::BUSY;
    let ready = clock.wait_until(limit, || {
        status = ports.read_u8(Bank::Control, 0);
        status & status::BUSY == 0
    });
    if ready { Ok(status) } else { Err(StartError::Timeout) }
}

fn pause(clock: &impl Clock, milliseconds: u64) {
    clock.wait_until(milliseconds, || false);
}

/// Resets the channel and asks the drive what it is, without interrupts.
fn identify(ports: &impl Ports, clock: &impl Clock, position: Position) -> Result<Identity, StartError> {
    ports.write_u8(Bank::Control, 0, control::SOFT_RESET | control::NO_INTERRUPTS);
    pause(clock, RESET_HOLD);
    ports.write_u8(Bank::Control, 0, control::NO_INTERRUPTS);
    pause(clock, RESET_PAUSE);
    wait_ready(ports, clock, RESET_LIMIT)?;
    ports.write_u8(Bank::Command, command_block::DEVICE, device(position));
    wait_ready(ports, clock, IDENTIFY_LIMIT)?;
    ports.write_u8(Bank::Command, command_block::STATUS_COMMAND, COMMAND_IDENTIFY);
    // The status means something 400 ns after a command; four reads take that long.
    for _ in 0..4 {
        ports.read_u8(Bank::Control, 0);
    }
    let status = wait_ready(ports, clock, IDENTIFY_LIMIT)?;
    if status == 0 {
        return Err(StartError::Absent);
    }
    if status & (status::ERROR | status::DEVICE_FAULT) != 0 || status & status::DATA_REQUEST == 0 {
        return Err(StartError::Refused);
    }
    let mut words = [0; IDENTIFY_WORDS];
    for word in &mut words {
        *word = ports.read_u16(Bank::Command, command_block::DATA);
    }
    Identity::parse(&words).map_err(StartError::Unusable)
}
