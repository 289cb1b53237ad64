//! The block service of an IDE disk.
//!
//! Its environment names the IDE controller's ports and interrupt, memory for DMA (`dma`: a page for the driver, the rest to bounce
//! data), and each disk with its channel and its guest's memory.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod hardware;

use bulkhead_block_program::{Buffer, dma_memory, serve};
use bulkhead_ide::{IdeDrive, Position, PrdTable, pci};
use bulkhead_runtime::abi::PAGE_SIZE;
use bulkhead_runtime::plan::StatusReport;
use bulkhead_runtime::time::Tsc;
use bulkhead_runtime::{Program, entry, println};
use hardware::IdePorts;

entry!(main);

fn main(program: Program) {
    let ports = IdePorts::new(&program);
    let interrupt = program.interrupt(ports.device());
    match start(&program, ports) {
        Some((drive, buffer)) => serve(&program, drive, buffer, interrupt),
        None => program.report(StatusReport::Failed, 0, "no drive to serve"),
    }
}

/// Finds the controller and starts its drive; says what is wrong if it cannot.
fn start(program: &Program, ports: IdePorts) -> Option<(IdeDrive<'static, IdePorts, Tsc>, Buffer)> {
    if let Some(base) = ports.configurable() {
        let enabled = pci::find(&ports).and_then(|controller| pci::enable(&ports, controller, base));
        if let Err(error) = enabled {
            println!("the IDE controller cannot be used: {error:?}");
            return None;
        }
    }
    let memory = dma_memory(program, PAGE_SIZE as usize);
    let table = memory.and_then(|(own, buffer)| Some((PrdTable::new(own.words(), own.physical()).ok()?, buffer)));
    let Some((table, buffer)) = table else {
        println!("there is no memory for DMA of at least two pages, with a physical address");
        return None;
    };
    match IdeDrive::start(ports, Tsc, table, Position::First) {
        Ok(drive) => Some((drive, buffer)),
        Err(error) => {
            println!("the IDE drive cannot be used: {error:?}");
            None
        }
    }
}
