//! What a program has: its environment, as handles and memory that are ready to be used.

use crate::device::{Device, DeviceRegisters};
use crate::object::{self, Notification};
use crate::ports::PortRange;
use crate::shared::{GuestRam, SharedMemory};
use crate::status::Status;
use crate::syscall::Slot;
use crate::{console, events, mapping, time};
use bulkhead_channel::{AtomicU64, Side, Signals, TextChannel};
use bulkhead_plan::{self as plan, ChannelKind, EntryKind, Environment, Role};

/// Name of the channel to the console service.
pub const CONSOLE: &str = "console";

/// A native program's view of its partition. There is one, given to its main function.
#[derive(Debug)]
pub struct Program {
    environment: Environment<'static>,
}

/// A channel to another partition.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    /// The shared memory.
    pub memory: SharedMemory<'static>,
    /// To signal the peer (its badge is the peer's bit); nothing at the receiving end of a one-way channel.
    pub peer: Notification,
    /// Mask of the bits by which the peer signals this program: one, but that the end of a device's owner has others for interrupts; none at
    /// the sending end of a one-way channel.
    pub signal: u64,
    /// What the environment says: names, role and kind.
    pub entry: plan::Channel<'static>,
}

impl Channel {
    /// The memory as words.
    pub fn words(&self) -> &'static [AtomicU64] {
        // Channel memory is page-aligned (a checked property of the environment), hence this cannot fail; were it otherwise
        // the channel would be empty.
        self.memory.atomics(0, self.memory.len() / size_of::<AtomicU64>()).unwrap_or_default()
    }

    /// This program's side.
    pub fn side(&self) -> Side {
        match self.entry.role {
            Role::First => Side::First,
            Role::Second => Side::Second,
        }
    }

    /// The channel as a text channel; `None` if its memory holds something else or is too small.
    pub fn text(&self) -> Option<TextChannel<'static>> {
        match self.entry.kind {
            ChannelKind::Text | ChannelKind::Serial => TextChannel::attach(self.words(), self.side()).ok(),
            ChannelKind::Device | ChannelKind::Raw | ChannelKind::OneWay => None,
        }
    }

    /// Signals the monitor of a device, at the device's end. A monitor that has gone misses nothing.
    pub fn signal_monitor(&self, signals: Signals) {
        let _ = self.peer.signal(signals.0.checked_shl(self.entry.peer_bit).unwrap_or(0));
    }

    /// Signals the peer. A peer that has gone misses nothing, nor does one that only sends.
    pub fn signal_peer(&self) {
        let _ = self.peer.signal(0);
    }
}

/// An interrupt of a device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceInterrupt {
    /// To acknowledge.
    pub interrupt: object::Interrupt,
    /// Mask of the bit that it signals.
    pub signal: u64,
    /// What the environment says.
    pub entry: plan::Interrupt<'static>,
}

impl DeviceInterrupt {
    /// Has `serve` look at the device, and allows its next interrupt.
    pub fn attend<T>(&self, serve: impl FnOnce() -> T) -> T {
        // An edge that comes while the device is being served must not be lost; a level would come again at once.
        let level = self.entry.flags & 1 != 0;
        if !level {
            let _ = self.interrupt.acknowledge();
        }
        let outcome = serve();
        if level {
            let _ = self.interrupt.acknowledge();
        }
        outcome
    }

    pub(crate) fn new(entry: plan::Interrupt<'static>) -> Self {
        Self { interrupt: object::Interrupt(Slot(entry.slot)), signal: mask(entry.bit), entry }
    }
}

/// A range of a guest's memory.
#[derive(Clone, Copy, Debug)]
pub struct GuestMemory {
    /// The memory, by guest-physical address.
    pub ram: GuestRam<'static>,
    /// What the environment says: guest and addresses.
    pub entry: plan::GuestMemory<'static>,
}

/// A guest processor to run.
#[derive(Clone, Copy, Debug)]
pub struct GuestProcessorEntry {
    /// The handle; [`object::Vcpu::map_state`] at `entry.state` makes a processor of it.
    pub vcpu: object::Vcpu,
    /// What the environment says: index, CPU, thread.
    pub entry: plan::Vcpu,
}

impl Program {
    /// # Safety
    /// The environment must be the one that init made for this program, and there must be no other `Program`.
    pub(crate) unsafe fn new(environment: Environment<'static>) -> Self {
        let header = environment.header();
        time::set_frequency(header.tsc_hz);
        mapping::set_restarted(header.generation != 0);
        events::set_notification(Notification(Slot(header.notification_slot)));
        let program = Self { environment };
        let watched = program.environment.status_pages().next().map_or(0, |page| page.watchdog_us);
        if let Some(status) = program.status().filter(|_| watched != 0) {
            events::set_watchdog(status, watched);
        }
        if let Some(channel) = program.channel(CONSOLE)
            && let Some(text) = channel.text()
        {
            console::attach(text, channel.peer);
        }
        program
    }

    /// The program again, after init has stopped it and started it at its entry.
    ///
    /// # Safety
    /// As for [`Program::new`]; the one that there was must not run any more.
    pub(crate) const unsafe fn resumed(environment: Environment<'static>) -> Self {
        Self { environment }
    }

