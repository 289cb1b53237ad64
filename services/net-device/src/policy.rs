//! Who may talk to whom.

/// Most ports of a switch.
pub const MAX_PORTS: usize = 16;

/// For each port the set of ports that its frames may go to: bit `n` for port `n`. A port that is not mentioned reaches nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Policy([u16; MAX_PORTS]);

impl Policy {
    /// Nobody reaches anybody.
    pub const NONE: Self = Self([0; MAX_PORTS]);

    /// Lets a port's frames go to the ports of a set. None goes back to its own port.
    pub fn allow(&mut self, from: usize, to: u16) {
        if let Some(set) = self.0.get_mut(from) {
            *set |= to & !(1 << from);
        }
    }

    /// Whether a frame may go from one port to another.
    pub fn allows(&self, from: usize, to: usize) -> bool {
        to < MAX_PORTS && self.0.get(from).is_some_and(|set| set >> to & 1 != 0)
    }
}
