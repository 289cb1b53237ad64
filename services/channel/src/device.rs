//! The control page between a virtual machine monitor (control plane) and the emulator of a virtio device (data plane).
//!
//! # Layout, in words
//! | word | written by | holds |
//! | --- | --- | --- |
//! | 0 | emulator | generation: 0 = no device yet; every start of the emulator adds one; bit 63 while it starts |
//! | 1 | emulator | kind of device, bits 0-15; queues, 16-31; largest queue, 32-47 |
//! | 2 | emulator | features offered |
//! | 3 | emulator | count of changes of the configuration: odd while words 32-39 are written |
//! | 8 | emulator | acknowledgement: sequence, bits 0-31; outcome, 32-39 (1 done, 2 refused) |
//! | 9 | emulator | 1: the device needs a reset |
//! | 16 | both | interrupts wanted: the emulator sets bits, the monitor takes them all |
//! | 24 | monitor | command: sequence, bits 0-31; kind, 32-39 (1 reset, 2 configure, 3 resume) |
//! | 25 | monitor | features accepted |
//! | 32-39 | emulator | device-specific configuration, 64 bytes little-endian |
//! | 40+4n.. | monitor | queue n: size in bits 0-15 and enabled in bit 16; descriptors; driver area; device area |
//! | 72+12n.. | emulator | queue n: what is in flight, for the emulator's next life ([`InFlight`]) |
//!
//! # Protocol
//! 1. The emulator writes words 1-9 and 32-39, then the generation, and signals the monitor. Within a generation only the
//!    device-specific configuration changes; the emulator then asks for an interrupt of the configuration.
//! 2. The monitor writes words 25 and up, then the command word with the next sequence number, and signals the emulator. It
//!    gives no other command before the acknowledgement: until then, a reset is not finished and the device status that the guest
//!    reads stays as it was. Its first command in each of its lives is a reset, and the memory that it shares with the emulator is not
//!    used before that is acknowledged: an earlier life may have ended while its queues were in use.
//! 3. The emulator reads the command once, checks it, obeys, writes the acknowledgement and signals the monitor. A command comes
//!    before the doorbells that arrive with it, since the guest rings only after the monitor let it go on.
//! 4. For used buffers the emulator sets an interrupt bit and signals the monitor, if the bit was not set already. The first queues may have
//!    signals of their own: then no bit is set, and the signal itself is the interrupt, which need not pass through the monitor.
//! 5. A new generation means that the emulator lost its state, but for what it noted in the words from 72 on. If the driver has made its
//!    choice, and not reset the device since, the monitor gives a resume command with the same words: the emulator goes on with the
//!    queues, and does again what was in flight. The guest notices nothing. A reset or configure command that the last life left
//!    unanswered counts as obeyed, since a new emulator knows no queue: it forgets what was in flight, of which there was nothing yet
//!    after a configure command. One that was answered, and a resume command, leave the notes as they are.

use crate::description::*;
use crate::in_flight::{IN_FLIGHT_WORDS, InFlight};
use crate::{AtomicU64, TooSmall, fence};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

const GENERATION: usize = 0;
/// Bit of the generation: there is no device, since an emulator starts. The number stays, so that the next start has another one even if
/// this one comes to nothing.
const STARTING: u64 = 1 << 63;
const DEVICE: usize = 1;
const FEATURES: usize = 2;
const CHANGES: usize = 3;
const ACKNOWLEDGEMENT: usize = 8;
const NEEDS_RESET: usize = 9;
const INTERRUPTS: usize = 16;
const COMMAND: usize = 24;
const DRIVER_FEATURES: usize = 25;
const CONFIGURATION: usize = 32;
const CONFIGURATION_WORDS: usize = CONFIGURATION_BYTES / 8;
const QUEUE: usize = CONFIGURATION + CONFIGURATION_WORDS;
const QUEUE_WORDS: usize = 4;
const IN_FLIGHT: usize = QUEUE + QUEUE_WORDS * MAX_QUEUES;
/// Words of a device channel; a page has 512.
pub const DEVICE_CHANNEL_WORDS: usize = IN_FLIGHT + IN_FLIGHT_WORDS * MAX_QUEUES;

