//! From the environment to a guest that can run.

use crate::copied::CopiedDisk;
use crate::device::DeviceLink;
use crate::guest::{Guest, Links, Thread, Threads};
use crate::memory::Ram;
use crate::monitor::Monitor;
use crate::ports::Ports;
use crate::serial;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_machine::acpi::{AcpiImage, AcpiParameters};
use bulkhead_machine::bus::PlatformParameters;
use bulkhead_machine::loader::{self, BootImage, BootState};
use bulkhead_machine::machine::{Host, Machine, MachineParameters};
use bulkhead_machine::memory::{GuestMemory, GuestPhysical};
use bulkhead_machine::policy::cpuid::CpuidParameters;
use bulkhead_machine::policy::listed::{MsrRule, MsrRules, ReadRule, WriteRule};
use bulkhead_machine::policy::withheld::Withheld;
use bulkhead_machine::virtio::BarPlaces;
use bulkhead_machine::virtio::VirtioPci;
use bulkhead_machine::virtual_apic::VirtualApic;
use bulkhead_runtime::abi::CpuFeatures;
use bulkhead_runtime::mapping::GuestProcessor;
use bulkhead_runtime::object::{Notification, Vcpu};
use bulkhead_runtime::plan::{self, ChannelKind, GuestSpace};
use bulkhead_runtime::program::{Channel, GuestProcessorEntry};
use bulkhead_runtime::syscall::Slot;
use bulkhead_runtime::{Program, events, thread, time};
use core::sync::atomic::AtomicUsize;
use spin::Once;
use spin::mutex::spin::SpinMutex;

/// What the real-time clock starts with, since nothing tells the time: 2026-01-01 00:00 UTC.
const UNIX_TIME: i64 = 1_767_225_600;
/// How long a device's service may take to come up, in milliseconds.
const PATIENCE: u64 = 20_000;
/// First notification port of the first device, and distance to the next one's.
const PORTS: u16 = 0x1000;
const PORTS_STRIDE: u16 = 0x100;
/// The same for the memory window.
const WINDOWS: u32 = 0xc000_0000;
const WINDOW_STRIDE: u32 = 0x1_0000;

/// MSRs that the guest accesses directly (the hardware or the kernel switches them), and whether it may write them.
const PASSED: [(u32, bool); 7] = [
    (0x10, false),
    (0x174, true),
    (0x175, true),
    (0x176, true),
    (0xc000_0100, true),
    (0xc000_0101, true),
    (0xc000_0102, true),
];

