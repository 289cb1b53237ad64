//! A run: what to boot on what, and the loop that watches it.

use std::{
    fs::{self, File, TryLockError},
    path::PathBuf,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use bulkhead_manifest::Model;

use crate::{
    Backend, End, HarnessError, Report, bochs,
    emulator::{Emulator, Ended},
    qemu,
    serial::{Event, SerialLine},
    terminal::Terminal,
};

/// How often the loop looks at the emulator while the serial line is silent.
const POLL: Duration = Duration::from_millis(50);
/// How long the serial line may still deliver after the emulator has ended.
const DRAIN: Duration = Duration::from_secs(2);

/// What to boot, and on which machine.
#[derive(Clone, Debug)]
pub struct Run {
    /// The bootable CD image.
    pub image: PathBuf,
    /// What runs it.
    pub backend: Backend,
    /// Processor model in the backend's own terms; its default if `None`.
    pub cpu_model: Option<String>,
    /// Processors.
    pub cpus: u32,
    /// Main memory, in MiB.
    pub memory_mib: u32,
    /// The IDE disk (primary master), a raw image; none if `None`.
    pub disk: Option<PathBuf>,
    /// Devices on the PCI bus, in the order of their places there.
    pub devices: Vec<PciDevice>,
    /// Whether the machine has an IOMMU (VT-d).
    pub iommu: bool,
    /// NUMA nodes, by number: all of the memory and the processors. None for a machine without; Bochs has none in any case.
    pub nodes: Vec<NumaNode>,
    /// After this long the emulator is killed; never if `None`.
    pub timeout: Option<Duration>,
    /// Where configuration and logs go; made if it is not there.
    pub directory: PathBuf,
}

/// A NUMA node of the machine.
#[derive(Clone, Debug)]
pub struct NumaNode {
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Numbers of its processors.
    pub cpus: Vec<u32>,
}

/// A device on the machine's PCI bus.
#[derive(Clone, Debug)]
pub struct PciDevice {
    /// What it is.
    pub model: Model,
    /// Its disk, a raw image, if it has one.
    pub disk: Option<PathBuf>,
}

/// What the machine's serial line receives.
#[derive(Clone, Debug)]
pub enum Input {
    /// Nothing.
    None,
    /// What is typed at the terminal, if standard input is one. Control-A X ends the run.
    Terminal,
    /// Prepared answers, each sent once after its cue, in order.
    Replies(Vec<Reply>),
}

/// An answer to something that the machine prints.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Sent after this has appeared.
    pub cue: String,
    /// What is sent.
    pub text: String,
}

impl Run {
    /// Runs the image to its end, and hands every piece of serial output to `on_serial` as it comes.
    ///
    /// # Errors
    /// If the run cannot be started: missing tools, an unknown processor model, a disk in use, a file that cannot be
    /// written. How the run itself went is in the report.
    pub fn execute(&self, input: Input, on_serial: &mut dyn FnMut(&[u8])) -> Result<Report, HarnessError> {
        let missing = self.backend.missing_tools();
        if !missing.is_empty() {
            return Err(HarnessError::MissingTools { backend: self.backend, missing });
        }
        fs::create_dir_all(&self.directory).map_err(HarnessError::file(&self.directory))?;
        for stale in ["bochs.log", "qemu.log"] {
            // Absent after most runs; one that cannot be removed is overwritten by the emulator.
            let _ = fs::remove_file(self.directory.join(stale));
        }
        let disks = self.disk.iter().chain(self.devices.iter().filter_map(|device| device.disk.as_ref()));
        let _locked_disks = disks.map(lock_disk).collect::<Result<Vec<_>, _>>()?;

        let (sender, events) = mpsc::channel();
        let (line, keyboard) = SerialLine::open(sender.clone()).map_err(HarnessError::file("serial line"))?;
        let prepared = match self.backend {
            Backend::Bochs => bochs::prepare(self, line.path())?,
            Backend::Qemu | Backend::Kvm => qemu::prepare(self, line.path())?,
        };
        let _terminal = match input {
            Input::Terminal => Terminal::take(&sender).map_err(HarnessError::file("terminal"))?,
            Input::None | Input::Replies(_) => None,
        };
        let started = Instant::now();
        let emulator = Emulator::start(prepared, &self.directory)?;
        let replies = match input {
            Input::Replies(replies) => replies,
            Input::None | Input::Terminal => Vec::new(),
        };
        let watch = Watch { line: Some(line), keyboard, events, serial: Vec::new(), replies, answered: 0, on_serial };
        let (cause, serial) = watch.until_end(emulator, self.timeout.map(|limit| started + limit))?;
        let ended = match self.backend {
            Backend::Bochs => bochs::interpret(&self.directory),
            Backend::Qemu | Backend::Kvm => {
                qemu::interpret(&self.directory, matches!(cause, Cause::Exited { success: true }))
            }
        };
        let Ended { end, ticks } = match cause {
            Cause::Exited { .. } => ended,
            Cause::TimedOut => Ended { end: End::TimedOut, ..ended },
            Cause::Stopped => Ended { end: End::Stopped, ..ended },
        };
        Ok(Report { end, serial, duration: started.elapsed(), ticks, directory: self.directory.clone() })
    }
}

