//! Partitions that fail in every way, while the others go on.

use bulkhead_harness::Backend;

use crate::machine::{has, run};

#[test]
fn pauses_double_and_nobody_waits_for_them() {
    if !has(Backend::Qemu) {
        return;
    }
    run("tests/manifests/backoff.toml", Backend::Qemu, &[])
        .expect_status(0)
        .expect_in_order(&[
            "partition crashing pauses for 100 ms before restart 1",
            "partition crashing is started anew (1)",
            "crashing| hello from partition crashing (generation 1)",
            "partition crashing pauses for 200 ms before restart 2",
            "partition crashing pauses for 400 ms before restart 3",
            "partition crashing pauses for 800 ms before restart 4",
            "steady| 1 s since start",
            "partition crashing is started anew (4)",
            "partition crashing stays stopped",
            "init| bulkhead: end: ok",
        ])
        .expect_absent("started anew (5)");
}

#[test]
fn clients_learn_of_a_new_server_before_they_reach_it() {
    if !has(Backend::Qemu) {
        return;
    }
    let outcome = run("tests/manifests/peers.toml", Backend::Qemu, &[]).expect_status(0);
    for client in ["served", "waiting", "seldom"] {
        let lines = outcome.lines_of(client);
        for generation in 1..=6 {
            // The client that is killed itself may begin with the server's first life or a later one.
            let text = format!("the server was started anew: generation {generation}");
            let told = lines.iter().filter(|line| line.contains(&text)).count();
            assert!(told <= 1, "{client}, {generation}: {outcome}");
        }
        assert!(lines.iter().any(|line| line.ends_with("the server was started anew: generation 6")), "{outcome}");
    }
    // Both orders: the server ended while it had the call, and before the call.
    let ends = |text| outcome.serial.lines().filter(|line| line.contains(text)).count();
    assert!(ends("had no answer: the server was started anew") > 0, "{outcome}");
    assert!(ends("was not made: the server was started anew") > 0, "{outcome}");
    outcome
        .expect_in_order(&[
            "init| bulkhead: partition waiting is killed (1 of 1)",
            "server| the peer of channel talk is in generation 1",
        ])
        .expect_in_order(&["server| client 4 was started anew: generation 1"])
        .expect_in_order(&["waiting| the peer of channel talk is in generation 6"]);
}

#[test]
fn clients_of_a_server_that_stays_stopped_get_an_error() {
    if !has(Backend::Qemu) {
        return;
    }
    let outcome = run("tests/manifests/peers-fail.toml", Backend::Qemu, &[]).expect_status(0);
    for client in ["served", "waiting", "seldom"] {
        assert!(outcome.lines_of(client).contains(&"the server has failed"), "{outcome}");
    }
}
