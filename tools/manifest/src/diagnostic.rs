//! Errors and warnings with their place in the manifest.

use miette::{LabeledSpan, NamedSource, Severity, SourceCode, SourceSpan};
use std::{cell::RefCell, fmt, ops::Range, path::Path, sync::Arc};

/// Where something stands in the manifest, in bytes.
pub type Span = Range<usize>;

/// One thing that is wrong with a manifest, or that its author should know.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    check: &'static str,
    severity: Severity,
    message: String,
    help: Option<String>,
    label: String,
    span: Option<Span>,
    others: Vec<(Span, String)>,
    source: Arc<NamedSource<Arc<str>>>,
}

/// A line and a column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl Diagnostic {
    pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        Self {
            check: "file::unreadable",
            severity: Severity::Error,
            message: format!("cannot read {}: {error}", path.display()),
            help: Some("name an existing manifest, such as partitions/default.toml".to_owned()),
            label: String::new(),
            span: None,
            others: Vec::new(),
            source: Arc::new(NamedSource::new(path.display().to_string(), Arc::from(""))),
        }
    }

    /// Name of the check that failed, such as `memory::fixed_ranges_overlap`.
    pub fn check(&self) -> &'static str {
        self.check
    }

    /// Whether the manifest can be used all the same.
    pub fn is_warning(&self) -> bool {
        self.severity == Severity::Warning
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What would be right.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Where it is wrong; none if the file could not be read.
    pub fn place(&self) -> Option<Place> {
        let before = self.source.inner().get(..self.span.as_ref()?.start)?;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..)?.chars().count() + 1;
        Some(Place { line: before.matches('\n').count() + 1, column })
    }

    fn order(&self) -> (usize, &'static str) {
        (self.span.as_ref().map_or(0, |span| span.start), self.check)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.check))
    }

    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.span.as_ref().map(|_| &*self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = SourceSpan::from(self.span.clone()?);
        let first = LabeledSpan::new_primary_with_span(Some(self.label.clone()), span);
        let others = self
            .others
            .iter()
            .map(|(span, label)| LabeledSpan::new_with_span(Some(label.clone()), SourceSpan::from(span.clone())));
        Some(Box::new(std::iter::once(first).chain(others)))
    }
}

/// Collects everything that there is to say.
#[derive(Debug)]
pub(crate) struct Reporter {
    source: Arc<NamedSource<Arc<str>>>,
    diagnostics: RefCell<Vec<Diagnostic>>,
}

impl Reporter {
    pub(crate) fn new(path: &Path, text: Arc<str>) -> Self {
        let source = NamedSource::new(path.display().to_string(), text).with_language("TOML");
        Self { source: Arc::new(source), diagnostics: RefCell::default() }
    }

    /// Starts an error of the check `check` (`module::rule`); it is reported when the returned value is dropped.
    pub(crate) fn error(&self, check: &'static str, span: &Span, message: impl Into<String>) -> Report<'_> {
        self.report(Severity::Error, check, span, message)
    }

    /// Starts a warning, as [`error`](Self::error) does an error.
    pub(crate) fn warning(&self, check: &'static str, span: &Span, message: impl Into<String>) -> Report<'_> {
        self.report(Severity::Warning, check, span, message)
    }

    fn report(&self, severity: Severity, check: &'static str, span: &Span, message: impl Into<String>) -> Report<'_> {
        let diagnostic = Diagnostic {
            check,
            severity,
            message: message.into(),
            help: None,
            label: "here".to_owned(),
            span: Some(span.clone()),
            others: Vec::new(),
            source: Arc::clone(&self.source),
        };
        Report { reporter: self, diagnostic: Some(diagnostic) }
    }

    pub(crate) fn has_errors(&self) -> bool {
        !self.diagnostics.borrow().iter().all(Diagnostic::is_warning)
    }

    /// All that was reported, in the order of the file. What stands on a line that is not TOML was read wrongly: nothing
    /// else is said about it.
    pub(crate) fn into_diagnostics(self) -> Vec<Diagnostic> {
        let mut diagnostics = self.diagnostics.into_inner();
        let line = |diagnostic: &Diagnostic| diagnostic.place().map(|place| place.line);
        let broken: Vec<_> = diagnostics.iter().filter(|other| other.check == SYNTAX).map(line).collect();
        diagnostics.retain(|diagnostic| diagnostic.check == SYNTAX || !broken.contains(&line(diagnostic)));
        diagnostics.sort_by(|left, right| left.order().cmp(&right.order()));
        diagnostics
    }
}

/// The check that a line is TOML.
pub(crate) const SYNTAX: &str = "toml::syntax";

/// An error or a warning in the making.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    reporter: &'a Reporter,
    diagnostic: Option<Diagnostic>,
}

impl Report<'_> {
    /// What stands under the caret.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        if let Some(diagnostic) = &mut self.diagnostic {
            diagnostic.label = label.into();
        }
        self
    }

    /// What would be right.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        if let Some(diagnostic) = &mut self.diagnostic {
            diagnostic.help = Some(help.into());
        }
        self
    }

    /// Another place that has to do with it.
    pub(crate) fn also(mut self, span: &Span, label: impl Into<String>) -> Self {
        // A default value stands nowhere.
        if let (Some(diagnostic), false) = (&mut self.diagnostic, span.is_empty()) {
            diagnostic.others.push((span.clone(), label.into()));
        }
        self
    }
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        self.reporter.diagnostics.borrow_mut().extend(self.diagnostic.take());
    }
}
