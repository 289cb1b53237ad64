//! What the tests of the compiler share: stand-ins for built programs and fetched kernels.
#![allow(dead_code, reason = "each test uses a part of it")]

use bulkhead_manifest::{Options, PROGRAMS};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A directory with a program file for each known name, a kernel, an initial RAM disk and firmware.
pub struct World {
    directory: tempfile::TempDir,
    /// By name.
    pub programs: BTreeMap<String, PathBuf>,
}

impl World {
    /// Writes the files.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let programs = PROGRAMS.iter().map(|name| {
            let path = directory.path().join(name);
            let mut file = executable();
            file.extend_from_slice(name.as_bytes());
            fs::write(&path, file).expect("a program");
            ((*name).to_owned(), path)
        });
        let programs = programs.collect();
        fs::write(directory.path().join("vmlinuz"), bz_image(0x337_8000)).expect("a kernel");
        let mut without_64_bit_entry = bz_image(0x100_c000);
        without_64_bit_entry[0x236] = 0;
        fs::write(directory.path().join("vmlinuz-686"), without_64_bit_entry).expect("a kernel");
        fs::write(directory.path().join("vmlinux-686"), vmlinux_686()).expect("a kernel");
        fs::write(directory.path().join("initrd"), [7; 5000]).expect("an initial RAM disk");
        fs::write(directory.path().join("firmware"), [0xf4; 0x2000]).expect("firmware");
        Self { directory, programs }
    }

    /// Writes a manifest.
    pub fn manifest(&self, text: &str) -> PathBuf {
        let path = self.directory.path().join("manifest.toml");
        fs::write(&path, text).expect("a manifest");
        path
    }

    /// Writes another file beside or below the manifest.
    pub fn file(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    /// Calls `use_options` with these files.
    pub fn with_options<T>(&self, use_options: impl FnOnce(&Options<'_>) -> T) -> T {
        let resolver = |reference: &str| match reference {
            "debian:linux-image-cloud-amd64" | "debian:linux-image-rt-amd64" | "debian:linux-image-amd64" => {
                Ok(Some(self.directory.path().join("vmlinuz")))
            }
            "debian:linux-image-686:i386" => Ok(Some(self.directory.path().join("vmlinuz-686"))),
            "debian:linux-image-686:i386#vmlinux" | "debian:linux-image-cloud-amd64#vmlinux" => {
                Ok(Some(self.directory.path().join("vmlinux-686")))
            }
            "builtin:checks" | "builtin:reads" | "builtin:stream" => Ok(Some(self.directory.path().join("initrd"))),
            // What a manifest's own kernel makes of the same.
            "builtin:checks#linux-image-cloud-amd64"
            | "builtin:checks#linux-image-rt-amd64"
            | "builtin:checks#linux-image-686:i386" => Ok(Some(self.directory.path().join("initrd"))),
            "builtin:firmware" => Ok(Some(self.directory.path().join("firmware"))),
            "builtin:guests" => Ok(Some(self.directory.path().join("hello"))),
            "debian:not-fetched" | "debian:not-fetched#vmlinux" => Ok(None),
            other => Err(format!("there is no {other}")),
        };
        use_options(&Options {
            trace: None,
            end_after_us: None,
            programs: Some(&self.programs),
            image_resolver: &resolver,
            initrd_arguments: "",
            statistics: false,
        })
    }
}

/// A static x86-64 ELF executable with one segment of three pages.
pub fn executable() -> Vec<u8> {
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for half in [2u16, 62] {
        bytes.extend(half.to_le_bytes());
    }
    bytes.extend(1u32.to_le_bytes());
    for word in [0x40_0000u64, 64, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    for word in [1u32, 5] {
        bytes.extend(word.to_le_bytes());
    }
    for word in [0u64, 0x40_0000, 0x40_0000, 120, 0x2100, 0x1000] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

/// The headers of a 32-bit Linux kernel that reaches up to 0x200_c000: a segment, and a note of Linux'.
pub fn vmlinux_686() -> Vec<u8> {
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for half in [2u16, 3] {
        bytes.extend(half.to_le_bytes());
    }
    for word in [1u32, 0x100_0000, 52, 0, 0] {
        bytes.extend(word.to_le_bytes());
    }
    for half in [52u16, 32, 2, 0, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    let notes = 52 + 2 * 32;
    for word in [1u32, 0, 0xc100_0000, 0x100_0000, notes, 0x100_c000, 7, 4, 4, notes, 0, 0, 24, 24, 0, 4, 6, 4, 0x101] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(b"Linux\0\0\0\0\0\0\0");
    bytes
}

/// The header of a bzImage that needs so much memory.
pub fn bz_image(init_size: u32) -> Vec<u8> {
    let mut bytes = vec![0; 0x1000];
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    bytes[0x236] = 1;
    bytes[0x260..0x264].copy_from_slice(&init_size.to_le_bytes());
    bytes
}
