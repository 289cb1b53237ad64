//! Tests of the machine as a whole, by what operating systems do with it.

use super::*;
use crate::devices::message::MsiMessage;
use crate::devices::pci::tests::Scratch;
use proptest::prelude::*;

mod facilities;

const TSC: u64 = 1_000_000_000;
const READY: Readiness = Readiness { rflags: 0x202, interruptibility: 0, occupied: false };

#[derive(Debug, Default)]
struct Text(Vec<u8>);

impl SerialSink for Text {
    fn send(&mut self, character: u8) -> bool {
        self.0.push(character);
        true
    }
}

/// Notes who was woken.
#[derive(Debug, Default)]
struct Woken(AtomicU64);

impl Host for Woken {
    fn wake(&self, processor: usize) {
        self.0.fetch_or(1 << processor, Ordering::Relaxed);
    }

    fn notify(&self, _: usize) {}

    fn relax() {
        core::hint::spin_loop();
    }

    fn cpuid(leaf: u32, _: u32) -> Leaf {
        match leaf {
            0 => [0x16, 0, 0, 0],
            0x8000_0000 => [0x8000_0008, 0, 0, 0],
            _ => [u32::MAX; 4],
        }
    }
}

/// A machine with the processors that its threads have.
struct Pc {
    machine: Machine<Scratch, Text, Woken>,
    processors: Vec<Processor>,
}

impl Pc {
    fn write_port(&mut self, port: u16, width: Width, value: u32, now: u64) -> Option<PowerEvent> {
        self.machine.write_port(&self.processors[0], port, width, value, now)
    }
    fn read_port(&mut self, port: u16, width: Width, now: u64) -> u32 {
        self.machine.read_port(&self.processors[0], port, width, now)
    }
    fn write_memory(&mut self, by: usize, address: u64, width: Width, value: u64, now: u64) {
        self.machine.write_memory(&mut self.processors[by], address, width, value, now);
    }
    fn read_memory(&mut self, by: usize, address: u64, width: Width, now: u64) -> u64 {
        self.machine.read_memory(&mut self.processors[by], address, width, now)
    }
    fn write_msr(&mut self, by: usize, index: u32, value: u64, now: u64) -> Result<MsrWrite, GeneralProtection> {
        self.machine.write_msr(&mut self.processors[by], index, value, now)
    }
    fn wake_up(&mut self, processor: usize) -> Option<Arrivals> {
        let events = self.machine.mailbox(processor).unwrap().take();
        let arrivals = self.machine.receive_events(&mut self.processors[processor], events);
        (arrivals != Arrivals::default()).then_some(arrivals)
    }
    fn arbitrate(&mut self, processor: usize, readiness: Readiness) -> Arbitration {
        self.wake_up(processor);
        self.machine.arbitrate(&mut self.processors[processor], readiness)
    }
    fn has_work(&mut self, processor: usize) -> bool {
        self.wake_up(processor);
        self.processors[processor].has_work()
    }
    fn deadline(&self) -> u64 {
        self.processors.iter().map(|processor| self.machine.deadline(processor)).fold(u64::MAX, u64::min)
    }
    fn advance(&mut self, now: u64) {
        for processor in &mut self.processors {
            self.machine.advance(processor, now);
        }
    }
    fn receive(&mut self, character: u8) -> bool {
        self.machine.receive(&self.processors[0], character)
    }
    fn with_function<R>(&mut self, tell: impl FnOnce(&mut Scratch) -> R) {
        self.machine.with_function(&self.processors[0], 0, tell);
    }
    /// All threads take what has arrived, and sleep.
    fn sleep(&mut self) {
        for processor in 0..self.processors.len() {
            self.wake_up(processor);
        }
        assert!(self.processors.iter().all(|processor| self.machine.mailbox(processor.number()).unwrap().sleep()));
        self.machine.host.0.store(0, Ordering::Relaxed);
    }
    fn woken(&self) -> u64 {
        self.machine.host.0.swap(0, Ordering::Relaxed)
    }
}

