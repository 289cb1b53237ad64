//! Shadow paging against the architecture: processors edit, flush and use page tables at random, and every translation that
//! their hardware finds must be one that a TLB may have.

mod hardware;
mod memory;
mod oracle;

use super::machine::{Ram, is_zero};
use super::random::{Random, operations};
use crate::Progress;
use crate::page_table::{Pool, Translation};
use crate::phys::HostPhysical;
use crate::shadow::{self, Access, Fault, Features, Machine, Mode, Paging, Shadow};
use bulkhead_abi::{Error, PAGE_SIZE, Rights, ShadowCounter};
use core::cell::{Cell, RefCell};
use hardware::Hardware;
use memory::{Memory, TABLE_PAGES, TABLES, WORDS, random_entry};
use oracle::{End, Flushes};
use std::vec::Vec;

const PHYSICAL_BITS: u32 = 40;
/// Operations between two resets of the guest's tables.
const EPISODE: u64 = 400;
/// Faults of one access, at most: each of the tables on the way may be the one that uses up the memory.
const MOST_FAULTS: u32 = 12;

struct Processor {
    hardware: RefCell<Hardware>,
    paging: Paging,
    flushes: Flushes,
}

struct World {
    shadow: Shadow,
    pool: Pool,
    memory: RefCell<Memory>,
    processors: Vec<Processor>,
}

/// The machine as one processor sees it.
struct Seen<'a> {
    world: &'a World,
    number: usize,
    /// Entries that may get bits set, and the bits.
    allowed: &'a [(u64, u64)],
    /// The access for which they are set.
    access: Option<(u64, Access)>,
}

impl Machine for Seen<'_> {
    fn translate(&self, address: u64) -> Option<Translation> {
        memory::translate(address)
    }
    fn is_memory(&self, page: HostPhysical) -> bool {
        page.0 >> 32 != 0
    }
    fn read(&self, at: HostPhysical, width: u64) -> u64 {
        self.world.memory.borrow().read(at.0, width)
    }
    fn exchange(&self, at: HostPhysical, width: u64, old: u64, new: u64) -> bool {
        let mut memory = self.world.memory.borrow_mut();
        if memory.read(at.0, width) != old {
            // The walk came by the same entry twice.
            return false;
        }
        let bits = self.allowed.iter().filter(|allowed| allowed.0 == at.0).fold(0, |bits, allowed| bits | allowed.1);
        let processor = &self.world.processors[self.number];
        let bits = match self.access {
            Some((linear, access))
                if oracle::may_mark(&memory, &processor.paging, &processor.flushes, linear, access, at.0) =>
            {
                bits | mark(access)
            }
            _ => bits,
        };
        assert_eq!(old & !new | new & !old & !bits, 0, "bits of an entry were changed: {old:x} {new:x}");
        memory.write(at.0, width, new);
        true
    }
    fn flush(&self) {
        self.world.processors[self.number].hardware.borrow_mut().tlb.clear();
    }
    fn pool(&self) -> &Pool {
        &self.world.pool
    }
}

impl World {
    fn new(ram: &Ram, pages: u64, processors: u32) -> Self {
        let pool = Pool::default();
        for page in 0..pages {
            pool.give(ram.page(page));
        }
        let shadow = Shadow::default();
        shadow.build(&pool, processors).expect("pages enough");
        let processor = || Processor {
            hardware: RefCell::default(),
            paging: Paging::default(),
            flushes: Flushes { all: 0, addresses: Vec::new() },
        };
        let processors = (0..processors).map(|_| processor()).collect();
        Self { shadow, pool, memory: RefCell::new(Memory::new()), processors }
    }

    /// Does something with a processor's shadow paging.
    fn shadow<R>(&self, seen: &Seen<'_>, action: impl FnOnce(&shadow::Processor<'_, Seen<'_>>) -> R) -> R {
        let paging = Cell::new(self.processors[seen.number].paging);
        action(&self.shadow.at(seen.number as u32, &paging, seen).expect("a processor"))
    }

    fn seen<'a>(&'a self, number: usize, allowed: &'a [(u64, u64)]) -> Seen<'a> {
        Seen { world: self, number, allowed, access: None }
    }

