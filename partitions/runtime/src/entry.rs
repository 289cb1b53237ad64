//! From the first instruction to the program's main function, and the end of a program that panics.

use crate::heap;
use crate::program::Program;
use bulkhead_abi::{BOOT_INFO_MAGIC, BootInfo};
use bulkhead_plan::{Environment, EnvironmentHeader, Fault, layout};
use core::arch::{asm, global_asm};
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use zerocopy::FromBytes;

global_asm!(
    ".pushsection .text.start, \"ax\", @progbits",
    ".global _start",
    ".type _start, @function",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call bulkhead_program",
    "ud2",
    ".size _start, . - _start",
    ".popsection",
);

/// Names the program's main function, a `fn(Program)`. When it returns the program sleeps for ever; it says before, by
/// [`Program::report`], how it ended.
///
/// It needs `#![deny(unsafe_code)]` at the program's root, since it defines a symbol; the modules below it can forbid it.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[allow(unsafe_code, reason = "the one symbol that the runtime calls")]
        #[unsafe(no_mangle)]
        extern "C" fn bulkhead_program(address: u64) -> ! {
            $crate::entry::start_program(address, $main)
        }
    };
}

/// Names init's main function, a `fn(&'static BootInfo)`. See [`crate::entry!`].
#[macro_export]
macro_rules! init_entry {
    ($main:path) => {
        #[allow(unsafe_code, reason = "the one symbol that the runtime calls")]
        #[unsafe(no_mangle)]
        extern "C" fn bulkhead_program(address: u64) -> ! {
            $crate::entry::start_init(address, $main)
        }
    };
}

/// Sets up the runtime of a program and calls its main function. Called once, by the entry macro; and again, with a [`Fault`]'s number, if
/// the manifest injects that.
#[doc(hidden)]
pub fn start_program(address: u64, main: fn(Program)) -> ! {
    if let Some(fault) = Fault::from_number(address) {
        let Some(environment) = environment(layout::ENVIRONMENT) else { die("the environment is not valid") };
        // SAFETY: only init starts a program so, after it has stopped it.
        crate::trial::commit(fault, &unsafe { Program::resumed(environment) });
    }
    let Some(environment) = environment(address) else { die("the environment is not valid") };
    if let Some(region) = environment.heap() {
        // SAFETY: init mapped the region for the heap alone, and this function runs once.
        unsafe { heap::start(region.address, region.size) };
    }
    // SAFETY: the environment is init's, and this function runs once.
    main(unsafe { Program::new(environment) });
    sleep()
}

/// The environment that init mapped at an address, read-only, for as long as the program runs.
fn environment(address: u64) -> Option<Environment<'static>> {
    if address != layout::ENVIRONMENT {
        return None;
    }
    // SAFETY: init maps at least the header there, and nobody writes to it while the program runs.
    let header = unsafe { core::slice::from_raw_parts(address as usize as *const u8, size_of::<EnvironmentHeader>()) };
    let (header, _) = EnvironmentHeader::ref_from_prefix(header).ok()?;
    let size = usize::try_from(header.size.min(layout::ENVIRONMENT_MAX)).ok()?;
    // SAFETY: init maps as many bytes as the header says.
    let bytes = unsafe { core::slice::from_raw_parts(address as usize as *const u8, size) };
    Environment::parse(bytes).ok()
}

/// Bytes of init's heap.
const INIT_HEAP: usize = 256 << 10;

#[repr(C, align(4096))]
struct InitHeap(core::cell::UnsafeCell<[u8; INIT_HEAP]>);
// SAFETY: only the allocator uses it, under its lock.
unsafe impl Sync for InitHeap {}
static INIT_HEAP_MEMORY: InitHeap = InitHeap(core::cell::UnsafeCell::new([0; INIT_HEAP]));

/// Sets up the runtime of init and calls its main function. Called once, by the entry macro.
#[doc(hidden)]
pub fn start_init(address: u64, main: fn(&'static BootInfo)) -> ! {
    // SAFETY: the static memory is used for nothing else, and this function runs once.
    unsafe { heap::start(INIT_HEAP_MEMORY.0.get() as u64, INIT_HEAP as u64) };
    // SAFETY: the kernel maps the boot information there, read-only, and does not change it.
    let bytes = unsafe { core::slice::from_raw_parts(address as usize as *const u8, size_of::<BootInfo>()) };
    match BootInfo::ref_from_bytes(bytes) {
        Ok(information) if information.magic == BOOT_INFO_MAGIC => main(information),
        _ => die("the boot information is not valid"),
    }
    sleep()
}

/// What a program does that has nothing left to do.
fn sleep() -> ! {
    loop {
        crate::events::wait(bulkhead_abi::NO_DEADLINE);
    }
}

/// Bytes of the text that a dying program leaves.
const LAST_WORDS: usize = 512;
static LAST_TEXT: [AtomicU8; LAST_WORDS] = [const { AtomicU8::new(0) }; LAST_WORDS];
static DYING: AtomicBool = AtomicBool::new(false);

/// Writes to [`LAST_TEXT`], which always ends with a NUL.
struct LastWords(usize);

impl Write for LastWords {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.0 >= LAST_WORDS - 1 {
                return Err(fmt::Error);
            }
            if let Some(place) = LAST_TEXT.get(self.0) {
                place.store(byte, Ordering::Relaxed);
            }
            self.0 += 1;
        }
        Ok(())
    }
}

/// Ends the program with a fault whose `rdi` points to a NUL-terminated text; the text is also in the console's ring.
pub fn die_with(arguments: fmt::Arguments<'_>) -> ! {
    if !DYING.swap(true, Ordering::Relaxed) {
        let mut words = LastWords(0);
        // A text that is too long is cut.
        let _ = words.write_fmt(arguments);
        let mut copy = [0; LAST_WORDS];
        for (to, from) in copy.iter_mut().zip(&LAST_TEXT) {
            *to = from.load(Ordering::Relaxed);
        }
        crate::console::print_last(copy.get(..words.0).unwrap_or_default());
        crate::console::print_last(b"\n");
    }
    // SAFETY: the instruction faults: init, or for init the kernel, reports it.
    unsafe { asm!("ud2", in("rdi") LAST_TEXT.as_ptr(), options(noreturn, nostack)) }
}

/// Ends the program with a fault and this text.
pub fn die(text: &str) -> ! {
    die_with(format_args!("{text}"))
}

#[panic_handler]
fn panic(information: &PanicInfo<'_>) -> ! {
    die_with(format_args!("{information}"))
}

/// Where code of the precompiled `alloc` would go on after a clean-up; panics here end the program, so nothing ever unwinds.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    die("unwinding without a panic")
}
