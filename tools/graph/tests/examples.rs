//! The pictures of the examples in `docs/graphs` are what is drawn of them now.

use std::{collections::BTreeSet, fs, path::Path};

use bulkhead_manifest::Options;

/// Names of the files of a directory with this ending, without it.
fn names(directory: &Path, extension: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let files = entries.map(|entry| entry.expect("an entry").path());
    let files = files.filter(|path| path.extension().is_some_and(|found| found == extension));
    files.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect()
}

#[test]
fn every_example_has_its_picture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (examples, pictures) = (root.join("partitions/examples"), root.join("docs/graphs"));
    let names_of_examples = names(&examples, "toml");
    assert!(names_of_examples.len() >= 5, "examples were not found");
    let mut outdated = Vec::new();
    for name in &names_of_examples {
        let manifest = examples.join(format!("{name}.toml"));
        let picture = bulkhead_manifest::picture(&manifest, &Options::default())
            .unwrap_or_else(|errors| panic!("{}", bulkhead_manifest::render_plain(&errors)));
        let kept = fs::read_to_string(pictures.join(format!("{name}.svg"))).unwrap_or_default();
        if kept != bulkhead_graph::svg(&picture) {
            outdated.push(format!("cargo run -- graph partitions/examples/{name}.toml -o docs/graphs/{name}.svg"));
        }
    }
    assert!(
        outdated.is_empty(),
        "pictures are not those of the examples; these commands renew them:\n{}",
        outdated.join("\n")
    );
    assert_eq!(names(&pictures, "svg"), names_of_examples, "pictures of examples that are not there");
}
