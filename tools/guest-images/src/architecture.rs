//! The processors whose programs guests run.

/// An architecture of Debian's that the machine can run, by Debian's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    /// `amd64`, the host's own.
    Amd64,
    /// `i386`.
    I386,
}

impl Architecture {
    /// What stands behind a package's name, as dpkg writes it; nothing for the host's own.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Amd64 => "",
            Self::I386 => ":i386",
        }
    }

    /// What a name asks for, and the package without it.
    pub fn of(name: &str) -> (&str, Self) {
        match name.strip_suffix(Self::I386.suffix()) {
            Some(package) => (package, Self::I386),
            None => (name, Self::Amd64),
        }
    }

    /// The package of this architecture.
    pub fn package(self, name: &str) -> String {
        format!("{name}{}", self.suffix())
    }

    /// The option by which apt and dpkg know it; nothing for the host's own.
    pub const fn foreign(self) -> Option<&'static str> {
        match self {
            Self::Amd64 => None,
            Self::I386 => Some("i386"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architecture_follows_the_name() {
        assert_eq!(Architecture::of("gnumach-image-1.8-486:i386"), ("gnumach-image-1.8-486", Architecture::I386));
        assert_eq!(Architecture::of("memtest86+"), ("memtest86+", Architecture::Amd64));
        assert_eq!(Architecture::I386.package("busybox-static"), "busybox-static:i386");
        assert_eq!(Architecture::Amd64.package("busybox-static"), "busybox-static");
    }
}