    /// The hardware reads the upper entries at VM entry.
    fn enter(&self, number: usize) {
        let processor = &self.processors[number];
        let upper = (processor.paging.mode != Mode::FourLevel)
            .then(|| self.shadow(&self.seen(number, &[]), |processor| processor.upper_entries()));
        processor.hardware.borrow_mut().upper = upper;
    }

    /// Loads the paging state, or only CR3 if that is all that changes.
    fn load(&mut self, number: usize, mut paging: Paging, switch: bool) {
        let memory = self.memory.get_mut();
        if paging.mode == Mode::Pae {
            for (index, entry) in paging.pdptes.iter_mut().enumerate() {
                let found = memory::translate((paging.cr3 & 0xffff_ffe0) + index as u64 * 8);
                // What is reserved would be a fault of the load.
                *entry = found.map_or(0, |found| memory.read(found.physical.0, 8)) & 0xff_ffff_f001;
            }
        }
        let now = memory.now;
        let processor = &mut self.processors[number];
        processor.paging = paging;
        processor.flushes = Flushes { all: now, addresses: Vec::new() };
        let only_root = switch && paging.mode != Mode::Pae;
        let root = self
            .shadow(&self.seen(number, &[]), |processor| if only_root { processor.switch() } else { processor.load() });
        let mut hardware = self.processors[number].hardware.borrow_mut();
        assert!(hardware.tlb.is_empty(), "the TLB was not flushed");
        hardware.root = root;
        hardware.features = paging.features;
        drop(hardware);
        self.enter(number);
    }

    fn invalidate(&mut self, number: usize, linear: u64) {
        let now = self.memory.get_mut().now;
        self.processors[number].flushes.addresses.push((linear, now));
        self.shadow(&self.seen(number, &[]), |processor| processor.invalidate(linear));
        self.enter(number);
    }

    /// Lets a processor access memory until it succeeds or the guest has to do something. Answers the host's page.
    fn access(&self, number: usize, linear: u64, access: Access, keep: bool) -> Option<u64> {
        let processor = &self.processors[number];
        for _ in 0..MOST_FAULTS {
            let error = match processor.hardware.borrow_mut().access(linear, access, keep) {
                Ok(host) => {
                    let memory = self.memory.borrow();
                    let allowed =
                        oracle::may_translate(&memory, &processor.paging, &processor.flushes, linear, access, host);
                    assert!(allowed, "stale: {linear:x} {access:?} is {host:x} in {:?}", processor.paging);
                    return Some(host);
                }
                Err(error) => error,
            };
            let fresh = oracle::walk(&self.memory.borrow(), &processor.paging, linear, access);
            let allowed = allowed_bits(&fresh, access);
            let seen = Seen { access: Some((linear, access)), ..self.seen(number, &allowed) };
            let access = Access::from_bits_retain(error) | access & Access::ALIGNMENT_CHECK;
            let outcome = self.shadow(&seen, |processor| processor.fault(linear, access));
            self.enter(number);
            match outcome {
                Fault::Retry => continue,
                Fault::Guests(code) => assert_eq!(End::Fault(code), fresh.end, "{linear:x} {access:?}"),
                Fault::Violation { physical, walking: true, write: false } => {
                    assert_eq!(End::NoTable(physical), fresh.end);
                }
                Fault::Violation { physical, walking: true, write: true } => {
                    let entry = fresh.entries.iter().find(|entry| entry.1 == physical).expect("an entry of the walk");
                    let rights = memory::translate(physical).expect("memory").attributes.rights;
                    assert!(!rights.contains(Rights::WRITE) && entry.2 & 0x60 != 0x60);
                }
                Fault::Violation { physical, walking: false, write } => {
                    assert_eq!((End::Page(physical), write), (fresh.end, access.contains(Access::WRITE)));
                    let needed = oracle::needed(access);
                    let found = memory::translate(physical);
                    assert!(found.is_none_or(|found| !found.attributes.rights.contains(needed)));
                }
                Fault::Interpret => {
                    let features = processor.paging.features;
                    assert!(features.contains(Features::SMAP) && !features.contains(Features::WRITE_PROTECT));
                    assert!(
                        matches!(fresh.end, End::Page(_))
                            && access.contains(Access::WRITE)
                            && !access.contains(Access::USER)
                    );
                    assert!(!fresh.rights[0] && fresh.rights[1]);
                }
            }
            return None;
        }
        panic!("{linear:x} {access:?} faults for ever: {:?}", processor.paging);
    }
}

