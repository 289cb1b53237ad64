//! A program that tries the drivers of network cards on one network, without a service.
//!
//! Its environment names cards on the PCI bus and memory for DMA, `dma`. It must never touch anything but its own devices and memory.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod frames;
mod train;

use alloc::vec;
use alloc::vec::Vec;
use bulkhead_driver::{Clock, DmaMemory, Offload, TransmitError};
use bulkhead_net_program::{Card, start};
use bulkhead_runtime::plan::StatusReport;
use bulkhead_runtime::time::Tsc;
use bulkhead_runtime::{Program, entry, events, println};
use frames::{LONGEST, SHORTEST};

entry!(main);

/// Frames from each card to each other one.
const FRAMES: u32 = 4000;
/// Frames on their way: fewer than a card has buffers.
const WINDOW: u32 = 16;
/// Datagrams from each card.
const DATAGRAMS: u32 = 200;
/// Trains of segments from each card.
const TRAINS: u32 = 50;
/// How long an answer may take, in milliseconds.
const PATIENCE: u64 = 2000;

fn main(program: Program) {
    match run(&program) {
        Ok(()) => program.report(StatusReport::Finished, 0, "all frames arrived as they were sent"),
        Err(text) => {
            println!("{text}");
            program.report(StatusReport::Failed, 0, text);
        }
    }
}

fn run(program: &Program) -> Result<(), &'static str> {
    let (memory, entry) = program.memory("dma").ok_or("there is no memory for DMA")?;
    let words = memory.atomics(0, memory.len() / 8).map_err(|_| "the memory for DMA is not whole")?;
    let mut memory = DmaMemory::new(words, entry.physical);
    let mut cards = Vec::new();
    for device in program.devices() {
        let card = start(&device, &mut memory)?;
        let information = card.nic.information();
        println!("card {}: {:02x?}, MTU {}", device.function.name, information.mac, information.mtu);
        println!(
            "card {}: checksum {}, segmentation {}",
            device.function.name, information.transmit_checksum, information.segmentation
        );
        cards.push(card);
    }
    for card in &cards {
        if !Tsc.wait_until(10_000, || card.nic.link().up) {
            return Err("a card has no link");
        }
    }
    let count = cards.len();
    for from in 0..count {
        for to in (0..count).filter(|to| *to != from) {
            exchange(&mut cards, from, to)?;
        }
        if count > 1 {
            datagrams(&mut cards, from, (from + 1) % count)?;
            trains(&mut cards, from, (from + 1) % count)?;
        }
    }
    for (index, card) in cards.iter_mut().enumerate() {
        gateway(card, index)?;
    }
    Ok(())
}

/// Waits for an interrupt of a card, for a while.
fn attend(cards: &mut [Card]) {
    let signals = events::wait(Tsc.deadline(Some(Tsc.milliseconds() + 10)));
    for card in cards {
        if signals & card.interrupt.signal != 0 {
            card.interrupt.attend(|| card.nic.on_interrupt());
        }
    }
}

fn pair(cards: &mut [Card], from: usize, to: usize) -> Result<[&mut Card; 2], &'static str> {
    cards.get_disjoint_mut([from, to]).map_err(|_| "there are no two cards")
}

/// Lengths of frames: all of them, in an order that mixes them.
fn length(number: u32) -> usize {
    SHORTEST + (number as usize * 619) % (LONGEST - SHORTEST + 1)
}

/// Sends frames from a card to another, a window of them at a time.
fn exchange(cards: &mut [Card], from: usize, to: usize) -> Result<(), &'static str> {
    let (mut sent, mut received, mut bytes) = (0, 0, 0);
    let begin = Tsc.milliseconds();
    let mut last = begin;
    let mut buffer = [0; LONGEST];
    while received < FRAMES {
        let [sender, receiver] = pair(cards, from, to)?;
        let (source, destination) = (sender.nic.information().mac, receiver.nic.information().mac);
        while sent < FRAMES && sent < received + WINDOW {
            let frame = buffer.get_mut(..length(sent)).ok_or("a frame is too long")?;
            frames::fill(frame, destination, source, sent);
            match sender.nic.transmit(frame, Offload::default()) {
                Ok(()) => sent += 1,
                Err(TransmitError::Full) => break,
                Err(_) => return Err("a frame was not taken"),
            }
        }
        let mut wrong = false;
        while receiver.nic.receive(&mut |frame, _| {
            if frames::is_for(frame, destination, source) {
                wrong |= !frames::is_right(frame, destination, source, received, length(received));
                received += 1;
                bytes += frame.len() as u64;
                last = Tsc.milliseconds();
            }
        }) {}
        if wrong {
            return Err("a frame is not as it was sent, or not in its place");
        }
        // What others see of it is not to fill their buffers.
        for (_, other) in cards.iter_mut().enumerate().filter(|(index, _)| *index != to) {
            while other.nic.receive(&mut |_, _| ()) {}
        }
        if Tsc.milliseconds().saturating_sub(last) > PATIENCE {
            println!("{received} of {sent} frames arrived");
            return Err("a frame is lost");
        }
        attend(cards);
    }
    println!("card {from} to card {to}: {received} frames, {bytes} bytes, {} ms", Tsc.milliseconds() - begin);
    Ok(())
}

