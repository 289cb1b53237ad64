//! Shoot-downs on a model of processors and their caches: nobody uses what was removed, and exactly those are interrupted, and
//! forget something, who have to. The orders of concurrent accesses are explored by `tests/shootdown.rs`.

use crate::shootdown::{Freshness, Mailbox, Processor, Request, shoot_down_guest, shoot_down_native};
use core::cell::{Cell, RefCell};
use proptest::prelude::*;
use std::vec::Vec;

const CPUS: usize = 4;
const SPACES: usize = 3;
/// Root of the first space; the others follow, a page each.
const ROOT: u64 = 0x7000;
const PAGE: u64 = 0x1000;

fn root(space: usize) -> u64 {
    ROOT + space as u64 * PAGE
}

fn space(root: u64) -> usize {
    ((root - ROOT) / PAGE) as usize
}

/// A processor with what it has cached: the version of the tables at that time, by space.
#[derive(Default)]
struct Cpu {
    number: u32,
    mailbox: Mailbox,
    native: Cell<Option<usize>>,
    guest: Cell<Option<usize>>,
    cached_native: Cell<Option<u64>>,
    cached_guest: [Cell<Option<u64>>; SPACES],
    interrupts: Cell<u32>,
    performed: RefCell<Vec<Request>>,
}

impl Processor for Cpu {
    fn number(&self) -> u32 {
        self.number
    }
    fn native_root(&self) -> u64 {
        self.native.get().map_or(0, root)
    }
    fn guest_root(&self) -> u64 {
        self.guest.get().map_or(0, root)
    }
    fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }
    fn interrupt(&self) {
        self.interrupts.set(self.interrupts.get() + 1);
        self.mailbox.answer(|request| self.perform(request));
    }
    fn perform(&self, request: Request) {
        self.performed.borrow_mut().push(request);
        match request {
            Request::ForgetNative(root) => {
                assert_eq!(self.native_root(), root, "asked to load a space that is not loaded");
                self.cached_native.set(None);
            }
            Request::ForgetGuest(root) => self.cached_guest[space(root)].set(None),
            Request::Release(_) => unreachable!("nobody asked for that"),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Load { cpu: usize, space: usize },
    Enter { cpu: usize, space: usize },
    Leave { cpu: usize },
    Access { cpu: usize },
    RemoveNative { own: usize, space: usize },
    RemoveGuest { own: usize, space: usize },
}

fn operation() -> impl Strategy<Value = Operation> {
    (0..6, 0..CPUS, 0..SPACES).prop_map(|(kind, cpu, space)| match kind {
        0 => Operation::Load { cpu, space },
        1 => Operation::Enter { cpu, space },
        2 => Operation::Leave { cpu },
        3 => Operation::RemoveNative { own: cpu, space },
        4 => Operation::RemoveGuest { own: cpu, space },
        _ => Operation::Access { cpu },
    })
}

#[derive(Default)]
struct Machine {
    cpus: Vec<Cpu>,
    freshness: [Freshness; SPACES],
    native_version: [u64; SPACES],
    guest_version: [u64; SPACES],
    /// What a processor must forget before it enters a space: at first, and after removals that it did not take part in.
    outdated: [[bool; SPACES]; CPUS],
}

impl Machine {
    fn new() -> Self {
        let cpus = (0..CPUS as u32).map(|number| Cpu { number, ..Default::default() }).collect();
        Self { cpus, outdated: [[true; SPACES]; CPUS], ..Default::default() }
    }

    fn carry_out(&mut self, operation: Operation) {
        match operation {
            Operation::Load { cpu, space } => {
                self.cpus[cpu].native.set(Some(space));
                self.cpus[cpu].cached_native.set(None);
            }
            Operation::Enter { cpu, space } => {
                let forgets = Cell::new(false);
                self.cpus[cpu].guest.set(Some(space));
                self.freshness[space].enter(cpu as u32, || forgets.set(true));
                assert_eq!(forgets.get(), self.outdated[cpu][space], "CPU {cpu} enters space {space}");
                if forgets.get() {
                    self.cpus[cpu].cached_guest[space].set(None);
                }
                self.outdated[cpu][space] = false;
            }
            Operation::Leave { cpu } => self.cpus[cpu].guest.set(None),
            Operation::Access { cpu } => {
                let cpu = &self.cpus[cpu];
                if let Some(space) = cpu.guest.get() {
                    access(&cpu.cached_guest[space], self.guest_version[space]);
                } else if let Some(space) = cpu.native.get() {
                    access(&cpu.cached_native, self.native_version[space]);
                }
            }
            Operation::RemoveNative { own, space } => {
                self.native_version[space] += 1;
                let concerned = self.concerned(own, |cpu| cpu.native.get() == Some(space));
                shoot_down_native(self.cpus.iter(), &self.cpus[own], root(space));
                self.assert_asked(own, &concerned, Request::ForgetNative(root(space)));
            }
            Operation::RemoveGuest { own, space } => {
                self.guest_version[space] += 1;
                let concerned = self.concerned(own, |cpu| cpu.guest.get() == Some(space));
                shoot_down_guest(self.cpus.iter(), &self.cpus[own], root(space), &self.freshness[space]);
                for (outdated, inside) in self.outdated.iter_mut().zip(&concerned) {
                    outdated[space] = !inside;
                }
                self.assert_asked(own, &concerned, Request::ForgetGuest(root(space)));
            }
        }
    }

    /// Which processors a removal concerns. Forgets earlier ones.
    fn concerned(&self, own: usize, is_concerned: impl Fn(&Cpu) -> bool) -> [bool; CPUS] {
        assert!(own < CPUS);
        core::array::from_fn(|number| {
            let cpu = &self.cpus[number];
            cpu.interrupts.set(0);
            cpu.performed.borrow_mut().clear();
            is_concerned(cpu)
        })
    }

    /// Exactly those were asked, once each, and the others were left alone; the remover itself needs no interrupt.
    fn assert_asked(&self, own: usize, concerned: &[bool; CPUS], request: Request) {
        for (number, (cpu, concerned)) in self.cpus.iter().zip(concerned).enumerate() {
            let expected = if *concerned { std::vec![request] } else { std::vec![] };
            assert_eq!(*cpu.performed.borrow(), expected, "CPU {number}");
            assert_eq!(cpu.interrupts.get(), u32::from(*concerned && number != own), "CPU {number}");
        }
    }
}

/// The hardware's access: it walks the tables if nothing is cached.
fn access(cached: &Cell<Option<u64>>, version: u64) {
    let used = cached.get().unwrap_or(version);
    assert_eq!(used, version, "a translation was used after its removal");
    cached.set(Some(used));
}

proptest! {
    #[test]
    fn exactly_the_processors_that_could_use_a_removed_translation_are_asked(
        operations in prop::collection::vec(operation(), 0..200)
    ) {
        let mut machine = Machine::new();
        for operation in operations {
            machine.carry_out(operation);
        }
    }
}

#[test]
fn requests_are_delivered_as_they_are() {
    for request in [Request::ForgetNative(0x3000), Request::ForgetGuest(1 << 40), Request::Release(!0xfff)] {
        assert_eq!(Request::from_word(request.word()), Some(request));
    }
    assert_eq!(Request::from_word(0), None);
    assert_eq!(Request::from_word(0x3004), None);
}
