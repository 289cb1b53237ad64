//! Typed handles of kernel objects: a slot of which the program believes that it holds such an object.
//!
//! A handle grants nothing; the kernel checks the slot's real type and rights at every call. Handles are plain numbers and
//! can be copied; what they name is destroyed only by [`Capability::delete`] and [`Capability::revoke`].

use crate::mapping::{FaultPage, GuestProcessor};
use crate::syscall::{self, Received, Results, Slot, Words};
use bulkhead_abi::{
    AnyMethod, Error, FIRST_OWN_METHOD, FaultReport, GuestPaging, GuestSpaceMethod, InterruptMethod, MemoryMethod,
    MessageInfo, ObjectType, PartitionMethod, Rights, SELF_TABLE, ThreadMethod, VcpuMethod, WindowMethod,
};

/// What [`Capability::inspect`] tells of a capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inspection {
    /// The object's type.
    pub object: ObjectType,
    /// The capability's rights.
    pub rights: Rights,
    /// Its badge.
    pub badge: u64,
    /// Units (bytes, ports, interrupts) of a range.
    pub size: u64,
    /// First unit of a range; of memory the physical address, if the capability has the DMA right.
    pub first: u64,
}

/// What [`Partition::inspect_slot`] tells of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotInspection {
    /// The object's type; `None` for an empty slot.
    pub object: ObjectType,
    /// The capability's rights.
    pub rights: Rights,
    /// Its badge.
    pub badge: u64,
    /// Units (bytes, ports, interrupts) of a range.
    pub size: u64,
    /// First unit of a range, or generation of the object.
    pub identity: u64,
    /// Generation of the partition or guest space that it is mapped in or donated to; 0 for none.
    pub space: u64,
    /// With which rights it is mapped there.
    pub mapped: Rights,
    /// How often the first page of memory is mapped; [`u32::MAX`] if it is the kernel's, one less if it is no RAM.
    pub mappings: u32,
}

/// A capability table in which a derived capability is to lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// This program's own.
    Own,
    /// That of another partition.
    Of(Partition),
}

impl Table {
    const fn argument(self) -> u64 {
        match self {
            Self::Own => SELF_TABLE,
            Self::Of(partition) => partition.0.0,
        }
    }
}

/// A method that neither writes to this program's memory nor takes any away from it, so that calling it is safe.
#[inline(always)]
fn invoke(slot: Slot, method: u64, arguments: [u64; 4]) -> Result<Results, Error> {
    // SAFETY: the methods that this module calls through here touch no memory of the program; the others are in `mapping`.
    unsafe { syscall::invoke(slot, method, arguments) }
}

/// What every capability can do.
pub trait Capability: Copy {
    /// The slot that the handle names.
    fn slot(self) -> Slot;

    /// Makes a child with at most these rights. A badge of 0 keeps the source's.
    fn derive(self, destination: Slot, rights: Rights, badge: u64, table: Table) -> Result<(), Error> {
        let arguments = [destination.0, u64::from(rights.bits()), badge, table.argument()];
        invoke(self.slot(), AnyMethod::Derive as u64, arguments).map(|_| ())
    }

    /// Makes a child over `count` units from `first` on, in this program's table.
    fn derive_range(self, destination: Slot, rights: Rights, first: u64, count: u64) -> Result<(), Error> {
        let arguments = [destination.0, u64::from(rights.bits()), first, count];
        invoke(self.slot(), AnyMethod::DeriveRange as u64, arguments).map(|_| ())
    }

    /// Destroys all that was derived from the capability.
    fn revoke(self) -> Result<(), Error> {
        invoke(self.slot(), AnyMethod::Revoke as u64, [0; 4]).map(|_| ())
    }

    /// Empties the slot.
    fn delete(self) -> Result<(), Error> {
        invoke(self.slot(), AnyMethod::Delete as u64, [0; 4]).map(|_| ())
    }

    /// What the capability is.
    fn inspect(self) -> Result<Inspection, Error> {
        let results = invoke(self.slot(), AnyMethod::Inspect as u64, [0; 4])?;
        Ok(Inspection {
            object: ObjectType::from_number(results.rdi).unwrap_or(ObjectType::None),
            rights: Rights::from_bits_truncate(results.rsi as u16),
            badge: results.rdx,
            size: results.r10,
            first: results.r8,
        })
    }
}

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident,)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name(pub Slot);

        impl Capability for $name {
            #[inline(always)]
            fn slot(self) -> Slot {
                self.0
            }
        }
    )* };
}

