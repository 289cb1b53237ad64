//! The host command's exit status and messages, as far as no machine has to be booted.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn bulkhead(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    bulkhead(arguments).output().expect("the command starts")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn usage_errors_end_with_2() {
    for arguments in [&["frobnicate"][..], &["run"], &["run", "x.toml", "--backend", "vmware"], &["check"]] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn manifest_that_is_not_there() {
    for command in ["check", "graph", "build", "run"] {
        let output = run(&[command, "no/such.toml"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(errors(&output).contains("cannot read no/such.toml"), "{}", errors(&output));
    }
}

#[test]
fn broken_manifest_is_shown_with_its_places() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let manifest = directory.join("broken.toml");
    let text = fs::read_to_string("partitions/native.toml").expect("the manifest is there");
    let broken =
        text.replace("settings = {", "colour = 3\nsettings = {").replace("program = \"hello\"", "program = \"helo\"");
    fs::write(&manifest, broken).expect("the directory is writable");
    for command in ["check", "graph"] {
        let output = run(&[command, manifest.to_str().expect("the path is text")]);
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty(), "{command} writes something");
        let errors = errors(&output);
        for expected in ["colour", "helo", "broken.toml:", "2 errors"] {
            assert!(errors.contains(expected), "{expected} in {errors}");
        }
    }
}

#[test]
fn graph_draws_a_manifest_and_its_picture_is_whole() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("default.svg");
    let written = run(&["graph", "partitions/default.toml", "-o", file.to_str().expect("the path is text")]);
    let shown = run(&["graph", "partitions/default.toml"]);
    for output in [&written, &shown] {
        assert_eq!(output.status.code(), Some(0), "{}", errors(output));
    }
    assert!(written.stdout.is_empty());
    let svg = fs::read_to_string(&file).expect("the picture is there");
    assert_eq!(svg.as_bytes(), shown.stdout, "a file and the standard output get the same");
    let document = roxmltree::Document::parse(&svg).expect("well-formed XML");
    assert_eq!(document.root_element().tag_name().namespace(), Some("http://www.w3.org/2000/svg"));
    let texts: Vec<_> = document.descendants().filter(|node| node.has_tag_name("text")).collect();
    let texts: Vec<_> = texts.iter().filter_map(|node| Some(node.text()?.trim())).collect();
    for expected in ["first-light", "linux-a", "linux-b", "console", "block", "ide0 · 64 MiB", "CPU 1"] {
        assert!(texts.contains(&expected), "{expected} in {texts:?}");
    }
}

#[test]
fn graph_says_where_it_cannot_write() {
    let output = run(&["graph", "partitions/native.toml", "-o", "no/such/directory/native.svg"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("no/such/directory/native.svg"), "{}", errors(&output));
}

#[test]
fn examples_have_no_errors() {
    let mut count = 0;
    for entry in fs::read_dir("partitions/examples").expect("examples") {
        let path = entry.expect("an entry").path();
        let output = run(&["check", path.to_str().expect("the path is text")]);
        assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
        count += 1;
    }
    assert!(count >= 5);
}

/// Each broken manifest lists in its last lines, as `#! LINE:COLUMN CHECK: MESSAGE`, what is to be said of it. The lists are compared in
/// whole by the tests of the manifest compiler, which has all files; here kernels may not have been fetched. A few are only warned of.
#[test]
fn broken_manifests_are_refused_by_the_command() {
    let mut refused = 0;
    for entry in fs::read_dir("tools/manifest/tests/broken").expect("broken manifests") {
        let path = entry.expect("an entry").path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let output = run(&["check", path.to_str().expect("the path is text")]);
        if output.status.code() == Some(0) {
            continue;
        }
        let said = errors(&output);
        assert_eq!(output.status.code(), Some(2), "{}:\n{said}", path.display());
        let is_said = |line: &str| {
            let (place, rest) = line.split_once(' ').expect("a place");
            let (check, _) = rest.split_once(": ").expect("a check");
            let place = if place.contains(".toml") { format!("/{place}]") } else { format!(":{place}]") };
            said.contains(check) && said.contains(&place)
        };
        assert!(text.lines().filter_map(|line| line.strip_prefix("#! ")).any(is_said), "{}:\n{said}", path.display());
        refused += 1;
    }
    assert!(refused >= 100, "{refused}");
}

#[test]
fn machine_that_is_too_small() {
    let output = run(&["run", "partitions/native.toml", "--memory", "16"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("--memory 512"), "{}", errors(&output));
}

#[test]
fn the_trace_of_a_saved_log_is_summed_up() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let log = directory.join("trace.log");
    let file = log.to_str().expect("the path is text");
    let text = "init| bulkhead: trace: partition hello is 3\r\ntrace| trace: totals 3 ticks 77\r\n";
    fs::write(&log, text).expect("the directory is writable");
    let output = run(&["trace", "--log", file]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.lines().any(|line| line.split_whitespace().take(3).eq(["hello", "77", "100.0"])), "{shown}");
    fs::write(&log, "init| bulkhead: end: ok\r\n").expect("the directory is writable");
    let output = run(&["trace", "--log", file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("no trace in this log"), "{}", errors(&output));
}

#[test]
fn missing_tools_come_with_the_line_that_installs_them() {
    let output = bulkhead(&["build", "partitions/native.toml"]).env("PATH", "").output().expect("the command starts");
    assert_eq!(output.status.code(), Some(2));
    let text = errors(&output);
    for expected in ["apt-get install", "grub-common", "xorriso"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn doctor_names_what_is_missing() {
    let output = bulkhead(&["doctor"]).env("PATH", "").output().expect("the command starts");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("missing: apt-get install"), "{text}");
}
