//! The files that a manifest names: programs, guests' kernels, initial RAM disks and firmware.

use crate::{
    Options,
    checks::nearest,
    diagnostic::Reporter,
    model::{Located, Manifest, TRACE},
    pci::BUS,
};
use object::{
    Architecture, Object, ObjectKind, ObjectSegment,
    read::elf::{ElfFile64, FileHeader, ProgramHeader},
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Program of a guest's monitor, unless the manifest names another.
pub(crate) const MONITOR: &str = "vmm";

/// Programs of partitions that the compiler adds, and of guests: no manifest names them.
pub(crate) const ADDED: [&str; 3] = [MONITOR, BUS, TRACE];

/// The program that builds the others: it is part of every system, and nobody asks for it.
const INIT: &str = "init";

/// The files that were found.
#[derive(Debug, Default)]
pub(crate) struct Files {
    programs: BTreeMap<String, Program>,
    /// By what the manifest calls them.
    images: BTreeMap<String, Image>,
}

/// A native program.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) length: u64,
    /// Addresses that its segments take, as whole pages.
    pub(crate) segments: Vec<(u64, u64)>,
}

/// A guest's kernel, initial RAM disk or firmware.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) path: PathBuf,
    pub(crate) length: u64,
    pub(crate) kind: ImageKind,
}

/// What a guest's file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageKind {
    /// Linux's bzImage: the memory that it needs to start (boot protocol, `init_size`).
    BzImage {
        /// `init_size` of its header, in bytes.
        init_size: u64,
        /// It can be entered in 64-bit mode, and decompresses itself with paging on.
        has_64_bit_entry: bool,
    },
    /// An ELF executable.
    Elf {
        /// The end of its highest segment in physical memory.
        end: u64,
        /// Its notes say that it is Linux.
        is_linux: bool,
    },
    /// Anything else.
    Other,
}

impl Files {
    /// Looks for every file. Reports what is wrong or, with `all`, not there.
    pub(crate) fn find(
        manifest: &Manifest,
        manifest_path: &Path,
        options: &Options<'_>,
        all: bool,
        reporter: &Reporter,
    ) -> Self {
        let mut files = Self::default();
        for partition in &manifest.partitions {
            if let Some(program) = &partition.program {
                files.find_program(program, options, reporter);
            }
        }
        for guest in &manifest.guests {
            let vmm = Located::new(MONITOR.to_owned(), guest.name.span.clone());
            files.find_program(guest.monitor.as_ref().unwrap_or(&vmm), options, reporter);
            for reference in guest.kernel.iter().chain(&guest.initrd).chain(&guest.firmware) {
                let Some(path) = find_image(reference, manifest_path, options, all, reporter) else {
                    continue;
                };
                match Image::read(&path) {
                    Ok(image) => drop(files.images.insert(reference.value.clone(), image)),
                    Err(error) => drop(
                        reporter
                            .error(
                                "modules::file_missing",
                                &reference.span,
                                format!("cannot read `{}`: {error}", reference.value),
                            )
                            .help("paths are relative to the manifest; packages are written \"debian:PACKAGE\""),
                    ),
                }
            }
        }
        files
    }

    fn find_program(&mut self, name: &Located<String>, options: &Options<'_>, reporter: &Reporter) {
        let known: Vec<&str> = match options.programs {
            Some(programs) => programs.keys().map(String::as_str).filter(|&name| name != INIT).collect(),
            None => crate::PROGRAMS.to_vec(),
        };
        if !known.contains(&name.value.as_str()) {
            let known: Vec<_> = known.into_iter().filter(|name| !ADDED.contains(name)).collect();
            let help = match nearest(&name.value, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known programs are {}", known.join(", ")),
            };
            reporter
                .error("modules::unknown_program", &name.span, format!("there is no program `{}`", name.value))
                .help(help);
            return;
        }
        let Some(path) = options.programs.and_then(|programs| programs.get(&name.value)) else {
            return;
        };
        match Program::read(path) {
            Ok(program) => drop(self.programs.insert(name.value.clone(), program)),
            Err(error) => drop(
                reporter
                    .error("modules::bad_program", &name.span, format!("program {}: {error}", path.display()))
                    .help("native programs are static x86-64 ELF executables; build them with `cargo build`"),
            ),
        }
    }

    pub(crate) fn program(&self, name: &str) -> Option<&Program> {
        self.programs.get(name)
    }

    pub(crate) fn image(&self, reference: &str) -> Option<&Image> {
        self.images.get(reference)
    }

    /// Bytes that the boot loader puts into memory, as far as known.
    pub(crate) fn total_bytes(&self) -> u64 {
        let programs = self.programs.values().map(|program| program.length);
        let images = self.images.values().map(|image| image.length);
        programs.chain(images).fold(0, u64::saturating_add)
    }

    /// Number of modules, as far as known.
    pub(crate) fn count(&self) -> usize {
        self.programs.len() + self.images.len()
    }
}