handles! {
    /// A range of physical memory.
    Memory,
    /// An address space with a capability table.
    Partition,
    /// A native flow of control.
    Thread,
    /// A guest processor.
    Vcpu,
    /// Guest-physical memory.
    GuestSpace,
    /// A rendezvous for call and reply.
    Endpoint,
    /// A word of signal bits.
    Notification,
    /// A range of global system interrupts.
    Interrupt,
    /// A share of a CPU.
    Window,
    /// A range of I/O ports.
    IoPorts,
}

/// An object for [`Memory::create`], with its argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewObject {
    /// A partition with so many slots.
    Partition {
        /// Slots of its capability table.
        slots: u64,
    },
    /// A thread.
    Thread {
        /// The partition that it belongs to.
        partition: Partition,
        /// The share of a CPU that it runs in.
        window: Window,
    },
    /// A guest processor.
    Vcpu {
        /// Its guest's memory.
        space: GuestSpace,
        /// The thread that runs it.
        thread: Thread,
    },
    /// Guest-physical memory.
    GuestSpace {
        /// How it translates.
        paging: GuestPaging,
    },
    /// An endpoint on a CPU.
    Endpoint {
        /// The CPU.
        cpu: u64,
        /// TSC ticks that its server takes for a call at most; 0 if that is not said.
        worst_case: u32,
    },
    /// A notification.
    Notification,
    /// A window inside another one.
    Window {
        /// The one that limits it.
        parent: Window,
    },
}

impl NewObject {
    const fn parts(self) -> (ObjectType, u64) {
        match self {
            Self::Partition { slots } => (ObjectType::Partition, slots),
            Self::Thread { partition, window } => (ObjectType::Thread, partition.0.0 | window.0.0 << 32),
            Self::Vcpu { space, thread } => (ObjectType::Vcpu, space.0.0 | thread.0.0 << 32),
            Self::GuestSpace { paging } => (ObjectType::GuestSpace, paging as u64),
            Self::Endpoint { cpu, worst_case } => (ObjectType::Endpoint, cpu | (worst_case as u64) << 32),
            Self::Notification => (ObjectType::Notification, 0),
            Self::Window { parent } => (ObjectType::Window, parent.0.0),
        }
    }
}

impl Memory {
    /// Makes a kernel object of `pages` pages (0: as many as the type needs at least) from `offset` on.
    pub fn create(self, object: NewObject, pages: u64, offset: u64, destination: Slot) -> Result<(), Error> {
        let (object_type, argument) = object.parts();
        let arguments = [object_type as u64 | pages << 8, destination.0, offset, argument];
        invoke(self.0, MemoryMethod::Create as u64, arguments).map(|_| ())
    }

    /// Makes the memory, whole pages in a power of two, the trace ring of the CPU whose root window this is.
    pub fn trace(self, root: Window) -> Result<(), Error> {
        invoke(self.0, MemoryMethod::Trace as u64, [root.0.0, 0, 0, 0]).map(|_| ())
    }

    /// Zeroes a range. The program must see the memory, if it does at all, as shared memory only.
    pub fn zero(self, offset: u64, length: u64) -> Result<(), Error> {
        invoke(self.0, MemoryMethod::Zero as u64, [offset, length, 0, 0]).map(|_| ())
    }
}

/// What [`Partition::account`] tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Account {
    /// Pages left in the pool for page tables.
    pub pool_pages: u64,
    /// Slots of the table.
    pub slots: u64,
    /// Generation.
    pub generation: u64,
}

impl Partition {
    /// Maps all of a memory capability at an address of the partition. `attributes`: 0 or [`bulkhead_abi::MAP_UNCACHED`].
    ///
    /// A program that maps into its own space uses [`crate::mapping::Mapping`], which gives access to what it mapped.
    pub fn map(self, memory: Memory, address: u64, rights: Rights, attributes: u64) -> Result<(), Error> {
        let arguments = [memory.0.0, address, u64::from(rights.bits()) | attributes, 0];
        invoke(self.0, PartitionMethod::Map as u64, arguments).map(|_| ())
    }

    /// Undoes the mapping of a memory capability. What still uses the addresses faults.
    pub fn unmap(self, memory: Memory) -> Result<(), Error> {
        invoke(self.0, PartitionMethod::Unmap as u64, [memory.0.0, 0, 0, 0]).map(|_| ())
    }

    /// Adds memory to the pool for page tables.
    pub fn donate(self, memory: Memory) -> Result<(), Error> {
        invoke(self.0, PartitionMethod::Donate as u64, [memory.0.0, 0, 0, 0]).map(|_| ())
    }

    /// Allows ports to the partition's threads.
    pub fn map_ports(self, ports: IoPorts) -> Result<(), Error> {
        invoke(self.0, PartitionMethod::MapPorts as u64, [ports.0.0, 0, 0, 0]).map(|_| ())
    }

