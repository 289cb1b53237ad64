//! The console service: owns the UART and multiplexes it.
//!
//! Its environment names the UART (a range of eight ports and an interrupt) and a text or serial channel for each partition that
//! may print; whoever is at the other end is printed before its lines. If it also names the ports that switch the machine off, the
//! service does so when init asks, once all is printed. It must never interpret what partitions print.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod power;

use bulkhead_console::{Client, Multiplexer, Registers, Uart};
use bulkhead_runtime::abi::NO_DEADLINE;
use bulkhead_runtime::peer::{PeerError, TextLink};
use bulkhead_runtime::plan::ChannelKind;
use bulkhead_runtime::ports::PortRange;
use bulkhead_runtime::program::{Channel, DeviceInterrupt};
use bulkhead_runtime::status::Command;
use bulkhead_runtime::{Program, die, entry, events, time};

entry!(main);

/// How long to wait at most for the UART's interrupt while output waits, in milliseconds.
const TRANSMIT_PATIENCE: u64 = 5;

/// How long to send at most before the machine is switched off, in milliseconds.
const DRAIN_PATIENCE: u64 = 3_000;

/// Name of the partition that builds the others.
const INIT: &str = "init";

/// The UART's ports. A port outside the range reads as all ones.
struct UartPorts(PortRange);

impl Registers for UartPorts {
    fn read(&self, offset: u16) -> u8 {
        self.0.read_u8(offset).unwrap_or(u8::MAX)
    }

    fn write(&self, offset: u16, value: u8) {
        // The range has eight ports; a manifest with fewer has no UART.
        let _ = self.0.write_u8(offset, value);
    }
}

/// The channel of a partition.
struct Partition {
    link: TextLink,
    label: &'static str,
    /// The last byte that came ended a line.
    at_start: bool,
}

impl Client for Partition {
    fn label(&self) -> &str {
        self.label
    }

    fn echoes(&self) -> bool {
        self.link.channel().entry.kind == ChannelKind::Serial
    }

    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        let received = match self.link.receive(buffer) {
            Ok(length) => buffer.get(..length).unwrap_or_default(),
            // The line that the former life left open ends here.
            Err(PeerError::PeerRestarted { generation }) if !self.at_start => {
                self.link.acknowledge(generation);
                buffer.iter_mut().take(1).for_each(|byte| *byte = b'\n');
                buffer.get(..1).unwrap_or_default()
            }
            Err(PeerError::PeerRestarted { generation }) => {
                self.link.acknowledge(generation);
                return self.receive(buffer);
            }
            Err(PeerError::PeerFailed) => return 0,
        };
        if let Some(last) = received.last() {
            self.at_start = *last == b'\n';
        }
        received.len()
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        // A partition that was started anew hears what is typed once its channel has been read.
        self.link.send(bytes).unwrap_or_default()
    }
}

fn main(program: Program) {
    let mut devices = program.environment().ports().map(|ports| ports.name);
    let Some(device) = devices.find(|device| *device != power::DEVICE) else { die("the console service has no UART") };
    let Some(ports) = program.ports(device, 0) else { die("the console service has no UART") };
    let interrupt = program.interrupt(device);
    let mut uart = Uart::start(UartPorts(ports));
    let mut terminal = Multiplexer::new();
    add_clients(&program, &mut terminal);
    serve(&program, &mut uart, interrupt, &mut terminal)
}

/// Adds all text and serial channels, guests first. What is typed goes to the first guest, or else to the first partition that
/// is not init, which listens to nobody.
fn add_clients(program: &Program, terminal: &mut Multiplexer<Partition>) {
    let (mut count, mut chosen) = (0, None);
    for kind in [ChannelKind::Serial, ChannelKind::Text] {
        for channel in program.channels().filter(|channel| channel.entry.kind == kind) {
            let label = label(&channel);
            let Some(link) = TextLink::new(program, channel) else { continue };
            let partition = Partition { link, label, at_start: true };
            if terminal.add(partition).is_ok() {
                if chosen.is_none() && label != INIT {
                    chosen = Some(count);
                }
                count += 1;
            } else {
                terminal.announce(&["console| too many partitions; not shown: ", label]);
            }
        }
    }
    terminal.choose(chosen.unwrap_or(0));
}

/// What a channel's lines begin with: its own name if that begins with the peer's, as the manifest's consoles are named; otherwise
/// the peer's, so that nobody can choose to look like somebody else.
fn label(channel: &Channel) -> &'static str {
    let (name, peer) = (channel.entry.name, channel.entry.peer);
    match name.strip_prefix(peer) {
        Some(rest) if rest.is_empty() || rest.starts_with('-') => name,
        _ => peer,
    }
}

fn now() -> u64 {
    time::to_microseconds(time::now()) / 1000
}

fn serve(
    program: &Program,
    uart: &mut Uart<UartPorts>,
    interrupt: Option<DeviceInterrupt>,
    terminal: &mut Multiplexer<Partition>,
) {
    loop {
        uart.receive(|byte| terminal.type_byte(byte));
        loop {
            terminal.pump(now());
            if !uart.transmit(|| terminal.next_output()) {
                break;
            }
        }
        uart.want_empty(!terminal.is_quiet());
        let patience = (!terminal.is_quiet()).then(|| now().saturating_add(TRANSMIT_PATIENCE));
        let deadline = [patience, terminal.deadline()].into_iter().flatten().min();
        let signals = events::wait(deadline.map_or(NO_DEADLINE, |at| time::milliseconds(at + 1)));
        if program.status().is_some_and(|status| status.command() == Command::PowerOff) {
            drain(uart, terminal);
            power::off(program);
        }
        if let Some(interrupt) = &interrupt
            && signals & interrupt.signal != 0
        {
            interrupt.attend(|| uart.on_interrupt(|byte| terminal.type_byte(byte)));
        }
    }
}

/// Sends what everybody has printed, incomplete lines too, as long as it takes but not for ever.
fn drain(uart: &mut Uart<UartPorts>, terminal: &mut Multiplexer<Partition>) {
    uart.want_empty(false);
    let limit = now().saturating_add(DRAIN_PATIENCE);
    while now() < limit {
        terminal.pump(u64::MAX);
        uart.transmit(|| terminal.next_output());
        if terminal.is_quiet() && uart.is_drained() {
            return;
        }
    }
}