/// Sends datagrams whose checksums the card fills in, if it can.
fn datagrams(cards: &mut [Card], from: usize, to: usize) -> Result<(), &'static str> {
    let [sender, receiver] = pair(cards, from, to)?;
    if !sender.nic.information().transmit_checksum {
        return Ok(());
    }
    let (source, destination) = (sender.nic.information().mac, receiver.nic.information().mac);
    let mut buffer = [0; LONGEST];
    for number in 0..DATAGRAMS {
        let frame = buffer.get_mut(..length(number)).ok_or("a datagram is too long")?;
        let checksum = frames::fill_datagram(frame, destination, source, number);
        let offload = Offload { checksum: Some(checksum), ..Offload::default() };
        let [sender, _] = pair(cards, from, to)?;
        sender.nic.transmit(frame, offload).map_err(|_| "a datagram was not taken")?;
        let begin = Tsc.milliseconds();
        let mut right = None;
        while right.is_none() {
            let [_, receiver] = pair(cards, from, to)?;
            while receiver.nic.receive(&mut |frame, _| {
                if frames::is_datagram(frame) {
                    right = Some(frames::datagram_is_right(frame, number, length(number)));
                }
            }) {}
            if Tsc.milliseconds().saturating_sub(begin) > PATIENCE {
                return Err("a datagram is lost");
            }
            if right.is_none() {
                attend(cards);
            }
        }
        if right != Some(true) {
            return Err("a datagram's checksum or contents are wrong");
        }
    }
    println!("card {from}: {DATAGRAMS} checksums filled in");
    Ok(())
}

/// Sends trains of segments, which the card cuts, if it can.
fn trains(cards: &mut [Card], from: usize, to: usize) -> Result<(), &'static str> {
    let [sender, receiver] = pair(cards, from, to)?;
    if !sender.nic.information().segmentation {
        return Ok(());
    }
    let (source, destination) = (sender.nic.information().mac, receiver.nic.information().mac);
    let mut frame = vec![0; train::BYTES];
    for number in 0..TRAINS {
        let offload = train::fill(&mut frame, destination, source, number);
        let [sender, _] = pair(cards, from, to)?;
        sender.nic.transmit(&frame, offload).map_err(|_| "a train was not taken")?;
        let begin = Tsc.milliseconds();
        let (mut arrived, mut wrong) = (0, false);
        while arrived < train::PAYLOAD {
            let [_, receiver] = pair(cards, from, to)?;
            while receiver.nic.receive(&mut |frame, _| {
                if train::is_segment(frame) && arrived < train::PAYLOAD {
                    match train::check(frame, number, arrived) {
                        Some(bytes) => arrived += bytes,
                        None => wrong = true,
                    }
                }
            }) {}
            if wrong {
                return Err("a segment is not as it must be");
            }
            if Tsc.milliseconds().saturating_sub(begin) > PATIENCE {
                return Err("a segment is lost");
            }
            for (_, other) in cards.iter_mut().enumerate().filter(|(index, _)| *index != to) {
                while other.nic.receive(&mut |_, _| ()) {}
            }
            if arrived < train::PAYLOAD {
                attend(cards);
            }
        }
    }
    println!("card {from}: {TRAINS} trains of segments cut");
    Ok(())
}

/// Asks the emulator's gateway for its address.
fn gateway(card: &mut Card, index: usize) -> Result<(), &'static str> {
    let mac = card.nic.information().mac;
    let mut frame = [0; SHORTEST];
    frames::fill_question(&mut frame, mac, 100 + index as u8);
    card.nic.transmit(&frame, Offload::default()).map_err(|_| "a question was not taken")?;
    let begin = Tsc.milliseconds();
    let mut answered = false;
    while !answered {
        while card.nic.receive(&mut |frame, _| answered |= frames::is_answer(frame, mac)) {}
        if Tsc.milliseconds().saturating_sub(begin) > PATIENCE {
            return Err("the gateway does not answer");
        }
        attend(core::slice::from_mut(card));
    }
    println!("card {index}: the gateway answers");
    Ok(())
}
