//! Every broken manifest of `broken/` is refused (or warned of) with exactly the messages that it lists in its last lines, as
//! `#! LINE:COLUMN CHECK: MESSAGE`, with `FILE:` first if it is another file. With `BLESS=1` in the environment the lists are written anew, to be read before they are kept.

mod support;

use proptest::prelude::*;
use std::{collections::BTreeSet, fs, path::PathBuf};
use support::{World, root};

const MARK: &str = "#! ";

fn fixtures() -> Vec<PathBuf> {
    let directory = root().join("tools/manifest/tests/broken");
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("the directory of fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

fn errors(path: &std::path::Path) -> Vec<String> {
    let world = World::new();
    let (Ok(diagnostics) | Err(diagnostics)) = world.with_options(|options| bulkhead_manifest::check(path, options));
    diagnostics
        .iter()
        .map(|diagnostic| {
            let place = diagnostic.place().expect("a place");
            assert!(diagnostic.help().is_some(), "{}: {diagnostic} has no help", path.display());
            let file = std::path::Path::new(diagnostic.file().expect("a file"));
            let file = match file.file_name() {
                name if name == path.file_name() => String::new(),
                name => format!("{}:", name.unwrap_or_default().to_string_lossy()),
            };
            format!("{MARK}{file}{}:{} {}: {}", place.line, place.column, diagnostic.check(), diagnostic.message())
        })
        .collect()
}

#[test]
fn broken_manifests_are_refused_with_all_their_errors() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut failures = Vec::new();
    for path in fixtures() {
        let text = fs::read_to_string(&path).expect("a fixture");
        let expected: Vec<_> = text.lines().filter(|line| line.starts_with(MARK)).collect();
        let found = errors(&path);
        if bless && found != expected {
            let manifest: Vec<_> = text.lines().filter(|line| !line.starts_with(MARK)).collect();
            let manifest = manifest.join("\n");
            fs::write(&path, format!("{}\n\n{}\n", manifest.trim_end(), found.join("\n"))).expect("to bless");
        } else if found != expected || found.is_empty() {
            failures.push(format!("{}:\n  {}", path.display(), found.join("\n  ")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A check without a fixture is a check that nobody has seen fail.
#[test]
fn every_check_has_a_fixture() {
    let sources = root().join("tools/manifest/src");
    let mut checks = BTreeSet::new();
    for file in ["checks", "read", "."].iter().flat_map(|part| fs::read_dir(sources.join(part)).expect("sources")) {
        let path = file.expect("a file").path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            let words = text.split('"').filter(|word| {
                word.split_once("::").is_some_and(|(module, rule)| {
                    [module, rule].iter().all(|part| {
                        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                    })
                })
            });
            checks.extend(words.map(str::to_owned));
        }
    }
    assert!(checks.len() >= 100, "only {} checks have names", checks.len());
    // What depends on files outside the manifest is in `compile.rs` and below.
    for elsewhere in ["file::unreadable", "modules::bad_program", "modules::too_many"] {
        assert!(checks.remove(elsewhere), "{elsewhere}");
    }
    let fixtures: String = fixtures().iter().map(|path| fs::read_to_string(path).expect("a fixture")).collect();
    let missing: Vec<_> = checks.iter().filter(|check| !fixtures.contains(&format!(" {check}: "))).collect();
    assert!(missing.is_empty(), "no fixture shows {missing:?}");
}

/// The errors that the documentation shows are those that its example gives.
#[test]
fn the_documentation_shows_real_errors() {
    let world = World::new();
    let path = root().join("tools/manifest/tests/broken/all_at_once.toml");
    let errors = world.with_options(|options| bulkhead_manifest::check(&path, options)).expect_err("errors");
    let path = path.display().to_string();
    let shown = bulkhead_manifest::render_plain(&errors).replace(&path, "broken.toml");
    let documentation = root().join("docs/manifest.md");
    let text = fs::read_to_string(&documentation).expect("docs/manifest.md");
    let block = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    if std::env::var_os("BLESS").is_some() && !block(&text).contains(&block(&shown)) {
        let (before, rest) = text.split_once("<!-- errors -->\n").expect("the mark before the errors");
        let (_, after) = rest.split_once("<!-- end of errors -->").expect("the mark behind the errors");
        let text = format!("{before}<!-- errors -->\n```text\n{}\n```\n<!-- end of errors -->{after}", block(&shown));
        fs::write(&documentation, text).expect("to bless");
        return;
    }
    assert!(block(&text).contains(&block(&shown)), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever stands in a file, there is an answer.
    #[test]
    fn damaged_manifests_are_answered(
        which in any::<prop::sample::Index>(),
        damages in proptest::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec!["", "\"", "[", "]", "{", "-1", "99999999999999999999", "\n", "= ", "é", "0x8000_0000_0000_0000", "\"16777215 GiB\"", "\"0 B\"", "\"0 us\"", "\"18446744073709551615 B\""])), 0..8),
    ) {
        let manifests = ["default.toml", "bench.toml", "bench-2cpus.toml"].map(|name| root().join("partitions").join(name));
        let all: Vec<_> = fixtures().into_iter().chain(manifests).collect();
        let text = fs::read_to_string(&all[which.index(all.len())]).expect("a manifest");
        let mut words: Vec<&str> = text.split_inclusive([' ', '\n']).collect();
        for (index, word) in damages {
            let index = index.index(words.len());
            words[index] = word;
        }
        let world = World::new();
        let path = world.manifest(&words.concat());
        let result = world.with_options(|options| bulkhead_manifest::compile(&path, options));
        if let Err(errors) = result {
            prop_assert!(errors.iter().all(|error| error.check() != "compile::inconsistent_plan"));
            bulkhead_manifest::render(&errors);
        }
    }
}

#[test]
fn a_file_that_is_not_there() {
    let world = World::new();
    let errors = world.with_options(|options| bulkhead_manifest::check("/does/not/exist.toml".as_ref(), options));
    assert_eq!(errors.expect_err("an error")[0].check(), "file::unreadable");
}

#[test]
fn a_program_that_is_none() {
    let mut world = World::new();
    let path = world.manifest("[system]\nend = \"never\"\n[partition.a]\nprogram = \"hello\"\n");
    world.programs.insert("hello".to_owned(), path.clone());
    let errors = world.with_options(|options| bulkhead_manifest::check(&path, options));
    assert_eq!(errors.expect_err("an error")[0].check(), "modules::bad_program");
}

#[test]
fn too_many_modules() {
    let world = World::new();
    let mut text = "[machine]\nmemory = \"8 GiB\"\n".to_owned();
    for number in 0..46 {
        let kernel = world.manifest("").with_file_name(format!("kernel{number}"));
        fs::write(kernel, [1]).expect("a kernel");
        text.push_str(&format!("[guest.g{number}]\nmemory = \"2 MiB\"\nkernel = \"kernel{number}\"\n"));
    }
    let path = world.manifest(&text);
    let errors = world.with_options(|options| bulkhead_manifest::check(&path, options));
    assert_eq!(errors.expect_err("an error")[0].check(), "modules::too_many");
}