/// The bits that an access sets in the entry that maps the page.
fn mark(access: Access) -> u64 {
    if access.contains(Access::WRITE) { 1 << 5 | 1 << 6 } else { 1 << 5 }
}

/// Which accessed and dirty bits an access may set.
fn allowed_bits(fresh: &oracle::FreshWalk, access: Access) -> Vec<(u64, u64)> {
    let mut allowed: Vec<(u64, u64)> = Vec::new();
    if let End::Page(_) = fresh.end {
        let last = fresh.entries.len() - 1;
        for (number, entry) in fresh.entries.iter().enumerate() {
            allowed.push((entry.0, if number == last { mark(access) } else { 1 << 5 }));
        }
    }
    allowed
}

/// An address whose entries are among those that are used.
fn random_address(random: &mut Random, mode: Mode) -> u64 {
    let mut pick = |bias: u64, from: [u64; 4]| from[if random.below(10) < bias { 0 } else { random.below(4) as usize }];
    if mode == Mode::TwoLevel {
        return pick(2, [0, 1, 300, 1023]) << 22 | pick(0, [0, 1, 512, 1023]) << 12;
    }
    let upper =
        if mode == Mode::Pae { pick(7, [0, 1, 2, 3]) } else { pick(8, [0, 1, 2, 511]) << 9 | pick(8, [0, 1, 2, 511]) };
    upper << 30 | pick(2, [0, 1, 2, 511]) << 21 | pick(0, [0, 1, 2, 511]) << 12
}

fn random_access(random: &mut Random) -> Access {
    let kind = random.below(8);
    let mut access = match kind {
        0..3 => Access::WRITE,
        7 => Access::FETCH,
        _ => Access::empty(),
    };
    access.set(Access::USER, random.one_in(3));
    access.set(Access::ALIGNMENT_CHECK, random.one_in(2));
    access
}

fn random_features(random: &mut Random) -> Features {
    let mut features = Features::all();
    for feature in Features::all().iter() {
        if random.one_in(4) {
            features.remove(feature);
        }
    }
    features
}

fn random_root(random: &mut Random, mode: Mode) -> u64 {
    let table = match (mode, random.below(8)) {
        (_, 0) => random.below(TABLES as u64) as usize,
        (Mode::TwoLevel, _) => random.below(2) as usize,
        (Mode::Pae, _) => 1,
        (Mode::FourLevel, _) => [0, 4][random.below(2) as usize],
    };
    if random.one_in(100) { 3000 * PAGE_SIZE } else { (TABLE_PAGES[table] * PAGE_SIZE) | (random.below(2) << 3) }
}

