//! Figures for people, beside what they should be and what others have.

use super::figure::Figure;

/// What a figure should be at most, and what other systems were measured at in the same emulator by the same method.
struct Comparison {
    name: &'static str,
    target: f64,
    nova: &'static str,
    kvm: &'static str,
}

const fn compare(name: &'static str, target: f64, nova: &'static str, kvm: &'static str) -> Comparison {
    Comparison { name, target, nova, kvm }
}

/// NOVA is release 24.35; KVM is that of Linux 6.1 with a minimal monitor.
const COMPARISONS: [Comparison; 28] = [
    compare("ipc.call_reply", 280.0, "284 (1 word), 319 (8 words)", "pipe 10,327"),
    compare("syscall.null", 60.0, "57", "212"),
    compare("notify.cross_cpu", 1500.0, "1,795", "eventfd 4,220"),
    compare("exit.cpuid", 500.0, "594", "967 (in the kernel)"),
    compare("exit.pio", 520.0, "605", "2,983"),
    compare("exit.mmio", 1500.0, "", "5,281"),
    compare("exit.cpuid.smp", 500.0, "", ""),
    compare("exit.pio.smp", 520.0, "", ""),
    compare("exit.mmio.smp", 1500.0, "", ""),
    compare("ipi.busy", 1600.0, "", "3,865"),
    compare("ipi.halted", 2500.0, "", "5,785"),
    compare("shadow.fill", 600.0, "491 (1 exit)", "4,913 (1 exit)"),
    compare("shadow.cr3_switch", 400.0, "3,873 (1)", "1,345 (1)"),
    compare("shadow.two_spaces", 1500.0, "84,862 (130)", "3,194 (2)"),
    compare("shadow.two_spaces.exits", 2.0, "130", "2"),
    compare("shadow.invlpg", 350.0, "206 (1), 484 for the refill", "1,882 (1)"),
    compare("shadow.pte_modify", 800.0, "696 (2)", "4,312 (1)"),
    compare("shadow.map_touch_unmap", 900.0, "695 (2)", "7,865 (2)"),
    compare("shadow.map64", 40_000.0, "43,463 (65)", "585,911 (66)"),
    compare("shadow.demand_fault", 900.0, "751 (2)", "7,048 (2)"),
    compare("shadow.new_space", 50_000.0, "55,804 (66)", "519,184 (78.8)"),
    compare("shadow.sync_ipis", 0.0, "", ""),
    compare("block.read_1m.ratio", 1.15, "", ""),
    compare("block.read_4k.exits_qd1", 2.0, "", ""),
    compare("block.read_4k.exits_qd32", 0.2, "", ""),
    compare("linux.boot.ratio", 1.10, "", ""),
    compare("linux.boot.ratio.smp", 1.10, "", ""),
    compare("kernel.lines", 10_000.0, "13,957", ""),
];

/// The table, with a line that says which processor it was.
pub fn render(figures: &[Figure]) -> String {
    let mut rows =
        vec![["figure", "unit", "n", "min", "median", "p95", "target", "", "NOVA", "KVM"].map(str::to_owned)];
    for figure in figures {
        let comparison = COMPARISONS.iter().find(|other| other.name == figure.name);
        let (target, outcome) = match comparison {
            Some(other) if figure.median.as_f64() <= other.target => (other.target.to_string(), "met"),
            Some(other) => (other.target.to_string(), "MISSED"),
            None => (String::new(), ""),
        };
        rows.push([
            figure.name.clone(),
            figure.unit.clone(),
            figure.n.to_string(),
            figure.min.to_string(),
            figure.median.to_string(),
            figure.p95.to_string(),
            target,
            outcome.to_owned(),
            comparison.map_or("", |other| other.nova).to_owned(),
            comparison.map_or("", |other| other.kvm).to_owned(),
        ]);
    }
    let mut text = aligned(&rows);
    if let Some(figure) = figures.first() {
        text.push_str(&format!("\nBochs, {}\n", figure.cpu));
    }
    text
}

/// Columns 2 to 6 hold numbers, and are aligned to the right.
fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let lengths = rows.iter().map(|row| row[column].chars().count());
            let width = lengths.max().unwrap_or(0);
            if (2..=6).contains(&column) {
                line.push_str(&format!("{cell:>width$}  "));
            } else {
                line.push_str(&format!("{cell:width$}  "));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{
        super::figure::{Figure, Value},
        render,
    };

    #[test]
    fn figures_stand_beside_their_targets() {
        let figure = |name, value| Figure::once(name, (Value::Whole(value), "instructions"), "model");
        let text = render(&[figure("exit.pio", 452), figure("syscall.null", 61), figure("other", 1)]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("452     520  met"), "{text}");
        assert!(lines[2].contains("MISSED"), "{text}");
        assert!(lines[3].ends_with('1'), "{text}");
        assert!(text.ends_with("Bochs, model\n"));
    }
}