/// Builds the guest that the environment describes, and the state in which its first processor starts.
pub fn build(program: &Program) -> Result<(Guest, BootState), String> {
    let memory = program.guest_memories().next().ok_or("the environment names no guest memory")?;
    let firmware = program.module("firmware");
    let ram = Ram::new(memory.ram.memory(), firmware.unwrap_or_default());
    let (space, offered) = program.guest_space().ok_or("the environment names no guest space")?;
    let processors: Vec<_> = program.vcpus().collect();
    let mut devices = Vec::new();
    let mut functions = Vec::new();
    let environment = program.environment();
    let disks = environment.disks().map(|disk| (disk.name, Some(disk)));
    for (name, disk) in disks.chain(environment.network_ports().map(|port| (port.name, None))) {
        let channel = program.channel(name).ok_or("a device has no channel")?;
        let copied = match disk {
            Some(disk) => CopiedDisk::connect(program, &disk, &channel, memory.entry.guest, limit())?,
            None => None,
        };
        let mut device = DeviceLink::new(&channel, copied).ok_or("a device's channel is too small")?;
        let index = functions.len() as u16;
        functions.push(function(&mut device, index, name)?);
        devices.push(device);
    }
    let ports = Ports::new(program, memory.entry.guest);
    if let Some(ports) = &ports {
        functions.push(VirtioPci::new(ports.device(), places(functions.len() as u16)));
    }
    let serial = program.channels().find(|channel: &Channel| channel.entry.kind == ChannelKind::Serial);
    let (output, input) = serial::attach(serial.as_ref());

    let acpi =
        AcpiParameters { processors: processors.len() as u32, pci_functions: functions.len(), hpet: offered.hpet };
    let state = match firmware {
        Some(firmware) => start_firmware(&ram, firmware)?,
        None => boot(program, &ram, &AcpiImage::new(&acpi))?,
    };
    let msrs = program.environment().msr_rules().map(msr_rule).collect();
    let parameters = parameters(&ram, processors.len(), &offered, msrs);
    let threads = threads(program, &processors)?;
    for device in &devices {
        device.forget_routes(&threads);
    }
    let machine = Machine::new(&parameters, functions, output, threads);
    let links = SpinMutex::new(Links { devices, ports, input });
    let mut features = CpuFeatures::from_bits_truncate(program.environment().header().features);
    let is_shadowed = offered.paging.is_shadow(features);
    // An interrupt that the processor delivers by itself can fault in the shadow tables. Bochs then reports an event of the past as
    // the interrupted one, and the interrupt is lost; so with shadow paging the monitor injects them.
    let virtual_apics = !is_shadowed && space.map_apic_page();
    let deaf = AtomicUsize::new(0);
    // With shadow paging the hardware does not run code without paging either.
    if is_shadowed {
        features.remove(CpuFeatures::UNRESTRICTED_GUEST);
    }
    let guest = Guest {
        machine,
        ram,
        space,
        features,
        virtual_apics,
        statistics: offered.statistics,
        processors,
        links,
        end: Once::new(),
        deaf,
        left: AtomicUsize::new(0),
    };
    Ok((guest, state))
}

/// The threads that run the processors, by processor.
fn threads(program: &Program, processors: &[GuestProcessorEntry]) -> Result<Threads, String> {
    let thread = |processor: &GuestProcessorEntry| {
        let notification = match processor.entry.thread {
            0 => program.notification(),
            thread => {
                let entry = program.environment().threads().find(|entry| entry.index == thread);
                let entry = entry.ok_or_else(|| format!("processor {} has no thread", processor.entry.index))?;
                Notification(Slot(entry.notification))
            }
        };
        Ok(Thread { notification, vcpu: processor.vcpu })
    };
    Ok(Threads(processors.iter().map(thread).collect::<Result<_, String>>()?))
}

/// Starts the threads of all processors but the first.
pub fn start_threads(program: &Program, function: fn(usize)) -> Result<(), String> {
    for entry in program.environment().threads() {
        thread::start(&entry, function).map_err(|error| format!("thread {}: {error:?}", entry.index))?;
    }
    Ok(())
}

/// The monitor of the processor that thread `thread` runs. To be called by that thread, once.
pub fn monitor(guest: &'static Guest, thread: usize) -> Result<Monitor, String> {
    let entry = guest.processors.iter().find(|processor| processor.entry.thread as usize == thread);
    let entry = entry.ok_or_else(|| format!("thread {thread} has no processor"))?;
    let number = entry.entry.index as usize;
    let machine = &guest.machine;
    let (Some(mut model), Some(mailbox)) = (machine.processor(number), machine.mailbox(number)) else {
        return Err(format!("there is no processor {number}"));
    };
    let processor = prepare(entry.vcpu, entry.entry.state)?;
    if let Some(page) = VirtualApic::new(processor.apic_page()) {
        if guest.virtual_apics {
            machine.virtualize_apic(&mut model, page, time::now());
        } else if guest.features.contains(CpuFeatures::TPR_SHADOW) {
            machine.virtualize_priority(&mut model, page, time::now());
        }
    }
    Ok(Monitor::new(guest, processor, model, mailbox))
}

/// Where the windows of a PCI function are at the start.
fn places(index: u16) -> BarPlaces {
    let ports = PORTS.wrapping_add(index.wrapping_mul(PORTS_STRIDE));
    BarPlaces { ports, memory: WINDOWS + u32::from(index) * WINDOW_STRIDE }
}

/// Until when a device's service may come up.
fn limit() -> u64 {
    time::now().saturating_add(time::milliseconds(PATIENCE))
}

