//! Every interleaving of a processor that removes a mapping and of processors that run guests meanwhile: nobody reads
//! memory that has changed hands. Run with `RUSTFLAGS="--cfg loom" cargo test --release -p bulkhead-core --test shootdown`.
#![cfg(loom)]

use bulkhead_core::lock::TicketLock;
use bulkhead_core::shootdown::{Freshness, Mailbox, Processor, Request, ask, shoot_down_guest, shoot_down_native};
use bulkhead_core::sync::Cell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

/// Roots of the spaces; each maps one page.
const ROOTS: [u64; 2] = [0x1000, 0x2000];
/// An entry of a page table: nothing.
const NONE: usize = 0;

/// A processor that caches one translation of each guest space and one of the native space that is loaded.
struct Cpu {
    number: u32,
    mailbox: Mailbox,
    interrupted: AtomicBool,
    /// Changed under the lock.
    native: Cell<u64>,
    guest: Cell<u64>,
    /// The processor's own.
    cached_guest: [Cell<usize>; 2],
    cached_native: Cell<usize>,
    released: Cell<bool>,
    /// The page tables, of all processors.
    entries: Arc<[AtomicUsize; 2]>,
}

impl Processor for Cpu {
    fn number(&self) -> u32 {
        self.number
    }
    fn native_root(&self) -> u64 {
        self.native.get()
    }
    fn guest_root(&self) -> u64 {
        self.guest.get()
    }
    fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }
    fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
    }
    fn perform(&self, request: Request) {
        match request {
            Request::ForgetNative(root) => self.walk(&self.cached_native, index(root)),
            Request::ForgetGuest(root) => self.walk(&self.cached_guest[index(root)], index(root)),
            Request::Release(_) => self.released.set(true),
        }
    }
}

impl Cpu {
    fn new(number: u32, entries: Arc<[AtomicUsize; 2]>) -> Self {
        Self {
            number,
            mailbox: Mailbox::default(),
            interrupted: AtomicBool::new(false),
            native: Cell::new(0),
            guest: Cell::new(0),
            cached_guest: [Cell::new(NONE), Cell::new(NONE)],
            cached_native: Cell::new(NONE),
            released: Cell::new(false),
            entries,
        }
    }

    /// Forgets a translation; the hardware may walk the tables again at once, on its own account.
    fn walk(&self, cached: &Cell<usize>, space: usize) {
        cached.set(self.entries[space].load(Ordering::Relaxed));
    }
}

fn index(root: u64) -> usize {
    ROOTS.iter().position(|other| *other == root).expect("the root of a space")
}

/// The kernel's data, and the memory: pages 1 to 4, of which 1 is mapped in the first space, and 2 in the second.
struct Machine {
    lock: TicketLock,
    cpus: Vec<Cpu>,
    freshness: [Freshness; 2],
    entries: Arc<[AtomicUsize; 2]>,
    /// Whether the page is another's.
    pages: [Cell<bool>; 4],
}

// SAFETY: the cells are accessed under the lock, or by one processor alone; loom's cells report whatever is not so.
unsafe impl Sync for Machine {}
// SAFETY: nothing belongs to one thread.
unsafe impl Send for Machine {}

impl Machine {
    fn new(cpus: u32) -> Arc<Self> {
        let entries = Arc::new([AtomicUsize::new(1), AtomicUsize::new(2)]);
        Arc::new(Self {
            lock: TicketLock::default(),
            cpus: (0..cpus).map(|number| Cpu::new(number, entries.clone())).collect(),
            freshness: [Freshness::default(), Freshness::default()],
            entries,
            pages: [Cell::new(false), Cell::new(false), Cell::new(false), Cell::new(false)],
        })
    }

    fn with_lock<T>(&self, cpu: &Cpu, action: impl FnOnce() -> T) -> T {
        self.lock.acquire(|| cpu.mailbox.answer(|request| cpu.perform(request)));
        let result = action();
        self.lock.release();
        result
    }

    /// The hardware's access by a space: it walks the tables if nothing is cached.
    fn access(&self, cpu: &Cpu, cached: &Cell<usize>, space: usize) {
        if cached.get() == NONE {
            cpu.walk(cached, space);
        }
        if let Some(page) = cached.get().checked_sub(1) {
            // Loom fails the test also if the page is given away at the same time, or if nothing orders the two.
            assert!(!self.pages[page].get(), "read from a page that was given away");
        }
    }

    /// What an interrupt leads to.
    fn serve(&self, cpu: &Cpu) {
        if cpu.interrupted.swap(false, Ordering::Relaxed) {
            self.with_lock(cpu, || ());
        }
    }

