//! Levels of assurance in the model: who is above whom.

use crate::model::{Manifest, Policy, Subject};

impl Policy {
    pub(crate) fn trusts(&self, name: &str) -> bool {
        self.trusted.iter().any(|trusted| trusted.value == name)
    }
}

impl Manifest {
    /// How high a subject's level is, from 0; none if it has no level that there is.
    pub(crate) fn rank(&self, subject: Subject<'_>) -> Option<usize> {
        let level = subject.level()?;
        self.policy.levels.iter().position(|known| known.value == level.value)
    }

    /// Who has a level and must not tell whom, since that one's is lower: higher and lower one. Whoever is trusted has no part in it.
    pub(crate) fn higher_and_lower(&self) -> Vec<(Subject<'_>, Subject<'_>)> {
        let ranked = || {
            let untrusted = self.subjects().filter(|subject| !self.policy.trusts(&subject.name().value));
            untrusted.filter_map(|subject| Some((subject, self.rank(subject)?)))
        };
        let pairs = ranked().flat_map(|(from, high)| ranked().map(move |(to, low)| (from, high, to, low)));
        pairs.filter(|(_, high, _, low)| high > low).map(|(from, _, to, _)| (from, to)).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::{diagnostic::Reporter, read};
    use std::path::Path;

    #[test]
    fn whoever_is_trusted_or_has_no_level_is_not_above_anybody() {
        let text = r#"
            [policy]
            levels = ["low", "middle", "high"]
            trusted = ["diode"]
            [partition.a]
            level = "low"
            [partition.b]
            level = "middle"
            [partition.c]
            level = "high"
            [partition.diode]
            level = "high"
            [partition.none]
            [partition.odd]
            level = "odd"
        "#;
        let path = Path::new("levels.toml");
        let manifest = read::manifest(text, &Reporter::new(path, text.into()), path);
        let pairs = manifest.higher_and_lower();
        let names: Vec<_> =
            pairs.iter().map(|(high, low)| format!("{}{}", high.name().value, low.name().value)).collect();
        assert_eq!(names, ["ba", "ca", "cb"]);
    }
}
