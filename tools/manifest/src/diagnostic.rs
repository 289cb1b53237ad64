//! Errors and warnings with their place in the manifest.

use miette::{LabeledSpan, NamedSource, Severity, SourceCode, SourceSpan};
use std::{
    cell::RefCell,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where something stands in the manifest, in bytes of all its files.
pub(crate) type Span = Range<usize>;

/// A file, and where it begins among all files of a manifest: a [`Span`] counts from the beginning of the first one.
#[derive(Debug, Clone)]
struct Source {
    text: Arc<NamedSource<Arc<str>>>,
    base: usize,
    /// Its directory, as seen from the manifest's.
    directory: PathBuf,
}

/// A place in one file.
#[derive(Debug, Clone)]
struct Label {
    source: Arc<NamedSource<Arc<str>>>,
    /// In bytes of this file.
    span: Range<usize>,
    text: String,
}

/// One thing that is wrong with a manifest, or that its author should know.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    check: &'static str,
    severity: Severity,
    message: String,
    help: Option<String>,
    /// None if the manifest could not be read.
    label: Option<Label>,
    others: Vec<Label>,
    /// The places in other files: labels of one diagnostic are in one file.
    elsewhere: Vec<Elsewhere>,
    /// Where it stands among all files.
    order: usize,
}

/// A place in another file.
#[derive(Debug, Clone)]
struct Elsewhere(Label);

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
            label: None,
            others: Vec::new(),
            elsewhere: Vec::new(),
            order: 0,
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

    /// The file in which it is wrong; none if the manifest could not be read.
    pub fn file(&self) -> Option<&str> {
        self.label.as_ref().map(|label| label.source.name())
    }

    /// Where it is wrong in its file; none if the manifest could not be read.
    pub fn place(&self) -> Option<Place> {
        let label = self.label.as_ref()?;
        let before = label.source.inner().get(..label.span.start)?;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..)?.chars().count() + 1;
        Some(Place { line: before.matches('\n').count() + 1, column })
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
        self.label.as_ref().map(|label| &*label.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let first = self.label.as_ref()?;
        let first = LabeledSpan::new_primary_with_span(Some(first.text.clone()), SourceSpan::from(first.span.clone()));
        let others = self.others.iter().map(Label::shown);
        Some(Box::new(std::iter::once(first).chain(others)))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        if self.elsewhere.is_empty() {
            return None;
        }
        Some(Box::new(self.elsewhere.iter().map(|place| place as &dyn miette::Diagnostic)))
    }
}

impl Label {
    fn shown(&self) -> LabeledSpan {
        LabeledSpan::new_with_span(Some(self.text.clone()), SourceSpan::from(self.span.clone()))
    }
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the other place, in {}", self.0.source.name())
    }
}

impl std::error::Error for Elsewhere {}

impl miette::Diagnostic for Elsewhere {
    fn severity(&self) -> Option<Severity> {
        Some(Severity::Advice)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&*self.0.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(self.0.shown())))
    }
}

/// Collects everything that there is to say.
#[derive(Debug)]
pub(crate) struct Reporter {
    /// The manifest, and the files that it includes.
    sources: RefCell<Vec<Source>>,
    diagnostics: RefCell<Vec<Diagnostic>>,
}

impl Reporter {
    pub(crate) fn new(path: &Path, text: Arc<str>) -> Self {
        let reporter = Self { sources: RefCell::default(), diagnostics: RefCell::default() };
        reporter.add_source(path, text, Path::new(""));
        reporter
    }

    /// Adds a file; `directory` is its directory, as seen from the manifest's. Returns where it begins among all files.
    pub(crate) fn add_source(&self, path: &Path, text: Arc<str>, directory: &Path) -> usize {
        let mut sources = self.sources.borrow_mut();
        // One byte between two files, so that the end of one is not the beginning of the next.
        let base = sources.last().map_or(0, |last| last.base + last.text.inner().len() + 1);
        let text = Arc::new(NamedSource::new(path.display().to_string(), text).with_language("TOML"));
        sources.push(Source { text, base, directory: directory.to_owned() });
        base
    }

    /// The directory of the file that a place is in, as seen from the manifest's.
    pub(crate) fn directory(&self, span: &Span) -> PathBuf {
        let sources = self.sources.borrow();
        let source = sources.iter().rfind(|source| source.base <= span.start);
        source.map(|source| source.directory.clone()).unwrap_or_default()
    }

    fn label(&self, span: &Span, text: String) -> Option<Label> {
        let sources = self.sources.borrow();
        let source = sources.iter().rfind(|source| source.base <= span.start)?;
        let span = span.start - source.base..span.end.saturating_sub(source.base);
        Some(Label { source: Arc::clone(&source.text), span, text })
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
            label: self.label(span, "here".to_owned()),
            others: Vec::new(),
            elsewhere: Vec::new(),
            order: span.start,
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
        let line = |diagnostic: &Diagnostic| {
            (diagnostic.file().map(str::to_owned), diagnostic.place().map(|place| place.line))
        };
        let broken: Vec<_> = diagnostics.iter().filter(|other| other.check == SYNTAX).map(line).collect();
        diagnostics.retain(|diagnostic| diagnostic.check == SYNTAX || !broken.contains(&line(diagnostic)));
        diagnostics.sort_by_key(|diagnostic| (diagnostic.order, diagnostic.check));
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
        if let Some(place) = self.diagnostic.as_mut().and_then(|diagnostic| diagnostic.label.as_mut()) {
            place.text = label.into();
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
        if let (Some(diagnostic), Some(place), false) =
            (&mut self.diagnostic, self.reporter.label(span, label.into()), span.is_empty())
        {
            let is_here = diagnostic.label.as_ref().is_some_and(|label| Arc::ptr_eq(&label.source, &place.source));
            if is_here { diagnostic.others.push(place) } else { diagnostic.elsewhere.push(Elsewhere(place)) }
        }
        self
    }
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        self.reporter.diagnostics.borrow_mut().extend(self.diagnostic.take());
    }
}
