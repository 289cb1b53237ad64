//! The kernel's size, in bytes and in lines.

use std::{
    fs,
    path::{Path, PathBuf},
};

use miette::{IntoDiagnostic, WrapErr, miette};
use object::{Object, ObjectSection};

use super::figure::Value;
use crate::programs::KERNEL;

/// Takes a figure, with its unit.
type Take = fn() -> miette::Result<(Value, &'static str)>;

/// The figures by name.
pub const FIGURES: [(&str, Take); 2] = [("kernel.text_bytes", text_bytes), ("kernel.lines", source_lines)];

/// The kernel's sources.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kernel");

/// Size of the section of machine code that stays after boot.
fn text_bytes() -> miette::Result<(Value, &'static str)> {
    let bytes = fs::read(KERNEL).into_diagnostic().wrap_err_with(|| KERNEL.to_owned())?;
    let file = object::File::parse(&*bytes).into_diagnostic()?;
    let text = file.section_by_name(".text").ok_or_else(|| miette!("{KERNEL} has no section .text"))?;
    Ok((Value::Whole(text.size()), "bytes"))
}

/// Lines of Rust and assembly of the kernel and its crates, tests excluded; see [`count`].
fn source_lines() -> miette::Result<(Value, &'static str)> {
    let mut lines = 0;
    let mut directories = vec![PathBuf::from(SOURCES)];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory).into_diagnostic().wrap_err_with(|| directory.display().to_string())?;
        for entry in entries {
            let path = entry.into_diagnostic()?.path();
            if is_test(&path) {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
            } else if matches!(path.extension(), Some(name) if name == "rs" || name == "s") {
                let text = fs::read_to_string(&path).into_diagnostic().wrap_err_with(|| path.display().to_string())?;
                lines += count(&text);
            }
        }
    }
    Ok((Value::Whole(lines), "lines"))
}

/// Tests are directories and files called `tests`, and files whose names end in `_test`.
fn is_test(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    name == "tests" || name.ends_with("_test")
}

/// Lines that hold more than white space and comments, up to a module of tests at the file's end. Comments are those with
/// `//`, in assembly also with `#`; the tree has no others.
fn count(text: &str) -> u64 {
    let is_code = |line: &&str| {
        let is_attribute = line.starts_with("#[") || line.starts_with("#![");
        !line.is_empty() && !line.starts_with("//") && (!line.starts_with('#') || is_attribute)
    };
    text.lines().map(str::trim).take_while(|line| *line != "#[cfg(test)]").filter(is_code).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_blank_lines_and_tests_are_no_code() {
        let text = "//! Page.\n\n/// A function.\n#[inline]\nfn a() {\n    // why\n    b(); // how\n}\n\
                    #[cfg(test)]\nmod tests {}\n";
        assert_eq!(count(text), 4);
        assert_eq!(count("# start\n  mov eax, 1\n// x\n"), 1);
    }

    #[test]
    fn tests_are_known_by_their_names() {
        assert!(is_test(Path::new("kernel/core/src/tests")));
        assert!(is_test(Path::new("kernel/core/src/frames_test.rs")));
        assert!(!is_test(Path::new("kernel/src/main.rs")));
    }
}
