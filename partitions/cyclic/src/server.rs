//! The server of an endpoint that says how long a call takes at most.

use crate::Cycle;
use bulkhead_runtime::abi::MessageInfo;
use bulkhead_runtime::plan::StatusReport;
use bulkhead_runtime::syscall::Received;
use bulkhead_runtime::{Program, die, println};

/// Calls that are looked at.
const CALLS: u64 = 20_000;

/// Serves calls that do nothing, and tells with how little time left of its window, which is its clients' too, one began.
pub fn serve(program: &Program, cycle: &Cycle) -> ! {
    let Some((endpoint, _)) = program.endpoint("calls") else {
        die("it has no endpoint `calls`");
    };
    let (mut calls, mut least) = (0u64, u64::MAX);
    loop {
        match endpoint.reply_receive(MessageInfo(0), [0; 4]) {
            Ok(Received::Message { .. }) => {
                calls += 1;
                least = least.min(cycle.left());
            }
            Ok(Received::Signals(_)) => {}
            Err(_) => die("its endpoint is not there"),
        }
        if calls == CALLS {
            println!("served: {calls} calls, none with less than {least} ticks left of its window");
            program.report(StatusReport::Finished, 0, "served its calls");
        }
    }
}