/// Waits until the service offers the device, and makes a PCI function of it.
fn function(device: &mut DeviceLink, index: u16, name: &str) -> Result<VirtioPci, String> {
    let limit = limit();
    loop {
        if let Some(offered) = device.offered() {
            return Ok(VirtioPci::new(offered, places(index)));
        }
        if time::now() >= limit {
            return Err(format!("device {name}: its service offers no device"));
        }
        events::wait(limit);
    }
}

/// Loads kernel and tables.
fn boot(program: &Program, ram: &Ram, acpi: &AcpiImage) -> Result<BootState, String> {
    let kernel = program.module("kernel").ok_or("the environment names no kernel")?;
    let root = GuestPhysical(acpi.address);
    ram.write(root, &acpi.bytes).map_err(|error| format!("ACPI tables: {error}"))?;
    let image = BootImage {
        kernel,
        initrd: program.module("initrd"),
        command_line: program.environment().text("command-line").unwrap_or("").as_bytes(),
        acpi_root: Some(root),
    };
    loader::load(ram, &image).map_err(|error| format!("the kernel cannot be loaded: {error}"))
}

/// Lets firmware start the machine: it brings its own tables.
fn start_firmware(ram: &Ram, firmware: &[u8]) -> Result<BootState, String> {
    let [signature, ..] = Threads::cpuid(1, 0);
    loader::load_firmware(ram, firmware, signature).map_err(|error| format!("the firmware cannot be started: {error}"))
}

/// A rule of the plan as the model of the processor knows it.
fn msr_rule(rule: plan::MsrRule) -> MsrRule {
    let read = match rule.read {
        plan::MsrRead::Emulate => ReadRule::Emulate,
        plan::MsrRead::Deny => ReadRule::Deny,
        plan::MsrRead::Constant => ReadRule::Constant(rule.value),
    };
    let write = match rule.write {
        plan::MsrWrite::Emulate => WriteRule::Emulate,
        plan::MsrWrite::Deny => WriteRule::Deny,
        plan::MsrWrite::Ignore => WriteRule::Ignore,
    };
    MsrRule { number: rule.number, read, write }
}

fn parameters(ram: &Ram, processors: usize, offered: &GuestSpace, msrs: MsrRules) -> MachineParameters {
    /// x87, SSE, AVX and the three parts of AVX-512.
    const STATES: u64 = 0xe7;
    /// Guest-physical addresses: enough for every guest, and for 4-level extended page tables.
    const ADDRESS_BITS: u32 = 46;
    let [low, _, _, high] = Threads::cpuid(0xd, 0);
    let address_bits = Threads::cpuid(0x8000_0008, 0)[0] & 0xff;
    let layout = ram.layout();
    MachineParameters {
        platform: PlatformParameters {
            tsc_hertz: time::frequency(),
            now: time::now(),
            unix_time: UNIX_TIME,
            memory_below: layout.low(),
            memory_above: layout.high(),
            processors: processors as u32,
            hpet: offered.hpet,
        },
        cpuid: CpuidParameters {
            processors: processors as u32,
            tsc_hertz: time::frequency(),
            xcr0_mask: (u64::from(high) << 32 | u64::from(low)) & STATES,
            physical_address_bits: address_bits.clamp(36, ADDRESS_BITS),
            x2apic: true,
            pcid: false,
            rdtscp: false,
            speculation_control: false,
            kvm_leaves: false,
            withheld: Withheld(offered.withheld),
        },
        microcode: 0,
        msrs,
    }
}

/// Maps the processor's state page, and opens the MSRs that the guest accesses directly.
fn prepare(vcpu: Vcpu, state_address: u64) -> Result<GuestProcessor, String> {
    let processor = vcpu.map_state(state_address).map_err(|error| format!("vCPU state page: {error:?}"))?;
    for (msr, writes) in PASSED {
        vcpu.pass_msr(msr, true, writes).map_err(|error| format!("MSR {msr:#x}: {error:?}"))?;
    }
    Ok(processor)
}
