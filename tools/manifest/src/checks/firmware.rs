//! Guests that start by their own firmware.

use super::Context;
use crate::read::show_size;
use bulkhead_abi::PAGE_SIZE;
use bulkhead_plan::layout::GUEST_FIRMWARE_MAX;

/// Firmware starts a machine by itself: nobody would load a kernel's files, or pass on its command line.
pub(super) fn firmware_is_alone(context: &Context<'_>) {
    for guest in &context.manifest.guests {
        let Some(firmware) = &guest.firmware else {
            continue;
        };
        let others = [("kernel", &guest.kernel), ("initrd", &guest.initrd), ("command_line", &guest.command_line)];
        for (key, other) in others {
            if let Some(other) = other {
                context
                    .reporter
                    .error(
                        "firmware::is_alone",
                        &other.span,
                        format!("guest `{}` has `{key}` beside `firmware`", guest.name.value),
                    )
                    .also(&firmware.span, "firmware starts by itself and loads what it likes")
                    .help(format!("remove `{key}`, or `firmware`"));
            }
        }
    }
}

/// Firmware is mapped in whole pages, up to 4 GiB, above the interrupt controllers.
pub(super) fn firmware_fits_its_place(context: &Context<'_>) {
    for firmware in context.manifest.guests.iter().filter_map(|guest| guest.firmware.as_ref()) {
        let Some(image) = context.files.image(&firmware.value) else {
            continue;
        };
        if !image.length.is_multiple_of(PAGE_SIZE) || image.length > GUEST_FIRMWARE_MAX {
            context
                .reporter
                .error("firmware::bad_size", &firmware.span, format!("firmware cannot have {} bytes", image.length))
                .help(format!(
                    "it takes whole pages of {PAGE_SIZE} bytes, and at most {}; its last 16 bytes are where it starts",
                    show_size(GUEST_FIRMWARE_MAX)
                ));
        }
    }
}
