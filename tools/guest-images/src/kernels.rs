//! Which file of a package is a kernel or firmware, and its form for a loader.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use flate2::read::GzDecoder;

use crate::GuestImageError;

/// Where packages have kernels and firmware.
pub(crate) const DIRECTORIES: [&str; 2] = ["boot", "usr/share/seabios"];
/// Beginnings of the names that they have there: Linux, the 64-bit Memtest86+ (which has Linux's boot protocol), GNU
/// Mach, and SeaBIOS.
const NAMES: [&str; 4] = ["vmlinuz-", "memtest86+x64.bin", "gnumach-", "bios-256k.bin"];
/// End of the name of a kernel that the boot loader would decompress; a guest's loader does not.
const COMPRESSED: &str = ".gz";

/// Whether a file of [`DIRECTORIES`] is a kernel or firmware.
pub(crate) fn is_kernel(name: &str) -> bool {
    NAMES.iter().any(|beginning| name.starts_with(beginning))
}

/// Replaces a kernel in `directory` that is compressed as a whole by its contents.
pub(crate) fn unpack(directory: &Path, name: &str) -> Result<(), GuestImageError> {
    let Some(unpacked) = name.strip_suffix(COMPRESSED) else {
        return Ok(());
    };
    let (from, to) = (directory.join(name), directory.join(unpacked));
    let mut decoder = GzDecoder::new(File::open(&from).map_err(GuestImageError::file(&from))?);
    let mut file = File::create(&to).map_err(GuestImageError::file(&to))?;
    io::copy(&mut decoder, &mut file).map_err(GuestImageError::file(&from))?;
    fs::remove_file(&from).map_err(GuestImageError::file(&from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write as _;

    #[test]
    fn names() {
        for name in ["vmlinuz-6.1.0-56-cloud-amd64", "memtest86+x64.bin", "gnumach-1.8-486.gz", "bios-256k.bin"] {
            assert!(is_kernel(name), "{name}");
        }
        for name in ["memtest86+ia32.bin", "memtest86+x64.efi", "System.map-6.1", "vgabios.bin"] {
            assert!(!is_kernel(name), "{name}");
        }
    }

    #[test]
    fn compressed_kernel_is_unpacked() {
        let place = tempfile::TempDir::new().unwrap();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"kernel").unwrap();
        fs::write(place.path().join("gnumach-1.gz"), encoder.finish().unwrap()).unwrap();
        unpack(place.path(), "gnumach-1.gz").unwrap();
        assert_eq!(fs::read(place.path().join("gnumach-1")).unwrap(), b"kernel");
        assert!(!place.path().join("gnumach-1.gz").exists());
        unpack(place.path(), "gnumach-1").unwrap();
        fs::write(place.path().join("gnumach-2.gz"), b"nonsense").unwrap();
        assert!(unpack(place.path(), "gnumach-2.gz").is_err());
    }
}
