//! The page through which a virtual machine monitor and the kernel exchange a guest processor's state.

use crate::syscall::numbered;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags::bitflags! {
    /// Groups of guest state. In [`VcpuState::dirty`]: groups that the vmm changed and the kernel must load before entry.
    /// In [`VcpuState::valid`]: groups that the kernel stored at the last exit, or by `VcpuMethod::Fetch`.
    /// General registers, `rip` and `instruction_length` are always stored; general registers are always loaded.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct StateGroups: u64 {
        /// `rip`.
        const RIP = 1 << 0;
        /// `rflags`.
        const RFLAGS = 1 << 1;
        /// `rsp` (it is not among `registers` that are always exchanged, since the hardware keeps it).
        const RSP = 1 << 2;
        /// `injection` and `injection_error_code`, `injection_length`.
        const INJECTION = 1 << 3;
        /// `interruptibility` and `activity`.
        const INTERRUPTIBILITY = 1 << 4;
        /// `interrupt_window`, `nmi_window`.
        const WINDOWS = 1 << 5;
        /// `cr0`, `cr3`, `cr4`, `efer`.
        const CONTROL_REGISTERS = 1 << 6;
        /// `segments`, `gdtr`, `idtr`.
        const SEGMENTS = 1 << 7;
        /// `dr7`, `star`, `lstar`, `cstar`, `fmask`, `kernel_gs_base`, `sysenter_*`, `pat`.
        const SYSTEM_REGISTERS = 1 << 8;
        /// `tsc_offset`.
        const TSC_OFFSET = 1 << 9;
        /// `deadline`.
        const DEADLINE = 1 << 10;
        /// `apic_mode`, `apic_threshold`, `eoi_exits`; `interrupt_status` is loaded, too.
        const APIC = 1 << 11;
        /// `xcr0`.
        const XCR0 = 1 << 12;
        /// `pdptes`: PAE page-directory-pointer entries.
        const PDPTES = 1 << 13;
        /// `interrupt_status`.
        const INTERRUPT_STATUS = 1 << 14;
        /// `dr`, `dr6`.
        const DEBUG = 1 << 15;
        /// `pending_debug`.
        const PENDING_DEBUG = 1 << 16;
        /// `shadow`; nothing is loaded.
        const SHADOW = 1 << 17;
    }
}

/// A segment register as VMX describes it (SDM vol. 3, 25.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Segment {
    /// Base address.
    pub base: u64,
    /// Limit in bytes.
    pub limit: u32,
    /// Access rights in VMX format; bit 16 = unusable.
    pub access: u32,
    /// Selector.
    pub selector: u64,
}

/// Index in [`VcpuState::segments`].
pub mod segment {
    /// ES.
    pub const ES: usize = 0;
    /// CS.
    pub const CS: usize = 1;
    /// SS.
    pub const SS: usize = 2;
    /// DS.
    pub const DS: usize = 3;
    /// FS.
    pub const FS: usize = 4;
    /// GS.
    pub const GS: usize = 5;
    /// LDTR.
    pub const LDTR: usize = 6;
    /// TR.
    pub const TR: usize = 7;
}

/// Index in [`VcpuState::registers`]; the order is that of x86 instruction encoding. Index 4 (RSP) is `VcpuState::rsp` instead.
pub mod register {
    /// RAX.
    pub const RAX: usize = 0;
    /// RCX.
    pub const RCX: usize = 1;
    /// RDX.
    pub const RDX: usize = 2;
    /// RBX.
    pub const RBX: usize = 3;
    /// Not used: see `VcpuState::rsp`.
    pub const RSP: usize = 4;
    /// RBP.
    pub const RBP: usize = 5;
    /// RSI.
    pub const RSI: usize = 6;
    /// RDI.
    pub const RDI: usize = 7;
}

