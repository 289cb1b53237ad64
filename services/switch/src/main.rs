//! The switch between guests' network cards.
//!
//! Its environment names each port with its card's address, its channel, its guest's memory, its VLAN, and the ports that it may talk to;
//! and the card on the PCI bus that is its uplink, if it has one, with memory for DMA. It must never do anything with a guest's memory but
//! move the frames of that guest's own queues.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod report;

use alloc::boxed::Box;
use alloc::vec;
use bulkhead_driver::{DmaMemory, NicInformation};
use bulkhead_guest_memory::Ram;
use bulkhead_net_device::{CardOffer, MAX_PORTS, MAX_TRAIN, Mac, Policy, Port, Switch, Uplink, Vlan};
use bulkhead_net_program::{self as card, Card};
use bulkhead_runtime::plan::{self, StatusReport};
use bulkhead_runtime::program::Channel;
use bulkhead_runtime::time::Tsc;
use bulkhead_runtime::{Program, entry, events, println};
use report::Report;

entry!(main);

fn main(program: Program) {
    let mut policy = Policy::NONE;
    for (index, port) in program.environment().network_ports().enumerate() {
        policy.allow(index, port.peers);
    }
    let mut switch = Switch::new(Tsc, policy, vec![0; MAX_TRAIN].leak());
    let mut channels: heapless::Vec<Channel, MAX_PORTS> = heapless::Vec::new();
    let card = match uplink(&program) {
        Ok(card) => card,
        Err(reason) => return program.report(StatusReport::Failed, 0, reason),
    };
    let limits = card.as_ref().map(|card| *card.nic.information());
    for entry in program.environment().network_ports().filter(|entry| !entry.uplink) {
        match publish(&program, &mut switch, &entry, limits.as_ref()) {
            Ok(channel) => {
                // There are as many places as ports.
                let _ = channels.push(channel);
            }
            // The policy means ports by number: without one, none of it holds.
            Err(reason) => return program.report(StatusReport::Failed, 0, reason),
        }
    }
    let mut interrupt = None;
    if let Some(card) = card {
        let Card { nic, interrupt: of_card } = card;
        interrupt = Some(of_card);
        if switch.set_uplink(Uplink::new(Box::leak(nic))).is_err() {
            return program.report(StatusReport::Failed, 0, "there are too many ports");
        }
    }
    let mut report = Report::new();
    loop {
        let more = switch.work();
        report
            .tell(switch.statistics(), |index| program.environment().network_ports().nth(index).map(|port| port.name));
        switch.take_signals(|index, signals| {
            if let Some(channel) = channels.get(index) {
                channel.signal_monitor(signals);
            }
        });
        let signals = events::wait(if more { 0 } else { Tsc.deadline(switch.deadline()) });
        if let Some(interrupt) = interrupt.filter(|interrupt| signals & interrupt.signal != 0) {
            interrupt.attend(|| switch.on_interrupt());
        }
    }
}

/// Starts the card that is the uplink, if there is one.
fn uplink(program: &Program) -> Result<Option<Card>, &'static str> {
    let Some(entry) = program.environment().network_ports().find(|entry| entry.uplink) else {
        return Ok(None);
    };
    let device = program.device(entry.name).ok_or("the uplink is not there")?;
    let reachable = program.environment().memories().find(|memory| memory.physical != 0 && memory.writable);
    let name = reachable.ok_or("the uplink has no memory for DMA")?.name;
    let (memory, memory_entry) = program.memory(name).ok_or("the uplink has no memory for DMA")?;
    let words = memory.atomics(0, memory.len() / 8).map_err(|_| "the memory for DMA is not whole")?;
    let card = card::start(&device, &mut DmaMemory::new(words, memory_entry.physical))?;
    let information = card.nic.information();
    println!("uplink {}: {:02x?}, may talk to {:#x}", entry.name, information.mac, entry.peers);
    Ok(Some(card))
}

/// Offers a guest its card. Where it reaches the uplink, it gets no more than that can do.
fn publish(
    program: &Program,
    switch: &mut Switch<'static, Tsc, Ram>,
    entry: &plan::NetworkPort<'static>,
    uplink: Option<&NicInformation>,
) -> Result<Channel, &'static str> {
    let channel = program.channel(entry.name).ok_or("a port has no channel")?;
    let ram = Ram::new(program, entry.peer).ok_or("a port's guest's memory is not mapped")?;
    let uplink_number = program.environment().network_ports().position(|entry| entry.uplink);
    let limits = uplink.filter(|_| uplink_number.is_some_and(|number| entry.peers >> number & 1 != 0));
    let vlan = match entry.vlan {
        0 => None,
        number => Some(Vlan::new(number).ok_or("a port's VLAN is none")?),
    };
    let offer = CardOffer {
        mac: Mac(entry.mac),
        mtu: limits.map_or(entry.mtu, |limits| entry.mtu.min(limits.mtu)),
        checksum: entry.checksum && limits.is_none_or(|limits| limits.transmit_checksum),
        // What leaves with a tag is not cut into segments.
        segmentation: entry.segmentation && limits.is_none_or(|limits| limits.segmentation && vlan.is_none()),
        link: true,
    };
    let port = Port::publish(channel.words(), ram, offer, entry.rate).map_err(|_| "a port's channel is too small")?;
    let port = port.with_direct_interrupts(plan::DEVICE_INTERRUPTS);
    switch.add(port.in_vlan(vlan)).map_err(|_| "there are too many ports")?;
    let (name, guest, mac, peers) = (entry.name, entry.peer, entry.mac, entry.peers);
    println!("port {name} of {guest}: {mac:02x?}, VLAN {}, may talk to {peers:#x}", entry.vlan);
    Ok(channel)
}
