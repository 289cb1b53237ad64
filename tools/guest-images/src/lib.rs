//! Fetches Debian guest kernels and builds initramfs images, cached under target/.
#![forbid(unsafe_code)]
