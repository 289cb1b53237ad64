//! What the kernel tells init, and what a fault report holds.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Virtual address of the [`BootInfo`] page in init's space (mapped read-only; the value is also in `rdi` at its entry).
pub const BOOT_INFO_ADDRESS: u64 = 0x1000_0000;
/// Most memory ranges that boot information lists.
pub const MAX_BOOT_MEMORY: usize = 32;
/// Most modules that boot information lists.
pub const MAX_BOOT_MODULES: usize = 48;
/// Most CPUs of which boot information says the APIC identifier.
pub const MAX_BOOT_CPUS: usize = 64;
/// Ranges of device memory that boot information lists.
pub const BOOT_DEVICE_RANGES: usize = 3;

/// Slots of init's capability table at boot.
pub mod init_slot {
    /// Init's own partition.
    pub const PARTITION: u64 = 1;
    /// Init's own thread.
    pub const THREAD: u64 = 2;
    /// Every I/O port, except those that the kernel keeps (interrupt controllers, PCI stays outside).
    pub const IO_PORTS: u64 = 3;
    /// Every global system interrupt.
    pub const INTERRUPTS: u64 = 4;
    /// The first of the root windows, one a CPU.
    pub const FIRST_WINDOW: u64 = 8;
    /// The first of the free memory ranges, in the order of `BootInfo::memory`.
    pub const FIRST_MEMORY: u64 = 80;
    /// The first of the ranges of device memory, in the order of `BootInfo::device_memory` (memory with READ, WRITE, GRANT, REVOKE).
    pub const FIRST_DEVICE_MEMORY: u64 = 112;
    /// The first of the modules, in the order of `BootInfo::modules` (memory with READ, EXECUTE, GRANT).
    pub const FIRST_MODULE: u64 = 128;
    /// The first slot that the kernel leaves empty.
    pub const FIRST_FREE: u64 = 192;
}

/// A range of free memory, or a module.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootRange {
    /// Physical address, page-aligned.
    pub base: u64,
    /// Bytes; a module's real length, its capability covers whole pages.
    pub length: u64,
    /// A module's command line (its name), NUL-padded.
    pub name: [u8; 48],
}

/// What the kernel tells init about the machine. Little-endian, one or two pages.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootInfo {
    /// [`BOOT_INFO_MAGIC`].
    pub magic: u64,
    /// CPUs that the kernel runs on, numbered from 0.
    pub cpus: u64,
    /// TSC ticks a second.
    pub tsc_hz: u64,
    /// TSC at the kernel's first instruction.
    pub tsc_at_entry: u64,
    /// [`CpuFeatures`] common to all CPUs.
    pub features: u64,
    /// Slots in init's capability table.
    pub slots: u64,
    /// Entries used in `memory`.
    pub memory_count: u64,
    /// Entries used in `modules`.
    pub module_count: u64,
    /// Free memory, zeroed.
    pub memory: [BootRange; MAX_BOOT_MEMORY],
    /// Modules that the boot loader loaded.
    pub modules: [BootRange; MAX_BOOT_MODULES],
    /// Physical addresses that are neither RAM nor the interrupt controllers': from the end of RAM to 0xfec0_0000, from 0xfed0_0000
    /// to 0xfee0_0000, and from 4 GiB or the end of RAM up. An empty one has no slot.
    pub device_memory: [BootRange; BOOT_DEVICE_RANGES],
    /// Physical address of the ACPI table MCFG, which tells where PCI configuration space is in memory; 0: there is none.
    pub mcfg: u64,
    /// Physical address of the ACPI table DMAR, which tells of DMA remapping; 0: there is none.
    pub dmar: u64,
    /// Physical address of the ACPI table SRAT, which tells to which NUMA nodes memory and processors belong; 0: there is none.
    pub srat: u64,
    /// APIC identifiers of the CPUs, by number; 0 for those that are not there.
    pub apic_ids: [u32; MAX_BOOT_CPUS],
}

/// Value of [`BootInfo::magic`].
pub const BOOT_INFO_MAGIC: u64 = u64::from_le_bytes(*b"BULKHEAD");

bitflags::bitflags! {
    /// Processor features that decide what kinds of partition can run.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct CpuFeatures: u64 {
        /// VMX is present and allowed by IA32_FEATURE_CONTROL.
        const VMX = 1 << 0;
        /// Extended page tables, 4-level, write-back.
        const EPT = 1 << 1;
        /// Unrestricted guest.
        const UNRESTRICTED_GUEST = 1 << 2;
        /// VMX preemption timer.
        const PREEMPTION_TIMER = 1 << 3;
        /// Virtual-processor identifiers.
        const VPID = 1 << 4;
        /// APIC-register virtualization and virtual-interrupt delivery.
        const VIRTUAL_APIC = 1 << 5;
        /// Constant-rate TSC.
        const INVARIANT_TSC = 1 << 6;
        /// XSAVE, so that guests may be given AVX.
        const XSAVE = 1 << 7;
        /// The task priority of guests can be kept in the virtual-APIC page.
        const TPR_SHADOW = 1 << 8;
    }
}

/// What `ThreadMethod::ReadFault` writes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FaultReport {
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub registers: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// Exception vector; `u64::MAX` if the thread has not faulted.
    pub vector: u64,
    /// Error code of the exception, 0 if it has none.
    pub error_code: u64,
    /// CR2, for a page fault.
    pub address: u64,
}
