//! Levels of assurance: information flows from a lower level to a higher one, and never back, but through whom is trusted.

use super::Context;
use crate::flow::{FlowGraph, describe};

/// A level is one of those that `[policy]` lists, and each is listed once.
pub(super) fn levels_are_known(context: &Context<'_>) {
    let manifest = context.manifest;
    let levels: Vec<&str> = manifest.policy.levels.iter().map(|level| level.value.as_str()).collect();
    for (number, level) in manifest.policy.levels.iter().enumerate() {
        if let Some(first) = manifest.policy.levels.iter().take(number).find(|other| other.value == level.value) {
            context
                .reporter
                .error("policy::level_repeated", &level.span, format!("level `{}` is there already", level.value))
                .also(&first.span, "here")
                .help("list each level once, from the lowest to the highest");
        }
    }
    for level in manifest.subjects().filter_map(|subject| subject.level()) {
        if !levels.contains(&level.value.as_str()) {
            context.unknown("policy::level_unknown", level, "level in [policy]", &levels);
        }
    }
}

/// Nobody has a way to tell anybody of a lower level. Only ways past nobody else with a level are looked for: one past somebody
/// else is a way down before it or behind it.
pub(super) fn nothing_flows_down(context: &Context<'_>) {
    let manifest = context.manifest;
    let pairs = manifest.higher_and_lower();
    if pairs.is_empty() {
        return;
    }
    let graph = FlowGraph::new(manifest);
    let with_level = manifest.subjects().filter(|subject| manifest.rank(*subject).is_some());
    let ends: Vec<&str> = with_level
        .map(|subject| subject.name().value.as_str())
        .chain(manifest.policy.trusted.iter().map(|name| name.value.as_str()))
        .collect();
    for (from, to) in pairs {
        let (high, low) = (&from.name().value, &to.name().value);
        let (Some(way), Some(high_level), Some(low_level)) = (graph.way(high, low, &ends), from.level(), to.level())
        else {
            continue;
        };
        context
            .reporter
            .error(
                "policy::flow_down",
                &low_level.span,
                format!("`{high}` ({}) can tell `{low}` ({}): {}", high_level.value, low_level.value, describe(&way)),
            )
            .also(&high_level.span, "the higher level")
            .help("cut the way, or name in `trusted` who on it passes nothing on");
    }
}
