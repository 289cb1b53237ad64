//! An IDE controller, its drive and a clock, in memory.
#![allow(dead_code, reason = "not every test file uses everything")]

use bulkhead_driver::Clock;
use bulkhead_ide::{Bank, Ports};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub const TABLE_PHYSICAL: u64 = 0x2_0000;
pub const TABLE_ENTRIES: usize = 32;
pub const DRIVE_SECTORS: u64 = 0x1000_0400;

/// How the controller misbehaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    None,
    /// The drive reports an error at once.
    Drive,
    /// The controller reports a bus error.
    Bus,
    /// Nothing ever comes back, not even after a reset if it is `true`.
    Silence(bool),
    /// The work is done but the interrupt is lost.
    LostInterrupt,
}

/// A transfer between drive and memory.
#[derive(Clone, Debug)]
pub struct Transfer {
    pub to_memory: bool,
    pub first_sector: u64,
    pub sectors: u64,
    /// Address and length of each piece of memory.
    pub memory: Vec<(u64, u64)>,
}

pub struct Controller {
    pub now: u64,
    pub fault: Fault,
    pub lba48: bool,
    pub drive_present: bool,
    pub identify: [u16; 256],
    identify_at: Option<usize>,
    /// Each register of the task file: the value written last, and the one before.
    file: [[u8; 2]; 8],
    status: u8,
    control: u8,
    master_command: u8,
    master_status: u8,
    master_table: u32,
    pending: Option<u8>,
    pub interrupt: bool,
    /// Physical memory by page.
    pub memory: HashMap<u64, Vec<u8>>,
    /// The drive by sector; zero where nothing was written.
    pub sectors: HashMap<u64, Vec<u8>>,
    pub commands: Vec<u8>,
    /// What the controller moved.
    pub transfers: Vec<Transfer>,
    pub resets: usize,
    pci_address: u32,
    /// Configuration space of function 0:1.1.
    pub pci: [u32; 16],
    /// The memory of the descriptors.
    table: &'static [AtomicU64],
}

impl Controller {
    pub fn new(lba48: bool) -> Self {
        let mut identify = [0; 256];
        identify[0] = 0x40;
        identify[49] = 0x300;
        identify[60] = 0xffff;
        identify[61] = 0x0fff;
        if lba48 {
            identify[83] = 0x7400;
            identify[100] = DRIVE_SECTORS as u16;
            identify[101] = (DRIVE_SECTORS >> 16) as u16;
        } else {
            identify[83] = 0x5000;
        }
        for (word, pair) in identify[27..47].iter_mut().zip(b"BULKHEAD TEST DRIVE                     ".chunks(2)) {
            *word = u16::from_be_bytes([pair[0], pair[1]]);
        }
        let mut pci = [0; 16];
        pci[0] = 0x7010_8086;
        pci[1] = 0x0280_0001;
        pci[2] = 0x0101_8000;
        let table = (0..TABLE_ENTRIES).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak();
        Self {
            now: 0,
            fault: Fault::None,
            lba48,
            drive_present: true,
            identify,
            identify_at: None,
            file: [[0; 2]; 8],
            status: 0x50,
            control: 0,
            master_command: 0,
            master_status: 0x60,
            master_table: 0,
            pending: None,
            interrupt: false,
            memory: HashMap::new(),
            sectors: HashMap::new(),
            commands: Vec::new(),
            transfers: Vec::new(),
            resets: 0,
            pci_address: 0,
            pci,
            table,
        }
    }

    pub fn poke(&mut self, address: u64, byte: u8) {
        self.memory.entry(address / 4096).or_insert_with(|| vec![0; 4096])[(address % 4096) as usize] = byte;
    }

    pub fn peek(&self, address: u64) -> u8 {
        self.memory.get(&(address / 4096)).map_or(0, |page| page[(address % 4096) as usize])
    }

    fn raise(&mut self) {
        if self.control & 2 == 0 && self.fault != Fault::LostInterrupt {
            self.interrupt = true;
        }
        self.master_status |= 4;
    }

    fn command(&mut self, command: u8) {
        self.commands.push(command);
        self.interrupt = false;
        if matches!(self.fault, Fault::Silence(_)) {
            self.status = 0x80;
            return;
        }
        match command {
            0xec => {
                self.identify_at = Some(0);
                self.status = 0x58;
                self.raise();
            }
            _ if self.fault == Fault::Drive => {
                self.status = 0x51;
                self.raise();
            }
            0xc8 | 0xca | 0x25 | 0x35 => {
                assert!(self.lba48 || command >= 0x80);
                self.pending = Some(command);
                self.status = 0x58;
                self.run();
            }
            0xe7 | 0xea => {
                assert_eq!(command == 0xea, self.lba48);
                self.status = 0x50;
                self.raise();
            }
            other => panic!("command {other:#x}"),
        }
    }

