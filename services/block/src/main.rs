//! The block service: IDE driver and virtio-blk device emulators.
fn main() {}
