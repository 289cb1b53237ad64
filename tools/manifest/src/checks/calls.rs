//! How long calls take, in the major frame of their CPU.
//!
//! A server works in the slots of whoever waits for it: its client's, or if that one serves somebody meanwhile, those of its client's client.

use super::Context;
use crate::{
    model::{Endpoint, Frame, Located, Manifest},
    read::show_time,
};

/// Longest time that the kernel can promise to a call.
const MAX_CALL_US: u64 = bulkhead_plan::LONGEST_CALL_US;

/// In whose slots calls over an endpoint are: its clients', and those of whoever waits for a client that is a server itself.
fn payers<'m>(manifest: &'m Manifest, endpoint: &'m Endpoint) -> Vec<&'m Located<String>> {
    let mut payers: Vec<_> = endpoint.clients().iter().collect();
    let mut looked_at = 0;
    while let Some(payer) = payers.get(looked_at).copied() {
        for client in manifest.endpoints_served_by(&payer.value).flat_map(Endpoint::clients) {
            if payers.iter().all(|other| other.value != client.value) {
                payers.push(client);
            }
        }
        looked_at += 1;
    }
    payers
}

/// The frame of the CPU that an endpoint is on.
fn frame_of<'m>(manifest: &'m Manifest, endpoint: &Endpoint) -> Option<&'m Frame> {
    let server = manifest.partition(&endpoint.server.as_ref()?.value)?;
    manifest.frames.iter().find(|frame| frame.number() == Some(server.cpu.value))
}

/// The longest call that a server declares fits a window of each of those in whose slots it may be, or a gap if it has none.
pub(super) fn calls_fit_a_window(context: &Context<'_>) {
    let manifest = context.manifest;
    for endpoint in &manifest.endpoints {
        let Some(worst_case) = &endpoint.worst_case_us else { continue };
        if !(1..=MAX_CALL_US).contains(&worst_case.value) {
            let message = format!("a call cannot take {}", show_time(worst_case.value));
            let report = context.reporter.error("calls::worst_case_out_of_range", &worst_case.span, message);
            report.help(format!("write 1 us to {}", show_time(MAX_CALL_US)));
        }
        let Some(frame) = frame_of(manifest, endpoint) else { continue };
        for payer in payers(manifest, endpoint) {
            let longest = frame.slots(&payer.value).iter().map(|(start, end)| end - start).max().unwrap_or(0);
            if longest < worst_case.value {
                let (longest, needed) = (show_time(longest), show_time(worst_case.value));
                let is_client = endpoint.clients().iter().any(|client| client.value == payer.value);
                let of = if is_client { "of" } else { "in the time of" };
                let slot = if frame.names(&payer.value) { "window" } else { "gap" };
                let message =
                    format!("a call {of} `{}` takes up to {needed}, and its longest {slot} {longest}", payer.value);
                let report = context.reporter.error("calls::call_does_not_fit", &worst_case.span, message);
                let label = if is_client { "the client" } else { "whoever serves this one calls in its time" };
                report.also(&payer.span, label).help(format!("no call would ever begin: make the {slot} longer"));
            }
        }
    }
}

/// A call that a server makes while it serves is part of the call that it serves, and so takes less time.
pub(super) fn calls_contain_their_calls(context: &Context<'_>) {
    let manifest = context.manifest;
    for outer in &manifest.endpoints {
        let (Some(server), Some(longest)) = (&outer.server, &outer.worst_case_us) else { continue };
        let is_client = |inner: &&Endpoint| inner.clients().iter().any(|client| client.value == server.value);
        for inner in manifest.endpoints.iter().filter(is_client) {
            let (name, inner_name) = (&outer.name.value, &inner.name.value);
            match &inner.worst_case_us {
                Some(part) if part.value >= longest.value => {
                    let (whole, part_time) = (show_time(longest.value), show_time(part.value));
                    let message = format!(
                        "a call over `{name}` takes up to {whole}, and one over `{inner_name}` that `{}` makes meanwhile {part_time}",
                        server.value
                    );
                    let report = context.reporter.error("calls::call_within_is_longer", &longest.span, message);
                    report.also(&part.span, "the call within").help(format!(
                        "`worst_case` has the calls in it that the server makes meanwhile: write more than {part_time}"
                    ));
                }
                None if frame_of(manifest, outer).is_some() => {
                    let message = format!(
                        "`{}` serves `{name}` in a time that it says, and calls `{inner_name}`, of which none is known",
                        server.value
                    );
                    let report = context.reporter.warning("calls::call_within_has_no_end", &inner.name.span, message);
                    report
                        .also(&longest.span, "the time of the whole call")
                        .help("say how long this server takes at most: worst_case = \"50 us\"");
                }
                _ => {}
            }
        }
    }
}

/// A server that does not say how long it takes may be cut off in the middle of a call, and then keeps its other clients waiting.
pub(super) fn calls_end_in_time(context: &Context<'_>) {
    let manifest = context.manifest;
    for endpoint in manifest.endpoints.iter().filter(|endpoint| endpoint.worst_case_us.is_none()) {
        let Some(frame) = frame_of(manifest, endpoint) else { continue };
        if let Some(client) = endpoint.clients().iter().find(|client| frame.names(&client.value)) {
            let message = format!("a window may end in the middle of a call of `{}`", client.value);
            let report = context.reporter.warning("calls::call_may_be_cut", &client.span, message);
            report.help("say how long the server takes at most: worst_case = \"50 us\"");
        }
    }
}
