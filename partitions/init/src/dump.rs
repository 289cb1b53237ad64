//! Every capability of every partition, as the kernel has it, in lines that a program can read.
//!
//! `cap partition NAME GENERATION SLOTS` begins a table; `cap NAME SLOT TYPE RIGHTS BADGE OBJECT SIZE SPACE MAPPED MAPPINGS` is a
//! capability: numbers of `bulkhead_abi`, hexadecimal but for the slot; OBJECT is the first unit of a range or the generation of an
//! object, SPACE the generation of the partition or guest space that it is mapped in, MAPPED with which rights.

use crate::construct::OWN;
use crate::supervise::Supervised;
use alloc::string::String;
use bulkhead_runtime::abi::{Error, ObjectType};
use bulkhead_runtime::object::Partition;
use bulkhead_runtime::println;

/// Prints all tables; an error if the kernel's records contradict each other.
pub fn print(when: &str, partitions: &[Supervised]) -> Result<(), String> {
    println!("cap begin {when}");
    let mut contradictions = table("init", OWN);
    for partition in partitions {
        if let Some(built) = &partition.built {
            contradictions += table(partition.name(), built.handle);
        }
    }
    println!("cap end {contradictions} contradictions");
    match contradictions {
        0 => Ok(()),
        count => Err(alloc::format!("{count} slots contradict their neighbours in the kernel's records")),
    }
}

/// Prints a table; returns how many of its slots contradict their neighbours.
fn table(name: &str, partition: Partition) -> u64 {
    let Ok(account) = partition.account() else {
        println!("cap partition {name} cannot be looked at");
        return 1;
    };
    println!("cap partition {name} {:x} {}", account.generation, account.slots);
    let mut contradictions = 0;
    for slot in 0..account.slots {
        match partition.inspect_slot(slot) {
            Ok(found) if found.object == ObjectType::None => {}
            Ok(found) => println!(
                "cap {name} {slot} {:x} {:x} {:x} {:x} {:x} {:x} {:x} {:x}",
                found.object as u64,
                found.rights.bits(),
                found.badge,
                found.identity,
                found.size,
                found.space,
                found.mapped.bits(),
                found.mappings
            ),
            Err(Error::WrongState) => {
                println!("cap {name} {slot} contradicts its neighbours");
                contradictions += 1;
            }
            Err(error) => println!("cap {name} {slot} cannot be looked at: {error:?}"),
        }
    }
    contradictions
}
