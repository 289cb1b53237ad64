//! Names the linker scripts of the guests and of the firmware.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    for (binary, script) in [("bulkhead-guests", "linker.ld"), ("bulkhead-firmware", "firmware.ld")] {
        println!("cargo::rustc-link-arg-bin={binary}=-T{directory}/{script}");
        println!("cargo::rerun-if-changed={script}");
    }
    println!("cargo::rerun-if-changed=src");
}
