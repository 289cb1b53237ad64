//! Carrying out the plan: objects, memory and capabilities of every partition.
//!
//! The plan has chosen every slot, bit and address. Here its tables are walked, in the order that objects need each other:
//! regions, notifications, endpoints, and then each partition with its guest, its program and what its environment names
//! ([`crate::grants`]).

use crate::allocator::{Allocator, Block};
use crate::devices::Device;
use crate::failure::{Cause, During, Failure};
use crate::grants;
use crate::image::Image;
use crate::modules::Module;
use crate::nodes::Nodes;
use crate::remapping::Units;
use alloc::vec;
use alloc::vec::Vec;
use bulkhead_affinity::Misplaced;
use bulkhead_pci::exchange::Remapping;
use bulkhead_runtime::abi::{BootInfo, CpuFeatures, GuestPaging, MAP_UNCACHED, PAGE_SIZE, Rights, init_slot};
use bulkhead_runtime::mapping::Mapping;
use bulkhead_runtime::object::{
    Bound, Capability, Endpoint, GuestSpace, Interrupt, Memory, NewObject, Notification, Partition, Table, Thread,
    Window,
};
use bulkhead_runtime::plan::{
    self, EnvironmentCopy, EnvironmentEntry, NO_BIT, NO_INDEX, Paging, PartitionKind, Plan, layout,
};
use bulkhead_runtime::program::mask;
use bulkhead_runtime::shared::SharedMemory;
use bulkhead_runtime::status::Status;
use bulkhead_runtime::syscall::Slot;
use bulkhead_runtime::{events, time};
use zerocopy::IntoBytes;

/// Init's own partition.
pub const OWN: Partition = Partition(Slot(init_slot::PARTITION));
/// Where init maps memory for a moment, to fill it.
const TEMPORARY: u64 = 0x1000_0000_0000;

/// Numbers of message interrupts are given away from here downwards: I/O APICs have those from 0 up.
const MESSAGES_END: u64 = 96;

/// Memory that is allocated once and mapped where the plan says.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// All of it; never mapped itself.
    pub memory: Memory,
    /// Where it lies.
    pub block: Block,
    /// Partitions that map it.
    pub users: u32,
    /// Why it does not come from the NUMA node that the plan says.
    pub misplaced: Option<Misplaced>,
}

/// A partition that was built.
#[derive(Debug)]
pub struct Built {
    /// What the plan says.
    pub plan: plan::Partition<'static>,
    /// The partition.
    pub handle: Partition,
    /// Its threads; init starts the first one.
    pub threads: Vec<Thread>,
    /// The notification of its first thread.
    pub notification: Notification,
    /// Those of its further threads.
    pub further: Vec<Notification>,
    /// Its program.
    pub image: Image,
    /// The program's memory: the image's segments, one behind the other.
    pub program: Memory,
    /// The memory of the environment.
    pub environment: Memory,
    /// The memory of each thread's stack.
    pub stacks: Vec<Memory>,
    /// Memory that nobody else has: zeroed when the partition starts anew.
    pub private: Vec<(Memory, u64)>,
    /// Entries of its environment that tell a physical address.
    pub physical: Vec<(usize, u64)>,
    /// Entries of its environment that init has filled in.
    pub filled: Vec<(usize, EnvironmentEntry)>,
    /// Whether it has been started already.
    pub started: bool,
}

/// A partition of the plan, or why there is none.
#[derive(Debug)]
pub enum Outcome {
    /// It was built.
    Built(Built),
    /// The machine cannot run it.
    Refused(plan::Partition<'static>, Failure),
}

/// The state of carrying out a plan.
pub struct Construction<'a> {
    pub(crate) boot: &'a BootInfo,
    pub(crate) plan: Plan<'static>,
    pub(crate) allocator: Allocator,
    pub(crate) modules: Vec<Module>,
    pub(crate) regions: Vec<Region>,
    /// Of each partition's first thread, in the plan's order; the first one is init's.
    pub(crate) notifications: Vec<Notification>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// Status pages, by partition.
    pub(crate) statuses: Vec<Option<Status<'static>>>,
    /// What init shares with the bus service.
    pub(crate) exchange: Option<SharedMemory<'static>>,
    /// The machine's NUMA nodes.
    pub(crate) nodes: Nodes,
    /// The machine's DMA remapping units.
    pub(crate) units: Units,
    /// What of them is used.
    pub(crate) remapping: Remapping,
    /// Lines that are bound, with their owners' indices: they are bound before the partitions are built where interrupts are remapped.
    pub(crate) lines: Vec<(usize, u32, Interrupt, Bound)>,
    /// Numbers from here up are given to message interrupts.
    messages_end: u64,
    /// Where PCI configuration space is in memory: first address and end.
    pub(crate) configuration: Option<(u64, u64)>,
    /// The plan's devices, once the bus service has looked for them.
    pub(crate) devices: Vec<Device>,
}

