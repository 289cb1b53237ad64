//! Modules: what the boot loader loads. Files that are missing or wrong are reported where they are looked for.

use super::Context;
use bulkhead_abi::MAX_BOOT_MODULES;

/// The boot loader can hand over a limited number of modules; init and the plan are two of them.
pub(super) fn modules_are_not_too_many(context: &Context<'_>) {
    let count = context.files.count() + 2;
    if let (true, Some(last)) = (count > MAX_BOOT_MODULES, context.manifest.subjects().last()) {
        context
            .reporter
            .error(
                "modules::too_many",
                &last.name().span,
                format!("the system needs {count} modules, and can have {MAX_BOOT_MODULES}"),
            )
            .help("let guests share kernels and initial RAM disks");
    }
}