    /// What the partition has left.
    pub fn account(self) -> Result<Account, Error> {
        let results = invoke(self.0, PartitionMethod::Inspect as u64, [0; 4])?;
        Ok(Account { pool_pages: results.rdx, slots: results.r10, generation: results.r8 })
    }

    /// What a slot of the partition's table holds. `WrongState` means that the kernel's records contradict each other.
    pub fn inspect_slot(self, slot: u64) -> Result<SlotInspection, Error> {
        let results = invoke(self.0, PartitionMethod::InspectSlot as u64, [slot, 0, 0, 0])?;
        Ok(SlotInspection {
            object: ObjectType::from_number(results.rdi).unwrap_or(ObjectType::None),
            rights: Rights::from_bits_truncate(results.rsi as u16),
            badge: results.rdx,
            size: results.r10,
            identity: results.r8,
            space: results.r9,
            mapped: Rights::from_bits_truncate((results.rsi >> 16) as u16),
            mappings: (results.rsi >> 32) as u32,
        })
    }
}

impl Thread {
    /// Sets where the thread starts: instruction pointer, stack pointer and the value of `rdi`.
    pub fn set_registers(self, rip: u64, rsp: u64, rdi: u64) -> Result<(), Error> {
        invoke(self.0, ThreadMethod::SetRegisters as u64, [rip, rsp, rdi, 0]).map(|_| ())
    }

    /// Starts or resumes it.
    pub fn start(self) -> Result<(), Error> {
        invoke(self.0, ThreadMethod::Start as u64, [0; 4]).map(|_| ())
    }

    /// Stops it; returns after it has left its CPU.
    pub fn stop(self) -> Result<(), Error> {
        invoke(self.0, ThreadMethod::Stop as u64, [0; 4]).map(|_| ())
    }

    /// Binds the notification whose signals end the thread's `ReplyReceive` and `Run`.
    pub fn bind_notification(self, notification: Notification) -> Result<(), Error> {
        invoke(self.0, ThreadMethod::BindNotification as u64, [notification.0.0, 0, 0, 0]).map(|_| ())
    }

    /// Names the notification that a fault of the thread signals.
    pub fn set_fault_notification(self, notification: Notification) -> Result<(), Error> {
        invoke(self.0, ThreadMethod::SetFaultNotification as u64, [notification.0.0, 0, 0, 0]).map(|_| ())
    }

    /// Names the slot that receives transferred capabilities.
    pub fn set_receive_slot(self, slot: Slot) -> Result<(), Error> {
        invoke(self.0, ThreadMethod::SetReceiveSlot as u64, [slot.0, 0, 0, 0]).map(|_| ())
    }

    /// The registers and the fault of a stopped or faulted thread.
    pub fn read_fault(self, page: &mut FaultPage) -> Result<FaultReport, Error> {
        page.read(self)
    }
}

impl Vcpu {
    /// Maps the guest processor's state page at a free address of this program's space.
    pub fn map_state(self, address: u64) -> Result<GuestProcessor, Error> {
        GuestProcessor::map(self, address)
    }

    /// Allows the guest direct access to an MSR.
    pub fn pass_msr(self, msr: u32, reads: bool, writes: bool) -> Result<(), Error> {
        let access = u64::from(reads) | u64::from(writes) << 1;
        invoke(self.0, VcpuMethod::PassMsr as u64, [u64::from(msr), access, 0, 0]).map(|_| ())
    }
}

impl Vcpu {
    /// If the guest processor runs on another CPU, it takes what is posted for it.
    #[inline]
    pub fn notify(self) {
        // The handle is the program's own; where it is none, nothing runs.
        let _ = invoke(self.0, VcpuMethod::Notify as u64, [0; 4]);
    }

    /// While the guest processor runs, bit `bit` of signals for its guest's threads is `vector` for it, and ends nobody's run; with 0, it is
    /// a signal again.
    pub fn direct(self, bit: u32, vector: u8) -> Result<(), Error> {
        invoke(self.0, VcpuMethod::Direct as u64, [bit.into(), vector.into(), 0, 0]).map(|_| ())
    }
}

impl GuestSpace {
    /// Maps all of a memory capability at a guest-physical address.
    pub fn map(self, memory: Memory, guest_physical: u64, rights: Rights) -> Result<(), Error> {
        let arguments = [memory.0.0, guest_physical, u64::from(rights.bits()), 0];
        invoke(self.0, GuestSpaceMethod::Map as u64, arguments).map(|_| ())
    }

