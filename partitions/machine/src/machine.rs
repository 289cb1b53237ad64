//! The whole virtual PC: what a virtual machine monitor asks at each VM exit, from one thread a processor.
//!
//! A thread owns its [`Processor`]. The devices that all processors share are behind one lock, held for one access; messages
//! go through the [`Interconnect`]. Timers of the shared devices are the business of processor 0's thread.

use crate::arbitration::{Arbitration, Readiness};
use crate::bus::{Platform, PlatformParameters, Width};
use crate::devices::lapic::{LapicEffect, Pending};
use crate::devices::message::{InterruptMessage, MsiMessage};
use crate::devices::pci::PciFunction;
use crate::devices::power::PowerEvent;
use crate::devices::uart::SerialSink;
use crate::interconnect::{Away, Courier, Interconnect};
use crate::mailbox::{Events, Mailbox};
use crate::policy::GeneralProtection;
use crate::policy::control::ControlPolicy;
use crate::policy::cpuid::{CpuidParameters, CpuidTable, Leaf, timer_shift};
use crate::policy::listed::MsrRules;
use crate::policy::msr::{ModelSpecificRegisters, MsrWrite};
use crate::processor::{Arrivals, Processor};
use crate::virtual_apic::VirtualApic;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::RelaxStrategy;
use spin::mutex::spin::SpinMutex;

/// What a machine is made from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MachineParameters {
    /// The shared devices.
    pub platform: PlatformParameters,
    /// The processors.
    pub cpuid: CpuidParameters,
    /// The microcode revision that the guest is shown.
    pub microcode: u32,
    /// What the guest's manifest says of single model-specific registers.
    pub msrs: MsrRules,
}

/// What the machine asks of the program that it is in.
pub trait Host {
    /// Wakes the thread of a processor: ends its sleep, or its stay in the guest.
    fn wake(&self, processor: usize);

    /// Has a processor that is in the guest look at its posted interrupts. If it is not, there is nothing to do.
    fn notify(&self, processor: usize);

    /// Waits a little for another thread, which may be one of the same CPU.
    fn relax();

    /// CPUID of the host.
    fn cpuid(leaf: u32, subleaf: u32) -> Leaf;
}

/// Waits for the lock as the host says.
#[derive(Debug)]
struct Relax<H>(PhantomData<H>);

impl<H: Host> RelaxStrategy for Relax<H> {
    fn relax() {
        H::relax();
    }
}

/// What all processors of a guest share. `F` is the type of its PCI functions, `S` takes its serial output.
#[derive(Debug)]
pub struct Machine<F, S, H> {
    platform: SpinMutex<Platform<F, S>, Relax<H>>,
    /// What the shared devices' timers want, as a copy that can be read without the lock.
    platform_deadline: AtomicU64,
    interconnect: Interconnect,
    control: ControlPolicy,
    parameters: MachineParameters,
    host: H,
}

/// The processor whose thread tells the shared devices the time.
const TIMEKEEPER: usize = 0;

impl<F: PciFunction, S: SerialSink, H: Host> Machine<F, S, H> {
    /// A machine as firmware hands it over. `functions` become PCI devices 1, 2, ...; `serial` takes the serial output.
    pub fn new(parameters: &MachineParameters, functions: Vec<F>, serial: S, host: H) -> Self {
        Self {
            platform: SpinMutex::new(Platform::new(&parameters.platform, functions, serial)),
            platform_deadline: AtomicU64::new(u64::MAX),
            interconnect: Interconnect::new(parameters.cpuid.processors as usize),
            control: ControlPolicy::new(&CpuidTable::new(&parameters.cpuid, 0, H::cpuid)),
            parameters: parameters.clone(),
            host,
        }
    }

