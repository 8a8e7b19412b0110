//! Log lines on stderr: klog's text or component-base's JSON, and the one place that says what `-v` means.
//!
//! Each event is one line and one write: nothing is buffered, so nothing has to be flushed and no line is lost
//! at exit. A stderr that cannot be written to loses lines, never the agent. Times are in UTC.

mod journal;
mod vmodule;

use std::fmt::{self, Write as _};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kube_model::Timestamp;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

pub use journal::is_journal;
use vmodule::VModule;

/// The process has a logger already.
#[derive(Debug, thiserror::Error)]
#[error("setting up logging")]
pub struct InitError(#[from] tracing::subscriber::SetGlobalDefaultError);

/// How to log.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// How a line looks.
    pub format: Format,
    /// klog's `-v`.
    pub verbosity: u32,
    /// Globs for the names of source files, without folder and ending, and the verbosity of each.
    pub vmodule: Vec<(String, u32)>,
    /// stderr is systemd's journal (see [`is_journal`]): each line begins with its level as that takes it, `<4>`.
    pub journal: bool,
}

/// Sends what the whole process logs to stderr from now on, as `settings` say.
///
/// # Errors
/// When the process has a logger already.
pub fn init(settings: Settings) -> Result<Verbosity, InitError> {
    let verbosity = Verbosity::with(settings.verbosity, VModule(settings.vmodule));
    let lines = Lines::new(settings.format, settings.journal);
    tracing::subscriber::set_global_default(subscriber(lines, &verbosity, io::stderr))?;
    Ok(verbosity)
}

/// How much is logged: klog's `-v`, changeable while the process runs.
///
/// Each step adds to those below, in the order of Kubernetes' logging conventions:
///
/// | | |
/// |-|-|
/// | 0 | errors, warnings, and what is said once: start, end, what is served, who was reached |
/// | 1 | what of the node was read anew: certificates, addresses |
/// | 2 | what happens to pods |
/// | 3 | calls of the runtime that change something, requests that were served |
/// | 4 | debugging: the plan of each round of each pod with its reasons, all other calls of the runtime, requests to the API server |
/// | 5 | what each plan was made from |
/// | 6 | what libraries do about connections |
/// | 7 | frames of HTTP/2 |
/// | 8 | everything that libraries tell, but of frames |
/// | 9 | everything |
///
/// `logging.vmodule` has more for single source files.
#[derive(Debug, Clone)]
pub struct Verbosity(Arc<(AtomicU32, VModule)>);

impl Verbosity {
    /// One that no logger looks at, as for tests.
    pub fn new(verbosity: u32) -> Self {
        Self::with(verbosity, VModule::default())
    }

    fn with(verbosity: u32, vmodule: VModule) -> Self {
        Self(Arc::new((AtomicU32::new(verbosity), vmodule)))
    }

    /// Changes it for the whole process.
    pub fn set(&self, verbosity: u32) {
        self.0.0.store(verbosity, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }

    /// The present one.
    pub fn get(&self) -> u32 {
        self.0.0.load(Ordering::Relaxed)
    }
}

/// Modules, with those below them, whose events of a level have another verbosity than others of that level.
const OTHERWISE: &[(&str, Level, u32)] = &[
    ("agent::addresses", Level::INFO, 1),
    ("reload", Level::INFO, 1),
    ("kuberuntime::pod_cidr", Level::INFO, 1),
    ("kuberuntime::calls", Level::INFO, 3),
    ("kuberuntime", Level::INFO, 2),
    ("pod_workers", Level::INFO, 2),
    ("server::kubelet::service", Level::DEBUG, 3),
];

const LIBRARIES: &[&str] = &[
    "h2",
    "hyper",
    "hyper_util",
    "kube_client",
    "kube_runtime",
    "mio",
    "rustls",
    "tokio_tungstenite",
    "tokio_util",
    "tonic",
    "tower",
    "tungstenite",
    "want",
];

/// The verbosity from which on events with this metadata are logged: what klog calls their `V`.
fn level_of(metadata: &Metadata<'_>) -> u32 {
    let (target, level) = (metadata.target(), *metadata.level());
    if level <= Level::WARN {
        return 0;
    }
    let krate = target.split("::").next().unwrap_or_default();
    if LIBRARIES.contains(&krate) {
        return if level == Level::TRACE { 8 } else { 6 } + u32::from(krate == "h2");
    }
    let within = |module: &str| {
        target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let otherwise = OTHERWISE.iter().find(|(module, of, _)| *of == level && within(module));
    otherwise.map_or_else(
        || match level {
            Level::TRACE => 5,
            Level::DEBUG => 4,
            _ => 0,
        },
        |(.., verbosity)| *verbosity,
    )
}

/// Drops what is above the verbosity. The answer is kept for each place in the code until the verbosity
/// changes, so an event that is not logged costs a load and a compare.
impl<S: Subscriber> Layer<S> for Verbosity {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        level_of(metadata) <= self.get().max(self.0.1.of(metadata.file()))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.get().max(self.0.1.most()) {
            0..3 => LevelFilter::INFO,
            3..5 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }
}

fn subscriber<W>(lines: Lines, verbosity: &Verbosity, writer: W) -> impl Subscriber + Send + Sync + use<W>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let output = tracing_subscriber::fmt::layer()
        .fmt_fields(lines.format)
        .event_format(lines)
        .log_internal_errors(false)
        .with_writer(writer);
    tracing_subscriber::registry().with(output).with(verbosity.clone())
}

/// Makes one line of an event.
#[derive(Clone, Copy)]
struct Lines {
    format: Format,
    journal: bool,
    pid: u32,
    now: fn() -> Timestamp,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// klog's text.
    #[default]
    Text,
    /// One JSON object, as Kubernetes' component-base writes it.
    Json,
}

impl Lines {
    fn new(format: Format, journal: bool) -> Self {
        Self { format, journal, pid: std::process::id(), now: Timestamp::now }
    }