const COMMAND_RESET: u8 = 1;
const COMMAND_CONFIGURE: u8 = 2;
const COMMAND_RESUME: u8 = 3;
const OUTCOME_DONE: u8 = 1;
const OUTCOME_REFUSED: u8 = 2;
const QUEUE_ENABLED: u64 = 1 << 16;

/// The page's words.
struct Page<'a>(&'a [AtomicU64; DEVICE_CHANNEL_WORDS]);

impl<'a> Page<'a> {
    fn new(words: &'a [AtomicU64]) -> Result<Self, TooSmall> {
        match words.first_chunk() {
            Some(page) => Ok(Self(page)),
            None => Err(TooSmall { needed: DEVICE_CHANNEL_WORDS, given: words.len() }),
        }
    }

    /// Writes `values` from word `first` on; what lies outside the page is left out.
    fn set(&self, first: usize, values: &[u64]) {
        for (word, value) in self.0.iter().skip(first).zip(values) {
            word.store(*value, Relaxed);
        }
    }

    /// Reads `N` words from word `first` on, each once; what lies outside the page is 0.
    fn get<const N: usize>(&self, first: usize) -> [u64; N] {
        let mut values = [0; N];
        for (value, word) in values.iter_mut().zip(self.0.iter().skip(first)) {
            *value = word.load(Relaxed);
        }
        values
    }

    /// Writes the configuration, so that a reader notices if it reads half of it.
    fn set_configuration(&self, configuration: &DeviceConfiguration) {
        let changes = self.0[CHANGES].load(Relaxed) & !1;
        self.0[CHANGES].store(changes.wrapping_add(1), Relaxed);
        fence(SeqCst);
        let (words, _) = configuration.as_chunks();
        let mut values = [0; CONFIGURATION_WORDS];
        for (value, bytes) in values.iter_mut().zip(words) {
            *value = u64::from_le_bytes(*bytes);
        }
        self.set(CONFIGURATION, &values);
        fence(SeqCst);
        self.0[CHANGES].store(changes.wrapping_add(2), Release);
    }

    /// Reads the configuration; `None` while it is being written.
    fn device_configuration(&self) -> Option<DeviceConfiguration> {
        let before = self.0[CHANGES].load(Acquire);
        let values: [u64; CONFIGURATION_WORDS] = self.get(CONFIGURATION);
        fence(SeqCst);
        if before & 1 != 0 || self.0[CHANGES].load(Relaxed) != before {
            return None;
        }
        let mut configuration = [0; CONFIGURATION_BYTES];
        let (words, _) = configuration.as_chunks_mut();
        for (bytes, value) in words.iter_mut().zip(values) {
            *bytes = value.to_le_bytes();
        }
        Some(configuration)
    }

    fn set_queue(&self, index: usize, queue: Option<QueueConfiguration>) {
        let value = queue.unwrap_or_default();
        let enabled = if queue.is_some() { QUEUE_ENABLED } else { 0 };
        let words = [u64::from(value.size) | enabled, value.descriptors, value.driver, value.device];
        self.set(QUEUE + QUEUE_WORDS * index, &words);
    }

    fn queue(&self, index: usize) -> Option<QueueConfiguration> {
        let [first, descriptors, driver, device] = self.get(QUEUE + QUEUE_WORDS * index);
        let queue = QueueConfiguration { size: first as u16, descriptors, driver, device };
        (first & QUEUE_ENABLED != 0).then_some(queue)
    }
}

/// A sequence number and a code in one word.
const fn pack(sequence: u32, code: u8) -> u64 {
    sequence as u64 | (code as u64) << 32
}

/// Sequence number and code of a word.
const fn unpack(word: u64) -> (u32, u8) {
    (word as u32, (word >> 32) as u8)
}

/// The emulator's side of a device channel.
pub struct EmulatorSide<'a> {
    page: Page<'a>,
    description: DeviceDescription,
    /// The interrupts that have signals of their own.
    direct: u64,
    /// Sequence number of the command acknowledged last.
    answered: u32,
    /// Sequence number of the command taken last.
    taken: u32,
}

/// Why an emulator could not publish its device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PublishError {
    /// The channel's memory is too small.
    Memory(TooSmall),
    /// The description is wrong.
    Description(Invalid),
}