    /// Moves the data once both the command and the start bit are there.
    fn run(&mut self) {
        let Some(command) = self.pending else { return };
        if self.master_command & 1 == 0 {
            return;
        }
        self.pending = None;
        let byte = |register: usize, old: usize| u64::from(self.file[register][old]);
        let (start, count) = if command < 0x80 {
            assert_eq!(self.file[6][0] & 0x50, 0x40);
            let low = byte(3, 0) | byte(4, 0) << 8 | byte(5, 0) << 16;
            let high = byte(3, 1) << 24 | byte(4, 1) << 32 | byte(5, 1) << 40;
            let count = byte(2, 0) | byte(2, 1) << 8;
            (low | high, if count == 0 { 65536 } else { count })
        } else {
            let low = byte(3, 0) | byte(4, 0) << 8 | byte(5, 0) << 16;
            let count = byte(2, 0);
            (low | (byte(6, 0) & 0xf) << 24, if count == 0 { 256 } else { count })
        };
        let to_memory = matches!(command, 0xc8 | 0x25);
        assert_eq!(self.master_command & 8 != 0, to_memory, "direction");
        assert_eq!(u64::from(self.master_table), TABLE_PHYSICAL);
        if self.fault == Fault::Bus {
            self.master_status |= 2;
            self.status = 0x50;
            return self.raise();
        }
        let mut at = 0;
        let mut memory = Vec::new();
        for entry in self.table {
            let value = entry.load(Relaxed);
            let address = value & 0xffff_ffff;
            let length = match value >> 32 & 0xffff {
                0 => 0x1_0000,
                length => length,
            };
            assert!(address % 2 == 0 && length % 2 == 0 && address % 0x1_0000 + length <= 0x1_0000);
            memory.push((address, length));
            for offset in 0..length {
                let (sector, index) = (start + at / 512, (at % 512) as usize);
                if to_memory {
                    let byte = self.sectors.get(&sector).map_or(0, |data| data[index]);
                    self.poke(address + offset, byte);
                } else {
                    let byte = self.peek(address + offset);
                    self.sectors.entry(sector).or_insert_with(|| vec![0; 512])[index] = byte;
                }
                at += 1;
            }
            if value >> 63 != 0 {
                break;
            }
        }
        assert_eq!(at, count * 512, "the table describes the transfer exactly");
        self.transfers.push(Transfer { to_memory, first_sector: start, sectors: count, memory });
        self.status = 0x50;
        self.raise();
    }
}

/// The ports of a shared controller.
#[derive(Clone)]
pub struct Bus(pub Rc<RefCell<Controller>>);

impl Bus {
    pub fn new(lba48: bool) -> Self {
        Self(Rc::new(RefCell::new(Controller::new(lba48))))
    }

    pub fn table(&self) -> &'static [AtomicU64] {
        self.0.borrow().table
    }
}

impl Clock for Bus {
    fn milliseconds(&self) -> u64 {
        let mut controller = self.0.borrow_mut();
        controller.now += 1;
        controller.now
    }
}

impl Ports for Bus {
    fn read_u8(&self, bank: Bank, offset: u16) -> u8 {
        let mut controller = self.0.borrow_mut();
        match (bank, offset) {
            (Bank::Command | Bank::Control, _) if !controller.drive_present => 0xff,
            (Bank::Command, 7) => {
                controller.interrupt = false;
                controller.status
            }
            (Bank::Control, 0) => controller.status,
            (Bank::Command, register) => controller.file[usize::from(register)][0],
            (Bank::BusMaster, 0) => controller.master_command,
            (Bank::BusMaster, 2) => controller.master_status,
            other => panic!("read of 8 bits at {other:?}"),
        }
    }

    fn read_u16(&self, bank: Bank, offset: u16) -> u16 {
        assert_eq!((bank, offset), (Bank::Command, 0));
        let mut controller = self.0.borrow_mut();
        let at = controller.identify_at.expect("data without a request");
        controller.identify_at = (at < 255).then_some(at + 1);
        if at == 255 {
            controller.status = 0x50;
        }
        controller.identify[at]
    }

    fn read_u32(&self, bank: Bank, offset: u16) -> u32 {
        assert_eq!((bank, offset), (Bank::Configuration, 4));
        let controller = self.0.borrow();
        match controller.pci_address & 0xffff_ff00 {
            // The bridge, a device of several functions.
            0x8000_0800 => [0x7000_8086, 0, 0x0601_0000, 0x80_0000][(controller.pci_address as usize & 0xff) / 4 % 4],
            0x8000_0900 => controller.pci[(controller.pci_address as usize & 0xff) / 4],
            _ => u32::MAX,
        }
    }

    fn write_u8(&self, bank: Bank, offset: u16, value: u8) {
        let mut controller = self.0.borrow_mut();
        match (bank, offset) {
            (Bank::Command, 7) => controller.command(value),
            (Bank::Command, register) => {
                let file = &mut controller.file[usize::from(register)];
                *file = [value, file[0]];
            }
            (Bank::Control, 0) => {
                if controller.control & 4 != 0 && value & 4 == 0 {
                    controller.resets += 1;
                    controller.pending = None;
                    controller.interrupt = false;
                    if controller.fault != Fault::Silence(true) {
                        controller.status = 0x50;
                        controller.fault = Fault::None;
                    }
                }
                controller.control = value;
            }
            (Bank::BusMaster, 0) => {
                controller.master_command = value;
                controller.run();
            }
            (Bank::BusMaster, 2) => controller.master_status &= !(value & 6),
            other => panic!("write of 8 bits at {other:?}"),
        }
    }

    fn write_u32(&self, bank: Bank, offset: u16, value: u32) {
        let mut controller = self.0.borrow_mut();
        match (bank, offset) {
            (Bank::BusMaster, 4) => controller.master_table = value,
            (Bank::Configuration, 0) => controller.pci_address = value,
            (Bank::Configuration, 4) => {
                assert_eq!(controller.pci_address & 0xffff_ff00, 0x8000_0900);
                let register = (controller.pci_address as usize & 0xff) / 4;
                match register {
                    1 => controller.pci[1] = controller.pci[1] & 0xffff_0000 | value & 0xffff,
                    8 => controller.pci[8] = value & 0xfff0 | 1,
                    other => panic!("write to register {other}"),
                }
            }
            other => panic!("write of 32 bits at {other:?}"),
        }
    }
}