fn step(world: &mut World, random: &mut Random) {
    let number = random.below(world.processors.len() as u64) as usize;
    let mode = world.processors[number].paging.mode;
    let linear = random_address(random, mode);
    world.memory.get_mut().now += 1;
    match random.below(100) {
        0..55 => {
            let access = random_access(random);
            world.access(number, linear, access, !random.one_in(4));
        }
        55..80 => {
            let access = Access::WRITE;
            if let Some(host) = world.access(number, linear, access, !random.one_in(4))
                && memory::table_of(host).is_some()
            {
                let width = if random.one_in(8) {
                    12 - oracle::width(&world.processors[number].paging)
                } else {
                    oracle::width(&world.processors[number].paging)
                };
                let half = if width == 4 { random.below(2) * 4 } else { 0 };
                let at = host + WORDS[random.below(6) as usize] * 8 + half;
                let memory = world.memory.get_mut();
                let value = match random.below(4) {
                    // A small change: accessed, dirty, writable, present, user.
                    0..2 => memory.read(at, width) ^ 1 << [5, 6, 1, 0, 2][random.below(5) as usize],
                    _ => random_entry(random, width),
                };
                memory.write(at, width, value);
            }
        }
        80..87 => world.invalidate(number, linear),
        87..93 => {
            let old = world.processors[number].paging;
            let cr3 = random_root(random, mode);
            world.load(number, Paging { cr3, ..old }, random.one_in(2));
        }
        93 => {
            let mode = if random.one_in(8) {
                [Mode::TwoLevel, Mode::Pae, Mode::FourLevel][random.below(3) as usize]
            } else {
                mode
            };
            let features = random_features(random);
            let cr3 = random_root(random, mode);
            let physical_bits = PHYSICAL_BITS;
            world.load(number, Paging { mode, features, cr3, pdptes: [0; 4], physical_bits }, false);
        }
        94 => world.shadow(&world.seen(number, &[]), |processor| processor.forget()),
        _ => world.processors[number].hardware.borrow_mut().speculate(linear),
    }
    if world.memory.get_mut().now.is_multiple_of(32) {
        let since = world.processors.iter().map(|processor| processor.flushes.all).min().unwrap_or(0);
        world.memory.get_mut().prune(since);
    }
}

/// Begins with tables that map one another, in a random mode.
fn begin(world: &mut World, random: &mut Random) {
    let mode = [Mode::TwoLevel, Mode::Pae, Mode::FourLevel, Mode::FourLevel][random.below(4) as usize];
    let width = if mode == Mode::TwoLevel { 4 } else { 8 };
    world.memory.get_mut().now += 1;
    world.memory.get_mut().reset(random, width);
    for number in 0..world.processors.len() {
        world.shadow(&world.seen(number, &[]), |processor| processor.forget());
    }
    for number in 0..world.processors.len() {
        let features = if random.one_in(2) { Features::all() } else { random_features(random) };
        let cr3 = random_root(random, mode);
        world.load(number, Paging { mode, features, cr3, pdptes: [0; 4], physical_bits: PHYSICAL_BITS }, false);
    }
}

fn campaign(random: &mut Random, pages: u64, processors: u32, steps: u64) {
    let ram = Ram::new(pages);
    let mut world = World::new(&ram, pages, processors);
    for number in 0..steps {
        random.operation += 1;
        if number % EPISODE == 0 {
            begin(&mut world, random);
        }
        step(&mut world, random);
        super::take_elementary_steps();
    }
    let counters: Vec<_> = (0..processors).map(|number| world.shadow.counters(number)).collect();
    let sum = |what: ShadowCounter| counters.iter().map(|counters| counters[what as usize]).sum::<u64>();
    let (fills, synchronised) = (sum(ShadowCounter::Fills), sum(ShadowCounter::Synchronised));
    let forgets = cfg!(feature = "plain-shadow");
    assert!(steps < 10_000 || fills > steps / 20 && (forgets || synchronised > steps / 100));
    std::println!("{processors} processors, {pages} pages: {counters:?}");
    while world.shadow.destroy_step(&world.pool) == Progress::Again {}
    assert_eq!(world.pool.count(), pages, "pages were lost");
    while let Some(page) = world.pool.take() {
        assert!(is_zero(page));
    }
}

#[test]
fn translations_are_what_a_tlb_may_hold() {
    let mut random = Random::from_environment();
    let steps = operations(1000);
    for (pages, processors, share) in [(300, 2, 3), (60, 2, 2), (90, 3, 1), (34, 1, 1), (500, 4, 1), (4000, 3, 2)] {
        campaign(&mut random, pages, processors, steps / 10 * share);
    }
}

#[test]
fn too_little_memory_is_refused() {
    let ram = Ram::new(28);
    let pool = Pool::default();
    for page in 0..28 {
        pool.give(ram.page(page));
    }
    let shadow = Shadow::default();
    assert_eq!(shadow.build(&pool, 1), Err(Error::PoolExhausted));
    assert_eq!(shadow.build(&pool, 0), Err(Error::BadArgument));
    assert_eq!(shadow.build(&pool, 17), Err(Error::BadArgument));
}
