//! Exceptions that a test causes on purpose: counted, and passed over.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};

/// Vectors that have a handler.
const VECTORS: usize = 32;
/// Vectors whose exceptions push an error code (SDM vol. 3, 6.15).
const WITH_ERROR_CODE: u32 = 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21;

/// Where a handler returns to, instead of the instruction that faulted; 0: nobody expects an exception.
#[unsafe(no_mangle)]
static GUEST_RESUME: AtomicU64 = AtomicU64::new(0);
/// Exceptions so far.
#[unsafe(no_mangle)]
static GUEST_EXCEPTIONS: AtomicU64 = AtomicU64::new(0);

global_asm!(
    ".pushsection .text",
    "guest_exception_plain:",
    "push 0",
    "guest_exception_error:",
    "push rax",
    "mov rax, [rip + GUEST_RESUME]",
    "test rax, rax",
    "jz 1f",
    "mov [rsp + 16], rax",
    "inc qword ptr [rip + GUEST_EXCEPTIONS]",
    "pop rax",
    "add rsp, 8",
    "iretq",
    "1: mov rdi, [rsp + 16]",
    "and rsp, -16",
    "call {unexpected}",
    ".popsection",
    unexpected = sym unexpected,
);

unsafe extern "C" {
    fn guest_exception_plain();
    fn guest_exception_error();
}

extern "C" fn unexpected(rip: u64) -> ! {
    panic!("unexpected exception at {rip:#x}")
}

/// A 64-bit interrupt gate.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Gate([u64; 2]);

impl Gate {
    fn new(handler: u64) -> Self {
        const CODE: u64 = 0x08;
        const PRESENT_INTERRUPT_GATE: u64 = 0x8e << 40;
        let low = handler & 0xffff | CODE << 16 | PRESENT_INTERRUPT_GATE | (handler >> 16 & 0xffff) << 48;
        Self([low, handler >> 32])
    }
}

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

struct Table(core::cell::UnsafeCell<[Gate; VECTORS]>);
// SAFETY: written once, by the only processor, before it is used.
unsafe impl Sync for Table {}
static TABLE: Table = Table(core::cell::UnsafeCell::new([Gate([0; 2]); VECTORS]));

/// Loads the table of handlers.
pub fn install() {
    let mut gates = [Gate([0; 2]); VECTORS];
    for (vector, gate) in gates.iter_mut().enumerate() {
        let handler = if WITH_ERROR_CODE >> vector & 1 != 0 {
            guest_exception_error as *const () as u64
        } else {
            guest_exception_plain as *const () as u64
        };
        *gate = Gate::new(handler);
    }
    let pointer = Pointer { limit: (size_of::<[Gate; VECTORS]>() - 1) as u16, base: TABLE.0.get() as u64 };
    // SAFETY: the table is written before it is loaded, by the only processor.
    unsafe {
        TABLE.0.get().write(gates);
        asm!("lidt [{}]", in(reg) &pointer, options(readonly, nostack, preserves_flags));
    }
}

/// Gives page faults a handler of their own, for the only processor.
pub fn handle_page_faults(handler: unsafe extern "C" fn()) {
    const PAGE_FAULT: usize = 14;
    // SAFETY: the table has this gate; no page fault happens meanwhile.
    unsafe { TABLE.0.get().cast::<Gate>().add(PAGE_FAULT).write_volatile(Gate::new(handler as *const () as u64)) };
}

/// Exceptions so far.
pub fn count() -> u64 {
    GUEST_EXCEPTIONS.load(Ordering::Relaxed)
}

/// Executes an instruction that may fault, with these registers; what it left in them, or `None` if it faulted.
macro_rules! attempt {
    ($instruction:literal, $eax:expr, $ecx:expr, $edx:expr) => {{
        let before = count();
        let (mut eax, mut edx): (u64, u64) = ($eax, $edx);
        // SAFETY: an exception resumes behind the instruction, which changes no memory and no other registers.
        unsafe {
            asm!(
                "lea {resume}, [rip + 2f]",
                "mov [rip + GUEST_RESUME], {resume}",
                "push rbx",
                $instruction,
                "2:",
                "pop rbx",
                "mov qword ptr [rip + GUEST_RESUME], 0",
                resume = out(reg) _,
                inout("rax") eax,
                inout("rcx") $ecx as u64 => _,
                inout("rdx") edx,
            );
        }
        if count() == before { Some((eax, edx)) } else { None }
    }};
}

