//! Names the linker script of native programs.

fn main() {
    let script = std::env::var("DEP_BULKHEAD_RUNTIME_LINKER_SCRIPT").expect("the runtime's build script sets it");
    println!("cargo::rustc-link-arg-bins=-T{script}");
    println!("cargo::rerun-if-changed={script}");
}