/// Keeps two runs from writing the same disk; the emulators' own locks outlive a killed emulator.
fn lock_disk(path: &PathBuf) -> Result<File, HarnessError> {
    let file = File::open(path).map_err(HarnessError::file(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(HarnessError::DiskInUse(path.clone())),
        Err(TryLockError::Error(error)) => Err(HarnessError::file(path)(error)),
    }
}

/// Why the loop ended.
#[derive(Debug)]
enum Cause {
    Exited { success: bool },
    TimedOut,
    Stopped,
}

/// The loop's state.
struct Watch<'a> {
    /// Held until the emulator has ended.
    line: Option<SerialLine>,
    keyboard: Sender<Vec<u8>>,
    events: Receiver<Event>,
    serial: Vec<u8>,
    replies: Vec<Reply>,
    /// Bytes of `serial` before which cues have been looked for.
    answered: usize,
    on_serial: &'a mut dyn FnMut(&[u8]),
}

impl Watch<'_> {
    /// Watches until the emulator ends or must be ended; it is dead afterwards, and its logs complete.
    fn until_end(
        mut self,
        mut emulator: Emulator,
        deadline: Option<Instant>,
    ) -> Result<(Cause, Vec<u8>), HarnessError> {
        loop {
            if let Some(status) = emulator.ended()? {
                self.drain();
                return Ok((Cause::Exited { success: status.success() }, self.serial));
            }
            let left = deadline.map_or(POLL, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok((Cause::TimedOut, self.serial));
            }
            match self.events.recv_timeout(POLL.min(left)) {
                Ok(Event::Serial(bytes)) => self.receive(&bytes),
                Ok(Event::Input(bytes)) => self.send(bytes),
                Ok(Event::Stop) => return Ok((Cause::Stopped, self.serial)),
                Ok(Event::SerialClosed) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    /// Takes what the line still holds after the emulator's end.
    fn drain(&mut self) {
        self.line = None;
        while let Ok(event) = self.events.recv_timeout(DRAIN) {
            match event {
                Event::Serial(bytes) => self.receive(&bytes),
                Event::SerialClosed => return,
                Event::Input(_) | Event::Stop => {}
            }
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        (self.on_serial)(bytes);
        self.serial.extend_from_slice(bytes);
        while let Some(reply) = self.replies.first() {
            let rest = &self.serial[self.answered..];
            let Some(place) = rest.windows(reply.cue.len().max(1)).position(|part| part == reply.cue.as_bytes()) else {
                return;
            };
            self.answered += place + reply.cue.len();
            let text = self.replies.remove(0).text;
            self.send(text.into_bytes());
        }
    }

    fn send(&mut self, bytes: Vec<u8>) {
        // A line that broke is noticed by its reader, and the emulator's end by the loop.
        let _ = self.keyboard.send(bytes);
    }
}
