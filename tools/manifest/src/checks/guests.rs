//! Guests.

use super::Context;
use crate::{files::ImageKind, model::MAX_SHADOW_MEMORY, read::show_size};

/// Values of `paging`.
const PAGING: [&str; 3] = ["auto", "ept", "shadow"];
/// Least memory for the shadow tables of a processor. With less a guest runs, too, but Linux then makes its tables anew all the time.
const MIN_SHADOW_MEMORY: u64 = 768 << 10;
/// Memory that a Linux kernel needs beyond what its image says, to reach user space.
const LINUX_EXTRA: u64 = 16 << 20;
/// Smallest guest.
const MIN_MEMORY: u64 = 1 << 20;
/// Largest guest.
const MAX_MEMORY: u64 = 256 << 30;

/// `paging` is a way of translation that the kernel has.
pub(super) fn paging_is_known(context: &Context<'_>) {
    for paging in context.manifest.guests.iter().filter_map(|guest| guest.paging.as_ref()) {
        if !PAGING.contains(&paging.value.as_str()) {
            context
                .reporter
                .error("guests::paging_unknown", &paging.span, format!("there is no paging `{}`", paging.value))
                .help(r#"write "auto", "ept" or "shadow""#);
        }
    }
}

/// There is enough memory for shadow tables, and no more than a guest can be given.
pub(super) fn shadow_memory_fits(context: &Context<'_>) {
    for guest in &context.manifest.guests {
        let least = (MIN_SHADOW_MEMORY * guest.cpus.len() as u64).min(MAX_SHADOW_MEMORY);
        let never = guest.paging.as_ref().is_some_and(|paging| paging.value == "ept");
        let memory = &guest.shadow_memory;
        if !never && !(least..=MAX_SHADOW_MEMORY).contains(&memory.value) {
            let fault = if memory.value < least { "little" } else { "much" };
            let (given, processors) = (show_size(memory.value), guest.cpus.len());
            let message = format!("{given} are too {fault} for the shadow tables of {processors} processors");
            let help = format!("write at least {} and at most {}", show_size(least), show_size(MAX_SHADOW_MEMORY));
            context.reporter.error("guests::shadow_memory", &memory.span, message).help(help);
        }
    }
}

/// With shadow paging, code without paging is interpreted: the few instructions before a kernel switches it on, but not a
/// decompression.
pub(super) fn decompression_is_not_interpreted(context: &Context<'_>) {
    for guest in &context.manifest.guests {
        let Some(paging) = guest.paging.as_ref().filter(|paging| paging.value == "shadow") else {
            continue;
        };
        let Some(kernel) = &guest.kernel else {
            continue;
        };
        let kind = context.files.image(&kernel.value).map(|kernel| kernel.kind);
        if let Some(ImageKind::BzImage { has_64_bit_entry: false, .. }) = kind {
            context
                .reporter
                .warning(
                    "guests::decompression_is_interpreted",
                    &kernel.span,
                    format!("the kernel of `{}` decompresses itself without paging, which is slow", guest.name.value),
                )
                .also(&paging.span, "code without paging is interpreted")
                .help(r##"write "debian:PACKAGE#vmlinux": the kernel as it is after decompression"##);
        }
    }
}

/// A guest has enough memory to start its kernel.
pub(super) fn memory_holds_the_kernel(context: &Context<'_>) {
    for guest in &context.manifest.guests {
        let Some(memory) = &guest.memory else {
            continue;
        };
        let kernel = guest.kernel.as_ref().and_then(|kernel| context.files.image(&kernel.value));
        let initrd = guest.initrd.as_ref().and_then(|initrd| context.files.image(&initrd.value));
        let (needed, why) = match kernel.map(|kernel| (kernel.kind, kernel.length)) {
            Some((ImageKind::BzImage { init_size, .. }, _)) => (
                init_size + LINUX_EXTRA,
                format!("its Linux kernel takes {} to start and 16 MiB to run", show_size(init_size)),
            ),
            Some((ImageKind::Elf { end, is_linux: true }, _)) => (
                end.saturating_add(LINUX_EXTRA),
                format!("its Linux kernel reaches up to {end:#x} and takes 16 MiB to run"),
            ),
            Some((ImageKind::Elf { end, .. }, _)) => (end, format!("its kernel reaches up to {end:#x}")),
            Some((ImageKind::Other, length)) => {
                (MIN_MEMORY.saturating_add(length), format!("its kernel has {length} bytes above 1 MiB"))
            }
            None => (MIN_MEMORY, "below 1 MiB there is no PC".to_owned()),
        };
        let initrd = initrd.map_or(0, |initrd| initrd.length);
        let needed = needed.max(MIN_MEMORY).saturating_add(initrd).next_multiple_of(1 << 20);
        let why = if initrd == 0 { why } else { format!("{why}, its initial RAM disk {}", show_size(initrd)) };
        if memory.value < needed {
            context
                .reporter
                .error(
                    "guests::memory_too_small",
                    &memory.span,
                    format!("{} is too little for guest `{}`: {why}", show_size(memory.value), guest.name.value),
                )
                .help(format!("give it at least {}", show_size(needed)));
        } else if memory.value > MAX_MEMORY {
            context
                .reporter
                .error(
                    "guests::memory_too_large",
                    &memory.span,
                    format!("{} is too much for a guest", show_size(memory.value)),
                )
                .help(format!("give it at most {}", show_size(MAX_MEMORY)));
        }
    }
}

/// An initial RAM disk goes with a kernel that can take one.
pub(super) fn initrd_needs_linux(context: &Context<'_>) {
    for guest in &context.manifest.guests {
        let (Some(kernel), Some(initrd)) = (&guest.kernel, &guest.initrd) else {
            continue;
        };
        let kind = context.files.image(&kernel.value).map(|kernel| kernel.kind);
        if kind == Some(ImageKind::Other) {
            context
                .reporter
                .error(
                    "guests::initrd_without_linux",
                    &initrd.span,
                    format!("the kernel of `{}` takes no initial RAM disk", guest.name.value),
                )
                .also(&kernel.span, "neither a Linux bzImage nor an ELF file")
                .help("remove `initrd`, or choose a Linux kernel");
        }
    }
}