/// RDMSR.
pub fn read_msr(msr: u32) -> Option<u64> {
    attempt!("rdmsr", 0, msr, 0).map(|(low, high)| high << 32 | low & 0xffff_ffff)
}

/// WRMSR, for MSRs that do not decide how this program runs.
pub fn write_msr(msr: u32, value: u64) -> Option<()> {
    attempt!("wrmsr", value & 0xffff_ffff, msr, value >> 32).map(|_| ())
}

/// Tries to change control registers: bits that do not decide how this program runs, as `value` says, and those that are reserved.
pub fn disturb_control_registers(value: u64) {
    // Of CR0: MP, TS, NE, AM, NW, and what is reserved; of CR4: PVI, DE, MCE, PCE, UMIP, FSGSBASE, OSXSAVE, and what is reserved.
    const CR0: u64 = 1 << 1 | 1 << 3 | 1 << 5 | 1 << 18 | 1 << 29;
    const CR4: u64 = 1 << 1 | 1 << 3 | 1 << 6 | 1 << 8 | 1 << 11 | 1 << 16 | 1 << 18;
    let reserved = if value >> 63 == 1 { 1 << (24 + value % 40) } else { 0 };
    match value >> 60 & 7 {
        0 | 1 => drop(attempt!("mov rdx, cr0; xor rax, rdx; mov cr0, rax", value & CR0 | reserved & !(3 << 30), 0, 0)),
        2 | 3 => drop(attempt!("mov rdx, cr4; xor rax, rdx; mov cr4, rax", value & CR4 | reserved, 0, 0)),
        4 => drop(attempt!("mov rdx, cr3; or rax, rdx; mov cr3, rax", value & 0x18 | (reserved & 1 << 30) << 30, 0, 0)),
        5 => drop(attempt!("mov cr8, rax", value & 0xffff, 0, 0)),
        _ => drop(attempt!("clts", 0, 0, 0)),
    }
}

/// Name of an instruction, and what tries it: whether it raised no exception.
pub type Forbidden = (&'static str, fn() -> bool);

/// Instructions that a guest has no business with, by name: each must do nothing or raise an exception, and leave the guest
/// and everybody else alive.
pub const FORBIDDEN: [Forbidden; 15] = [
    ("vmcall", || attempt!("vmcall", 0, 0, 0).is_some()),
    ("vmxoff", || attempt!("vmxoff", 0, 0, 0).is_some()),
    ("vmlaunch", || attempt!("vmlaunch", 0, 0, 0).is_some()),
    ("vmresume", || attempt!("vmresume", 0, 0, 0).is_some()),
    ("vmread", || attempt!("vmread rax, rcx", 0, 0x6800, 0).is_some()),
    ("vmfunc", || attempt!("vmfunc", 0, 0, 0).is_some()),
    ("invept", || attempt!("invept rax, [rsp]", 1, 0, 0).is_some()),
    ("wbinvd", || attempt!("wbinvd", 0, 0, 0).is_some()),
    ("monitor", || attempt!("monitor", 0x20_0000, 0, 0).is_some()),
    ("mwait", || attempt!("mwait", u64::MAX, u64::MAX, 0).is_some()),
    ("rdpmc", || attempt!("rdpmc", 0, 0x4000_0000, 0).is_some()),
    ("getsec", || attempt!("getsec", 0, 0, 0).is_some()),
    ("ud2", || attempt!("ud2", 0, 0, 0).is_some()),
    ("a reserved bit of CR4", || attempt!("mov rax, cr4; bts rax, 63; mov cr4, rax", 0, 0, 0).is_some()),
    ("a reserved bit of CR0", || attempt!("mov rax, cr0; bts rax, 63; mov cr0, rax", 0, 0, 0).is_some()),
];