fn machine(processors: u32) -> Pc {
    let parameters = MachineParameters {
        platform: PlatformParameters {
            tsc_hertz: TSC,
            now: 0,
            unix_time: 1_700_000_000,
            memory_below: 256 << 20,
            memory_above: 0,
            processors,
            hpet: true,
        },
        cpuid: CpuidParameters {
            processors,
            tsc_hertz: TSC,
            xcr0_mask: 7,
            physical_address_bits: 40,
            x2apic: true,
            pcid: false,
            rdtscp: false,
            speculation_control: false,
            kvm_leaves: false,
            withheld: Default::default(),
        },
        msrs: Default::default(),
        microcode: 0,
    };
    let machine = Machine::new(&parameters, alloc::vec![Scratch::default()], Text::default(), Woken::default());
    let processors = (0..machine.processors()).filter_map(|number| machine.processor(number)).collect();
    Pc { machine, processors }
}

fn out(machine: &mut Pc, writes: &[(u16, u8)]) {
    for (port, value) in writes {
        assert_eq!(machine.write_port(*port, Width::Byte, u32::from(*value), 0), None);
    }
}

const INITIALISE_PIC: [(u16, u8); 10] = [
    (0x20, 0x11),
    (0x21, 0x30),
    (0x21, 4),
    (0x21, 1),
    (0xa0, 0x11),
    (0xa1, 0x38),
    (0xa1, 2),
    (0xa1, 1),
    (0x21, 0),
    (0xa1, 0),
];

fn redirect(machine: &mut Pc, input: u32, low: u32, high: u32) {
    for (select, value) in [(0x11 + 2 * input, high), (0x10 + 2 * input, low)] {
        machine.write_memory(0, 0xfec0_0000, Width::Dword, u64::from(select), 0);
        machine.write_memory(0, 0xfec0_0010, Width::Dword, u64::from(value), 0);
    }
}

#[test]
fn timer_through_the_8259a() {
    let mut machine = machine(1);
    out(&mut machine, &INITIALISE_PIC);
    out(&mut machine, &[(0x43, 0x34), (0x40, 0xa9), (0x40, 0x04)]);
    // The output rose when the mode was set: take that away.
    machine.arbitrate(0, READY);
    out(&mut machine, &[(0x20, 0x20)]);
    let deadline = machine.deadline();
    assert!(deadline < TSC / 900);
    machine.sleep();
    machine.advance(deadline);
    assert_eq!(machine.woken(), 1);
    let closed = machine.arbitrate(0, Readiness { rflags: 2, ..READY });
    assert_eq!(closed, Arbitration { injection: 0, interrupt_window: true, nmi_window: false });
    assert_eq!(machine.arbitrate(0, READY), Arbitration { injection: 0x8000_0030, ..Arbitration::default() });
    assert_eq!(machine.arbitrate(0, READY), Arbitration::default());
    out(&mut machine, &[(0x20, 0x20)]);
    assert!(machine.deadline() > deadline);
}

#[test]
fn timer_through_the_io_apic() {
    let mut machine = machine(1);
    machine.write_memory(0, 0xfee0_00f0, Width::Dword, 0x1ff, 0);
    redirect(&mut machine, 2, 0x30, 0);
    out(&mut machine, &[(0x43, 0x34), (0x40, 0xa9), (0x40, 0x04)]);
    machine.advance(TSC / 500);
    assert_eq!(machine.arbitrate(0, READY).injection, 0x8000_0030);
    machine.write_memory(0, 0xfee0_00b0, Width::Dword, 0, 0);
    machine.advance(TSC / 100);
    assert_eq!(machine.arbitrate(0, READY).injection, 0x8000_0030);
}

#[test]
fn serial_console() {
    let mut machine = machine(1);
    machine.write_memory(0, 0xfee0_00f0, Width::Dword, 0x1ff, 0);
    redirect(&mut machine, 4, 0x34, 0);
    out(&mut machine, &[(0x3f8, b'h'), (0x3f8, b'i'), (0x3fa, 0x07), (0x3fc, 0x0b), (0x3f9, 0x01)]);
    machine.machine.with_serial(|text| assert_eq!(text.0, b"hi"));
    assert!(!machine.has_work(0));
    assert_eq!(machine.machine.serial_room(), 16);
    assert!(machine.receive(b'x'));
    assert_eq!(machine.arbitrate(0, READY).injection, 0x8000_0034);
    assert_eq!(machine.read_port(0x3f8, Width::Byte, 0), u32::from(b'x'));
}

