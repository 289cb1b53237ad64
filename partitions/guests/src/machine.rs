//! The processor's instructions and the PC's ports, as functions. The guests' unsafe code is here and in
//! `exceptions`, and for several processors in `instructions`, `interrupts`, `smp`, `acpi`, `ipi_bench` and `smp_memory`.

use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, _rdtsc, CpuidResult};

/// PM1a control register of the virtual PC, and what powers it off there: sleep type 5 with the enable bit (ACPI 6.5, 4.8.3.2).
const PM1A_CONTROL: u16 = 0x604;
const SLEEP: u16 = 5 << 10 | 1 << 13;
/// Ends the machine with a code.
const EXIT: u16 = 0xf4;
/// The port of the PC's self-test codes: nothing answers there but a monitor.
pub const SELF_TEST: u16 = 0x80;

/// The I/O ports. A guest owns its whole machine, so that all of them are its.
pub struct Ports;

macro_rules! widths {
    ($($read:ident, $write:ident: $type:ty, $register:tt;)*) => { $(
        /// Reads a port.
        #[inline(always)]
        pub fn $read(port: u16) -> $type {
            let value: $type;
            // SAFETY: no device of the virtual PC is told to write to the guest's memory.
            unsafe { asm!(concat!("in ", $register, ", dx"), in("dx") port, out($register) value, options(nostack, preserves_flags)) };
            value
        }

        /// Writes a port.
        #[inline(always)]
        pub fn $write(port: u16, value: $type) {
            // SAFETY: as for reading.
            unsafe { asm!(concat!("out dx, ", $register), in("dx") port, in($register) value, options(nostack, preserves_flags)) };
        }
    )* };
}

impl Ports {
    widths! {
        read_u8, write_u8: u8, "al";
        read_u16, write_u16: u16, "ax";
        read_u32, write_u32: u32, "eax";
    }
}

/// CPUID.
#[inline(always)]
pub fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    __cpuid_count(leaf, subleaf)
}

/// The time-stamp counter.
#[inline(always)]
pub fn ticks() -> u64 {
    // SAFETY: the instruction is there in every 64-bit processor.
    unsafe { _rdtsc() }
}

/// Reads a 32-bit device register at a guest-physical address, which must lie outside the guest's RAM, below 4 GiB.
#[inline(always)]
pub fn read_register(address: u32) -> u32 {
    let value: u32;
    // SAFETY: the first 4 GiB are mapped one to one; a read of a device changes no memory.
    unsafe {
        asm!("mov {0:e}, [{1}]", out(reg) value, in(reg) u64::from(address), options(nostack, preserves_flags, readonly))
    };
    value
}

/// Writes a 32-bit device register at a guest-physical address, which must lie outside the guest's RAM, below 4 GiB.
#[inline(always)]
pub fn write_register(address: u32, value: u32) {
    // SAFETY: nothing of this program lies outside the RAM.
    unsafe { asm!("mov [{1}], {0:e}", in(reg) value, in(reg) u64::from(address), options(nostack, preserves_flags)) };
}

/// Up to twelve characters.
pub struct Text([u8; 12]);

impl Text {
    /// As text, without what is not ASCII.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or("(not text)").trim_end_matches('\0')
    }
}

/// The text in three registers.
pub fn text(registers: [u32; 3]) -> Text {
    let mut bytes = [0; 12];
    for (to, from) in bytes.iter_mut().zip(registers.iter().flat_map(|register| register.to_le_bytes())) {
        *to = from;
    }
    Text(bytes)
}

/// Vendor and highest basic leaf of the processor.
pub fn vendor() -> (Text, u32) {
    let leaf = cpuid(0, 0);
    (text([leaf.ebx, leaf.edx, leaf.ecx]), leaf.eax)
}

/// Tells a monitor that counts exits to note the counts, by 32 bits at the port of the self-test codes.
#[inline(always)]
pub fn checkpoint(number: u32) {
    Ports::write_u32(SELF_TEST, number);
}

/// Powers the machine off; where that does nothing, ends it by the exit port.
pub fn power_off() -> ! {
    Ports::write_u16(PM1A_CONTROL, SLEEP);
    exit(0)
}

/// Ends the machine with a code.
pub fn exit(code: u32) -> ! {
    Ports::write_u32(EXIT, code);
    loop {
        // SAFETY: nothing is left to do.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Causes a triple fault: an exception with no table of handlers.
pub fn triple_fault() -> ! {
    #[repr(C, packed)]
    struct Pointer(u16, u64);
    // SAFETY: the program ends here.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &Pointer(0, 0), options(noreturn)) }
}

unsafe extern "C" {
    fn guest_real_mode() -> !;
}

/// Goes down to real mode, where it prints a line and powers off.
pub fn enter_real_mode() -> ! {
    // SAFETY: the assembly uses memory below 64 KiB, where nothing of this program lies, and never returns.
    unsafe { guest_real_mode() }
}

/// The start information that a PVH loader passes.
pub struct StartInformation {
    command_line: u64,
}

impl StartInformation {
    const MAGIC: u32 = 0x336e_c578;
    const COMMAND_LINE: usize = 24;

    /// Reads it, if it is there.
    pub fn at(address: u32) -> Option<Self> {
        let base = address as usize as *const u8;
        if base.is_null() {
            return None;
        }
        // SAFETY: the loader put the information there; all of the first 4 GiB is mapped.
        unsafe {
            if base.cast::<u32>().read_unaligned() != Self::MAGIC {
                return None;
            }
            let command_line = base.add(Self::COMMAND_LINE).cast::<u64>().read_unaligned();
            Some(Self { command_line })
        }
    }

    /// Copies as much of the command line as fits.
    pub fn command_line<'a>(&self, buffer: &'a mut [u8]) -> &'a str {
        if self.command_line == 0 {
            return "";
        }
        let mut length = 0;
        for place in buffer.iter_mut() {
            // SAFETY: the loader put a text with a NUL there; reading stops at the NUL.
            let byte = unsafe { (self.command_line as usize as *const u8).add(length).read() };
            if byte == 0 {
                break;
            }
            *place = byte;
            length += 1;
        }
        core::str::from_utf8(&buffer[..length]).unwrap_or("")
    }
}
