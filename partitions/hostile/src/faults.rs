//! What the processor must refuse: each ends the program, which goes on with the next one when init has started it anew.

use crate::authority::{Authority, FREE_ADDRESS};
use crate::prober::Prober;
use crate::raw::invoke;
use crate::{access, instruction};
use alloc::vec::Vec;
use bulkhead_runtime::Program;
use bulkhead_runtime::abi::{AnyMethod, PartitionMethod, Rights, USER_END};
use bulkhead_runtime::plan::layout;

const GENERAL_PROTECTION: &[u64] = &[13];
const PAGE_FAULT: &[u64] = &[14];

/// Ports of the machine's devices, the first and the last one of all, and those beside the program's own (0x2f8 to 0x2ff).
const PORTS: [(u16, u64); 20] = [
    (0, 1),
    (0x20, 1),
    (0x21, 1),
    (0x40, 1),
    (0x60, 1),
    (0x64, 1),
    (0x70, 1),
    (0x80, 1),
    (0xa1, 1),
    (0xcf8, 4),
    (0xcfc, 4),
    (0x1f0, 2),
    (0x3f8, 1),
    (0x604, 2),
    (0x2f7, 1),
    (0x2f7, 2),
    (0x2ff, 2),
    (0x2fd, 4),
    (0x300, 1),
    (0xffff, 1),
];

/// Model-specific registers: of the system calls, of segments, of the local APIC, of memory types, of VMX and of the clock.
const MSRS: [u32; 15] = [
    0x10,
    0x1b,
    0x3a,
    0x174,
    0x176,
    0x1a0,
    0x277,
    0x808,
    0x830,
    0xc000_0080,
    0xc000_0081,
    0xc000_0082,
    0xc000_0100,
    0xc000_0101,
    0xc000_0102,
];

/// Addresses that no program has: with the exception that an access ends with.
const FOREIGN: [(&str, u64, &[u64]); 18] = [
    ("address 0", 0, PAGE_FAULT),
    ("the second page", 0x1000, PAGE_FAULT),
    ("what lies before the program", layout::PROGRAM - 8, PAGE_FAULT),
    ("the guard page below the stack", layout::STACK_TOP - layout::STACK_BYTES - 8, PAGE_FAULT),
    ("what lies above the stack", layout::STACK_TOP, PAGE_FAULT),
    ("what lies before the environment", layout::ENVIRONMENT - 8, PAGE_FAULT),
    ("what lies before the heap", layout::HEAP - 8, PAGE_FAULT),
    ("where monitors have guests", layout::GUEST_RAM, PAGE_FAULT),
    ("the last page of programs", USER_END - 4096, PAGE_FAULT),
    ("the page behind all programs", USER_END, PAGE_FAULT),
    ("the first address that is none", 0x8000_0000_0000, GENERAL_PROTECTION),
    ("the middle of all addresses", 1 << 63, GENERAL_PROTECTION),
    ("the last address that is none", 0xffff_7fff_ffff_fff8, GENERAL_PROTECTION),
    ("the kernel's view of all RAM", 0xffff_8000_0000_0000, PAGE_FAULT),
    ("the kernel's own memory there", 0xffff_8000_0010_0000, PAGE_FAULT),
    ("a processor's area", 0xffff_c000_0000_0000, PAGE_FAULT),
    ("the interrupt controllers", 0xffff_d000_0000_0000, PAGE_FAULT),
    ("the kernel's image", 0xffff_ffff_8010_0000, PAGE_FAULT),
];

/// Something to try.
enum What {
    Instruction(instruction::Trial),
    PortIn(u16, u64),
    PortOut(u16, u64),
    ReadMsr(u32),
    WriteMsr(u32),
    Read(&'static str, u64, &'static [u64]),
    Write(&'static str, u64, &'static [u64]),
    Execute(&'static str, u64, &'static [u64]),
    Push(&'static str, u64),
    Revoked(bool),
}

/// Asks for what has not been asked for yet.
pub fn run(prober: &Prober, program: &Program, has: &Authority) -> Result<(), &'static str> {
    let all = list(program).ok_or("the environment has too little")?;
    for what in all.iter().skip(prober.faults() as usize) {
        ask(prober, has, what);
        prober.has_survived();
    }
    Ok(())
}

