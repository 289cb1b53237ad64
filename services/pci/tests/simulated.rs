//! Finding and describing functions in a simulated configuration space: sound ones, and ones that lie.

use bulkhead_pci::capability::{self, Message, Messages};
use bulkhead_pci::function::{self, COMMAND_BUS_MASTER, COMMAND_NO_PIN};
use bulkhead_pci::mcfg::{self, LOOKED_AT, Place};
use bulkhead_pci::{Address, Bar, ConfigurationSpace, Identity, bar, matching, scan};
use bulkhead_plan::{DeviceSelector, MsixTable};
use proptest::prelude::*;
use std::{cell::RefCell, collections::BTreeMap};

/// A function: its registers, and which of their bits can be written.
#[derive(Clone)]
struct Function {
    registers: [u32; 64],
    writable: [u32; 64],
}

impl Function {
    fn new(identifier: u32, class: u32, header: u8) -> Self {
        let mut function = Self { registers: [0; 64], writable: [0; 64] };
        function.registers[0] = identifier;
        function.registers[2] = class << 8;
        function.registers[3] = u32::from(header) << 16;
        function.writable[1] = 0x0000_0547;
        function
    }

    fn with_bar(mut self, index: usize, value: u32, writable: u32) -> Self {
        self.registers[4 + index] = value;
        self.writable[4 + index] = writable;
        self
    }

    /// Puts words at a register of the capability list and links it to the next.
    fn with_capability(mut self, register: usize, words: &[u32]) -> Self {
        self.registers[1] |= 1 << 20;
        if self.registers[13] == 0 {
            self.registers[13] = register as u32;
        }
        for (index, word) in words.iter().enumerate() {
            self.registers[register / 4 + index] = *word;
            self.writable[register / 4 + index] = if index == 0 { 0xffff_0000 } else { u32::MAX };
        }
        self
    }
}

#[derive(Default)]
struct Space(RefCell<BTreeMap<u16, Function>>);

impl Space {
    fn with(self, address: u16, function: Function) -> Self {
        self.0.borrow_mut().insert(address, function);
        self
    }

    fn register(&self, address: u16, register: usize) -> u32 {
        self.0.borrow()[&address].registers[register / 4]
    }
}

impl ConfigurationSpace for Space {
    fn read(&self, function: Address, register: u8) -> u32 {
        self.0.borrow().get(&function.0).map_or(u32::MAX, |one| one.registers[usize::from(register) / 4])
    }

    fn write(&self, function: Address, register: u8, value: u32) {
        if let Some(one) = self.0.borrow_mut().get_mut(&function.0) {
            let index = usize::from(register) / 4;
            one.registers[index] = one.registers[index] & !one.writable[index] | value & one.writable[index];
        }
    }
}

fn all(space: &Space) -> Vec<Identity> {
    let mut found = Vec::new();
    scan::functions(space, |identity| found.push(identity));
    found
}

const NVME: u32 = 0x0010_1b36;
const BRIDGE: u32 = 0x0001_1111;
const DEVICE: Address = Address(0x80);

#[test]
fn functions_behind_bridges_and_in_one_device_are_found() {
    let space = Space::default()
        .with(0x0000, Function::new(BRIDGE, 0x06_0000, 0))
        .with(0x0008, Function::new(BRIDGE, 0x06_0400, 1))
        .with(0x0010, Function::new(NVME, 0x01_0802, 0x80))
        .with(0x0013, Function::new(NVME, 0x01_0802, 0))
        .with(0x0019, Function::new(NVME, 0x01_0802, 0))
        .with(0xfff8, Function::new(NVME, 0x01_0802, 0));
    let found: Vec<_> = all(&space).iter().map(|identity| identity.address.0).collect();
    // The one at 0x19 is no first function, and no first function says that there are more.
    assert_eq!(found, [0x0000, 0x0008, 0x0010, 0x0013, 0xfff8]);
    assert_eq!(Address(0xfffb).to_string(), "ff:1f.3");
}

#[test]
fn devices_are_matched_in_order_and_once() {
    let space = Space::default()
        .with(0x0008, Function::new(NVME, 0x06_0400, 1))
        .with(0x0010, Function::new(NVME, 0x01_0802, 0))
        .with(0x0018, Function::new(NVME, 0x01_0802, 0));
    let functions = all(&space);
    let by_class = (DeviceSelector::Class, [0x01_0802, 0]);
    let by_address = (DeviceSelector::Address, [0x10, 0]);
    let by_identifier = (DeviceSelector::Identifier, [0x1234_5678, NVME]);
    let chosen: [_; 4] = matching::choose(&functions, &[by_class, by_address, by_identifier, by_class]);
    let places = chosen.map(|identity| identity.map(|identity| identity.address.0));
    assert_eq!(places, [Some(0x18), Some(0x10), None, None]);
    // A bridge is never handed out.
    let bridge: [_; 1] = matching::choose(&functions, &[(DeviceSelector::Address, [0x08, 0])]);
    assert_eq!(bridge, [None]);
}

