//! Modules: what the boot loader loads. Files that are missing or wrong are reported where they are looked for.

use super::Context;
use crate::{files::ADDED, model::TRACE, pci::BUS};
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

/// Programs that come by themselves are not asked for.
pub(super) fn programs_can_be_named(context: &Context<'_>) {
    let manifest = context.manifest;
    let partitions = manifest.partitions.iter().filter(|partition| !partition.is_added);
    let monitors = manifest.guests.iter().filter_map(|guest| guest.monitor.as_ref());
    let named = partitions.filter_map(|partition| partition.program.as_ref()).chain(monitors);
    for program in named.filter(|program| ADDED.contains(&program.value.as_str())) {
        let help = match program.value.as_str() {
            BUS => "it is there when [machine.device.NAME] has a device on the PCI bus",
            TRACE => "it is there with a table [trace], and with `bulkhead trace`",
            _ => "a guest, [guest.NAME], has it unless `monitor` names another program",
        };
        let message = format!("program `{}` comes by itself, and is not for others", program.value);
        context.reporter.error("modules::comes_by_itself", &program.span, message).help(help);
    }
}