    /// Makes processor `number`, after reset, for the thread that runs it; nothing if there is no such processor.
    pub fn processor(&self, number: usize) -> Option<Processor> {
        self.interconnect.mailbox(number)?;
        let MachineParameters { platform, cpuid, microcode, msrs } = &self.parameters;
        let table = CpuidTable::new(cpuid, number as u32, H::cpuid);
        let shift = timer_shift(platform.tsc_hertz);
        let registers = ModelSpecificRegisters::new(&table, platform.tsc_hertz, *microcode, msrs.clone());
        let mut processor = Processor::new(number, table, registers, shift);
        self.publish(&mut processor);
        Some(processor)
    }

    /// Leaves a processor's local APIC to the hardware, which virtualizes it in this page. Before the processor first runs.
    pub fn virtualize_apic(&self, processor: &mut Processor, page: VirtualApic, now: u64) {
        self.interconnect.publish_posted(processor.number, page.posted());
        processor.virtualize(page, false, now);
        self.publish(processor);
    }

    /// Leaves a processor's task priority to the hardware, which keeps it in this page. Before the processor first runs.
    pub fn virtualize_priority(&self, processor: &mut Processor, page: VirtualApic, now: u64) {
        processor.virtualize(page, true, now);
    }

    /// How many processors the machine has.
    pub fn processors(&self) -> usize {
        self.interconnect.count()
    }

