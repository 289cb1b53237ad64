//! Object types and their methods.

use crate::syscall::numbered;

numbered! {
    /// Types of kernel objects.
    pub enum ObjectType {
        /// An empty slot.
        None = 0,
        /// A range of physical memory.
        Memory = 1,
        /// An address space, a capability table, a pool of page-table memory.
        Partition = 2,
        /// A native flow of control bound to one CPU.
        Thread = 3,
        /// A guest processor.
        Vcpu = 4,
        /// Guest-physical memory.
        GuestSpace = 5,
        /// A rendezvous for call and reply on one CPU.
        Endpoint = 6,
        /// A word of signal bits.
        Notification = 7,
        /// A range of I/O ports.
        IoPorts = 8,
        /// A range of global system interrupts.
        Interrupt = 9,
        /// A share of a CPU: priority, budget and period.
        Window = 10,
    }
}

numbered! {
    /// Methods that every capability has, whatever its type. Slots are of the caller's own table unless said otherwise.
    pub enum AnyMethod {
        /// Child with the same object: `rdx` destination slot, `r10` rights to keep, `r8` badge (kept if the source's is not 0),
        /// `r9` partition slot in whose table the destination lies, or [`SELF_TABLE`]. Needs `GRANT` (and `CONTROL` of that partition).
        Derive = 0,
        /// Child over a part of a range: `rdx` destination slot, `r10` rights, `r8` first unit, `r9` number of units, both relative
        /// to the source. Unit: bytes for Memory (page multiples), ports for IoPorts, interrupts for Interrupt. Needs `GRANT`.
        DeriveRange = 1,
        /// Destroy all that was derived from the capability, before the call returns. Needs `REVOKE`.
        Revoke = 2,
        /// Empty the slot. What was derived from it goes to its parent. The last capability to an object destroys the object.
        Delete = 3,
        /// Returns `rdi` = [`ObjectType`], `rsi` = rights, `rdx` = badge; for ranges `r10` = size in units and `r8` = first unit
        /// (Memory: physical address, 0 without `DMA`).
        Inspect = 4,
    }
}

/// Most slots that a window has of a major frame.
pub const MAX_FRAME_SLOTS: usize = 8;
/// In place of a partition slot: the caller's own capability table.
pub const SELF_TABLE: u64 = u64::MAX;
/// Number of the first method that is particular to an object type.
pub const FIRST_OWN_METHOD: u64 = 16;

numbered! {
    /// Methods of `Memory`.
    pub enum MemoryMethod {
        /// Make a kernel object of the memory: `rdx` = [`ObjectType`] | pages << 8 (0: the type's minimum), `r10` destination
        /// slot, `r8` = offset in the memory, `r9` = argument by type: Partition: slots in its table (rounded up to pages);
        /// Thread: partition slot | window slot << 32; Vcpu: guest-space slot | thread slot << 32 (it runs on that thread's CPU);
        /// GuestSpace: [`GuestPaging`]; Endpoint: CPU | TSC ticks that its server takes at most << 32 (0: not said); Notification: 0; Window: parent window slot, whose CPU
        /// and priority it starts with. Needs `CREATE`; the memory must be neither mapped nor in use.
        /// The new capability is a child of the memory's.
        Create = 16,
        /// Zero a range: `rdx` offset, `r10` bytes. Preemptible. Needs `WRITE`.
        Zero = 17,
        /// Use the memory as the ring of [`crate::TraceRecord`]s of a CPU: `rdx` = slot of the CPU's root window (needs `CONTROL`). Its pages must
        /// be a power of two. Needs `READ` and `WRITE`. The kernel keeps a child of the capability: revoking it, or naming another memory,
        /// ends the ring.
        Trace = 18,
    }
}

numbered! {
    /// Methods of `Partition`. All need `CONTROL`.
    pub enum PartitionMethod {
        /// Map memory: `rdx` memory slot (of the caller), `r10` virtual address, `r8` = `Rights` (READ, WRITE, EXECUTE) | [`MAP_UNCACHED`],
        /// whole capability. One capability is mapped at most once; derive another to map again.
        /// WRITE with EXECUTE is refused.
        Map = 16,
        /// Undo the mapping of the memory capability in slot `rdx` (of the caller), wherever it is mapped.
        Unmap = 17,
        /// Add memory to the pool for page tables: `rdx` memory slot (neither mapped nor in use). The capability stays;
        /// revoking it destroys the partition.
        Donate = 18,
        /// Allow the ports of the IoPorts capability in slot `rdx` (of the caller) to the partition's threads.
        MapPorts = 19,
        /// Returns `rdx` = pages left in the pool, `r10` = slots in the table, `r8` = generation.
        Inspect = 20,
        /// Look at slot `rdx` of the partition's table. Needs `READ`, too. Returns `rdi` = [`ObjectType`], `rsi` = rights | rights of its
        /// mapping << 16 | mappings of its first page << 32 (2^32 - 1: it is the kernel's; 2^32 - 2: no RAM), `rdx` = badge,
        /// `r10` = size in units and `r8` = first unit of a range, or `r8` = generation of the object, `r9` = generation of the
        /// partition or guest space that it is mapped in or donated to, or 0. `WrongState` if the kernel's records of the slot
        /// contradict each other.
        InspectSlot = 21,
    }
}

/// With `PartitionMethod::Map`: map with the uncached memory type (device registers).
pub const MAP_UNCACHED: u64 = 1 << 32;

