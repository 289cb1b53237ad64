//! What the documents say of the tree: their links lead to files that are there.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Directories without documents of the project's own.
const FOREIGN: [&str; 2] = ["target", ".git"];

/// All Markdown files below a directory.
fn documents(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !FOREIGN.contains(&&*name) {
                documents(&path, found);
            }
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// Targets of the links `[text](target)` of a document that lie in the tree, without the part after `#`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains("://"))
}

#[test]
fn links_lead_to_files() {
    let mut found = Vec::new();
    documents(Path::new(env!("CARGO_MANIFEST_DIR")), &mut found);
    assert!(found.len() > 10, "documents were not found");
    let mut broken = Vec::new();
    for document in &found {
        let text = fs::read_to_string(document).expect("a document");
        let directory = document.parent().expect("a directory");
        for target in links(&text).filter(|target| !directory.join(target).exists()) {
            broken.push(format!("{}: {target}", document.display()));
        }
    }
    assert!(broken.is_empty(), "links to nothing:\n{}", broken.join("\n"));
}

#[test]
fn the_manifest_of_the_readme_is_one_that_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).expect(name);
    let manifest = read("partitions/native.toml");
    assert!(
        read("README.md").contains(manifest.trim()),
        "README.md shows another manifest than partitions/native.toml"
    );
}
