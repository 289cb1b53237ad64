//! The compressed kernel in a bzImage (Documentation/arch/x86/boot.rst, boot protocol 2.08 and later).

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

/// Largest kernel that is believed, in bytes.
const MAX_KERNEL: usize = 512 << 20;
/// Magic number of LZ4's legacy frames.
const LZ4_LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// Size of a block of a legacy frame, uncompressed.
const LZ4_BLOCK: usize = 8 << 20;
/// Magic number of xz streams.
const XZ: [u8; 4] = [0xfd, b'7', b'z', b'X'];
/// Size of a sector, in which the real-mode code is counted.
const SECTOR: usize = 512;

/// The kernel, uncompressed.
pub(crate) fn payload(bzimage: &[u8]) -> Result<Vec<u8>, String> {
    let wrong = || "not a Linux bzImage".to_owned();
    if bzimage.get(0x202..0x206) != Some(b"HdrS") {
        return Err(wrong());
    }
    let sectors = match bzimage.get(0x1f1) {
        Some(0) | None => 4,
        Some(&sectors) => usize::from(sectors),
    };
    let offset = word(bzimage, 0x248).ok_or_else(wrong)?;
    let length = word(bzimage, 0x24c).ok_or_else(wrong)?;
    let start = ((sectors + 1) * SECTOR).checked_add(offset);
    let payload = start.and_then(|start| bzimage.get(start..start.checked_add(length)?)).ok_or_else(wrong)?;
    // The uncompressed size follows the compressed bytes.
    let (compressed, size) = payload.split_last_chunk().ok_or_else(wrong)?;
    let size = u32::from_le_bytes(*size) as usize;
    if size > MAX_KERNEL {
        return Err(wrong());
    }
    let kernel = match compressed.first_chunk() {
        Some(&LZ4_LEGACY) => lz4(compressed.get(LZ4_LEGACY.len()..).unwrap_or_default(), size)?,
        Some(&XZ) => xz(compressed, size)?,
        _ => return Err("its compression is neither lz4 nor xz".to_owned()),
    };
    if kernel.len() == size {
        Ok(kernel)
    } else {
        Err(format!("{} bytes came out of a kernel of {size}", kernel.len()))
    }
}

/// Blocks of a length in 32 bits and as many compressed bytes, each 8 MiB but for the last.
fn lz4(mut blocks: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let broken = || "its lz4 stream is broken".to_owned();
    let mut kernel = Vec::with_capacity(size);
    while !blocks.is_empty() {
        let (length, rest) = blocks.split_first_chunk().ok_or_else(broken)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (block, rest) = rest.split_at_checked(length).ok_or_else(broken)?;
        let room = LZ4_BLOCK.min(size.saturating_sub(kernel.len()));
        let block = lz4_flex::block::decompress(block, room).map_err(|_| broken())?;
        kernel.extend(block);
        blocks = rest;
    }
    Ok(kernel)
}

/// The host's `xz`, since kernels use its filter for x86 code.
fn xz(compressed: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("cannot run xz (Debian's xz-utils): {error}");
    let mut child = Command::new("xz")
        .args(["--decompress", "--stdout", "--single-stream", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("xz has no pipes".to_owned());
    };
    let mut kernel = Vec::new();
    let read = std::thread::scope(|scope| {
        scope.spawn(move || {
            // It stops reading where the stream ends; whether that was right shows in the kernel's size.
            let _ = input.write_all(compressed);
        });
        output.take(size as u64 + 1).read_to_end(&mut kernel)
    });
    read.map_err(failed)?;
    child.wait().map_err(failed)?;
    Ok(kernel)
}

fn word(bytes: &[u8], offset: usize) -> Option<usize> {
    let bytes = bytes.get(offset..offset + 4)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bzImage of one real-mode sector around compressed bytes.
    fn bzimage(compressed: &[u8], size: u32) -> Vec<u8> {
        let mut file = vec![0; 2 * SECTOR];
        file[0x1f1] = 1;
        file[0x202..0x206].copy_from_slice(b"HdrS");
        file[0x24c..0x250].copy_from_slice(&(compressed.len() as u32 + 4).to_le_bytes());
        file.extend(compressed);
        file.extend(size.to_le_bytes());
        file
    }

    fn lz4_frame(kernel: &[u8]) -> Vec<u8> {
        let mut frame = LZ4_LEGACY.to_vec();
        for block in kernel.chunks(LZ4_BLOCK) {
            let block = lz4_flex::block::compress(block);
            frame.extend((block.len() as u32).to_le_bytes());
            frame.extend(block);
        }
        frame
    }

    #[test]
    fn lz4_kernels_of_several_blocks() {
        let kernel: Vec<u8> = (0..LZ4_BLOCK + 1000).map(|index| (index / 7) as u8).collect();
        let file = bzimage(&lz4_frame(&kernel), kernel.len() as u32);
        assert!(payload(&file).unwrap() == kernel);
    }

    #[test]
    fn broken_files_are_errors() {
        let file = bzimage(&lz4_frame(&[7; 5000]), 5000);
        for length in 0..file.len() {
            assert!(payload(&file[..length]).is_err(), "{length}");
        }
        assert!(payload(&bzimage(&lz4_frame(&[7; 5000]), 4999)).is_err());
        assert!(payload(&bzimage(&lz4_frame(&[7; 5000]), 5001)).is_err());
        assert!(payload(&bzimage(b"something else", 5)).is_err());
    }
}