#[test]
fn pci_interrupts_by_pin_and_by_message() {
    let mut machine = machine(1);
    machine.write_memory(0, 0xfee0_00f0, Width::Dword, 0x1ff, 0);
    redirect(&mut machine, 11, 0xa051, 0);
    machine.write_port(0xc008, Width::Dword, 1, 0);
    assert_eq!(machine.arbitrate(0, READY).injection, 0x8000_0051);
    machine.write_memory(0, 0xfee0_00b0, Width::Dword, 0, 0);
    assert_eq!(machine.arbitrate(0, READY).injection, 0x8000_0051, "the pin is still asserted");
    assert_eq!(machine.read_memory(0, 0xe000_0000, Width::Dword, 0), 1);
    machine.write_memory(0, 0xfee0_00b0, Width::Dword, 0, 0);
    assert_eq!(machine.arbitrate(0, READY).injection, 0);
    machine.with_function(|function| function.message = Some(MsiMessage { address: 0xfee0_0000, data: 0x61 }));
    assert_eq!(machine.arbitrate(0, READY).injection, 0x8000_0061);
}

#[test]
fn processors_start_each_other() {
    let mut machine = machine(2);
    machine.write_memory(0, 0xfee0_0310, Width::Dword, 0x0100_0000, 0);
    machine.sleep();
    machine.write_memory(0, 0xfee0_0300, Width::Dword, 0xc500, 0);
    machine.write_memory(0, 0xfee0_0300, Width::Dword, 0x069a, 0);
    assert_eq!(machine.woken(), 2, "once");
    assert_eq!(machine.wake_up(1), Some(Arrivals { init: true, startup: Some(0x9a), end: false }));
    assert_eq!(machine.wake_up(1), None);
    assert_eq!(machine.read_memory(1, 0xfee0_0020, Width::Dword, 0), 1 << 24);
}

#[test]
fn x2apic_timer() {
    let mut machine = machine(1);
    assert_eq!(machine.write_msr(0, 0x1b, 0xfee0_0d00, 0), Ok(MsrWrite::ApicBase));
    for (index, value) in [(0x80f, 0x1ff), (0x832, 0x400ec), (0x6e0, 5000)] {
        assert_eq!(machine.write_msr(0, index, value, 100), Ok(MsrWrite::Done));
    }
    assert_eq!(machine.deadline(), 5000);
    machine.advance(5000);
    assert_eq!(machine.arbitrate(0, READY).injection, 0x8000_00ec);
    assert_eq!(machine.deadline(), u64::MAX);
    assert_eq!(machine.write_msr(0, 0x80b, 0, 5000), Ok(MsrWrite::Done));
    assert_eq!(machine.read_memory(0, 0xfee0_0020, Width::Dword, 0), 0xffff_ffff, "no page any more");
}

#[test]
fn power() {
    let mut machine = machine(1);
    assert_eq!(machine.write_port(0x604, Width::Word, 0x3401, 0), Some(PowerEvent::Off));
    assert_eq!(machine.write_port(0xcf9, Width::Byte, 6, 0), Some(PowerEvent::Reset));
    assert_eq!(machine.write_port(0x64, Width::Byte, 0xfe, 0), Some(PowerEvent::Reset));
    assert_eq!(machine.write_port(0xf4, Width::Dword, 0x1_0003, 0), Some(PowerEvent::Exit(0x1_0003)));
    assert_eq!(machine.write_port(0xf4, Width::Byte, 3, 0), Some(PowerEvent::Exit(3)));
    assert_eq!(machine.read_port(0x608, Width::Dword, TSC), 3_579_545);
    redirect(&mut machine, 9, 0x8039, 0);
    machine.write_memory(0, 0xfee0_00f0, Width::Dword, 0x1ff, 0);
    machine.machine.press_power_button(&machine.processors[0]);
    assert!(!machine.has_work(0));
    machine.write_port(0x602, Width::Word, 0x100, 0);
    assert_eq!(machine.arbitrate(0, READY).injection, 0x8000_0039);
}