numbered! {
    /// Methods of `Thread`. All need `CONTROL`, except as said.
    pub enum ThreadMethod {
        /// Set where it starts: `rdx` = instruction pointer, `r10` = stack pointer, `r8` = value of `rdi`. It must not be running. Who waits for its reply gets `Gone`.
        SetRegisters = 16,
        /// Start or resume. Needs `RUN`.
        Start = 17,
        /// Stop; returns after it has left its CPU. Needs `RUN`.
        Stop = 18,
        /// Bind the notification in slot `rdx`: signals end its `ReplyReceive` and `Run`. Needs `WAIT` on it.
        BindNotification = 19,
        /// Name the notification (slot `rdx`, needs `SIGNAL`) that a fault of this thread signals.
        SetFaultNotification = 20,
        /// Name the slot `rdx` that receives transferred capabilities.
        SetReceiveSlot = 21,
        /// Copy the registers and the fault, as [`crate::FaultReport`], to address `rdx` of the caller's space
        /// (page-aligned, mapped writable). Needs `READ`; the thread must be stopped or faulted.
        ReadFault = 22,
    }
}

numbered! {
    /// Methods of `GuestSpace`. All need `CONTROL`.
    pub enum GuestSpaceMethod {
        /// Map memory: `rdx` memory slot, `r10` guest-physical address, `r8` = `Rights` (READ, WRITE, EXECUTE), whole capability.
        Map = 16,
        /// Undo the mapping of the memory capability in slot `rdx`.
        Unmap = 17,
        /// Add memory to the pool for EPT or shadow tables: `rdx` memory slot.
        Donate = 18,
        /// Bind a guest I/O port to a notification: `rdx` = port, `r10` = notification slot (needs `SIGNAL`); `out` to the port
        /// signals the capability's badge and does not exit to the vmm. At most [`MAX_DOORBELLS`].
        BindDoorbell = 19,
        /// Withdraw the doorbell of port `rdx`.
        UnbindDoorbell = 20,
        /// Map the page by which the processor virtualizes the local APICs of the space's vCPUs, at guest-physical 0xFEE0_0000.
        /// Needed for the modes of [`crate::ApicMode`] but `Software`; `Unsupported` if the processor has no such thing.
        MapApicPage = 21,
    }
}

/// Doorbells of one guest space.
pub const MAX_DOORBELLS: usize = 64;

numbered! {
    /// How a guest space translates.
    pub enum GuestPaging {
        /// Extended page tables.
        Ept = 0,
        /// Shadow page tables.
        Shadow = 1,
    }
}

numbered! {
    /// Methods of `Vcpu`. All need `CONTROL`.
    pub enum VcpuMethod {
        /// Map the vCPU's [`crate::VcpuState`] page, and behind it its virtual-APIC page, at virtual address `rdx` of the caller's
        /// space.
        MapState = 16,
        /// Read state groups `rdx` ([`crate::StateGroups`]) from the hardware's control structure into the state page.
        Fetch = 17,
        /// Allow the guest direct access to MSR `rdx`: `r10` bit 0 reads, bit 1 writes. Only MSRs that the kernel switches for
        /// the guest (FS/GS base, KERNEL_GS_BASE, STAR family, SYSENTER family, PAT) and the TSC (read) are accepted.
        PassMsr = 18,
        /// If the guest processor is running on another CPU, it takes what is posted for it ([`crate::POSTED_INTERRUPTS`]).
        Notify = 19,
        /// Bit `rdx` (0 to 63) of a signal stands for an interrupt of the guest: if it is signalled to the notification bound to the thread
        /// that runs this vCPU or another one of its space, and this one is being run, vector `r10` is posted for it
        /// ([`crate::POSTED_INTERRUPTS`]), and the bit is gone; nobody's run ends. Otherwise it is a signal like any other. `r10` = 0: it no
        /// longer does.
        Direct = 20,
    }
}

numbered! {
    /// Methods of `Interrupt`. All need `CONTROL`. The capability must cover exactly one interrupt.
    pub enum InterruptMethod {
        /// Route to CPU `r10` and bind to the notification in slot `rdx` (needs `SIGNAL`). `r8` bit 0: level-triggered,
        /// bit 1: active low, bit 2: the machine remaps interrupts, by a table in which each has the entry of its vector. Unmasks. Returns
        /// `rdx` = the vector, `r10` = the APIC id of the CPU. A number that no I/O APIC has becomes a message-signalled interrupt (SDM
        /// vol. 3, 11.11): bit 0 of `r8` is set.
        Bind = 16,
        /// Allow the next interrupt, after the device has been served.
        Acknowledge = 17,
    }
}

/// Flag of [`InterruptMethod::Bind`]: the machine remaps interrupts.
pub const BIND_REMAPPED: u64 = 1 << 2;

numbered! {
    /// Methods of `Window`. Need `CONTROL`, and are refused once the system is sealed.
    pub enum WindowMethod {
        /// `rdx` = CPU, `r10` = priority (0 lowest to 63; at most the parent's), `r8` = budget in TSC ticks per period,
        /// `r9` = period in TSC ticks (0: no limit).
        Configure = 16,
        /// On the root window only: seal the system. From then on no object can be created, and no port, interrupt or
        /// window right be derived.
        Seal = 17,
        /// Give the window a slot of a cyclic major frame: it is open between `rdx` and `r10`, in TSC ticks since the frame's
        /// beginning, which is when the TSC is a multiple of the frame's length `r8`. Outside its slots nothing that it pays for runs,
        /// and no deadline passes. `r9` = 1: no device interrupts any of the window's slots; the last slot that is added decides for
        /// all. Slots come in ascending order, at most [`MAX_FRAME_SLOTS`].
        AddSlot = 18,
    }
}
