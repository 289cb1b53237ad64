//! What sending a stream costs, over TCP to somebody outside who answers each MiB with a byte.
//!
//! It is told as [`Meter`] says. Then as much is sent without it, between checkpoints for a monitor that counts exits, and last nothing at
//! all, so that what a guest exits for anyhow can be taken off.

use core::time::Duration;

use crate::{
    linux::{Checkpoints, Failure, PipeEnd, Processors, sleep, ticks},
    meter::{Meter, print},
    println,
    transfer::reach,
};

const MIB: usize = 1 << 20;
/// Bytes sent at a time.
const BLOCK: usize = 32 << 10;
/// MiB that are measured.
const COUNT: usize = 16;
/// MiB before the first that counts: the connection finds its pace.
const WARM_UP: usize = 8;
/// What an idle machine exits for, such as its clock, is counted in this time.
const IDLE: Duration = Duration::from_secs(1);

/// Sends a MiB, and waits until the other end says that it has it.
fn send(connection: &PipeEnd) -> Result<(), Failure> {
    let block = [0x5a; BLOCK];
    for _ in 0..MIB / BLOCK {
        connection.write(&block)?;
    }
    let mut answer = [0];
    if connection.read(&mut answer)? { Ok(()) } else { Err(Failure::wrong("answers:", 0)) }
}

/// Sends the stream, and prints the figure.
pub fn run(processors: &Processors, to: [u8; 4], port: u16) -> Result<(), Failure> {
    let checkpoints = Checkpoints::permit()?;
    let connection = reach(to, port)?;
    let meter = Meter::start(processors)?;
    for _ in 0..WARM_UP {
        send(&connection)?;
    }
    let mut samples = [0; COUNT];
    meter.measure(&mut samples, |_| send(&connection))?;
    meter.stop()?;
    print("net.tcp_mib", &mut samples);
    for (number, name) in (0u32..).zip(["stream", "idle"]) {
        checkpoints.set(2 * number);
        let start = ticks();
        match name {
            "stream" => (0..COUNT).try_for_each(|_| send(&connection))?,
            _ => sleep(IDLE)?,
        }
        let elapsed = ticks().wrapping_sub(start);
        checkpoints.set(2 * number + 1);
        println!("stream: {name} ticks={elapsed}");
    }
    connection.close();
    println!("stream: ok, {} MiB sent", WARM_UP + 2 * COUNT);
    Ok(())
}
