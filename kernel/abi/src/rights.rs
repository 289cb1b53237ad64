//! Rights of capabilities.

use bitflags::bitflags;

bitflags! {
    /// What the holder of a capability may do with its object. Deriving can only take rights away.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Rights: u16 {
        /// Memory: map readable. IoPorts: use. Objects: read their state.
        const READ = 1 << 0;
        /// Memory: map writable. Objects: write their state.
        const WRITE = 1 << 1;
        /// Memory: map executable.
        const EXECUTE = 1 << 2;
        /// Memory: learn the physical address, to program a device's DMA with it.
        const DMA = 1 << 3;
        /// Memory: make kernel objects of it, and split it.
        const CREATE = 1 << 4;
        /// Copy, derive and transfer the capability.
        const GRANT = 1 << 5;
        /// Endpoint: call.
        const CALL = 1 << 6;
        /// Endpoint: receive and reply.
        const RECEIVE = 1 << 7;
        /// Notification: signal.
        const SIGNAL = 1 << 8;
        /// Notification: wait.
        const WAIT = 1 << 9;
        /// Vcpu: run. Thread: start and stop.
        const RUN = 1 << 10;
        /// Partition, GuestSpace: map into. Thread, Interrupt: bind.
        const CONTROL = 1 << 11;
        /// Revoke what was derived from the capability.
        const REVOKE = 1 << 12;
    }
}
