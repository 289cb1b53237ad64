//! Linux' usual layout of a static program needs no linker script.

fn main() {
    println!("cargo::rustc-link-arg-bins=-e_start");
    println!("cargo::rerun-if-changed=build.rs");
}
