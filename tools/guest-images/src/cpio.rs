//! Archives in the format that Linux unpacks as its initial file system: `newc`
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

/// Bits of a mode: the kind of a file.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMBOLIC_LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
/// Name of the record that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// An archive. The same calls give the same bytes: owners and times are 0, numbers follow the order.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// A directory; it has to stand before what it contains. No name begins with a slash.
    pub fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// A file that everybody can read.
    pub fn file(&mut self, name: &str, contents: &[u8]) {
        self.entry(name, REGULAR | 0o644, (0, 0), contents);
    }

    /// A file that everybody can run.
    pub fn program(&mut self, name: &str, contents: &[u8]) {
        self.entry(name, REGULAR | 0o755, (0, 0), contents);
    }

    /// A symbolic link.
    pub fn link(&mut self, name: &str, target: &str) {
        self.entry(name, SYMBOLIC_LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// A character device with its major and minor number, for root.
    pub fn character_device(&mut self, name: &str, numbers: (u32, u32)) {
        self.entry(name, CHARACTER_DEVICE | 0o600, numbers, &[]);
    }

    /// The archive's bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.record(0, TRAILER, 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        self.entries += 1;
        self.record(self.entries, name, mode, device, contents);
    }

    fn record(&mut self, number: u32, name: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        // Archives of 4 GiB and more are not made: they hold small programs.
        let (length, name_length) = (contents.len() as u32, name.len() as u32 + 1);
        let (owner, group, links, time, check) = (0, 0, 1, 0, 0);
        self.bytes.extend(b"070701");
        for field in [number, mode, owner, group, links, time, length, 0, 0, device.0, device.1, name_length, check] {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(contents);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write as _, process::Stdio};

    fn sample() -> Vec<u8> {
        let mut archive = Archive::default();
        archive.directory("bin");
        archive.program("bin/x", b"hello");
        archive.link("bin/y", "x");
        archive.character_device("console", (5, 1));
        archive.finish()
    }

    #[test]
    fn layout_of_a_record() {
        let mut archive = Archive::default();
        archive.file("ab", b"12345");
        let bytes = archive.finish();
        assert_eq!(
            &bytes[..110],
            b"07070100000001000081A4000000000000000000000001000000000000000500000000000000000000000000000000\
              0000000300000000"
        );
        // 110 + 3 bytes are padded to 116, the contents to 8.
        assert_eq!(&bytes[110..124], b"ab\0\0\0\x0012345\0\0\0");
        assert_eq!(&bytes[124..130], b"070701");
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn the_same_every_time() {
        assert_eq!(sample(), sample());
    }

    #[test]
    fn cpio_reads_it() {
        let mut command = std::process::Command::new("cpio");
        command.args(["--list", "--verbose", "--numeric-uid-gid", "--quiet"]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = child else {
            eprintln!("skipped: cpio is not installed");
            return;
        };
        child.stdin.take().unwrap().write_all(&sample()).unwrap();
        let output = child.wait_with_output().unwrap();
        let list = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<_> = list.lines().collect();
        assert_eq!(lines.len(), 4, "{list}");
        assert!(lines[0].starts_with("drwxr-xr-x") && lines[0].ends_with(" bin"));
        assert!(lines[1].starts_with("-rwxr-xr-x") && lines[1].ends_with(" bin/x"));
        assert!(lines[2].ends_with(" bin/y -> x"));
        assert!(lines[3].starts_with("crw-------") && lines[3].contains("5,   1"));
    }
}