impl<'a> EmulatorSide<'a> {
    /// Publishes a device in a new generation. The monitor has to be signalled.
    pub fn publish(words: &'a [AtomicU64], description: DeviceDescription) -> Result<Self, PublishError> {
        let page = Page::new(words).map_err(PublishError::Memory)?;
        let description = description.validate().map_err(PublishError::Description)?;
        let generation = page.0[GENERATION].fetch_or(STARTING, AcqRel) & !STARTING;
        let (answered, last) = unpack(page.0[COMMAND].load(Acquire));
        // Rule 5 of the protocol.
        let is_answered = unpack(page.0[ACKNOWLEDGEMENT].load(Acquire)).0 == answered;
        if !is_answered && last != COMMAND_RESUME {
            for word in page.0.iter().skip(IN_FLIGHT) {
                word.store(0, Relaxed);
            }
        }
        let device = u64::from(description.kind as u16)
            | u64::from(description.queues) << 16
            | u64::from(description.queue_size) << 32;
        page.0[DEVICE].store(device, Relaxed);
        page.0[FEATURES].store(description.features, Relaxed);
        page.set_configuration(&description.configuration);
        page.0[NEEDS_RESET].store(0, Relaxed);
        page.0[INTERRUPTS].store(0, Relaxed);
        page.0[ACKNOWLEDGEMENT].store(pack(answered, OUTCOME_DONE), Relaxed);
        page.0[GENERATION].store((generation.wrapping_add(1) & !STARTING).max(1), Release);
        Ok(Self { page, description, direct: 0, answered, taken: answered })
    }

    /// The same, where the monitor has a signal for each of the first `queues` queues' interrupts.
    #[must_use]
    pub fn with_direct_interrupts(self, queues: u32) -> Self {
        Self { direct: (1 << queues.min(MAX_QUEUES as u32)) - 1, ..self }
    }

    /// The device as published.
    pub fn description(&self) -> &DeviceDescription {
        &self.description
    }

    /// Changes the device-specific configuration.
    pub fn set_configuration(&mut self, configuration: &DeviceConfiguration) -> Signals {
        self.description.configuration = *configuration;
        self.page.set_configuration(configuration);
        self.raise(Interrupts::CONFIGURATION)
    }

    /// Takes the monitor's next command, checked; each command is taken once.
    pub fn next_command(&mut self) -> Option<Command> {
        let (sequence, kind) = unpack(self.page.0[COMMAND].load(Acquire));
        if sequence == self.taken {
            return None;
        }
        self.taken = sequence;
        Some(match kind {
            COMMAND_RESET => Command::Reset,
            COMMAND_CONFIGURE => self.configuration().map_or_else(Command::Refused, Command::Configure),
            COMMAND_RESUME => self.configuration().map_or_else(Command::Refused, Command::Resume),
            _ => Command::Refused(Invalid::Command),
        })
    }

    fn configuration(&self) -> Result<Configuration, Invalid> {
        let features = self.page.0[DRIVER_FEATURES].load(Relaxed);
        if features & !self.description.features != 0 {
            return Err(Invalid::Features);
        }
        let mut configuration = Configuration { features, ..Default::default() };
        for (index, slot) in configuration.queues.iter_mut().enumerate() {
            if let Some(queue) = self.page.queue(index) {
                if index >= usize::from(self.description.queues) {
                    return Err(Invalid::QueueCount);
                }
                *slot = Some(queue.validate(self.description.queue_size)?);
            }
        }
        Ok(configuration)
    }

    /// What is in flight in queue `queue`; `None` if there is no such queue.
    pub fn in_flight(&self, queue: usize) -> Option<InFlight<'a>> {
        let first = IN_FLIGHT + IN_FLIGHT_WORDS * queue;
        self.page.0.get(first..)?.first_chunk().filter(|_| queue < MAX_QUEUES).map(InFlight::new)
    }

    /// Acknowledges the command taken last: done, or refused. The monitor has to be signalled.
    pub fn acknowledge(&mut self, done: bool) {
        self.answered = self.taken;
        let code = if done { OUTCOME_DONE } else { OUTCOME_REFUSED };
        self.page.0[ACKNOWLEDGEMENT].store(pack(self.answered, code), Release);
    }

    /// Asks for interrupts.
    pub fn raise(&self, interrupts: Interrupts) -> Signals {
        let (direct, noted) = (interrupts.0 & self.direct, interrupts.0 & !self.direct);
        let direct = Signals(direct << 1);
        if noted != 0 && self.page.0[INTERRUPTS].fetch_or(noted, AcqRel) & noted != noted {
            direct | Signals::LOOK
        } else {
            direct
        }
    }

    /// Says whether the guest must reset the device before it can be used again.
    pub fn set_needs_reset(&self, needed: bool) -> Signals {
        self.page.0[NEEDS_RESET].store(needed.into(), Release);
        if needed { self.raise(Interrupts::CONFIGURATION) } else { Signals::NONE }
    }
}

