//! The switch between guests' network cards.
//!
//! Its environment names each port with its card's address, its channel, its guest's memory, and the ports that it may talk to. It must
//! never do anything with a guest's memory but move the frames of that guest's own queues.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

use alloc::vec;
use bulkhead_guest_memory::Ram;
use bulkhead_net_device::{CardOffer, MAX_PORTS, MAX_TRAIN, Mac, Policy, Port, Switch};
use bulkhead_runtime::plan::{self, StatusReport};
use bulkhead_runtime::program::Channel;
use bulkhead_runtime::time::Tsc;
use bulkhead_runtime::{Program, entry, events, println};

entry!(main);

fn main(program: Program) {
    let mut policy = Policy::NONE;
    for (index, port) in program.environment().network_ports().enumerate() {
        policy.allow(index, port.peers);
    }
    let mut switch = Switch::new(Tsc, policy, vec![0; MAX_TRAIN].leak());
    let mut channels: heapless::Vec<Channel, MAX_PORTS> = heapless::Vec::new();
    for entry in program.environment().network_ports() {
        match publish(&program, &mut switch, &entry) {
            Ok(channel) => {
                // There are as many places as ports.
                let _ = channels.push(channel);
            }
            // The policy means ports by number: without one, none of it holds.
            Err(reason) => return program.report(StatusReport::Failed, 0, reason),
        }
    }
    loop {
        let more = switch.work();
        switch.take_signals(|index| {
            if let Some(channel) = channels.get(index) {
                channel.signal_peer();
            }
        });
        events::wait(if more { 0 } else { Tsc.deadline(switch.deadline()) });
    }
}

fn publish(
    program: &Program,
    switch: &mut Switch<'static, Tsc, Ram>,
    entry: &plan::NetworkPort<'static>,
) -> Result<Channel, &'static str> {
    let channel = program.channel(entry.name).ok_or("a port has no channel")?;
    let ram = Ram::new(program, entry.peer).ok_or("a port's guest's memory is not mapped")?;
    let offer =
        CardOffer { mac: Mac(entry.mac), mtu: entry.mtu, checksum: entry.checksum, segmentation: entry.segmentation };
    let port = Port::publish(channel.words(), ram, offer, entry.rate).map_err(|_| "a port's channel is too small")?;
    switch.add(port).map_err(|_| "there are too many ports")?;
    println!("port {} of {}: {:02x?}, may talk to {:#x}", entry.name, entry.peer, entry.mac, entry.peers);
    Ok(channel)
}
