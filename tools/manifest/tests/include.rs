//! Manifests of several files.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use bulkhead_manifest::{Compiled, Diagnostic, check, compile};
use support::World;

const HELLO: &str = "[system]\nend = \"never\"\n[partition.hello]\nprogram = \"hello\"\n";

/// Compiles a manifest with the other files that it includes.
fn compiled(manifest: &str, others: &[(&str, &str)]) -> Result<Compiled, Vec<Diagnostic>> {
    let world = World::new();
    others.iter().for_each(|(name, text)| world.file(name, text));
    let path = world.manifest(manifest);
    world.with_options(|options| compile(&path, options))
}

fn cpus(manifest: &str, others: &[(&str, &str)]) -> u32 {
    compiled(&format!("{manifest}\n{HELLO}"), others).unwrap().needs.cpus
}

#[test]
fn whoever_includes_counts_more_and_later_counts_more() {
    let files = [("one.toml", "[machine]\ncpus = 1"), ("two.toml", "[machine]\ncpus = 2\nmemory = \"256 MiB\"")];
    assert_eq!(cpus("include = [\"one.toml\", \"two.toml\"]", &files), 2);
    assert_eq!(cpus("include = [\"two.toml\", \"one.toml\"]", &files), 1);
    let text = format!("include = [\"two.toml\"]\n{HELLO}[machine]\ncpus = 5");
    let needs = compiled(&text, &files).unwrap().needs;
    assert_eq!((needs.cpus, needs.memory_mib), (5, 256));
}

/// What two files have in common does not undo what one of them changed.
#[test]
fn a_file_that_several_include_counts_once() {
    let files = [
        ("base.toml", "[machine]\ncpus = 1"),
        ("one.toml", "include = [\"base.toml\"]\n[machine]\ncpus = 2"),
        ("two.toml", "include = [\"base.toml\"]"),
    ];
    assert_eq!(cpus("include = [\"one.toml\", \"two.toml\"]", &files), 2);
}

#[test]
fn files_are_relative_to_where_they_are_named() {
    let files = [
        ("guests/red.toml", "include = [\"../kernels/all.toml\"]\n[guest.red]\nmemory = \"64 MiB\""),
        ("guests/blue.toml", "[guest.blue]\nmemory = \"64 MiB\"\nkernel = \"image\""),
        ("guests/image", "a kernel"),
        ("kernels/all.toml", "[guest.red]\nkernel = \"image\""),
        ("kernels/image", "another kernel"),
    ];
    let compiled =
        compiled(&format!("include = [\"guests/red.toml\", \"guests/blue.toml\"]\n{HELLO}"), &files).unwrap();
    for (module, file) in [("kernel/red", "guests/../kernels/image"), ("kernel/blue", "guests/image")] {
        let (_, path) = compiled.modules.iter().find(|(name, _)| name == module).unwrap();
        assert!(path.ends_with(file), "{}", path.display());
    }
}

#[test]
fn errors_show_the_lines_of_their_files() {
    let world = World::new();
    world.file("base.toml", "[machine]\ncpus = 1 # base\n");
    let path = world.manifest(&format!("include = [\"base.toml\"]\n{HELLO}cpu = 3 # manifest\n"));
    let errors = world.with_options(|options| check(&path, options)).unwrap_err();
    let shown = bulkhead_manifest::render_plain(&errors);
    for part in ["manifest.toml:6:7", "cpu = 3 # manifest", "base.toml:2:8", "cpus = 1 # base", "the machine's CPUs"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert_eq!(errors.iter().map(Diagnostic::check).collect::<Vec<_>>(), ["cpus::does_not_exist"]);
}
