//! From the environment to a guest that can run.

use crate::disk::{Disk, DiskFunction};
use crate::memory::Ram;
use crate::processor::Guest;
use crate::serial;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_machine::acpi::{AcpiImage, AcpiParameters};
use bulkhead_machine::bus::PlatformParameters;
use bulkhead_machine::emulate::DecodeCache;
use bulkhead_machine::loader::{self, BootImage, BootState};
use bulkhead_machine::machine::{Machine, MachineParameters};
use bulkhead_machine::memory::{GuestMemory, GuestPhysical};
use bulkhead_machine::policy::cpuid::CpuidParameters;
use bulkhead_machine::virtio::BarPlaces;
use bulkhead_runtime::abi::{StateGroups, VcpuState};
use bulkhead_runtime::mapping::GuestProcessor;
use bulkhead_runtime::object::Vcpu;
use bulkhead_runtime::plan::ChannelKind;
use bulkhead_runtime::program::Channel;
use bulkhead_runtime::{Program, events, time};
use core::arch::x86_64::__cpuid_count;

/// What the real-time clock starts with when the environment says nothing: 2026-01-01 00:00 UTC.
const UNIX_TIME: i64 = 1_767_225_600;
/// How long a disk's service may take to come up, in milliseconds.
const PATIENCE: u64 = 20_000;
/// First notification port of the first disk, and distance to the next one's.
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

/// Builds the guest that the environment describes.
pub fn build(program: &Program) -> Result<Guest, String> {
    let ram = program.guest_memories().next().ok_or("the environment names no guest memory")?;
    let ram = Ram::new(ram.ram.memory());
    let (space, _) = program.guest_space().ok_or("the environment names no guest space")?;
    let entry = program.vcpus().next().ok_or("the environment names no guest processor")?;
    let mut disks = Vec::new();
    let mut functions = Vec::new();
    for entry in program.environment().disks() {
        let channel = program.channel(entry.name).ok_or("a disk has no channel")?;
        let mut disk = Disk::new(&channel).ok_or("a disk's channel is too small")?;
        let index = functions.len() as u16;
        functions.push(function(&mut disk, index, entry.name)?);
        disks.push(disk);
    }
    let serial = program.channels().find(|channel: &Channel| channel.entry.kind == ChannelKind::Serial);
    let (output, input) = serial::attach(serial.as_ref());

    let acpi = AcpiImage::new(&AcpiParameters { processors: 1, pci_functions: functions.len() });
    let state = boot(program, &ram, &acpi)?;
    let parameters = parameters(&ram);
    let machine = Machine::new(&parameters, host_cpuid, functions, output);
    let processor = prepare(entry.vcpu, entry.entry.state, &state)?;
    Ok(Guest {
        processor,
        machine,
        ram,
        space,
        disks,
        input,
        cache: DecodeCache::new(),
        halted: false,
        deadline: u64::MAX,
        windows: false,
    })
}

/// Waits until the service offers the disk, and makes a PCI function of it.
fn function(disk: &mut Disk, index: u16, name: &str) -> Result<DiskFunction, String> {
    let limit = time::now().saturating_add(time::milliseconds(PATIENCE));
    loop {
        if let Some(device) = disk.offered() {
            let ports = PORTS.wrapping_add(index.wrapping_mul(PORTS_STRIDE));
            let memory = WINDOWS + u32::from(index) * WINDOW_STRIDE;
            return Ok(DiskFunction::new(device, BarPlaces { ports, memory }));
        }
        if time::now() >= limit {
            return Err(format!("disk {name}: its service offers no device"));
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

fn host_cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let answer = __cpuid_count(leaf, subleaf);
    [answer.eax, answer.ebx, answer.ecx, answer.edx]
}

fn parameters(ram: &Ram) -> MachineParameters {
    /// x87, SSE, AVX and the three parts of AVX-512.
    const STATES: u64 = 0xe7;
    /// Guest-physical addresses: enough for every guest, and for 4-level extended page tables.
    const ADDRESS_BITS: u32 = 46;
    let [low, _, _, high] = host_cpuid(0xd, 0);
    let address_bits = host_cpuid(0x8000_0008, 0)[0] & 0xff;
    let layout = ram.layout();
    MachineParameters {
        platform: PlatformParameters {
            tsc_hertz: time::frequency(),
            now: time::now(),
            unix_time: UNIX_TIME,
            memory_below: layout.low(),
            memory_above: layout.high(),
        },
        cpuid: CpuidParameters {
            processors: 1,
            tsc_hertz: time::frequency(),
            xcr0_mask: (u64::from(high) << 32 | u64::from(low)) & STATES,
            physical_address_bits: address_bits.clamp(36, ADDRESS_BITS),
            x2apic: false,
            pcid: false,
            rdtscp: false,
            speculation_control: false,
            kvm_leaves: false,
        },
        microcode: 0,
    }
}

/// Sets the processor's state for the kernel's entry point.
fn prepare(vcpu: Vcpu, state_address: u64, boot: &BootState) -> Result<GuestProcessor, String> {
    let mut processor = vcpu.map_state(state_address).map_err(|error| format!("vCPU state page: {error:?}"))?;
    for (msr, writes) in PASSED {
        vcpu.pass_msr(msr, true, writes).map_err(|error| format!("MSR {msr:#x}: {error:?}"))?;
    }
    let state: &mut VcpuState = processor.state_mut();
    boot.apply(state);
    state.dirty |= (StateGroups::all() - StateGroups::APIC).bits();
    Ok(processor)
}