impl<'a> Construction<'a> {
    /// Allocates what several partitions share.
    pub fn new(
        boot: &'a BootInfo,
        plan: Plan<'static>,
        mut allocator: Allocator,
        modules: Vec<Module>,
    ) -> Result<Self, Failure> {
        let system = plan.name();
        let nodes = Nodes::find(boot, &plan, &mut allocator).during("read of the NUMA nodes of", system)?;
        let regions = regions(&plan, &nodes, &mut allocator).during("allocate the memory of", system)?;
        let units = Units::find(boot, &mut allocator).during("read of the IOMMU of", system)?;
        let mut notifications = Vec::new();
        for partition in plan.partitions() {
            let slot = allocator
                .create(NewObject::Notification)
                .during("make the notification of partition", partition.name())?;
            notifications.push(Notification(slot));
        }
        let mut endpoints = Vec::new();
        for record in plan.endpoints() {
            let worst_case = u32::try_from(time::microseconds(record.worst_case_us));
            let slot = worst_case
                .map_err(|_| Cause::Contradiction("a worst case that the kernel cannot count"))
                .and_then(|worst_case| allocator.create(NewObject::Endpoint { cpu: u64::from(record.cpu), worst_case }))
                .during("make the endpoint", record.name.as_str())?;
            endpoints.push(Endpoint(slot));
        }
        let statuses = vec![None; notifications.len()];
        let mut construction = Self {
            boot,
            plan,
            allocator,
            modules,
            regions,
            notifications,
            endpoints,
            statuses,
            exchange: None,
            nodes,
            units,
            remapping: Remapping::default(),
            lines: Vec::new(),
            messages_end: MESSAGES_END,
            configuration: None,
            devices: Vec::new(),
        };
        for partition in plan.partitions() {
            for grant in partition.grants() {
                construction.count_user(&grant.resource);
            }
        }
        Ok(construction)
    }

    /// A number for a message interrupt.
    pub fn next_message(&mut self) -> Result<u64, Cause> {
        self.messages_end = self.messages_end.checked_sub(1).ok_or(Cause::NoMessages)?;
        Ok(self.messages_end)
    }

    fn count_user(&mut self, resource: &plan::Resource<'_>) {
        let region = match resource {
            plan::Resource::Region { index, .. } => *index,
            plan::Resource::Channel { region, .. } | plan::Resource::Status { region } => *region,
            _ => return,
        };
        if let Some(region) = self.regions.get_mut(region) {
            region.users += 1;
        }
    }

    /// Init's notification.
    pub fn own_notification(&self) -> Option<Notification> {
        self.notifications.first().copied()
    }

    /// Builds a partition; `Refused` if the machine cannot run it.
    pub fn build(&mut self, partition: plan::Partition<'static>) -> Result<Outcome, Failure> {
        if let Err(cause) = self.can_run(&partition) {
            let failure = Failure::new("run partition", partition.name(), cause);
            return Ok(Outcome::Refused(partition, failure));
        }
        self.confine(Some(&partition));
        let built = self.assemble(partition);
        self.confine(None);
        let built = built?;
        self.compare_nodes(&built);
        Ok(Outcome::Built(built))
    }

    /// Builds a partition that the machine can run.
    fn assemble(&mut self, partition: plan::Partition<'static>) -> Result<Built, Failure> {
        let name = partition.name();
        let record = partition.record;
        let image = self.image(&partition).during("load partition", name)?;

        let allocator = &mut self.allocator;
        let slots = u64::from(record.table_slots);
        let handle = allocator.create(NewObject::Partition { slots }).during("make partition", name)?;
        let handle = Partition(handle);
        let pool = allocator.pool(u64::from(record.pool_pages).max(1));
        let pool = pool.during("allocate the page tables of partition", name)?;
        handle.donate(pool).during("give page tables to partition", name)?;

        let notification = self.notifications.get(partition.index).copied();
        let contradiction = || Cause::Contradiction("a partition without a notification");
        let notification = notification.ok_or_else(contradiction).during("make partition", name)?;
        let mut built = Built {
            plan: partition,
            handle,
            threads: Vec::new(),
            notification,
            further: Vec::new(),
            program: self.load(handle, &image).during("load the program of partition", name)?,
            image,
            environment: self
                .environment_memory(&partition, handle)
                .during("map the environment of partition", name)?,
            stacks: Vec::new(),
            private: Vec::new(),
            physical: Vec::new(),
            filled: Vec::new(),
            started: false,
        };
        self.threads(&mut built).during("make the threads of partition", name)?;
        let space = self.guest_space(&built).during("make the guest of partition", name)?;
        grants::carry_out(self, &mut built, space)?;
        built.write_environment(self.boot, 0).during("write the environment of partition", name)?;
        Ok(built)
    }

