//! The published schema and the documentation's tables of keys are those of the compiler's own description of the language. With
//! `BLESS=1` in the environment they are written anew.

use jsonschema::Validator;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// How both are renewed.
const RENEW: &str = "renew it with `BLESS=1 cargo test -p bulkhead-manifest --test language`";
/// What stands before and after a table in the document.
const BEGIN: &str = "<!-- keys: ";
const END: &str = "<!-- end of keys -->";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn is_blessed() -> bool {
    std::env::var_os("BLESS").is_some()
}

fn validator() -> Validator {
    let schema: Value = serde_json::from_str(&bulkhead_manifest::schema()).expect("JSON");
    jsonschema::draft202012::meta::validate(&schema).expect("a schema of draft 2020-12");
    jsonschema::draft202012::new(&schema).expect("a schema")
}

fn manifests(directory: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(root().join(directory)).expect(directory);
    let paths = files.map(|file| file.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect()
}

/// A manifest as JSON; `None` if it is not TOML.
fn json(path: &Path) -> Option<Value> {
    toml::from_str(&fs::read_to_string(path).expect("a manifest")).ok()
}

fn complaints(validator: &Validator, manifest: &Value) -> Vec<String> {
    validator.iter_errors(manifest).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn the_published_schema_is_that_of_the_compiler() {
    let path = root().join("docs/manifest.schema.json");
    let schema = bulkhead_manifest::schema();
    if is_blessed() {
        fs::write(&path, schema).expect("to bless");
    } else {
        assert!(
            fs::read_to_string(&path).is_ok_and(|text| text == schema),
            "docs/manifest.schema.json differs: {RENEW}"
        );
    }
}

#[test]
fn the_documentation_has_the_keys_of_the_compiler() {
    let path = root().join("docs/manifest.md");
    let document = fs::read_to_string(&path).expect("docs/manifest.md");
    let tables = bulkhead_manifest::key_tables();
    let mut shown = Vec::new();
    let mut text = String::new();
    let mut inside = false;
    for line in document.lines() {
        inside &= line != END;
        if inside {
            continue;
        }
        text.push_str(line);
        text.push('\n');
        if let Some(name) = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(" -->")) {
            let table = tables.iter().find(|(table, _)| *table == name);
            text.push_str(&table.unwrap_or_else(|| panic!("the language has no table `{name}`")).1);
            shown.push(name);
            inside = true;
        }
    }
    assert!(!inside, "docs/manifest.md: the last table of keys has no end");
    for (name, _) in &tables {
        assert!(shown.contains(name), "docs/manifest.md has no `{BEGIN}{name} -->`");
    }
    if is_blessed() {
        fs::write(&path, text).expect("to bless");
    } else {
        assert!(document == text, "the tables of keys in docs/manifest.md differ: {RENEW}");
    }
}

#[test]
fn the_schema_accepts_the_projects_manifests() {
    let validator = validator();
    let mut wrong = Vec::new();
    let mut count = 0;
    for path in ["partitions", "partitions/examples", "tests/manifests"].into_iter().flat_map(manifests) {
        let found = complaints(&validator, &json(&path).expect("TOML"));
        wrong.extend(found.iter().map(|complaint| format!("{}: {complaint}", path.display())));
        count += 1;
    }
    assert!(count > 40, "manifests were not found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the reader says of the shape of a manifest the schema says, too.
#[test]
fn the_schema_refuses_manifests_of_another_shape() {
    let validator = validator();
    let mut refused = 0;
    for path in manifests("tools/manifest/tests/broken") {
        let text = fs::read_to_string(&path).expect("a fixture");
        let Some(manifest) =
            json(&path).filter(|_| text.lines().any(|line| line.starts_with("#! ") && line.contains(" read::")))
        else {
            continue;
        };
        assert!(!complaints(&validator, &manifest).is_empty(), "{} is well-shaped", path.display());
        refused += 1;
    }
    assert!(refused >= 5, "only {refused} fixtures have a wrong shape");
}

/// A file that includes others need not be whole.
#[test]
fn the_schema_knows_of_other_files() {
    let validator = validator();
    let part = "[partition.a]\ncpu = 1\n[channel.c]\nbetween = { first = \"a\" }\n";
    let manifest = |text: &str| -> Value { toml::from_str(text).expect("TOML") };
    assert_ne!(complaints(&validator, &manifest(part)), [""; 0]);
    let with_include = format!("include = [\"b.toml\"]\n{part}");
    assert_eq!(complaints(&validator, &manifest(&with_include)), [""; 0]);
    assert_ne!(complaints(&validator, &manifest(&format!("{with_include}colour = 3"))), [""; 0]);
}

/// Each kind of mistake is seen by itself, where it is.
#[test]
fn the_schema_sees_each_mistake() {
    let validator = validator();
    let whole = |text: &str| -> Value {
        toml::from_str(&format!("[partition.a]\nprogram = \"hello\"\n{text}\n")).expect("TOML")
    };
    assert_eq!(complaints(&validator, &whole("")), [""; 0]);
    for right in [
        "memory = \"1_024 KiB\"",
        "budget = \"1.5 ms\"\nperiod = \"10 ms\"",
        "restart = { limit = 3 }",
        "restart = { backoff = \"100 ms\" }",
        "console = false",
        "settings = { any = \"text\" }",
        "[system]\nend = { after = \"3 s\" }",
        "[switch.a]\nallow = [\"a -> b\", \"a <-> b\"]",
        "[cpu.0]\nframe = \"10 ms\"\n[cpu.10]\nframe = \"10 ms\"",
    ] {
        assert_eq!(complaints(&validator, &whole(right)), [""; 0], "{right}");
    }
    for wrong in [
        "colour = \"red\"",
        "memory = \"1.5 MiB\"",
        "budget = \"2 minutes\"",
        "priority = 63",
        "restart = { limit = \"3\" }",
        "restart = \"perhaps\"",
        "console = true",
        "settings = { any = 3 }",
        "inject = { after = \"1 s\" }",
        "[partition.B]\nprogram = \"hello\"",
        "[partition.b]",
        "[system]\nend = { after = \"3 s\", partition = \"a\" }",
        "[switch.a]\nallow = [\"a - b\"]",
        "[channel.c]\nbetween = { first = \"a\" }",
        "[[guest.a.disk]]\nservice = \"b\"",
        "[channels.c]",
        "[cpu.00]\nframe = \"10 ms\"",
    ] {
        assert_ne!(complaints(&validator, &whole(wrong)), [""; 0], "{wrong}");
    }
}
