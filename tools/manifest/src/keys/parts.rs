//! What keys of several tables have in common.

use super::{Key, Kind, MAX, Table};

/// A list of names.
pub(super) const NAMES: Kind = Kind::List(&Kind::Name);
/// Who may tell whom something.
pub(super) const FLOWS: Kind =
    Kind::List(&Kind::Form("flow `A -> B` or `A <-> B`", "^\\s*[a-z][a-z0-9-]*\\s*<?->\\s*[a-z][a-z0-9-]*\\s*$"));

const RESTART_RULE: Table = Table::part(&[
    Key::new("limit", Kind::Integer(0, MAX), "no limit, if there is a `backoff`", "how often it is started anew"),
    Key::new(
        "backoff",
        Kind::Time,
        "at once",
        "the pause before the first new start, [which doubles](#restarts): 1 ms to 10 s",
    )
    .example(r#""100 ms""#),
]);
pub(super) const RESTART: Key = Key::new(
    "restart",
    Kind::Either(&[Kind::Word(&["never", "always"]), Kind::Table(&RESTART_RULE)]),
    "`\"never\"`",
    "what happens after a crash, or when a guest resets: nothing, a new start, or so many new starts, [see below](#restarts)",
);

pub(super) const PRIORITY: Key =
    Key::new("priority", Kind::Integer(0, 62), "20", "the highest one of a CPU runs; equals take turns");
pub(super) const BUDGET: Key = Key::new(
    "budget",
    Kind::Time,
    "no limit",
    "most time that it gets in each period, for each processor, at most all of it; together with `period`",
)
.example(r#""2 ms""#);
pub(super) const PERIOD: Key = Key::new(
    "period",
    Kind::Time,
    "no limit",
    "after how long it has its budget anew, 100 us to 60 s; together with `budget`",
);

/// CPUs: a list, or a text.
pub(super) const CPUS: Kind = Kind::Either(&[
    Kind::List(&Kind::Integer(0, 63)),
    Kind::Form("set such as `\"0-3\"`", "^ *[0-9]+( *- *[0-9]+)?( *, *[0-9]+( *- *[0-9]+)?)* *$"),
]);
/// Numbers of NUMA nodes. The largest number of 32 bits stands for none in plans.
pub(super) const NODES: Kind = Kind::Integer(0, u32::MAX as u64 - 1);

pub(super) const CONSOLE: Kind = Kind::Either(&[Kind::Name, Kind::False]);
pub(super) const CONSOLE_DEFAULT: &str = "`\"console\"`, if there is one";

pub(super) const LEVEL: Key = Key::new(
    "level",
    Kind::Name,
    "none",
    "one of the `levels` of `[policy]`: it must have no way to tell anybody of a lower one",
);
