//! Native partition that measures system calls, IPC and notifications.
fn main() {}