    /// Lets `act` on the shared devices, for processor `by`, and wakes whom their interrupts concern.
    #[inline(always)]
    fn with_platform<R>(&self, by: usize, act: impl FnOnce(&mut Platform<F, S>, &mut Courier<'_>) -> R) -> R {
        let mut courier = Courier::new(&self.interconnect);
        let mut platform = self.platform.lock();
        let result = act(&mut platform, &mut courier);
        let deadline = platform.deadline();
        if deadline != self.platform_deadline.load(Ordering::Relaxed) {
            self.platform_deadline.store(deadline, Ordering::Relaxed);
            if by != TIMEKEEPER {
                courier.away = courier.away.and(self.interconnect.post(1 << TIMEKEEPER, Events::TIME));
            }
        }
        drop(platform);
        if !courier.away.is_empty() {
            self.wake(courier.away);
        }
        result
    }

    /// Wakes and notifies threads of other processors.
    fn wake(&self, away: Away) {
        let Away { mut to_wake, mut to_notify } = away;
        while to_notify != 0 {
            self.host.notify(to_notify.trailing_zeros() as usize);
            to_notify &= to_notify - 1;
        }
        while to_wake != 0 {
            self.host.wake(to_wake.trailing_zeros() as usize);
            to_wake &= to_wake - 1;
        }
    }

    /// IN.
    #[inline]
    pub fn read_port(&self, by: &Processor, port: u16, width: Width, now: u64) -> u32 {
        self.with_platform(by.number, move |platform, courier| platform.read_port(port, width, now, courier))
    }

    /// OUT. What it did to the machine as a whole, if anything.
    #[inline]
    pub fn write_port(&self, by: &Processor, port: u16, width: Width, value: u32, now: u64) -> Option<PowerEvent> {
        self.with_platform(by.number, move |platform, courier| platform.write_port(port, width, value, now, courier))
    }

    /// `by` reads guest-physical memory that is not RAM.
    #[inline]
    pub fn read_memory(&self, by: &mut Processor, address: u64, width: Width, now: u64) -> u64 {
        if by.is_apic_page(address) {
            let register = by.read_apic(address & 0xffc, now);
            return (u64::from(register) >> (8 * (address & 3))) & width.mask();
        }
        self.with_platform(by.number, move |platform, courier| platform.read_memory(address, width, now, courier))
    }

    /// `by` writes guest-physical memory that is not RAM.
    #[inline]
    pub fn write_memory(&self, by: &mut Processor, address: u64, width: Width, value: u64, now: u64) {
        if by.is_apic_page(address) {
            let effect = by.write_apic(address & 0xfff, (value & width.mask()) as u32, now);
            self.apply(by, effect);
            self.interconnect.publish_priority(by.number, by.apic.processor_priority());
            return;
        }
        self.with_platform(by.number, move |platform, courier| {
            platform.write_memory(address, width, value, now, courier);
        });
    }

    /// `by` has written the register at byte `offset` of its virtual-APIC page.
    pub fn apic_written(&self, by: &mut Processor, offset: u32, now: u64) {
        let effect = by.apic_written(offset & 0xff0, now);
        self.apply(by, effect);
    }

    /// `by` has ended a level-triggered interrupt without an access to its local APIC.
    pub fn interrupt_ended(&self, by: &mut Processor, vector: u8) {
        self.apply(by, LapicEffect::EndOfInterrupt(vector));
    }

    /// What the guest's control registers may hold.
    pub const fn control(&self) -> &ControlPolicy {
        &self.control
    }

    /// WRMSR. What concerns the local APIC is done already.
    #[inline]
    pub fn write_msr(
        &self,
        by: &mut Processor,
        index: u32,
        value: u64,
        now: u64,
    ) -> Result<MsrWrite, GeneralProtection> {
        let write = by.write_msr(index, value, now)?;
        match write {
            MsrWrite::Apic(effect) => {
                self.apply(by, effect);
                self.interconnect.publish_priority(by.number, by.apic.processor_priority());
                Ok(MsrWrite::Done)
            }
            MsrWrite::ApicBase => {
                self.publish(by);
                Ok(write)
            }
            write => Ok(write),
        }
    }

    /// Does what a write to a local APIC leads to.
    #[inline]
    fn apply(&self, by: &mut Processor, effect: LapicEffect) {
        match effect {
            LapicEffect::None => {}
            LapicEffect::Moved => self.publish(by),
            LapicEffect::Send(message) => self.wake(self.interconnect.send(Some(by.number), &message)),
            LapicEffect::EndOfInterrupt(vector) => {
                self.with_platform(by.number, move |platform, courier| platform.end_of_interrupt(vector, courier))
            }
        }
    }

    /// Lets the other processors know how this one is addressed.
    fn publish(&self, processor: &mut Processor) {
        let pin = self.interconnect.publish_address(processor.number, processor.apic.address());
        processor.apic.set_lint0(pin);
    }

    /// The mailbox of a processor; nothing if there is no such processor. Its thread calls [`Mailbox::enter_guest`] or
    /// [`Mailbox::sleep`] before it does, and [`Mailbox::take`] afterwards.
    pub fn mailbox(&self, processor: usize) -> Option<&Mailbox> {
        self.interconnect.mailbox(processor)
    }

    /// Whether all threads sleep, and nothing has arrived for any.
    pub fn is_quiet(&self) -> bool {
        self.interconnect.is_quiet()
    }

    /// Takes what has arrived in a processor's mailbox, as far as it concerns interrupts. The rest is the caller's business.
    pub fn receive_events(&self, processor: &mut Processor, events: Events) -> Arrivals {
        let arrivals = Arrivals::of(events);
        if arrivals.init {
            processor.reset();
            self.publish(processor);
        }
        // What came before INIT is lost with it, and what came after finds a local APIC that takes no vectors.
        if events.contains(Events::VECTORS)
            && let Some(mailbox) = self.mailbox(processor.number)
        {
            mailbox.take_vectors(|vector, level| processor.apic.accept(vector, level));
        }
        if events.contains(Events::NMI) && !arrivals.init {
            processor.apic.accept_nmi();
        }
        if events.contains(Events::EXTERNAL) {
            processor.apic.accept_external();
        }
        if events.contains(Events::POSTED) {
            processor.take_posted();
        }
        if events.contains(Events::PIN) {
            processor.apic.set_lint0(self.interconnect.pin());
        }
        arrivals
    }

    /// What the next entry of a processor does about interrupts and NMIs. What is injected counts as taken.
    #[inline]
    pub fn arbitrate(&self, processor: &mut Processor, readiness: Readiness) -> Arbitration {
        if processor.has_work() { self.arbitrate_pending(processor, readiness) } else { Arbitration::default() }
    }

    fn arbitrate_pending(&self, processor: &mut Processor, readiness: Readiness) -> Arbitration {
        let mut result = Arbitration::default();
        let pending = processor.apic.pending();
        if processor.apic.is_nmi_pending() {
            if readiness.nmi() {
                processor.apic.take_nmi();
                result.injection = Arbitration::nmi();
            } else {
                result.nmi_window = true;
            }
        }
        if pending == Pending::None {
            return result;
        }
        if result.injection != 0 || !readiness.interrupts() {
            result.interrupt_window = true;
            return result;
        }
        let vector = if pending == Pending::External {
            processor.apic.acknowledge_external();
            let vector = self.with_platform(processor.number, |platform, courier| platform.acknowledge_pic(courier));
            processor.apic.set_lint0(self.interconnect.pin());
            vector
        } else {
            processor.apic.acknowledge()
        };
        result.injection = Arbitration::external(vector);
        result.interrupt_window = processor.apic.pending() != Pending::None;
        self.interconnect.publish_priority(processor.number, processor.apic.processor_priority());
        result
    }

    /// Time at which a processor's thread must call [`advance`](Self::advance); `u64::MAX` for never.
    #[inline]
    pub fn deadline(&self, processor: &Processor) -> u64 {
        let own = processor.deadline();
        if processor.number == TIMEKEEPER { own.min(self.platform_deadline.load(Ordering::Relaxed)) } else { own }
    }

    /// Tells a processor's timer the time, and by processor 0's thread those of the shared devices.
    #[inline]
    pub fn advance(&self, processor: &mut Processor, now: u64) {
        if processor.deadline() <= now {
            processor.apic.advance(now);
        }
        if processor.number == TIMEKEEPER && self.platform_deadline.load(Ordering::Relaxed) <= now {
            self.with_platform(TIMEKEEPER, |platform, courier| platform.advance(now, courier));
        }
    }

    /// MOV to CR8.
    pub fn write_cr8(&self, by: &mut Processor, value: u64) -> Result<(), GeneralProtection> {
        by.write_cr8(value)?;
        self.interconnect.publish_priority(by.number, by.apic.processor_priority());
        Ok(())
    }

    /// Lets `act` use what takes the serial output.
    pub fn with_serial<R>(&self, act: impl FnOnce(&mut S) -> R) -> R {
        act(self.platform.lock().serial())
    }

    /// Characters that the serial port would take now.
    pub fn serial_room(&self) -> usize {
        self.platform.lock().serial_room()
    }

    /// A character arrives at the serial port; `false` if there is no room for it.
    pub fn receive(&self, by: &Processor, character: u8) -> bool {
        self.with_platform(by.number, move |platform, courier| platform.receive(character, courier))
    }

    /// The serial sink has room again.
    pub fn flush_serial(&self, by: &Processor) {
        self.with_platform(by.number, move |platform, courier| platform.flush_serial(courier));
    }

    /// Presses the power button: an operating system that listens shuts down.
    pub fn press_power_button(&self, by: &Processor) {
        self.with_platform(by.number, move |platform, courier| platform.press_power_button(courier));
    }

    /// Lets the owner of PCI function `index` tell it news (a request completed, ...), then carries its interrupts.
    pub fn with_function<R>(&self, by: &Processor, index: usize, tell: impl FnOnce(&mut F) -> R) -> Option<R> {
        self.with_platform(by.number, move |platform, courier| platform.with_function(index, courier, tell))
    }

    /// Who runs the processors.
    pub const fn host(&self) -> &H {
        &self.host
    }

    /// Changes whenever [`Self::posts_at`] may answer differently.
    #[inline]
    pub fn moves(&self) -> u64 {
        self.interconnect.moves()
    }

    /// The processor and vector to which a function's message leads, if it does nothing but post that vector.
    pub fn posts_at(&self, message: MsiMessage) -> Option<(usize, u8)> {
        let message = InterruptMessage::from_msi(message)?;
        Some((self.interconnect.posts_at(&message)?, message.vector))
    }

    /// The machine has ended: tells the threads of all processors but `by`.
    pub fn end(&self, by: &Processor) {
        let others = !(1 << by.number);
        self.wake(self.interconnect.post(others, Events::END));
    }
}

#[cfg(test)]
mod tests;
