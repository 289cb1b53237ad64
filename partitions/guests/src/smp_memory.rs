//! `smp-memory`: all processors use one part of guest-physical memory at once, by locked operations whose results can be
//! checked. It serves to show that memory stays memory while the monitor changes what lies beneath.

use crate::smp::{self, MAXIMUM};
use crate::{delay, machine, println};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

const PAGE: usize = 4096;
/// Most pages that are used; a larger part of memory is used in steps of more than a page.
const MAX_PAGES: usize = 1024;
/// Longest time that the PIT counts at once, and how often that is in a second.
const TICK: u64 = 50_000;
const TICKS_PER_SECOND: u32 = 20;

/// What one page holds. Each part has a cache line of its own.
#[repr(C)]
struct Page {
    /// Counts everybody's visits.
    visits: Line,
    /// A lock, the number of whoever holds it plus one, and a sum that only the holder changes.
    lock: Line,
    sum: Line,
    /// Each processor's own visits.
    own: [Line; MAXIMUM],
}

#[repr(C, align(64))]
struct Line(AtomicU64);

/// How often each processor has been to each page: what `Page::own` must say.
static VISITS: [[AtomicU32; MAX_PAGES]; MAXIMUM] = [const { [const { AtomicU32::new(0) }; MAX_PAGES] }; MAXIMUM];

/// Where the pages are.
#[derive(Clone, Copy)]
struct Window {
    base: usize,
    pages: usize,
    stride: usize,
}

impl Window {
    fn new(base: usize, length: usize) -> Option<Self> {
        let all = length / PAGE;
        let is_usable = base.is_multiple_of(PAGE) && base != 0 && all != 0 && base.checked_add(length)? <= 1 << 32;
        let pages = all.min(MAX_PAGES);
        is_usable.then_some(Self { base, pages, stride: all / pages.max(1) * PAGE })
    }

    fn page(&self, number: usize) -> &'static Page {
        let address = self.base + number * self.stride;
        // SAFETY: the first 4 GiB are mapped one to one; whoever wrote the command line says that this is free memory. All
        // parts of a page are atomic, and any bits are valid for them.
        unsafe { &*(address as *const Page) }
    }
}

/// Takes base and length in hexadecimal, and seconds in decimal.
pub fn run<'a>(mut words: impl Iterator<Item = &'a str>) {
    let mut hexadecimal = || usize::from_str_radix(words.next()?.trim_start_matches("0x"), 16).ok();
    let window = hexadecimal().zip(hexadecimal()).and_then(|(base, length)| Window::new(base, length));
    let seconds = words.next().and_then(|seconds| seconds.parse::<u32>().ok());
    let (Some(window), Some(seconds)) = (window, seconds) else {
        println!("smp-memory: give base and length in hexadecimal, whole pages below 4 GiB, and seconds");
        machine::exit(2);
    };
    smp::start();
    println!("smp-memory: {} processors, {} pages at {:#x}", smp::count(), window.pages, window.base);
    for number in 0..window.pages {
        let page = window.page(number);
        let shared = [&page.visits, &page.lock, &page.sum];
        shared.into_iter().chain(&page.own).for_each(|line| line.0.store(0, Ordering::SeqCst));
    }

    let is_over = AtomicBool::new(false);
    smp::on_all(&|processor| {
        let mut visitor = Visitor { processor, window, random: processor as u32 + 1 };
        if processor != 0 {
            while !is_over.load(Ordering::SeqCst) {
                visitor.visit();
            }
            return;
        }
        for _ in 0..seconds * TICKS_PER_SECOND {
            delay::begin(TICK);
            while !delay::is_over() {
                (0..16).for_each(|_| visitor.visit());
            }
        }
        is_over.store(true, Ordering::SeqCst);
    });

    let total: u64 = (0..window.pages).map(|number| check(&window, number)).sum();
    println!("smp-memory: {total} visits, all pages are right");
}

/// One processor on its way over the pages.
struct Visitor {
    processor: usize,
    window: Window,
    random: u32,
}

impl Visitor {
    /// Goes to some page, changes it, and checks what nobody else can have changed.
    fn visit(&mut self) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        let number = self.random as usize % self.window.pages;
        let page = self.window.page(number);
        let visits = &VISITS[self.processor][number];
        let before = u64::from(visits.load(Ordering::Relaxed));

        let own = page.own[self.processor].0.swap(before + 1, Ordering::SeqCst);
        assert_eq!(own, before, "page {number}: processor {}'s own count", self.processor);
        let all = page.visits.0.fetch_add(1, Ordering::SeqCst);
        assert!(all >= before, "page {number}: {all} visits, of which {before} are processor {}'s", self.processor);
        visits.store(before as u32 + 1, Ordering::Relaxed);

        let me = self.processor as u64 + 1;
        while page.lock.0.compare_exchange(0, me, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            core::hint::spin_loop();
        }
        // Plain reads and writes, which only the lock keeps apart.
        let sum = page.sum.0.load(Ordering::Relaxed);
        page.sum.0.store(sum + 1, Ordering::Relaxed);
        let holder = page.lock.0.swap(0, Ordering::SeqCst);
        assert_eq!(holder, me, "page {number}: the lock of processor {}", self.processor);
    }
}

/// Checks a page when nobody uses it any more, and tells how often it was visited.
fn check(window: &Window, number: usize) -> u64 {
    let page = window.page(number);
    let mut expected = 0;
    for (processor, visits) in VISITS.iter().enumerate().take(smp::count()) {
        let visits = u64::from(visits[number].load(Ordering::SeqCst));
        assert_eq!(
            page.own[processor].0.load(Ordering::SeqCst),
            visits,
            "page {number}: processor {processor}'s count"
        );
        expected += visits;
    }
    let (visits, sum) = (page.visits.0.load(Ordering::SeqCst), page.sum.0.load(Ordering::SeqCst));
    assert_eq!((visits, sum), (expected, expected), "page {number}: visits and sum");
    visits
}