    /// Whether the machine has what the partition needs.
    fn can_run(&self, partition: &plan::Partition<'_>) -> Result<(), Cause> {
        let needed = CpuFeatures::from_bits_truncate(partition.record.features);
        let present = CpuFeatures::from_bits_truncate(self.boot.features);
        let missing = needed.difference(present);
        if !missing.is_empty() {
            return Err(Cause::Features(missing));
        }
        for thread in partition.threads() {
            let wanted = u64::from(thread.cpu);
            if wanted >= self.boot.cpus {
                return Err(Cause::Cpu { wanted, present: self.boot.cpus });
            }
        }
        self.is_placed(partition)?;
        let owned = self.plan.devices().iter().enumerate();
        for (index, record) in owned.filter(|(_, record)| record.partition as usize == partition.index) {
            let reason = match self.devices.get(index) {
                Some(Ok(_)) => continue,
                Some(Err(reason)) => reason,
                None => "there is no bus service",
            };
            return Err(Cause::Device { name: record.name.as_str().into(), reason });
        }
        Ok(())
    }

    fn image(&self, partition: &plan::Partition<'_>) -> Result<Image, Cause> {
        let module = partition.program().and_then(|(index, _)| self.modules.get(index));
        let image = Image::parse(module.ok_or(Cause::Contradiction("a partition without a program"))?.bytes)?;
        if image.length() != partition.record.program_bytes {
            return Err(Cause::Contradiction("its program has another size than the plan says"));
        }
        Ok(image)
    }

    /// Copies the program into memory of its own and maps that, segment by segment.
    fn load(&mut self, handle: Partition, image: &Image) -> Result<Memory, Cause> {
        let (memory, _) = self.allocator.memory(image.length(), PAGE_SIZE)?;
        fill(memory, |view| image.load(view))?;
        let mut offset = 0;
        for segment in image.segments() {
            let part = self.allocator.child(memory, segment.rights, offset, segment.length)?;
            handle.map(part, segment.address, segment.rights, 0).map_err(Cause::Kernel)?;
            offset += segment.length;
        }
        Ok(memory)
    }

    fn environment_memory(&mut self, partition: &plan::Partition<'_>, handle: Partition) -> Result<Memory, Cause> {
        let length = (partition.environment.bytes().len() as u64).next_multiple_of(PAGE_SIZE);
        let (memory, _) = self.allocator.memory(length, PAGE_SIZE)?;
        let part = self.allocator.child(memory, Rights::READ, 0, length)?;
        handle.map(part, layout::ENVIRONMENT, Rights::READ, 0).map_err(Cause::Kernel)?;
        Ok(memory)
    }

    /// Makes windows, threads, stacks and notifications.
    fn threads(&mut self, built: &mut Built) -> Result<(), Cause> {
        let faults = self.fault_notification(&built.plan)?;
        for (index, record) in built.plan.threads().iter().enumerate() {
            let cpu = u64::from(record.cpu);
            let parent = Window(Slot(init_slot::FIRST_WINDOW + cpu));
            let window = Window(self.allocator.create(NewObject::Window { parent })?);
            let [budget, period] = [record.budget_us, record.period_us].map(time::microseconds);
            window.configure(cpu, u64::from(record.priority), budget, period).map_err(Cause::Kernel)?;
            self.add_slots(window, built.plan.index, record.cpu)?;
            let object = NewObject::Thread { partition: built.handle, window };
            let thread = Thread(self.allocator.create(object)?);
            let notification = match index {
                0 => built.notification,
                _ => Notification(self.allocator.create(NewObject::Notification)?),
            };
            let table = Table::Of(built.handle);
            let control = if index == 0 { Rights::CONTROL } else { Rights::CONTROL | Rights::RUN };
            let make = || {
                thread.bind_notification(notification)?;
                thread.set_fault_notification(faults)?;
                thread.derive(Slot(record.slot), control, 0, table)?;
                if let (0, Some(own)) = (index, built.plan.environment.own_partition()) {
                    window.derive(Slot(own.window), Rights::READ | Rights::GRANT, 0, table)?;
                }
                let rights = Rights::WAIT | Rights::SIGNAL;
                notification.derive(Slot(record.notification_slot), rights, 0, table)
            };
            make().map_err(Cause::Kernel)?;

            let (stack, block) = self.allocator.memory(record.stack_bytes, PAGE_SIZE)?;
            let rights = Rights::READ | Rights::WRITE;
            let part = self.allocator.child(stack, rights, 0, block.length)?;
            let bottom = record.stack_top - record.stack_bytes;
            built.handle.map(part, bottom, rights, 0).map_err(Cause::Kernel)?;
            built.stacks.push(stack);
            built.private.push((stack, block.length));
            built.threads.push(thread);
            if index != 0 {
                built.further.push(notification);
            }
        }
        Ok(())
    }