/// The monitor's side of a device channel.
pub struct MonitorSide<'a> {
    page: Page<'a>,
    /// Sequence number of the command given last.
    sequence: u32,
}

/// One life of an emulator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Generation(u64);

impl<'a> MonitorSide<'a> {
    /// Takes the monitor's side of the channel in `words`, and gives a reset: an earlier life of the monitor may have left queues in use.
    /// The emulator has to be signalled. Until it has answered, it may use them.
    pub fn attach(words: &'a [AtomicU64]) -> Result<Self, TooSmall> {
        let page = Page::new(words)?;
        let (sequence, _) = unpack(page.0[COMMAND].load(Relaxed));
        let mut monitor = Self { page, sequence };
        monitor.reset();
        Ok(monitor)
    }

    /// The emulator's present generation; `None` while there is no device.
    pub fn generation(&self) -> Option<Generation> {
        match self.page.0[GENERATION].load(Acquire) {
            0 => None,
            generation if generation & STARTING != 0 => None,
            generation => Some(Generation(generation)),
        }
    }

    /// The device that the emulator offers; `None` while there is none or it is being changed, an error if it is nonsense.
    pub fn description(&self) -> Option<Result<(Generation, DeviceDescription), Invalid>> {
        let generation = self.generation()?;
        let device = self.page.0[DEVICE].load(Relaxed);
        let Some(kind) = DeviceKind::from_number(device as u16) else {
            return Some(Err(Invalid::Kind));
        };
        let description = DeviceDescription {
            kind,
            features: self.page.0[FEATURES].load(Relaxed),
            queues: (device >> 16) as u16,
            queue_size: (device >> 32) as u16,
            configuration: self.page.device_configuration()?,
        };
        Some(description.validate().map(|description| (generation, description)))
    }

    /// Gives the next command. The emulator has to be signalled.
    fn command(&mut self, code: u8) {
        self.sequence = self.sequence.wrapping_add(1);
        self.page.0[COMMAND].store(pack(self.sequence, code), Release);
    }

    /// Asks the emulator to forget the driver; the emulator has to be signalled. Interrupts still wanted are dropped.
    pub fn reset(&mut self) {
        self.page.0[INTERRUPTS].store(0, Release);
        self.command(COMMAND_RESET);
    }

    /// Hands the driver's choice to the emulator, which has to be signalled.
    pub fn configure(&mut self, configuration: &Configuration) {
        self.choose(configuration, COMMAND_CONFIGURE);
    }

    /// Hands the driver's choice, made in an earlier generation, to a new one, which has to be signalled.
    pub fn resume(&mut self, configuration: &Configuration) {
        self.choose(configuration, COMMAND_RESUME);
    }

    fn choose(&mut self, configuration: &Configuration, command: u8) {
        self.page.0[DRIVER_FEATURES].store(configuration.features, Relaxed);
        for (index, queue) in configuration.queues.iter().enumerate() {
            self.page.set_queue(index, *queue);
        }
        self.command(command);
    }

    /// How the emulator answered the command given last.
    pub fn outcome(&self) -> Outcome {
        let (sequence, code) = unpack(self.page.0[ACKNOWLEDGEMENT].load(Acquire));
        match code {
            _ if sequence != self.sequence => Outcome::Pending,
            OUTCOME_DONE => Outcome::Done,
            _ => Outcome::Refused,
        }
    }

    /// Takes the interrupts that the emulator asked for.
    pub fn take_interrupts(&self) -> Interrupts {
        Interrupts(self.page.0[INTERRUPTS].swap(0, AcqRel))
    }

    /// The emulator says that the guest must reset the device.
    pub fn needs_reset(&self) -> bool {
        self.page.0[NEEDS_RESET].load(Acquire) != 0
    }
}
