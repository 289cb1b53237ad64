//! How exits of guests are called, by the host that shows traces and by the monitors that count.

/// Basic exit reasons (SDM vol. 3, appendix C).
const EXITS: [(u64, &str); 29] = [
    (0, "exception"),
    (1, "interrupt"),
    (2, "triple-fault"),
    (7, "interrupt-window"),
    (8, "nmi-window"),
    (9, "task-switch"),
    (10, "cpuid"),
    (12, "hlt"),
    (13, "invd"),
    (14, "invlpg"),
    (15, "rdpmc"),
    (18, "vmcall"),
    (28, "control-register"),
    (29, "debug-register"),
    (30, "io"),
    (31, "rdmsr"),
    (32, "wrmsr"),
    (36, "mwait"),
    (39, "monitor"),
    (40, "pause"),
    (43, "tpr-below-threshold"),
    (44, "apic-access"),
    (45, "virtualized-eoi"),
    (48, "memory"),
    (49, "memory-misconfiguration"),
    (52, "timer"),
    (54, "wbinvd"),
    (55, "xsetbv"),
    (56, "apic-write"),
];

/// The name of a basic exit reason, if it has one here.
pub fn name(reason: u64) -> Option<&'static str> {
    EXITS.iter().find(|(number, _)| *number == reason).map(|(_, name)| *name)
}