    /// Init's notification with the badge by which a partition's faults and reports arrive.
    pub(crate) fn fault_notification(&mut self, partition: &plan::Partition<'_>) -> Result<Notification, Cause> {
        let bit = partition.record.init_bit;
        let own = self.own_notification().filter(|_| bit != NO_BIT);
        let own = own.ok_or(Cause::Contradiction("a partition without a bit in init"))?;
        let slot = self.allocator.slot()?;
        own.derive(slot, Rights::SIGNAL | Rights::GRANT, mask(bit), Table::Own).map_err(Cause::Kernel)?;
        Ok(Notification(slot))
    }

    fn guest_space(&mut self, built: &Built) -> Result<Option<GuestSpace>, Cause> {
        let Some((_, record)) = built.plan.guest() else {
            return Ok(None);
        };
        let features = CpuFeatures::from_bits_truncate(self.boot.features);
        let is_shadowed =
            Paging::from_number(u64::from(record.paging)).is_some_and(|paging| paging.is_shadow(features));
        let (paging, shadow_pages) =
            if is_shadowed { (GuestPaging::Shadow, record.shadow_pages) } else { (GuestPaging::Ept, 0) };
        let space = GuestSpace(self.allocator.create(NewObject::GuestSpace { paging })?);
        let pages = u64::from(record.pool_pages) + u64::from(shadow_pages);
        let pool = self.allocator.pool(pages.max(1))?;
        space.donate(pool).map_err(Cause::Kernel)?;
        let ranges = [(record.low_memory, 0), (record.high_memory, layout::GUEST_HIGH_RAM)];
        for (region, guest_physical) in ranges {
            let Some(region) = self.regions.get(region as usize).copied() else {
                continue;
            };
            let rights = Rights::READ | Rights::WRITE | Rights::EXECUTE;
            let part = self.allocator.child(region.memory, rights, 0, region.block.length)?;
            space.map(part, guest_physical, rights).map_err(Cause::Kernel)?;
        }
        if let Some(firmware) = self.modules.get(record.firmware as usize).copied() {
            // Read-only, so that all guests and lives of a guest have the same: it is never copied.
            let rights = Rights::READ | Rights::EXECUTE;
            let length = firmware.bytes.len() as u64;
            let part = self.allocator.child(firmware.root, rights, 0, length)?;
            space.map(part, layout::GUEST_FIRMWARE_END - length, rights).map_err(Cause::Kernel)?;
        }
        Ok(Some(space))
    }

    /// Gives a window the partition's slots of the CPU's major frame.
    fn add_slots(&self, window: Window, partition: usize, cpu: u32) -> Result<(), Cause> {
        for slot in self.plan.slots(partition, cpu) {
            let [frame, start, end] = [slot.frame_us, slot.start_us, slot.end_us].map(time::microseconds);
            window.add_slot(frame, start, end, slot.quiet == 1).map_err(Cause::Kernel)?;
        }
        Ok(())
    }

    /// From now on init runs in its slots alone, if the plan says so.
    pub fn keep_to_slots(&self) -> Result<(), Cause> {
        self.add_slots(Window(Slot(init_slot::FIRST_WINDOW)), 0, 0)
    }

    /// Maps a region into a partition.
    pub(crate) fn map_region(
        &mut self,
        handle: Partition,
        region: usize,
        address: u64,
        rights: Rights,
        uncached: bool,
    ) -> Result<Region, Cause> {
        let region = self.regions.get(region).copied();
        let region = region.ok_or(Cause::Contradiction("a region that is not there"))?;
        let part = self.allocator.child(region.memory, rights, 0, region.block.length)?;
        let attributes = if uncached { MAP_UNCACHED } else { 0 };
        handle.map(part, address, rights, attributes).map_err(Cause::Kernel)?;
        Ok(region)
    }