#[test]
fn bars_are_sized_and_restored() {
    let device = Function::new(NVME, 0x01_0802, 0)
        .with_bar(0, 0xfebf_0004, 0xffff_c000)
        .with_bar(1, 0x0000_0001, u32::MAX)
        .with_bar(2, 0x0000_c041, 0x0000_ffe0)
        .with_bar(3, 0xfeb0_0000, 0xfffe_0000)
        .with_bar(4, 0x0000_0000, 0xffff_f000);
    let space = Space::default().with(DEVICE.0, device);
    function::change_command(&space, DEVICE, 3, 0);
    let bars = bar::read(&space, DEVICE);
    assert_eq!(bars[0], Some(Bar::Memory { address: 0x1_febf_0000, size: 0x4000 }));
    assert_eq!(bars[1], None);
    assert_eq!(bars[2], Some(Bar::Ports { first: 0xc040, count: 32 }));
    assert_eq!(bars[3], Some(Bar::Memory { address: 0xfeb0_0000, size: 0x2_0000 }));
    // One that firmware has given no address.
    assert_eq!(bars[4], None);
    assert_eq!([0x10, 0x14, 0x18].map(|register| space.register(DEVICE.0, register)), [0xfebf_0004, 1, 0xc041]);
    assert_eq!(function::command(&space, DEVICE), 0, "it decodes nothing until it is handed out");
}

#[test]
fn impossible_bars_are_left_out() {
    let device = Function::new(NVME, 0x01_0802, 0)
        // Bits that can be written with a hole between them.
        .with_bar(0, 0xf000_0000, 0xf0ff_0000)
        // An address that is no multiple of the size.
        .with_bar(1, 0xf000_1000, 0xffff_0000)
        // 64 bits in the last register.
        .with_bar(5, 0xfebf_0004, 0xffff_c000);
    // The second one keeps a bit that its size says it has not.
    let space = Space::default().with(DEVICE.0, device);
    assert_eq!(bar::read(&space, DEVICE), [None; 6]);
}

#[test]
fn message_tables_are_preferred_and_enabled() {
    let device = Function::new(NVME, 0x01_0802, 0)
        .with_bar(0, 0xfebf_0000, 0xffff_c000)
        .with_capability(0x40, &[0x0000_5005, 0, 0, 0])
        .with_capability(0x50, &[0x0040_0011, 0x2000, 0x3000]);
    let space = Space::default().with(DEVICE.0, device);
    let bars = bar::read(&space, DEVICE);
    let messages = capability::messages(&space, DEVICE, &bars).expect("messages");
    assert_eq!(messages, Messages::Msix { register: 0x50, table: MsixTable { bar: 0, offset: 0x2000, entries: 65 } });
    messages.enable(&space, DEVICE, Message { address: 0xfee0_0000, data: 0x50 });
    assert_eq!(space.register(DEVICE.0, 0x50) >> 30, 2);
    capability::disable(&space, DEVICE);
    assert_eq!(space.register(DEVICE.0, 0x50) >> 30, 0);
}

#[test]
fn one_message_is_written_where_it_belongs() {
    for (control, data) in [(0x0070_0005, 0x48), (0x00f0_0005, 0x4c)] {
        let device = Function::new(NVME, 0x01_0601, 0).with_capability(0x40, &[control, 0, 0, 0, 0, 0]);
        let space = Space::default().with(DEVICE.0, device);
        let messages = capability::messages(&space, DEVICE, &[None; 6]).expect("messages");
        assert_eq!(messages.count(), 1);
        messages.enable(&space, DEVICE, Message { address: 0xfee0_1000, data: 0x8e });
        assert_eq!(space.register(DEVICE.0, 0x44), 0xfee0_1000);
        assert_eq!(space.register(DEVICE.0, data), 0x8e);
        assert_eq!(space.register(DEVICE.0, 0x40) >> 16 & 0x71, 1, "enabled, one message");
    }
}

