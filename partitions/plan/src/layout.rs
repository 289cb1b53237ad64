//! Virtual addresses and capability slots that are the same in every native partition.

/// Where programs are linked: static, non-PIE.
pub const PROGRAM: u64 = 0x40_0000;
/// The environment, mapped read-only; also in `rdi` at the program's entry. (Init finds its boot information here instead.)
pub const ENVIRONMENT: u64 = 0x1000_0000;
/// Most bytes of an environment.
pub const ENVIRONMENT_MAX: u64 = 0x10_0000;
/// End of the first thread's stack; the stack of a further thread is in its [`crate::ThreadRecord`].
pub const STACK_TOP: u64 = 0x2000_0000;
/// Bytes of every stack, unless the manifest says otherwise.
pub const STACK_BYTES: u64 = 0x1_0000;
/// Distance between the tops of two threads' stacks.
pub const STACK_STRIDE: u64 = 0x100_0000;
/// Start of the heap.
pub const HEAP: u64 = 0x3000_0000;
/// Most bytes of a heap.
pub const HEAP_MAX: u64 = SHARED - HEAP;
/// Channel memory, private memory, modules, vCPU state pages: from here up.
pub const SHARED: u64 = 0x4000_0000;
/// RAM of guests: from here up.
pub const GUEST_RAM: u64 = 0x10_0000_0000;

/// First guest-physical address that is not RAM in a guest with more than 3 GiB: the rest goes above [`GUEST_HIGH_RAM`].
pub const GUEST_LOW_RAM_END: u64 = 0xc000_0000;
/// Guest-physical address of the RAM that does not fit below [`GUEST_LOW_RAM_END`].
pub const GUEST_HIGH_RAM: u64 = 0x1_0000_0000;
/// End of a guest's firmware, whose last bytes are the first that its processor executes.
pub const GUEST_FIRMWARE_END: u64 = 0x1_0000_0000;
/// Most bytes of a guest's firmware: below are the interrupt controllers.
pub const GUEST_FIRMWARE_MAX: u64 = 16 << 20;

/// Slot of the partition's own notification (rights `WAIT` and `SIGNAL`), bound to its first thread.
pub const NOTIFICATION_SLOT: u64 = 1;
/// Slot of the partition's first thread (rights `CONTROL`, to name a receive slot).
pub const THREAD_SLOT: u64 = 2;
/// First slot that the compiler assigns; in init it is [`bulkhead_abi::init_slot::FIRST_FREE`].
pub const FIRST_SLOT: u64 = 8;

/// Most partitions of a plan, init included: each has a signal bit in init, and init keeps a few bits for itself.
pub const MAX_PARTITIONS: usize = 62;
/// Signal bits of a partition.
pub const SIGNAL_BITS: u32 = 64;
/// The one that is never given to a channel or a device: by it the threads of a program wake each other.
pub const OWN_BIT: u32 = SIGNAL_BITS - 1;

/// The mask of so many signal bits in a row; none if the first is not one of them.
pub const fn signal_mask(first: u32, count: u32) -> u64 {
    if first < SIGNAL_BITS && count < SIGNAL_BITS { ((1 << count) - 1) << first } else { 0 }
}

/// Most devices on the PCI bus.
pub const MAX_DEVICES: usize = 16;
/// Most DMA remapping units that are used.
pub const MAX_UNITS: usize = 8;
/// Most message interrupts of a device.
pub const MAX_MESSAGES: usize = 8;
/// Base address registers of a PCI function.
pub const BARS: usize = 6;
/// Most bytes of a device's memory that its owner sees, for each base address register.
pub const DEVICE_WINDOW: u64 = 2 << 20;
/// Most bytes of PCI configuration space in memory: 4 KiB for each function of 256 buses.
pub const CONFIGURATION_BYTES: u64 = 256 << 20;
/// Highest priority.
pub const MAX_PRIORITY: u32 = 63;
/// Most CPUs that a plan can name.
pub const MAX_CPUS: u32 = 64;
/// Most vCPUs of a guest.
pub const MAX_VCPUS: usize = 16;
