//! IDE with bus-master DMA: the driver, over a register trait.
#![no_std]
#![forbid(unsafe_code)]