    /// Undoes the mapping of a memory capability.
    pub fn unmap(self, memory: Memory) -> Result<(), Error> {
        invoke(self.0, GuestSpaceMethod::Unmap as u64, [memory.0.0, 0, 0, 0]).map(|_| ())
    }

    /// Adds memory to the pool for EPT or shadow tables.
    pub fn donate(self, memory: Memory) -> Result<(), Error> {
        invoke(self.0, GuestSpaceMethod::Donate as u64, [memory.0.0, 0, 0, 0]).map(|_| ())
    }

    /// Maps the page by which the processor virtualizes the local APICs of the space's vCPUs. Whether it does.
    pub fn map_apic_page(self) -> bool {
        // A program that was started anew finds the page mapped.
        matches!(invoke(self.0, GuestSpaceMethod::MapApicPage as u64, [0; 4]), Ok(_) | Err(Error::AlreadyMapped))
    }

    /// Lets the guest's `out` to a port signal the notification.
    pub fn bind_doorbell(self, port: u16, notification: Notification) -> Result<(), Error> {
        let arguments = [u64::from(port), notification.0.0, 0, 0];
        invoke(self.0, GuestSpaceMethod::BindDoorbell as u64, arguments).map(|_| ())
    }

    /// Withdraws the doorbell of a port.
    pub fn unbind_doorbell(self, port: u16) -> Result<(), Error> {
        invoke(self.0, GuestSpaceMethod::UnbindDoorbell as u64, [u64::from(port), 0, 0, 0]).map(|_| ())
    }
}

impl Endpoint {
    /// Sends a message and waits for the reply.
    #[inline(always)]
    pub fn call(self, info: MessageInfo, words: Words) -> Result<(MessageInfo, Words), Error> {
        syscall::call(self.0, info, words)
    }

    /// Replies to the caller served last, if any, and waits for the next message or signal.
    #[inline(always)]
    pub fn reply_receive(self, info: MessageInfo, words: Words) -> Result<Received, Error> {
        syscall::reply_receive(self.0, info, words)
    }
}

impl Notification {
    /// Signals the capability's badge, or `bits` if the badge is 0.
    #[inline(always)]
    pub fn signal(self, bits: u64) -> Result<(), Error> {
        syscall::signal(self.0, bits)
    }

    /// Waits for any bit, until the TSC reaches `deadline`; returns and clears the bits.
    #[inline(always)]
    pub fn wait(self, deadline: u64) -> Result<u64, Error> {
        syscall::wait(self.0, deadline)
    }
}

/// How an interrupt reaches its processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    /// Vector.
    pub vector: u8,
    /// The processor's APIC identifier; below 256 for a message.
    pub apic_id: u32,
    /// The device writes a message; else an I/O APIC does.
    pub is_message: bool,
}

impl Interrupt {
    /// Routes the interrupt to a CPU and binds it to a notification. `flags` as for `InterruptMethod::Bind`.
    pub fn bind(self, notification: Notification, cpu: u64, flags: u64) -> Result<Bound, Error> {
        let results = invoke(self.0, InterruptMethod::Bind as u64, [notification.0.0, cpu, flags, 0])?;
        Ok(Bound { vector: results.rdx as u8, apic_id: results.r10 as u32, is_message: results.r8 & 1 != 0 })
    }

    /// Allows the next interrupt, after the device has been served.
    pub fn acknowledge(self) -> Result<(), Error> {
        invoke(self.0, InterruptMethod::Acknowledge as u64, [0; 4]).map(|_| ())
    }
}

impl Window {
    /// Sets the window's CPU, priority and budget (in TSC ticks of each period; a period of 0: no limit).
    pub fn configure(self, cpu: u64, priority: u64, budget: u64, period: u64) -> Result<(), Error> {
        invoke(self.0, WindowMethod::Configure as u64, [cpu, priority, budget, period]).map(|_| ())
    }

    /// Gives the window a slot of a major frame of `length`: TSC ticks from the frame's beginning. In a quiet one no device interrupts.
    pub fn add_slot(self, length: u64, start: u64, end: u64, quiet: bool) -> Result<(), Error> {
        invoke(self.0, WindowMethod::AddSlot as u64, [start, end, length, quiet.into()]).map(|_| ())
    }

    /// Seals the system: no new object, and no new authority over ports, interrupts and windows, from now on.
    pub fn seal(self) -> Result<(), Error> {
        invoke(self.0, WindowMethod::Seal as u64, [0; 4]).map(|_| ())
    }
}

// The calls above rely on own methods being numbered apart from the common ones.
const _: () = assert!(AnyMethod::Inspect as u64 <= FIRST_OWN_METHOD);
