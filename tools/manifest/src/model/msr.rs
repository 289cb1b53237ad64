//! What the manifest says of a guest's model-specific registers.

use super::Located;
use crate::diagnostic::Span;
use bulkhead_machine::policy::listed::named;

/// `[[guest.NAME.cpu.msr]]`.
#[derive(Debug)]
pub(crate) struct Msr {
    pub(crate) span: Span,
    pub(crate) name: Option<Located<String>>,
    pub(crate) number: Option<Located<u64>>,
    pub(crate) read: Option<MsrRead>,
    pub(crate) write: Option<Located<String>>,
}

/// `read` of an MSR.
#[derive(Debug)]
pub(crate) enum MsrRead {
    Word(Located<String>),
    Constant(u64),
}

impl Msr {
    /// Its number, and where the manifest says which register it is; none if it says neither or both, or a name that is none.
    pub(crate) fn number(&self) -> Option<(u64, &Span)> {
        match (&self.name, &self.number) {
            (Some(name), None) => Some((named(&name.value)?.into(), &name.span)),
            (None, Some(number)) => Some((number.value, &number.span)),
            _ => None,
        }
    }
}
