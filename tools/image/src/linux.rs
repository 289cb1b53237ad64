//! An image with Linux alone, to compare a guest with the same kernel on the bare machine.

use std::{fs, path::Path};

use crate::{ImageError, cd::Cd};

/// What GRUB's core needs: the CD through the BIOS, its file system, Linux's boot protocol, and what it takes to tell the
/// time.
const GRUB_MODULES: [&str; 6] = ["biosdisk", "iso9660", "linux", "serial", "terminal", "rdmsr"];
/// The time-stamp counter's MSR (SDM vol. 4, 2.1).
const TIME_STAMP_COUNTER: u32 = 0x10;

/// Writes a bootable image to `out` on which GRUB starts a bzImage with an initial RAM disk and a command line. The first
/// number on the serial line is the time-stamp counter right before that, in hexadecimal with `0x`.
///
/// # Errors
/// Missing host tools, all in one error; a command line that GRUB would interpret; files that cannot be read or
/// written; a host tool that fails.
pub fn build_linux_image(kernel: &Path, initrd: &Path, command_line: &str, out: &Path) -> Result<(), ImageError> {
    if !command_line.bytes().all(is_plain) {
        return Err(ImageError::CommandLine { text: command_line.to_owned() });
    }
    for file in [kernel, initrd] {
        fs::metadata(file).map_err(|error| ImageError::File { path: file.to_owned(), error })?;
    }
    let configuration = format!(
        "serial --unit=0 --speed=115200\nterminal_output serial\n\
         linux (cd)/kernel {command_line}\ninitrd (cd)/initrd\n\
         rdmsr {TIME_STAMP_COUNTER:#x}\nboot\n"
    );
    let cd = Cd::new(&configuration, &GRUB_MODULES)?;
    cd.write(&[("kernel", kernel), ("initrd", initrd)], out)
}

/// GRUB's rescue parser passes it on as it is.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" ,.:=_/-+@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn command_lines_that_grub_would_interpret_are_refused() {
        for text in ["a\nboot", "a;b", "$root", "'", "\\", "é"] {
            let null = Path::new("/dev/null");
            let error = build_linux_image(null, null, text, Path::new("/nonexistent/x"));
            assert!(matches!(error, Err(ImageError::CommandLine { .. })), "{text:?}");
        }
    }

    #[test]
    fn image_holds_kernel_and_initrd() {
        if crate::tool::check_tools().is_err() {
            eprintln!("skipped: GRUB or xorriso is not installed");
            return;
        }
        let directory = TempDir::new().unwrap();
        let file = |name: &str| {
            let path = directory.path().join(name);
            fs::write(&path, format!("contents of {name}")).unwrap();
            path
        };
        let out = directory.path().join("image.iso");
        let line = "console=ttyS0,115200 nokaslr";
        build_linux_image(&file("vmlinuz"), &file("initrd"), line, &out).unwrap();
        let image = fs::read(&out).unwrap();
        for text in ["contents of vmlinuz", "contents of initrd"] {
            assert!(image.windows(text.len()).any(|window| window == text.as_bytes()));
        }
    }
}