#[test]
fn unclaimed_accesses() {
    let mut machine = machine(1);
    assert_eq!(machine.read_port(0x80, Width::Byte, 0), 0xff);
    assert_eq!(machine.read_port(0x2f8, Width::Word, 0), 0xffff);
    assert_eq!(machine.read_port(0xd000, Width::Dword, 0), 0xffff_ffff);
    assert_eq!(machine.read_memory(0, 0xd000_0000, Width::Qword, 0), u64::MAX);
    machine.write_port(0x80, Width::Byte, 0, 0);
    machine.write_port(0xcf8, Width::Dword, 0x8000_0800, 0);
    assert_eq!(machine.read_port(0xcf8, Width::Dword, 0), 0x8000_0800);
    assert_eq!(machine.read_port(0xcfc, Width::Dword, 0), 0);
}

#[test]
fn nmi_and_interrupt_together() {
    let mut machine = machine(2);
    machine.write_memory(0, 0xfee0_00f0, Width::Dword, 0x1ff, 0);
    machine.write_memory(1, 0xfee0_00f0, Width::Dword, 0x1ff, 0);
    machine.write_memory(1, 0xfee0_0300, Width::Dword, 0x000c_0400, 0);
    machine.write_memory(1, 0xfee0_0300, Width::Dword, 0x000c_0041, 0);
    let blocked = machine.arbitrate(0, Readiness { interruptibility: 8, rflags: 2, ..READY });
    assert_eq!(blocked, Arbitration { injection: 0, interrupt_window: true, nmi_window: true });
    let first = machine.arbitrate(0, READY);
    assert_eq!(first, Arbitration { injection: 0x8000_0202, interrupt_window: true, nmi_window: false });
    assert_eq!(machine.arbitrate(0, READY).injection, 0x8000_0041);
}

proptest! {
    #[test]
    fn any_guest_is_survived(
        steps in proptest::collection::vec((0u8..10, any::<u16>(), 0usize..4, any::<u64>(), 0u64..1 << 34), 0..400),
    ) {
        let mut machine = machine(3);
        let widths = [Width::Byte, Width::Word, Width::Dword, Width::Qword];
        let mut now = 0u64;
        for (action, place, choice, value, step) in steps {
            now += step;
            let width = widths[choice];
            let processor = choice % 3;
            match action {
                0 => { machine.read_port(place, width, now); }
                1 => { machine.write_port(place, width, value as u32, now); }
                // Ports below 0x800 have most devices.
                2 => { machine.read_port(place & 0x7ff, width, now); }
                3 => { machine.write_port(place & 0x7ff, width, value as u32, now); }
                4 => { machine.read_memory(processor, 0xfec0_0000 | value & 0x20_0fff, width, now); }
                5 => machine.write_memory(processor, 0xfec0_0000 | u64::from(place) & 0xff0 | (value & 1) << 21, width, value >> 32, now),
                6 => { let _ = machine.write_msr(processor, u32::from(place & 0xfff), value, now); }
                7 => { machine.receive(value as u8); }
                8 => { machine.with_function(|function| function.message = Some(MsiMessage { address: 0xfee0_0000 | value & 0xf_ffff, data: value as u32 })); }
                _ => { let _ = machine.machine.write_cr8(&mut machine.processors[processor], value & 31); }
            }
            machine.advance(now);
            prop_assert!(machine.deadline() > now);
            for processor in 0..3 {
                let readiness = Readiness { rflags: value, interruptibility: (value >> 20) as u32 & 0xf, occupied: value >> 40 & 1 == 1 };
                let arbitration = machine.arbitrate(processor, readiness);
                if arbitration.injection & 0x8000_0700 == 0x8000_0000 {
                    prop_assert!(readiness.interrupts());
                }
            }
        }
    }
}
