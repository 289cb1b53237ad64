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

    /// The largest part of a set of ports whose frames go to ports of that part alone: those that can be given what all their receivers
    /// must have, if the set is those that can have it.
    pub fn closed(&self, set: u16) -> u16 {
        let mut part = set;
        loop {
            let reaches_others = |port: &usize| self.0.get(*port).is_some_and(|to| to & !part != 0);
            let leaving = (0..MAX_PORTS).filter(reaches_others).fold(0u16, |bits, port| bits | 1 << port);
            if part & leaving == 0 {
                return part;
            }
            part &= !leaving;
        }
    }

    /// Whether a frame may go from one port to another.
    pub fn allows(&self, from: usize, to: usize) -> bool {
        to < MAX_PORTS && self.0.get(from).is_some_and(|set| set >> to & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_reaches_one_that_cannot_is_left_out_and_so_is_who_reaches_him() {
        let mut policy = Policy::NONE;
        policy.allow(0, 1 << 1);
        policy.allow(1, 1 << 2);
        policy.allow(3, 1 << 4);
        policy.allow(4, 1 << 3);
        assert_eq!(policy.closed(0b11011), 0b11000);
        assert_eq!(policy.closed(0b11111), 0b11111);
    }

    proptest! {
        #[test]
        fn nobody_of_it_reaches_others(reach: [u16; MAX_PORTS], set: u16) {
            let mut policy = Policy::NONE;
            for (port, to) in reach.into_iter().enumerate() {
                policy.allow(port, to);
            }
            let part = policy.closed(set);
            prop_assert_eq!(part & !set, 0);
            for port in (0..MAX_PORTS).filter(|port| part >> port & 1 != 0) {
                let others = (0..MAX_PORTS).filter(|to| policy.allows(port, *to) && part >> to & 1 == 0);
                prop_assert_eq!(others.count(), 0);
            }
        }
    }
}
