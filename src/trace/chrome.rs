//! The file for viewers: Chrome's trace event format as JSON, which Perfetto reads (ui.perfetto.dev).
//!
//! Each CPU is a track. Threads are slices on it, guests slices within those, and what happens at a moment are instant events.

use std::io::Write;

use bulkhead_trace_log::timeline::{Activity, Slice};
use serde::Serialize;

use super::{Trace, names};

/// The process that all tracks belong to.
const PROCESS: u32 = 0;

/// An event. Times are in microseconds.
#[derive(Serialize)]
struct Event<'a> {
    name: &'a str,
    cat: &'a str,
    ph: &'a str,
    ts: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    pid: u32,
    tid: u32,
    /// Of an instant event: it is one of its track.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<serde_json::Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    trace_events: Vec<serde_json::Value>,
    display_time_unit: &'a str,
    other_data: serde_json::Value,
}

/// Writes the trace.
pub fn chrome(trace: &Trace, output: &mut dyn Write) -> std::io::Result<()> {
    let first = trace.log.cpus.values().filter_map(|cpu| cpu.records.first()).map(|record| record.tsc).min();
    let first = first.unwrap_or(0);
    let hertz = trace.log.hertz.max(1) as f64;
    let time = |tsc: u64| tsc.saturating_sub(first) as f64 * 1e6 / hertz;
    let mut events = Vec::new();
    let mut push = |event: &Event<'_>| -> std::io::Result<()> {
        events.push(serde_json::to_value(event)?);
        Ok(())
    };
    let track = |name, tid, args| Event {
        name,
        cat: "",
        ph: "M",
        ts: 0.0,
        dur: None,
        pid: PROCESS,
        tid,
        s: None,
        args: Some(args),
    };
    push(&track("process_name", 0, serde_json::json!({ "name": "CPUs" })))?;
    for (&cpu, of_cpu) in &trace.log.cpus {
        push(&track("thread_name", cpu, serde_json::json!({ "name": format!("CPU {cpu}") })))?;
        for slice in trace.slices.get(&cpu).into_iter().flatten().filter(|slice| slice.activity != Activity::Idle) {
            let Slice { activity, partition, thread, start, end } = *slice;
            let thread = trace.thread(partition, thread);
            let (name, cat) = match activity {
                Activity::Guest => (format!("{thread}: guest"), "guest"),
                Activity::Idle | Activity::Thread => (thread, "thread"),
            };
            let dur = Some(time(end) - time(start));
            push(&Event {
                name: &name,
                cat,
                ph: "X",
                ts: time(start),
                dur,
                pid: PROCESS,
                tid: cpu,
                s: None,
                args: None,
            })?;
        }
        for record in &of_cpu.records {
            if let Some(name) = names::event(record.kind, record.arguments) {
                let args = serde_json::json!({
                    "thread": trace.thread(record.partition, record.thread),
                    // JSON's numbers have 53 bits.
                    "arguments": record.arguments.map(|argument| format!("{argument:#x}")),
                });
                let ts = time(record.tsc);
                let (pid, tid) = (PROCESS, cpu);
                push(&Event {
                    name: &name,
                    cat: "event",
                    ph: "i",
                    ts,
                    dur: None,
                    pid,
                    tid,
                    s: Some("t"),
                    args: Some(args),
                })?;
            }
        }
    }
    let lost = trace.log.cpus.values().fold(0u64, |sum, cpu| sum.saturating_add(cpu.lost));
    let other_data = serde_json::json!({ "clock": format!("{} Hz", trace.log.hertz), "lost records": lost });
    serde_json::to_writer(&mut *output, &Document { trace_events: events, display_time_unit: "ns", other_data })?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::super::tests::EXAMPLE;
    use super::*;

    /// The members that viewers insist on, and slices of a track that lie in or behind one another.
    #[test]
    fn the_file_has_the_shape_that_viewers_want() {
        let trace = Trace::of(&EXAMPLE.serial());
        let mut bytes = Vec::new();
        chrome(&trace, &mut bytes).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let events = document["traceEvents"].as_array().unwrap();
        let phase = |wanted: &'static str| events.iter().filter(move |event| event["ph"] == wanted);
        for event in events {
            assert!(event["name"].is_string() && event["pid"].is_u64() && event["tid"].is_u64(), "{event}");
            assert!(event["ts"].as_f64().is_some_and(|time| time >= 0.0), "{event}");
        }
        assert!(phase("X").all(|event| event["dur"].as_f64().is_some_and(|duration| duration >= 0.0)));
        assert!(phase("i").all(|event| event["s"] == "t"));
        let names: Vec<_> = phase("X").map(|event| event["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["client", "server", "client: guest", "client"]);
        let instants: Vec<_> = phase("i").map(|event| event["name"].as_str().unwrap()).collect();
        assert_eq!(instants, ["call", "interrupt 0xf0", "reply-receive", "run", "exit cpuid"]);
        // The call at 100 ticks of 1 MHz after the first record.
        assert_eq!(phase("i").next().unwrap()["ts"], 100.0);
    }
}