fn find_image(
    reference: &Located<String>,
    manifest_path: &Path,
    options: &Options<'_>,
    all: bool,
    reporter: &Reporter,
) -> Option<PathBuf> {
    let help = "write \"debian:PACKAGE\", \"builtin:NAME\", or a path relative to the manifest";
    let report = |check, message: String| drop(reporter.error(check, &reference.span, message).help(help));
    let Some((scheme, name)) = reference.value.split_once(':') else {
        if reference.value.is_empty() {
            report("modules::bad_reference", "an empty text names no file".to_owned());
            return None;
        }
        return Some(manifest_path.parent().unwrap_or(Path::new(".")).join(&reference.value));
    };
    if scheme != "debian" && scheme != "builtin" {
        report("modules::bad_reference", format!("there is no source of files `{scheme}:`"));
        return None;
    }
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+.-".contains(&byte);
    let is_name = |name: &str| name.len() >= 2 && name.bytes().all(letters) && !name.starts_with(['+', '.', '-']);
    // A part of a package, or what a built-in file is made for: whether there is one, the resolver knows.
    let (file, part) = name.split_once('#').map_or((name, None), |(file, part)| (file, Some(part)));
    let is_package = |name: &str| is_name(name.strip_suffix(":i386").unwrap_or(name));
    if !is_package(file) || !part.is_none_or(is_package) {
        report("modules::bad_reference", format!("`{name}` cannot be the name of a package or built-in file"));
        return None;
    }
    match (options.image_resolver)(&reference.value) {
        Ok(Some(path)) => Some(path),
        Ok(None) if all => {
            report(
                "modules::not_available",
                format!("`{}` is not there: it has not been fetched or built", reference.value),
            );
            None
        }
        Ok(None) => None,
        Err(reason) => {
            report("modules::not_available", format!("`{}`: {reason}", reference.value));
            None
        }
    }
}

impl Program {
    fn read(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path)?;
        let wrong = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
        let file = ElfFile64::<object::Endianness>::parse(bytes.as_slice()).map_err(io::Error::other)?;
        if file.architecture() != Architecture::X86_64 || file.kind() != ObjectKind::Executable {
            return Err(wrong("not a static x86-64 executable"));
        }
        let mut segments = Vec::new();
        for segment in file.segments() {
            let end = segment.address().checked_add(segment.size()).ok_or_else(|| wrong("a segment wraps around"))?;
            let start = segment.address() & !(bulkhead_abi::PAGE_SIZE - 1);
            if start == 0 || end > bulkhead_plan::layout::ENVIRONMENT {
                return Err(wrong("a segment lies outside the addresses of programs"));
            }
            segments.push((start, end.next_multiple_of(bulkhead_abi::PAGE_SIZE) - start));
        }
        if segments.is_empty() {
            return Err(wrong("no segments"));
        }
        Ok(Self { path: path.to_owned(), length: bytes.len() as u64, segments })
    }

    /// Bytes that its segments take in memory.
    pub(crate) fn memory(&self) -> u64 {
        self.segments.iter().map(|(_, size)| size).sum()
    }
}

impl Image {
    fn read(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path)?;
        if bytes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty"));
        }
        Ok(Self { path: path.to_owned(), length: bytes.len() as u64, kind: ImageKind::of(&bytes) })
    }
}

impl ImageKind {
    /// Looks at a file's bytes; whatever they are, there is an answer.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        bz_image(bytes).or_else(|| elf(bytes)).unwrap_or(Self::Other)
    }
}

/// The real-mode header of Linux (Documentation/arch/x86/boot.rst): `header` at 0x202, `version` at 0x206, `init_size` at
/// 0x260 from version 2.10 on, bit `XLF_KERNEL_64` of `xloadflags` at 0x236 from version 2.12 on.
fn bz_image(bytes: &[u8]) -> Option<ImageKind> {
    let version = word(bytes, 0x206)? & 0xffff;
    if bytes.get(0x202..0x206)? != b"HdrS" || version < 0x20a {
        return None;
    }
    let has_64_bit_entry = version >= 0x20c && bytes.get(0x236)? & 1 != 0;
    Some(ImageKind::BzImage { init_size: u64::from(word(bytes, 0x260)?), has_64_bit_entry })
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

fn elf(bytes: &[u8]) -> Option<ImageKind> {
    fn kind_of<H: FileHeader<Endian = object::Endianness>>(bytes: &[u8]) -> Option<ImageKind> {
        let header = H::parse(bytes).ok()?;
        let endian = header.endian().ok()?;
        let segments = header.program_headers(endian, bytes).ok()?.iter();
        let loads = segments.clone().filter(|segment| segment.p_type(endian) == object::elf::PT_LOAD);
        let ends = loads.map(|segment| segment.p_paddr(endian).into().saturating_add(segment.p_memsz(endian).into()));
        let mut notes = segments
            .filter_map(|segment| segment.notes(endian, bytes).ok()?)
            .flat_map(|mut notes| std::iter::from_fn(move || notes.next().ok()?));
        Some(ImageKind::Elf { end: ends.max()?, is_linux: notes.any(|note| note.name() == b"Linux") })
    }
    kind_of::<object::elf::FileHeader64<object::Endianness>>(bytes)
        .or_else(|| kind_of::<object::elf::FileHeader32<object::Endianness>>(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn header_of_a_bz_image() {
        let mut bytes = vec![0; 0x264];
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
        bytes[0x260..0x264].copy_from_slice(&0x337_8000u32.to_le_bytes());
        assert_eq!(ImageKind::of(&bytes), ImageKind::BzImage { init_size: 0x337_8000, has_64_bit_entry: false });
        bytes[0x236] = 1;
        assert_eq!(ImageKind::of(&bytes), ImageKind::BzImage { init_size: 0x337_8000, has_64_bit_entry: true });
        bytes.truncate(0x262);
        assert_eq!(ImageKind::of(&bytes), ImageKind::Other);
    }

    proptest! {
        #[test]
        fn any_file_is_answered(mut bytes in proptest::collection::vec(any::<u8>(), 0..1024), elf in any::<Option<bool>>()) {
            if let (Some(wide), true) = (elf, bytes.len() > 6) {
                bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1]);
            }
            let _ = ImageKind::of(&bytes);
        }
    }
}
