//! Flows of information that the manifest forbids.

use super::Context;
use crate::{
    flow::{FlowGraph, describe},
    model::Flow,
};

const FORM: &str = r#"write "A -> B", or "A <-> B" for both ways"#;

/// Rules name partitions and guests that there are.
pub(super) fn rules_name_somebody(context: &Context<'_>) {
    let manifest = context.manifest;
    let known: Vec<_> = manifest.subjects().map(|subject| subject.name().value.as_str()).collect();
    for rule in &manifest.policy.deny {
        let Some(flow) = Flow::parse(&rule.value) else {
            let message = format!("`{}` is no flow", rule.value);
            context.reporter.error("policy::rule_invalid", &rule.span, message).help(FORM);
            continue;
        };
        for name in [flow.from, flow.to].into_iter().filter(|name| !known.contains(name)) {
            context
                .reporter
                .error("policy::rule_names_nobody", &rule.span, format!("there is no partition or guest `{name}`"))
                .help(format!("the manifest knows {}", known.join(", ")));
        }
    }
    for name in &manifest.policy.trusted {
        if !known.contains(&name.value.as_str()) {
            context.unknown("policy::trusted_unknown", name, "partition or guest", &known);
        }
    }
}

/// There is no way for what must not flow.
pub(super) fn forbidden_flows_are_not_there(context: &Context<'_>) {
    let manifest = context.manifest;
    if manifest.policy.deny.is_empty() {
        return;
    }
    let graph = FlowGraph::new(manifest);
    let trusted: Vec<_> = manifest.policy.trusted.iter().map(|name| name.value.as_str()).collect();
    for rule in &manifest.policy.deny {
        let Some(flow) = Flow::parse(&rule.value) else { continue };
        let ways = [Some((flow.from, flow.to)), flow.both_ways.then_some((flow.to, flow.from))];
        for (from, to) in ways.into_iter().flatten().filter(|(from, to)| from != to) {
            if let Some(way) = graph.way(from, to, &trusted) {
                context
                    .reporter
                    .error(
                        "policy::forbidden_flow",
                        &rule.span,
                        format!("`{from}` can tell `{to}`: {}", describe(&way)),
                    )
                    .help("cut the way, or name in `trusted` who on it passes nothing on");
            }
        }
    }
}