    /// The environment.
    pub const fn environment(&self) -> &Environment<'static> {
        &self.environment
    }

    /// The program's name.
    pub fn name(&self) -> &'static str {
        self.environment.name()
    }

    /// Its notification.
    pub fn notification(&self) -> Notification {
        Notification(Slot(self.environment.header().notification_slot))
    }

    /// Memory that an entry names.
    fn memory_at(&self, address: u64, size: u64) -> SharedMemory<'static> {
        // SAFETY: init maps what the environment's entries name for as long as the program runs, outside image, stack and
        // heap (the heap's entry never comes here).
        unsafe { SharedMemory::at(address, size) }
    }

    fn channel_of(&self, entry: plan::Channel<'static>) -> Channel {
        Channel {
            memory: self.memory_at(entry.address, entry.size),
            peer: Notification(Slot(entry.slot)),
            signal: plan::layout::signal_mask(entry.bit, entry.kind.bits(entry.role)),
            entry,
        }
    }

    /// All channels.
    pub fn channels(&self) -> impl Iterator<Item = Channel> {
        self.environment.channels().map(|entry| self.channel_of(entry))
    }

    /// The channel of this name.
    pub fn channel(&self, name: &str) -> Option<Channel> {
        self.environment.channel(name).map(|entry| self.channel_of(entry))
    }

    /// A memory range of the program's, not its heap, with what the environment says about it.
    pub fn memory(&self, name: &str) -> Option<(SharedMemory<'static>, plan::Memory<'static>)> {
        let heap = self.environment.heap().map(|heap| heap.address);
        let entry = self.environment.memories().find(|entry| entry.name == name && Some(entry.address) != heap)?;
        Some((self.memory_at(entry.address, entry.size), entry))
    }

    /// Port range `index` of a device.
    pub fn ports(&self, device: &str, index: u64) -> Option<PortRange> {
        let entry = self.environment.ports_of(device, index)?;
        Some(PortRange::new(entry.first, entry.count))
    }

    /// All interrupts.
    pub fn interrupts(&self) -> impl Iterator<Item = DeviceInterrupt> {
        self.environment.interrupts().map(DeviceInterrupt::new)
    }

    /// The first interrupt of a device.
    pub fn interrupt(&self, device: &str) -> Option<DeviceInterrupt> {
        self.interrupts().find(|interrupt| interrupt.entry.name == device)
    }

    /// PCI configuration space in memory, and the bus that it begins with: in the bus service, where the machine has it.
    pub fn configuration_space(&self) -> Option<(DeviceRegisters, u8)> {
        let entry = self.environment.configuration_space()?;
        Some((DeviceRegisters::of_configuration(entry)?, entry.first_bus))
    }

    /// The DMA remapping units: in the bus service, where the machine has them.
    pub fn remapping_units(&self) -> impl Iterator<Item = (DeviceRegisters, DeviceInterrupt)> + use<> {
        self.environment
            .remapping_units()
            .filter_map(|unit| Some((DeviceRegisters::of_remapping_unit(&unit)?, DeviceInterrupt::new(unit.interrupt))))
    }

    /// The device of this name on the PCI bus.
    pub fn device(&self, name: &str) -> Option<Device> {
        Device::new(self.environment, name)
    }

    /// The first device on the PCI bus that the program owns.
    pub fn first_device(&self) -> Option<Device> {
        self.devices().next()
    }

    /// All devices on the PCI bus that the program owns.
    pub fn devices(&self) -> impl Iterator<Item = Device> {
        let entries = self.environment.entries().iter();
        let functions = entries.filter(|entry| entry.kind() == Some(EntryKind::PciFunction));
        functions.filter_map(|entry| self.device(entry.name.as_str()))
    }

    /// All ranges of guests' memory.
    pub fn guest_memories(&self) -> impl Iterator<Item = GuestMemory> {
        self.environment.guest_memories().map(|entry| GuestMemory {
            ram: GuestRam::new(self.memory_at(entry.address, entry.size), entry.guest_physical),
            entry,
        })
    }

    /// The guest's space, in a vmm.
    pub fn guest_space(&self) -> Option<(object::GuestSpace, plan::GuestSpace)> {
        let entry = self.environment.guest_space()?;
        Some((object::GuestSpace(Slot(entry.slot)), entry))
    }

    /// The guest's processors, in a vmm.
    pub fn vcpus(&self) -> impl Iterator<Item = GuestProcessorEntry> {
        self.environment.vcpus().map(|entry| GuestProcessorEntry { vcpu: object::Vcpu(Slot(entry.slot)), entry })
    }

    /// The contents of a module.
    pub fn module(&self, name: &str) -> Option<&'static [u8]> {
        let entry = self.environment.module(name)?;
        let length = usize::try_from(entry.size).ok()?;
        // SAFETY: init maps the module read-only for as long as the program runs, and nobody can write to it.
        Some(unsafe { core::slice::from_raw_parts(entry.address as usize as *const u8, length) })
    }

    /// The endpoint of this name, with what the environment says about it.
    pub fn endpoint(&self, name: &str) -> Option<(object::Endpoint, plan::Endpoint<'static>)> {
        let entry = self.environment.endpoint(name)?;
        Some((object::Endpoint(Slot(entry.slot)), entry))
    }

    /// The page shared with init.
    pub fn status(&self) -> Option<Status<'static>> {
        let entry = self.environment.status_pages().next()?;
        Some(Status::new(self.memory_at(entry.address, entry.size)))
    }

    /// Tells init how the program fares: `code` and `text` are for the log.
    pub fn report(&self, report: plan::StatusReport, code: u32, text: &str) {
        if let (Some(status), Some(entry)) = (self.status(), self.environment.status_pages().next()) {
            status.set_report(report, code, text);
            // Init outlives every partition.
            let _ = Notification(Slot(entry.slot)).signal(0);
        }
    }
}

/// The mask of a signal bit.
pub const fn mask(bit: u32) -> u64 {
    plan::layout::signal_mask(bit, 1)
}
