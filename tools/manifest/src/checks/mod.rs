//! The checks: one function for each rule, named in its errors as `module::rule`.
//!
//! A check looks at the model alone, reports all that breaks its rule, and leaves values that could not be read to the
//! reader, which has reported them.

mod calls;
mod channels;
mod covert;
mod cpus;
mod devices;
mod disks;
mod firmware;
mod frames;
mod guests;
mod levels;
mod memory;
mod modules;
mod msrs;
mod names;
mod networks;
mod nodes;
mod pci;
mod policy;
mod restart;
mod time;
mod trace;

use crate::{
    diagnostic::{Reporter, Span},
    files::Files,
    model::{Located, Manifest},
};

pub(crate) use channels::USABLE_BITS;
pub(crate) use names::is_name;

/// What checks look at.
pub(crate) struct Context<'a> {
    pub(crate) manifest: &'a Manifest,
    pub(crate) files: &'a Files,
    pub(crate) reporter: &'a Reporter,
}

/// Every check.
pub(crate) fn all(context: &Context<'_>) {
    const CHECKS: &[fn(&Context<'_>)] = &[
        names::names_are_valid,
        names::names_are_unique,
        names::system_is_not_empty,
        names::end_names_somebody,
        names::consoles_are_known,
        names::added_partitions_are_not_named,
        names::settings_are_valid,
        time::priorities_are_in_range,
        time::budgets_fit_their_periods,
        time::cpus_are_not_over_committed,
        frames::cpus_are_there,
        frames::lengths_can_be_kept,
        frames::windows_are_inside,
        frames::windows_are_apart,
        frames::windows_are_for_somebody,
        frames::windows_are_not_too_many,
        frames::everybody_has_time,
        frames::budgets_are_for_the_rest,
        frames::interrupts_stay_out,
        calls::calls_fit_a_window,
        calls::calls_contain_their_calls,
        calls::calls_end_in_time,
        restart::backoffs_are_in_range,
        restart::watchdogs_can_act,
        restart::watchdogs_outlast_pauses,
        restart::faults_are_sensible,
        cpus::machine_has_cpus,
        cpus::cpus_exist,
        cpus::vcpus_are_not_too_many,
        cpus::processors_are_apart,
        cpus::features_can_be_withheld,
        msrs::registers_are_known,
        msrs::rules_say_something,
        msrs::registers_can_be_listed,
        msrs::registers_are_listed_once,
        msrs::the_monitor_keeps_to_the_list,
        memory::sizes_are_whole_pages,
        memory::sizes_fit_their_place,
        memory::fixed_ranges_are_inside_the_machine,
        memory::fixed_ranges_are_apart,
        memory::addresses_are_apart,
        memory::owners_are_known,
        memory::everything_fits_the_machine,
        nodes::nodes_are_all_memory,
        nodes::nodes_have_all_cpus,
        nodes::nodes_are_known,
        nodes::nodes_have_enough,
        nodes::fixed_memory_is_where_it_is,
        nodes::cpus_are_near,
        channels::ends_are_known,
        channels::ends_differ,
        channels::kinds_are_known,
        channels::directions_can_be_kept,
        channels::guests_take_their_channels,
        channels::endpoints_are_on_one_cpu,
        channels::signal_bits_suffice,
        devices::devices_are_known,
        devices::devices_have_one_owner,
        devices::descriptions_are_possible,
        devices::resources_are_apart,
        trace::rings_are_sound,
        trace::writer_is_reserved,
        trace::somebody_shows_it,
        pci::bus_is_reserved,
        pci::descriptions_are_possible,
        pci::addresses_are_apart,
        pci::disks_are_possible,
        pci::devices_have_owners,
        pci::direct_memory_access_is_confined,
        pci::ide_is_not_behind_an_iommu,
        pci::drivers_have_memory,
        guests::paging_is_known,
        guests::shadow_memory_fits,
        guests::decompression_is_not_interpreted,
        guests::memory_holds_the_kernel,
        guests::initrd_needs_linux,
        firmware::firmware_is_alone,
        firmware::firmware_fits_its_place,
        modules::programs_can_be_named,
        modules::modules_are_not_too_many,
        disks::machine_has_a_disk,
        disks::services_are_known,
        disks::data_ways_are_known,
        disks::monitors_can_copy,
        disks::ranges_are_whole_sectors,
        disks::ranges_are_on_the_disk,
        disks::ranges_are_apart,
        networks::switches_are_known,
        networks::addresses_are_apart,
        networks::frames_fit,
        networks::vlans_are_numbers,
        networks::rules_name_ports,
        networks::ports_are_not_too_many,
        networks::cards_reach_somebody,
        policy::rules_name_somebody,
        policy::forbidden_flows_are_not_there,
        levels::levels_are_known,
        levels::nothing_flows_down,
        covert::processors_are_not_shared,
        covert::caches_are_not_shared,
        covert::memory_is_not_open,
    ];
    for check in CHECKS {
        check(context);
    }
}

/// The name that a misspelt one was probably meant to be.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |candidate: &&&str| strsim::damerau_levenshtein(name, candidate);
    let near = known.iter().min_by_key(distance)?;
    let close = distance(&near) * 3 <= name.len().max(near.len()).max(3);
    let part = near.starts_with(name) || name.starts_with(near);
    (close || (part && name.len() >= 3)).then_some(near)
}

impl Context<'_> {
    /// Reports that a name stands for nothing.
    fn unknown(&self, check: &'static str, name: &Located<String>, what: &str, known: &[&str]) {
        let help = match nearest(&name.value, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => format!("the manifest has no {what}"),
            None => format!("the manifest knows {}", known.join(", ")),
        };
        self.reporter.error(check, &name.span, format!("there is no {what} `{}`", name.value)).help(help);
    }

    /// Reports each pair of overlapping ranges among `ranges` once: (start, size, place, name).
    fn overlaps(
        &self,
        check: &'static str,
        ranges: &[(u64, u64, &Span, String)],
        show: impl Fn(u64, u64) -> String,
        help: &str,
    ) {
        let end = |start: u64, size: u64| u128::from(start) + u128::from(size);
        for (index, (start, size, span, name)) in ranges.iter().enumerate() {
            for (other_start, other_size, other_span, other) in ranges.iter().take(index) {
                let apart = end(*start, *size) <= u128::from(*other_start)
                    || end(*other_start, *other_size) <= u128::from(*start);
                if apart || *size == 0 || *other_size == 0 {
                    continue;
                }
                let (one, two) = (show(*start, *size), show(*other_start, *other_size));
                self.reporter
                    .error(check, span, format!("{name} ({one}) overlaps {other} ({two})"))
                    .label(format!("{name}: {one}"))
                    .also(other_span, format!("{other}: {two}"))
                    .help(help);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn suggestions_are_near() {
        let known = ["memory", "priority", "cpus", "kernel"];
        assert_eq!(nearest("memroy", &known), Some("memory"));
        assert_eq!(nearest("prio", &known), Some("priority"));
        assert_eq!(nearest("cpu", &known), Some("cpus"));
        assert_eq!(nearest("restart", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
