//! The server of an endpoint that says how long a call takes at most.

use crate::Cycle;
use bulkhead_runtime::abi::{MessageInfo, NO_DEADLINE};
use bulkhead_runtime::plan::StatusReport;
use bulkhead_runtime::syscall::Received;
use bulkhead_runtime::{Program, die, events, println, time};

/// Calls that are looked at, unless the environment says otherwise.
const CALLS: u64 = 20_000;

/// Serves calls, each of which takes as many microseconds as the text `work` of the environment says, or none. Tells with how little
/// time left of its window, if that is its clients' too, one began; and how many signals it took outside its windows.
pub fn serve(program: &Program, cycle: &Cycle) -> ! {
    let Some((endpoint, _)) = program.endpoint("calls") else {
        die("it has no endpoint `calls`");
    };
    let number = |name| program.environment().text(name).and_then(|text| text.parse::<u64>().ok());
    let (wanted, work) = (number("calls").unwrap_or(CALLS), time::microseconds(number("work").unwrap_or(0)));
    let (mut calls, mut least) = (0u64, u64::MAX);
    let (mut signals, mut outside) = (0u64, 0u64);
    while calls < wanted {
        match endpoint.reply_receive(MessageInfo(0), [0; 4]) {
            Ok(Received::Message { .. }) => {
                calls += 1;
                least = least.min(cycle.left());
                let end = time::now().saturating_add(work);
                while time::now() < end {
                    core::hint::spin_loop();
                }
            }
            Ok(Received::Signals(_)) => {
                signals += 1;
                outside += u64::from(!cycle.is_open());
            }
            Err(_) => die("its endpoint is not there"),
        }
    }
    println!("served: {calls} calls, none with less than {least} ticks left of its window");
    println!("signalled: {signals} times, {outside} taken outside its windows");
    program.report(StatusReport::Finished, 0, "served its calls");
    loop {
        events::wait(NO_DEADLINE);
    }
}