#[test]
fn tables_outside_their_bars_are_none() {
    for place in [0x3ff8, 0x0001, 0xffff_fff8, 0x0006] {
        let device = Function::new(NVME, 0x01_0802, 0)
            .with_bar(0, 0xfebf_0000, 0xffff_c000)
            .with_capability(0x50, &[0x0040_0011, place, 0]);
        let space = Space::default().with(DEVICE.0, device);
        let bars = bar::read(&space, DEVICE);
        assert_eq!(capability::messages(&space, DEVICE, &bars), None, "{place:#x}");
    }
}

#[test]
fn loops_of_capabilities_end() {
    let device = Function::new(NVME, 0, 0).with_capability(0x40, &[0x4409]).with_capability(0x44, &[0x4009]);
    let space = Space::default().with(DEVICE.0, device);
    assert_eq!(capability::find(&space, DEVICE, 0x05), None);
    let device = Function::new(NVME, 0, 0).with_capability(0x40, &[0x0409]);
    let space = Space::default().with(DEVICE.0, device);
    assert_eq!(capability::find(&space, DEVICE, 0x05), None, "a pointer into the header");
}

#[test]
fn all_but_bridges_are_silenced() {
    let mut device = Function::new(NVME, 0x01_0802, 0);
    device.registers[1] = 0xf900_0007;
    let mut bridge = Function::new(BRIDGE, 0x06_0400, 1);
    bridge.registers[1] = 7;
    let mut ide = Function::new(NVME, 0x01_0180, 0);
    ide.registers[1] = 7;
    let space = Space::default().with(0x80, device).with(0x88, bridge).with(0x90, ide);
    for identity in all(&space) {
        function::silence(&space, &identity);
    }
    assert_eq!(function::command(&space, Address(0x80)), 3 | COMMAND_NO_PIN);
    assert_eq!(function::command(&space, Address(0x88)), 7);
    assert_eq!(function::command(&space, Address(0x90)), 7 & !COMMAND_BUS_MASTER);
}

/// A table with one entry.
fn table(base: u64, segment: u16, first_bus: u8, last_bus: u8) -> [u8; LOOKED_AT] {
    let mut table = [0; LOOKED_AT];
    table[..4].copy_from_slice(b"MCFG");
    table[4..8].copy_from_slice(&60u32.to_le_bytes());
    table[44..52].copy_from_slice(&base.to_le_bytes());
    table[52..54].copy_from_slice(&segment.to_le_bytes());
    (table[54], table[55]) = (first_bus, last_bus);
    table
}

#[test]
fn configuration_space_in_memory_is_where_the_table_says() {
    let whole = Place { start: 0xb000_0000, length: 256 << 20, first_bus: 0 };
    assert_eq!(mcfg::first_segment(&table(0xb000_0000, 0, 0, 255)), Some(whole));
    let part = Place { start: 0xb400_0000, length: 64 << 20, first_bus: 64 };
    assert_eq!(mcfg::first_segment(&table(0xb000_0000, 0, 64, 127)), Some(part));
    let impossible = [
        table(0xb000_0000, 1, 0, 255),
        table(0xb000_0000, 0, 2, 1),
        table(0xb000_1000, 0, 0, 255),
        table(0xb000_0000, 0, 0, 0),
        table(0, 0, 0, 255),
        table(u64::MAX - 0x1f_ffff, 0, 0, 255),
        [0; LOOKED_AT],
    ];
    for wrong in impossible {
        assert_eq!(mcfg::first_segment(&wrong), None);
    }
}

proptest! {
    /// Whatever the registers hold, there is an answer, and what it says is consistent.
    #[test]
    fn any_function_is_described(words in proptest::collection::vec(any::<u32>(), 64), masks in proptest::collection::vec(any::<u32>(), 64)) {
        let mut device = Function::new(0, 0, 0);
        device.registers.copy_from_slice(&words);
        device.writable.copy_from_slice(&masks);
        let space = Space::default().with(DEVICE.0, device);
        let bars = bar::read(&space, DEVICE);
        for bar in bars.iter().flatten() {
            match *bar {
                Bar::Memory { address, size } => {
                    prop_assert!(size.is_power_of_two() && address.is_multiple_of(size) && address.checked_add(size).is_some());
                }
                Bar::Ports { first, count } => prop_assert!(u32::from(first) + count <= 0x1_0000),
            }
        }
        if let Some(messages) = capability::messages(&space, DEVICE, &bars) {
            if let Messages::Msix { table, .. } = messages {
                let Some(Bar::Memory { size, .. }) = bars[usize::from(table.bar)] else { panic!("no such BAR") };
                prop_assert!(u64::from(table.offset) + u64::from(table.entries) * 16 <= size);
            }
            messages.enable(&space, DEVICE, Message { address: 0xfee0_0000, data: 0x30 });
        }
        capability::disable(&space, DEVICE);
    }
}