    /// Maps a region into init's own space, for good.
    pub(crate) fn map_own(&mut self, region: usize, address: u64) -> Result<SharedMemory<'static>, Cause> {
        let region = self.regions.get(region).copied();
        let region = region.ok_or(Cause::Contradiction("a region that is not there"))?;
        let rights = Rights::READ | Rights::WRITE;
        let part = self.allocator.child(region.memory, rights, 0, region.block.length)?;
        Ok(Mapping::new(OWN, part, address, rights, 0).map_err(Cause::Kernel)?.leak())
    }

    /// Starts what init has itself: its console and the partitions' status pages.
    pub fn furnish_init(&mut self) -> Result<(), Failure> {
        let Some(partition) = self.plan.partition(0).filter(|own| own.kind() == PartitionKind::Init) else {
            let cause = Cause::Contradiction("its first partition is not init");
            return Err(Failure::new("carry out the plan", self.plan.name(), cause));
        };
        grants::furnish_init(self, &partition)
    }
}

impl Construction<'_> {
    /// Makes what supervising needs after the seal.
    pub fn furnish_supervision(&mut self) -> Result<(), Failure> {
        let slot = self.allocator.create(NewObject::Notification).during("make a notification of", "init")?;
        events::set_quiet(Notification(slot));
        Ok(())
    }
}

impl Built {
    /// The notification of thread `thread`.
    pub fn notification_of(&self, thread: usize) -> Option<Notification> {
        match thread.checked_sub(1) {
            None => Some(self.notification),
            Some(further) => self.further.get(further).copied(),
        }
    }

    /// Writes the environment into its memory, with what only init knows.
    pub fn write_environment(&self, boot: &BootInfo, generation: u64) -> Result<(), Cause> {
        let source = &self.plan.environment;
        let mut words = vec![0u64; source.bytes().len().div_ceil(size_of::<u64>())];
        let mut copy = EnvironmentCopy::new(source, words.as_mut_bytes())
            .ok_or(Cause::Contradiction("an environment that cannot be copied"))?;
        copy.set_clock(boot.tsc_hz, generation);
        copy.set_boot(boot.tsc_at_entry, boot.features);
        for (index, entry) in &self.filled {
            copy.set_entry(*index, *entry);
        }
        for (entry, address) in &self.physical {
            copy.set_physical(*entry, *address);
        }
        fill(self.environment, |view| {
            view.write(0, words.as_bytes()).map_err(|_| Cause::Contradiction("an environment that does not fit"))
        })
    }

    /// Loads the program again, into zeroed memory.
    pub fn reload(&self) -> Result<(), Cause> {
        self.program.zero(0, self.image.length()).map_err(Cause::Kernel)?;
        fill(self.program, |view| self.image.load(view))
    }
}

/// Allocates the plan's regions: first those that can only be in one place, then those of NUMA nodes.
fn regions(plan: &Plan<'_>, nodes: &Nodes, allocator: &mut Allocator) -> Result<Vec<Region>, Cause> {
    let mut order: Vec<usize> = (0..plan.regions().len()).collect();
    order.sort_by_key(|index| plan.regions().get(*index).map(|record| (record.physical == 0, record.node == NO_INDEX)));
    let mut regions = vec![None; order.len()];
    for (index, record) in order.into_iter().filter_map(|index| Some((index, plan.regions().get(index)?))) {
        let (block, misplaced) = match (record.physical, record.node) {
            (0, NO_INDEX) => (allocator.take(record.size, record.alignment)?, None),
            (0, _) => nodes.take(allocator, record)?,
            (fixed, _) => (allocator.take_at(fixed, record.size)?, None),
        };
        let region = Region { memory: allocator.capability(&block)?, block, users: 0, misplaced };
        if let Some(place) = regions.get_mut(index) {
            *place = Some(region);
        }
    }
    Ok(regions.into_iter().flatten().collect())
}

/// Maps memory in init's space while it is filled.
pub fn fill(memory: Memory, work: impl FnOnce(SharedMemory<'_>) -> Result<(), Cause>) -> Result<(), Cause> {
    let mapping = Mapping::new(OWN, memory, TEMPORARY, Rights::READ | Rights::WRITE, 0);
    work(mapping.map_err(Cause::Kernel)?.view())
}