fn list(program: &Program) -> Option<Vec<What>> {
    let environment = program.environment();
    let memory = |name| environment.memory(name).map(|memory| (memory.address, memory.size));
    let ((own, own_bytes), (law, law_bytes), (board, board_bytes)) = (memory("own")?, memory("law")?, memory("board")?);
    let (score, heap) = (crate::channel(program)?.entry, environment.heap()?);
    let mut all = Vec::new();
    all.extend(instruction::TRIALS.iter().map(|trial| What::Instruction(*trial)));
    for (port, bytes) in PORTS {
        all.extend([What::PortIn(port, bytes), What::PortOut(port, bytes)]);
    }
    all.extend(MSRS.into_iter().flat_map(|msr| [What::ReadMsr(msr), What::WriteMsr(msr)]));
    for (name, address, vector) in FOREIGN {
        all.extend([What::Read(name, address, vector), What::Write(name, address, vector)]);
        all.push(What::Execute(name, address, vector));
    }
    for (name, address) in [
        ("what lies behind its memory", own + own_bytes),
        ("what lies before its memory", own - 8),
        ("what lies behind shared memory", board + board_bytes),
        ("what lies behind memory that nobody writes", law + law_bytes),
        ("what lies behind a channel", score.address + score.size),
        ("what lies behind the heap", heap.address + heap.size),
    ] {
        all.extend([What::Read(name, address, PAGE_FAULT), What::Write(name, address, PAGE_FAULT)]);
    }
    for (name, address) in [
        ("its code", layout::PROGRAM),
        ("its constants", core::ptr::from_ref(&PORTS) as u64),
        ("its environment", layout::ENVIRONMENT),
        ("memory that nobody writes", law),
    ] {
        all.push(What::Write(name, address, PAGE_FAULT));
    }
    for (name, address) in [
        ("its stack", layout::STACK_TOP - 64),
        ("its heap", heap.address),
        ("its constants", core::ptr::from_ref(&PORTS) as u64),
        ("its environment", layout::ENVIRONMENT),
        ("its memory", own),
        ("shared memory", board),
        ("memory that nobody writes", law),
        ("a channel", score.address),
    ] {
        all.push(What::Execute(name, address, PAGE_FAULT));
    }
    for (name, address) in [
        ("the kernel's view of all RAM", 0xffff_8000_0010_0000),
        ("its code", layout::PROGRAM + 4096),
        ("address 8", 8),
    ] {
        all.push(What::Push(name, address));
    }
    all.extend([What::Revoked(false), What::Revoked(true)]);
    Some(all)
}

fn ask(prober: &Prober, has: &Authority, what: &What) {
    // A page fault tells the address.
    let at = |vectors, address| if vectors == PAGE_FAULT { address } else { 0 };
    match *what {
        What::Instruction((name, vectors, execute)) => {
            prober.about_to_fault(format_args!("{name}"), vectors, 0);
            execute();
        }
        What::PortIn(port, bytes) => {
            prober.about_to_fault(format_args!("in from port {port:#x}, {bytes} bytes"), GENERAL_PROTECTION, 0);
            instruction::port_in(port, bytes);
        }
        What::PortOut(port, bytes) => {
            prober.about_to_fault(format_args!("out to port {port:#x}, {bytes} bytes"), GENERAL_PROTECTION, 0);
            instruction::port_out(port, bytes);
        }
        What::ReadMsr(msr) => {
            prober.about_to_fault(format_args!("rdmsr {msr:#x}"), GENERAL_PROTECTION, 0);
            instruction::read_msr(msr);
        }
        What::WriteMsr(msr) => {
            prober.about_to_fault(format_args!("wrmsr {msr:#x}"), GENERAL_PROTECTION, 0);
            instruction::write_msr(msr);
        }
        What::Read(name, address, vector) => {
            prober.about_to_fault(format_args!("read of {name}, {address:#x}"), vector, at(vector, address));
            access::read(address);
        }
        What::Write(name, address, vector) => {
            prober.about_to_fault(format_args!("write to {name}, {address:#x}"), vector, at(vector, address));
            access::write(address);
        }
        What::Execute(name, address, vector) => {
            prober.about_to_fault(format_args!("call of {name}, {address:#x}"), vector, at(vector, address));
            access::execute(address);
        }
        What::Push(name, address) => {
            prober.about_to_fault(format_args!("push to {name}, {address:#x}"), PAGE_FAULT, address - 8);
            access::push(address);
        }
        What::Revoked(is_deleted) => {
            prober.about_to_fault(
                format_args!("read of memory whose capability was {}", if is_deleted { "deleted" } else { "revoked" }),
                PAGE_FAULT,
                FREE_ADDRESS,
            );
            let rights = u64::from((Rights::READ | Rights::WRITE).bits());
            let made = [
                invoke(has.own, AnyMethod::DeriveRange as u64, [has.free, rights, 0, 4096]),
                invoke(has.partition, PartitionMethod::Map as u64, [has.free, FREE_ADDRESS, rights, 0]),
            ];
            if made.iter().all(Result::is_ok) {
                // It can be read as long as it is there.
                access::read(FREE_ADDRESS);
                let (slot, method) =
                    if is_deleted { (has.free, AnyMethod::Delete) } else { (has.own, AnyMethod::Revoke) };
                if invoke(slot, method as u64, [0; 4]).is_ok() {
                    access::read(FREE_ADDRESS);
                }
            }
        }
    }
}