    /// klog's header: `I1123 13:42:53.123456    1234 file.rs:12] "message"`.
    fn text_head(&self, out: &mut Writer<'_>, metadata: &Metadata<'_>, message: &str) -> fmt::Result {
        let severity = match *metadata.level() {
            Level::ERROR => 'E',
            Level::WARN => 'W',
            _ => 'I',
        };
        let (_, file) = place(metadata);
        write!(
            out,
            "{severity}{} {:>7} {file}:{}] {message:?}",
            (self.now)().strftime("%m%d %H:%M:%S.%6f"),
            self.pid,
            metadata.line().unwrap_or(0),
        )
    }

    /// `{"ts":<milliseconds>,"caller":"crate/file.rs:12","msg":"message"`, without the closing brace.
    fn json_head(&self, out: &mut Writer<'_>, metadata: &Metadata<'_>, message: &str) -> fmt::Result {
        let (krate, file) = place(metadata);
        // Microseconds fit into a double exactly for the next two centuries.
        let millis = (self.now)().as_microsecond() as f64 / 1000.0;
        let line = metadata.line().unwrap_or(0);
        write!(out, "{{\"ts\":{millis},\"caller\":\"{krate}/{file}:{line}\",\"msg\":")?;
        json_string(out, message)
    }
}

/// The crate and the file's own name.
fn place<'m>(metadata: &'m Metadata<'_>) -> (&'m str, &'m str) {
    let krate = metadata.target().split("::").next().unwrap_or_default();
    let file = metadata.file().and_then(|path| path.rsplit('/').next()).unwrap_or("???");
    (krate, file)
}

impl<S> FormatEvent<S, Format> for Lines
where
    S: Subscriber + for<'s> LookupSpan<'s>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, Format>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Fields::new(self.format);
        event.record(&mut fields);
        if self.journal {
            write!(out, "<{}>", journal::level(metadata))?;
        }
        match self.format {
            Format::Text => self.text_head(&mut out, metadata, &fields.message)?,
            Format::Json => self.json_head(&mut out, metadata, &fields.message)?,
        }
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<FormattedFields<Format>>() {
                out.write_str(fields)?;
            }
        }
        match self.format {
            Format::Text => writeln!(out, "{}", fields.rest),
            // As zapr does it, errors have no V.
            Format::Json if *metadata.level() == Level::ERROR => writeln!(out, "{}}}", fields.rest),
            Format::Json => writeln!(out, ",\"v\":{}{}}}", level_of(metadata), fields.rest),
        }
    }
}

/// Fields of spans, written once and kept with the span.
impl<'w> FormatFields<'w> for Format {
    fn format_fields<R: RecordFields>(&self, mut out: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = Fields::new(*self);
        fields.record(&mut visitor);
        out.write_str(&visitor.rest)
    }

    fn add_fields(
        &self,
        current: &'w mut FormattedFields<Self>,
        fields: &tracing::span::Record<'_>,
    ) -> fmt::Result {
        self.format_fields(current.as_writer(), fields)
    }
}

/// Collects the message and, written out, all other fields: ` key="value"` or `,"key":"value"`.
struct Fields {
    format: Format,
    message: String,
    rest: String,
}

impl Fields {
    fn new(format: Format) -> Self {
        Self { format, message: String::new(), rest: String::new() }
    }

    /// A number or a bool, which looks the same in both formats.
    fn bare(&mut self, field: &Field, value: &dyn fmt::Display) {
        // Writing to a string cannot fail.
        let _infallible = match self.format {
            Format::Text => write!(self.rest, " {}={value}", field.name()),
            Format::Json => write!(self.rest, ",\"{}\":{value}", field.name()),
        };
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
            return;
        }
        let _infallible = match self.format {
            Format::Text => write!(self.rest, " {}={value:?}", field.name()),
            Format::Json => {
                write!(self.rest, ",\"{}\":", field.name()).and_then(|()| json_string(&mut self.rest, value))
            }
        };
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_str(field, &util::causes(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, &value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.bare(field, &value);
        } else {
            self.record_str(field, &value.to_string());
        }
    }
}

fn json_string(out: &mut dyn fmt::Write, text: &str) -> fmt::Result {
    out.write_str(&serde_json::Value::from(text).to_string())
}

#[cfg(test)]
mod tests;