    /// A stay in a guest.
    fn run_guest(&self, cpu: &Cpu, space: usize, accesses: usize) {
        self.with_lock(cpu, || {
            cpu.guest.set(ROOTS[space]);
            self.freshness[space].enter(cpu.number, || cpu.walk(&cpu.cached_guest[space], space));
        });
        for _ in 0..accesses {
            self.serve(cpu);
            self.access(cpu, &cpu.cached_guest[space], space);
        }
        self.with_lock(cpu, || cpu.guest.set(0));
    }

    /// A native program's turn.
    fn run_native(&self, cpu: &Cpu, space: usize) {
        self.with_lock(cpu, || {
            cpu.native.set(ROOTS[space]);
            cpu.walk(&cpu.cached_native, space);
        });
        self.serve(cpu);
        self.access(cpu, &cpu.cached_native, space);
        self.with_lock(cpu, || {
            cpu.native.set(0);
            cpu.cached_native.set(NONE);
        });
    }

    /// Maps another page (or none) instead, and gives the old one away.
    fn replace(&self, cpu: &Cpu, space: usize, new: usize, is_native: bool) {
        self.with_lock(cpu, || {
            let old = self.entries[space].load(Ordering::Relaxed);
            self.entries[space].store(new, Ordering::Relaxed);
            if is_native {
                shoot_down_native(self.cpus.iter(), cpu, ROOTS[space]);
            } else {
                shoot_down_guest(self.cpus.iter(), cpu, ROOTS[space], &self.freshness[space]);
            }
            if let Some(page) = old.checked_sub(1) {
                self.pages[page].set(true);
            }
        });
    }
}

/// Runs one closure a processor, in all interleavings.
fn explore(cpus: u32, roles: impl Fn() -> Vec<fn(&Machine, &Cpu)> + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let machine = Machine::new(cpus);
        let mut others: Vec<_> = roles().into_iter().enumerate().collect();
        let (first, role) = others.remove(0);
        let others: Vec<_> = others
            .into_iter()
            .map(|(number, role)| {
                let machine = machine.clone();
                thread::spawn(move || role(&machine, &machine.cpus[number]))
            })
            .collect();
        role(&machine, &machine.cpus[first]);
        for other in others {
            other.join().unwrap();
        }
    });
}

#[test]
fn remover_against_a_processor_that_enters_and_leaves() {
    explore(2, || vec![|machine, cpu| machine.replace(cpu, 0, 3, false), |machine, cpu| machine.run_guest(cpu, 0, 2)]);
}

#[test]
fn translations_that_outlived_a_stay_are_not_used_in_the_next() {
    explore(2, || {
        vec![|machine, cpu| machine.replace(cpu, 0, NONE, false), |machine, cpu| {
            machine.run_guest(cpu, 0, 1);
            machine.run_guest(cpu, 0, 1);
        }]
    });
}

#[test]
fn two_removals_while_a_guest_runs() {
    explore(2, || {
        vec![
            |machine, cpu| {
                machine.replace(cpu, 0, 3, false);
                machine.replace(cpu, 0, 4, false);
            },
            |machine, cpu| machine.run_guest(cpu, 0, 2),
        ]
    });
}

#[test]
fn one_space_after_the_other() {
    explore(2, || {
        vec![
            |machine, cpu| {
                machine.replace(cpu, 0, 3, false);
                machine.replace(cpu, 1, 4, false);
            },
            |machine, cpu| {
                machine.run_guest(cpu, 0, 1);
                machine.run_guest(cpu, 1, 1);
                machine.run_guest(cpu, 0, 1);
            },
        ]
    });
}

#[test]
fn two_removers_that_run_guests_themselves() {
    explore(2, || {
        vec![
            |machine, cpu| {
                machine.run_guest(cpu, 0, 1);
                machine.replace(cpu, 0, 3, false);
                machine.run_guest(cpu, 0, 1);
            },
            |machine, cpu| {
                machine.run_guest(cpu, 0, 1);
                machine.replace(cpu, 0, 4, false);
            },
        ]
    });
}

#[test]
fn native_spaces() {
    explore(2, || {
        vec![
            |machine, cpu| {
                machine.replace(cpu, 0, 3, true);
                machine.replace(cpu, 1, NONE, true);
            },
            |machine, cpu| {
                machine.run_native(cpu, 0);
                machine.run_native(cpu, 1);
            },
        ]
    });
}

/// The processor that is asked has done it when the asker goes on.
#[test]
fn a_guest_processor_is_let_go_of() {
    explore(2, || {
        vec![
            |machine, cpu| {
                machine.with_lock(cpu, || {
                    let home = &machine.cpus[1];
                    if home.guest.get() != 0 {
                        ask(machine.cpus.iter(), cpu, |cpu| cpu.number == 1, Request::Release(0x3000));
                        assert!(home.released.get());
                    }
                });
            },
            |machine, cpu| machine.run_guest(cpu, 0, 1),
        ]
    });
}
