//! What the threads of a guest's processors share.

use crate::device::DeviceLink;
use crate::memory::Ram;
use crate::ports::Ports;
use crate::serial::{SerialInput, SerialOutput};
use alloc::vec::Vec;
use bulkhead_machine::devices::power::PowerEvent;
use bulkhead_machine::machine::{Host, Machine};
use bulkhead_machine::policy::cpuid::Leaf;
use bulkhead_machine::virtio::VirtioPci;
use bulkhead_runtime::abi::CpuFeatures;
use bulkhead_runtime::object::{GuestSpace, Notification, Vcpu};
use bulkhead_runtime::plan::layout;
use bulkhead_runtime::program::{GuestProcessorEntry, mask};
use bulkhead_runtime::syscall;
use core::arch::x86_64::__cpuid_count;
use core::sync::atomic::AtomicUsize;
use spin::Once;
use spin::RelaxStrategy;
use spin::mutex::spin::SpinMutex;

/// The machine of this vmm.
pub type GuestMachine = Machine<VirtioPci, SerialOutput, Threads>;

/// How a guest's run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It switched its machine off.
    Off,
    /// It reset its machine.
    Reset,
    /// It wrote this code to its exit port.
    Exit(u32),
    /// It cannot go on.
    Crashed(&'static str),
}

impl From<PowerEvent> for End {
    fn from(event: PowerEvent) -> Self {
        match event {
            PowerEvent::Off => Self::Off,
            PowerEvent::Reset => Self::Reset,
            PowerEvent::Exit(code) => Self::Exit(code),
        }
    }
}

/// How the thread of a guest processor is reached.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// Wakes it.
    pub notification: Notification,
    /// The processor that it runs.
    pub vcpu: Vcpu,
}

/// The threads of this program, by guest processor.
#[derive(Debug)]
pub struct Threads(pub Vec<Thread>);

impl Host for Threads {
    #[inline]
    fn wake(&self, processor: usize) {
        if let Some(thread) = self.0.get(processor) {
            // The notification is this program's own, and lives as long as it.
            let _ = thread.notification.signal(mask(layout::OWN_BIT));
        }
    }

    #[inline]
    fn notify(&self, processor: usize) {
        if let Some(thread) = self.0.get(processor) {
            thread.vcpu.notify();
        }
    }

    fn relax() {
        syscall::yield_now();
    }

    fn cpuid(leaf: u32, subleaf: u32) -> Leaf {
        let answer = __cpuid_count(leaf, subleaf);
        [answer.eax, answer.ebx, answer.ecx, answer.edx]
    }
}

/// Waits for a lock by letting another thread of this CPU run, which may hold it.
#[derive(Debug)]
pub struct Yield;

impl RelaxStrategy for Yield {
    fn relax() {
        syscall::yield_now();
    }
}

/// The links to the programs behind the guest's devices.
pub struct Links {
    /// By PCI function.
    pub devices: Vec<DeviceLink>,
    /// The guest's channels, which are the function behind the devices.
    pub ports: Option<Ports>,
    /// What is typed.
    pub input: SerialInput,
}

impl Links {
    /// Whether there is nobody behind the guest's devices who could wake it.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.ports.is_none()
    }
}

/// A guest.
pub struct Guest {
    /// Its virtual PC.
    pub machine: GuestMachine,
    /// Its RAM.
    pub ram: Ram,
    /// Its guest-physical memory, for doorbells.
    pub space: GuestSpace,
    /// What the processors have.
    pub features: CpuFeatures,
    /// The hardware virtualizes the local APICs.
    pub virtual_apics: bool,
    /// Exits are counted.
    pub statistics: bool,
    /// Its processors.
    pub processors: Vec<GuestProcessorEntry>,
    /// Who serves its devices.
    pub links: SpinMutex<Links, Yield>,
    /// How it ended.
    pub end: Once<End>,
    /// Processors whose threads sleep and that only another processor could wake.
    pub deaf: AtomicUsize,
    /// Processors that have ended, with all that is to be said about them.
    pub left: AtomicUsize,
}
