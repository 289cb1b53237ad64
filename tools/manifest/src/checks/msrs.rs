//! Model-specific registers that a guest's manifest lists.

use super::Context;
use crate::model::{Guest, Msr, MsrRead};
use bulkhead_machine::policy::listed::{NAMES, kept, named};

/// Most registers that a guest lists.
const MAX_RULES: usize = 64;
/// Words of `read` and `write`.
const READS: [&str; 2] = ["deny", "emulate"];
const WRITES: [&str; 3] = ["deny", "ignore", "emulate"];

fn listed<'a>(context: &Context<'a>) -> impl Iterator<Item = (&'a Guest, &'a Msr)> {
    context.manifest.guests.iter().flat_map(|guest| guest.msrs.iter().map(move |msr| (guest, msr)))
}

/// Each line says which register it is about, by a name or a number.
pub(super) fn registers_are_known(context: &Context<'_>) {
    for (_, msr) in listed(context) {
        match (&msr.name, &msr.number) {
            (Some(name), None) if named(&name.value).is_none() => {
                context.unknown("msrs::name_unknown", name, "model-specific register", &NAMES);
            }
            (None, Some(number)) if number.value > u64::from(u32::MAX) => {
                context
                    .reporter
                    .error("msrs::number_out_of_range", &number.span, format!("{:#x} is no register", number.value))
                    .help("numbers of model-specific registers have 32 bits");
            }
            (Some(_), None) | (None, Some(_)) => {}
            _ => {
                context
                    .reporter
                    .error("msrs::which", &msr.span, "it is not said which register this is")
                    .help("write `name` or `number`, and not both");
            }
        }
    }
}

/// What a register's accesses do is a restriction or a constant, and something else than by default.
pub(super) fn rules_say_something(context: &Context<'_>) {
    for (_, msr) in listed(context) {
        let read = match &msr.read {
            Some(MsrRead::Word(word)) => Some(word),
            _ => None,
        };
        let words = [("read", read, &READS[..]), ("write", msr.write.as_ref(), &WRITES[..])];
        for (key, word, known) in words {
            if let Some(word) = word.filter(|word| !known.contains(&word.value.as_str())) {
                let message = format!("`{key}` cannot be `{}`", word.value);
                let help = match word.value.as_str() {
                    "pass" | "allow" | "host" => {
                        "no guest reaches a register of the machine: what it tells or does concerns others"
                    }
                    _ => "`read` is \"deny\", \"emulate\" or a number, `write` is \"deny\", \"ignore\" or \"emulate\"",
                };
                context.reporter.error("msrs::rule_unknown", &word.span, message).help(help);
            }
        }
        let emulated = |word: Option<&crate::model::Located<String>>| word.is_some_and(|word| word.value == "emulate");
        if emulated(read) && emulated(msr.write.as_ref()) {
            context
                .reporter
                .error(
                    "msrs::rule_without_effect",
                    &msr.span,
                    "this says nothing: without it the register does the same",
                )
                .help("deny reads or writes, ignore writes, or give a constant to read");
        }
    }
}

/// What the guest needs, or the processor or the kernel does without the monitor, cannot be listed.
pub(super) fn registers_can_be_listed(context: &Context<'_>) {
    for (_, msr) in listed(context) {
        let Some((number, span)) = msr.number() else { continue };
        if let Some(reason) = u32::try_from(number).ok().and_then(kept) {
            context
                .reporter
                .error("msrs::register_is_kept", span, format!("register {number:#x} cannot be listed: {reason}"))
                .help("leave it out");
        }
    }
}

/// A register is listed once, in a list that is not too long.
pub(super) fn registers_are_listed_once(context: &Context<'_>) {
    for guest in &context.manifest.guests {
        let numbers: Vec<_> = guest.msrs.iter().filter_map(Msr::number).collect();
        for (place, (number, span)) in numbers.iter().enumerate() {
            if let Some((_, first)) = numbers.iter().take(place).find(|(other, _)| other == number) {
                context
                    .reporter
                    .error("msrs::listed_twice", span, format!("register {number:#x} is listed twice"))
                    .also(first, "the first time")
                    .help("leave one of them out");
            }
        }
        if let Some(msr) = guest.msrs.get(MAX_RULES) {
            context
                .reporter
                .error(
                    "msrs::too_many",
                    &msr.span,
                    format!("guest `{}` lists more than {MAX_RULES} registers", guest.name.value),
                )
                .help("each access to a register looks through all of them: list fewer");
        }
    }
}

/// Another monitor than the virtual machine monitor knows nothing of the list.
pub(super) fn the_monitor_keeps_to_the_list(context: &Context<'_>) {
    for guest in &context.manifest.guests {
        if let (Some(monitor), Some(msr)) = (&guest.monitor, guest.msrs.first()) {
            context
                .reporter
                .error("msrs::monitor", &msr.span, format!("monitor `{}` knows no list of registers", monitor.value))
                .also(&monitor.span, "the guest's monitor")
                .help("leave `msr` out, or `monitor`: the virtual machine monitor keeps to the list");
        }
    }
}
