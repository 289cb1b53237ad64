//! VLANs: the tags in frames that say which one a frame belongs to (IEEE 802.1Q-2018, clause 9).

use crate::header::MAX_FRAME;
use heapless::Vec;

/// Bytes of a tag: its type, and the control information (9.4).
pub(crate) const TAG_BYTES: u16 = 4;
/// Bytes before a tag: the addresses (9.1).
const ADDRESSES: usize = 12;
/// Type of the tags of customers' VLANs (table 9-1).
const CUSTOMER: [u8; 2] = [0x81, 0x00];
/// Type of the tags of service providers' VLANs (table 9-1).
const SERVICE: [u8; 2] = [0x88, 0xa8];
/// What of the control information is the VLAN; the rest is priority and whether the frame may be dropped first (9.6).
const IDENTIFIER: u16 = 0xfff;
/// No VLAN: the tag is there for the priority alone (table 9-2).
const PRIORITY_ONLY: u16 = 0;

/// A VLAN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vlan(u16);

impl Vlan {
    /// The VLAN of a number, 1 to 4094: 0 is none, and 4095 is reserved (table 9-2).
    pub const fn new(number: u16) -> Option<Self> {
        if matches!(number, 1..=4094) { Some(Self(number)) } else { None }
    }

    /// Puts the frame into `tagged`, with this VLAN's tag, priority 0. False if it would be longer than a frame may be.
    pub(crate) fn tag(self, frame: &[u8], tagged: &mut Vec<u8, MAX_FRAME>) -> bool {
        let Some((addresses, rest)) = frame.split_at_checked(ADDRESSES) else {
            return false;
        };
        tagged.clear();
        let parts = [addresses, &CUSTOMER, &self.0.to_be_bytes(), rest];
        parts.into_iter().all(|part| tagged.extend_from_slice(part).is_ok())
    }
}

fn is_tag(kind: Option<&[u8; 2]>) -> bool {
    matches!(kind, Some(&CUSTOMER | &SERVICE))
}

/// Whether a frame has a tag of either type.
pub(crate) fn is_tagged(frame: &[u8]) -> bool {
    is_tag(frame.get(ADDRESSES..).and_then(<[u8]>::first_chunk))
}

/// A frame without its tag, in two parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Untagged<'f> {
    /// What the tag says.
    pub(crate) vlan: Option<Vlan>,
    /// The part before it.
    pub(crate) addresses: &'f [u8],
    /// The part behind it, which has no tag.
    pub(crate) rest: &'f [u8],
}

impl<'f> Untagged<'f> {
    /// Takes a frame's tag off, if it has one. `None` if that is no customer's tag of a VLAN or none, or if there is another behind it.
    pub(crate) fn of(frame: &'f [u8]) -> Option<Self> {
        let (addresses, rest) = frame.split_at_checked(ADDRESSES)?;
        if !is_tagged(frame) {
            return Some(Self { vlan: None, addresses, rest });
        }
        let (&[t0, t1, c0, c1], rest) = rest.split_first_chunk()?;
        let kind = rest.first_chunk()?;
        if [t0, t1] != CUSTOMER || is_tag(Some(kind)) {
            return None;
        }
        let vlan = match u16::from_be_bytes([c0, c1]) & IDENTIFIER {
            PRIORITY_ONLY => None,
            number => Some(Vlan::new(number)?),
        };
        Some(Self { vlan, addresses, rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with_type(kind: &[u8]) -> std::vec::Vec<u8> {
        [&[2; 12][..], kind, &[8, 0, 1, 2, 3]].concat()
    }

    #[test]
    fn tags_are_read() {
        let vlan = |kind: &[u8]| Untagged::of(&with_type(kind)).map(|untagged| untagged.vlan);
        assert_eq!(vlan(&[]), Some(None));
        assert_eq!(vlan(&[0x81, 0, 0, 5]), Some(Vlan::new(5)));
        assert_eq!(vlan(&[0x81, 0, 0xff, 0xfe]), Some(Vlan::new(4094)), "priority 7");
        assert_eq!(vlan(&[0x81, 0, 0xe0, 0]), Some(None), "priority alone");
        assert_eq!(vlan(&[0x81, 0, 0x0f, 0xff]), None, "reserved");
        assert_eq!(vlan(&[0x88, 0xa8, 0, 5]), None, "a service provider's");
        assert_eq!(vlan(&[0x81, 0, 0, 5, 0x81, 0, 0, 6]), None, "two");
        assert_eq!(vlan(&[0x81, 0, 0, 0, 0x88, 0xa8, 0, 6]), None, "two");
        assert_eq!(Untagged::of(&with_type(&[0x81, 0, 0, 5])[..17]), None, "no type behind it");
        assert!(Vlan::new(0).is_none() && Vlan::new(4095).is_none());
    }

    proptest! {
        #[test]
        fn a_tag_that_was_put_in_comes_off(frame in proptest::collection::vec(any::<u8>(), 0..1530), number in 1u16..=4094) {
            let vlan = Vlan::new(number).unwrap();
            let mut tagged = Vec::new();
            let fits = vlan.tag(&frame, &mut tagged);
            prop_assert_eq!(fits, (ADDRESSES..=MAX_FRAME - usize::from(TAG_BYTES)).contains(&frame.len()));
            if fits && frame.len() >= 14 && !is_tagged(&frame) {
                prop_assert!(is_tagged(&tagged));
                let untagged = Untagged::of(&tagged).unwrap();
                prop_assert_eq!(untagged.vlan, Some(vlan));
                prop_assert_eq!([untagged.addresses, untagged.rest].concat(), frame);
            }
        }

        #[test]
        fn nothing_tagged_is_left(frame in proptest::collection::vec(any::<u8>(), 0..40), kinds in proptest::collection::vec(0usize..4, 0..3)) {
            let mut bytes = std::vec![2; 12];
            for kind in kinds {
                bytes.extend([[0x81, 0, 0, 5], [0x88, 0xa8, 0, 6], [0x81, 0, 0xf, 0xff], [8, 0, 0, 0]][kind]);
            }
            bytes.extend(frame);
            if let Some(untagged) = Untagged::of(&bytes) {
                prop_assert!(!is_tagged(&[untagged.addresses, untagged.rest].concat()));
            }
        }
    }
}