/// The state of a guest processor while it is outside the guest. One page, shared by kernel and vmm; the kernel reads each
/// field once, and treats it as hostile.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuState {
    /// General registers, in encoding order; index 4 is ignored.
    pub registers: [u64; 16],
    /// [`StateGroups`] to load before entry. The kernel clears it.
    pub dirty: u64,
    /// [`StateGroups`] that hold the state at the last exit.
    pub valid: u64,
    /// Stored at every exit.
    pub rip: u64,
    /// Stored at every exit of an instruction that the vmm may emulate.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Basic exit reason as the hardware gave it (SDM vol. 3, appendix C).
    pub exit_reason: u64,
    /// Exit qualification (SDM vol. 3, 28.2.1). An EPT violation with shadow paging has bits 0, 1, 7 and 8 only.
    pub exit_qualification: u64,
    /// Guest-physical address of an EPT violation or misconfiguration.
    pub guest_physical: u64,
    /// Guest-linear address, where the exit has one.
    pub guest_linear: u64,
    /// Bytes of the instruction that exited.
    pub instruction_length: u32,
    /// VM-exit instruction information (SDM vol. 3, 28.2.5), where the exit has it.
    pub instruction_information: u32,
    /// VM-exit interruption information, for exceptions and NMIs.
    pub interruption: u32,
    /// Error code that goes with `interruption`.
    pub interruption_error_code: u32,
    /// IDT-vectoring information: an event whose delivery the exit interrupted; the vmm must inject it again.
    pub idt_vectoring: u32,
    /// Error code that goes with `idt_vectoring`.
    pub idt_vectoring_error_code: u32,
    /// Event to inject at the next entry, in VM-entry interruption-information format; consumed by the entry.
    pub injection: u32,
    /// Error code to inject.
    pub injection_error_code: u32,
    /// Instruction length for software interrupts and exceptions.
    pub injection_length: u32,
    /// Interruptibility state (SDM vol. 3, 25.4.2).
    pub interruptibility: u32,
    /// Activity state: 0 active, 1 HLT, 3 wait-for-SIPI.
    pub activity: u32,
    /// 1: exit as soon as the guest can take an interrupt.
    pub interrupt_window: u32,
    /// 1: exit as soon as the guest can take an NMI.
    pub nmi_window: u32,
    /// [`ApicMode`].
    pub apic_mode: u32,
    /// CR0 as the guest sees it.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4 as the guest sees it.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
    /// XCR0.
    pub xcr0: u64,
    /// Segment registers, by [`segment`].
    pub segments: [Segment; 8],
    /// GDTR (base and limit).
    pub gdtr: Segment,
    /// IDTR (base and limit).
    pub idtr: Segment,
    /// DR7.
    pub dr7: u64,
    /// IA32_STAR.
    pub star: u64,
    /// IA32_LSTAR.
    pub lstar: u64,
    /// IA32_CSTAR.
    pub cstar: u64,
    /// IA32_FMASK.
    pub fmask: u64,
    /// IA32_KERNEL_GS_BASE.
    pub kernel_gs_base: u64,
    /// IA32_SYSENTER_CS.
    pub sysenter_cs: u64,
    /// IA32_SYSENTER_ESP.
    pub sysenter_esp: u64,
    /// IA32_SYSENTER_EIP.
    pub sysenter_eip: u64,
    /// IA32_PAT.
    pub pat: u64,
    /// Added to the host's TSC for the guest.
    pub tsc_offset: u64,
    /// Host TSC value at which the run ends with [`ExitReason::Deadline`]; `u64::MAX` for none.
    pub deadline: u64,
    /// PAE page-directory-pointer entries.
    pub pdptes: [u64; 4],
    /// DR0 to DR3.
    pub dr: [u64; 4],
    /// DR6.
    pub dr6: u64,
    /// Pending debug exceptions (SDM vol. 3, 25.4.2).
    pub pending_debug: u64,
    /// CR2, which the hardware does not switch: stored at every exit and loaded at every entry, like the general registers.
    pub cr2: u64,
    /// Signal bits taken from the thread's bound notification by an [`ExitReason::Signal`].
    pub signals: u64,
    /// Highest vector that is requested in the virtual-APIC page (bits 7 to 0), and highest in service (bits 15 to 8).
    pub interrupt_status: u32,
    /// Task-priority class below which the guest exits in mode [`ApicMode::TaskPriority`]; at most its present class.
    pub apic_threshold: u32,
    /// Vectors whose end exits, 64 a word.
    pub eoi_exits: [u64; 4],
    /// What the kernel has done for the vCPU without a return of `Run`, by [`Counted`].
    pub counted: [u64; 8],
    /// What shadow paging has done for the vCPU, by [`ShadowCounter`].
    pub shadow: [u64; 6],
}

numbered! {
    /// What is counted in [`VcpuState::counted`]: exits, but for the last.
    pub enum Counted {
        /// External interrupts of the host.
        Interrupt = 0,
        /// Ends of the kernel's time slices.
        Slice = 1,
        /// Writes to doorbells.
        Doorbell = 2,
        /// Page faults that shadow paging answered.
        Fill = 3,
        /// Page faults that shadow paging gave back to the guest.
        GuestFault = 4,
        /// Loads of CR3 that shadow paging answered.
        Cr3Load = 5,
        /// INVLPG.
        Invlpg = 6,
        /// Interrupts sent to other CPUs by shadow paging, to keep its tables equal to the guest's.
        SyncInterrupt = 7,
    }
}

numbered! {
    /// What is counted in [`VcpuState::shadow`].
    pub enum ShadowCounter {
        /// Page faults that were answered by an entry.
        Fills = 0,
        /// Entries made beside those, without a fault.
        Neighbours = 1,
        /// Shadow tables that were compared with the guest's.
        Synchronised = 2,
        /// Most entries at a time that mapped guest tables writable (no sum).
        LongestList = 3,
        /// Shadow tables whose memory was taken for others.
        Evictions = 4,
        /// Flushes of the TLB.
        Flushes = 5,
    }
}

/// Byte offset, in the virtual-APIC page, of the vCPU's posted-interrupt descriptor (SDM vol. 3, table 30-1): a set of 256 vectors,
/// and in the bit behind it whether there is something in the set. In all modes but [`ApicMode::Software`] the kernel, or the
/// processor, requests what is posted before the guest goes on; `VcpuMethod::Notify` makes a guest that runs look.
pub const POSTED_INTERRUPTS: usize = 0x800;

numbered! {
    /// How accesses to a vCPU's local APIC, CR8 included, are answered.
    pub enum ApicMode {
        /// They exit.
        Software = 0,
        /// The processor answers them from the virtual-APIC page and delivers interrupts by itself: registers in memory.
        Xapic = 1,
        /// The same, registers as MSRs.
        X2apic = 2,
        /// They exit, but for CR8, which is the task priority in the virtual-APIC page; there is an exit when it falls below
        /// `apic_threshold`.
        TaskPriority = 3,
    }
}

numbered! {
    /// Why `Run` returned.
    pub enum ExitReason {
        /// A hardware exit that the vmm must handle; see `VcpuState::exit_reason`.
        Hardware = 0,
        /// The thread's bound notification was signalled; bits in `VcpuState::signals`.
        Signal = 1,
        /// The deadline passed.
        Deadline = 2,
        /// The hardware refused the state; `exit_reason` = 33 or the VM-instruction error is in `exit_qualification`.
        EntryFailed = 3,
    }
}
