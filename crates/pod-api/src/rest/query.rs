//! What stands behind the `?`. Rule: upstream `k8s.io/apimachinery/pkg/apis/meta/v1/types.go`, `ListOptions` and the
//! options of the other verbs.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::Uri;
use axum::http::request::Parts;

use super::Refusal;
use super::selector::{Fields, Labels};
use crate::error::{ApiError, Cause};

/// Names and values; the first of two with one name counts.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        Ok(Self::read(&parts.uri)?)
    }
}

impl Query {
    pub(super) fn read(uri: &Uri) -> Result<Self, ApiError> {
        let read = axum::extract::Query::try_from_uri(uri);
        let bad = |error| ApiError::bad_request(format!("a bad query: {error}"));
        read.map(|axum::extract::Query(pairs)| Self(pairs)).map_err(bad)
    }

    /// A value that is not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }

    /// As upstream: anything but `false` and `0` is true.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let read = |text: &str| {
            let bad = |error| ApiError::bad_request(format!("{name}={text:?} is no number: {error}"));
            text.parse().map_err(bad)
        };
        self.text(name).map(read).transpose()
    }

    /// Whether the request is only to be tried.
    pub(super) fn dry_run(&self) -> Result<bool, ApiError> {
        let mut values = self.0.iter().filter(|(name, _)| name == "dryRun").map(|(_, value)| value.as_str());
        dry_run(&mut values)
    }
}

/// Whether `dryRun` has its only value, `All`.
pub(super) fn dry_run(values: &mut dyn Iterator<Item = &str>) -> Result<bool, ApiError> {
    values.filter(|value| !value.is_empty()).try_fold(false, |_, value| {
        if value == "All" { Ok(true) } else { Err(unsupported("dryRun", value, &["All"])) }
    })
}

/// Checks what is to become of what a deleted pod owns: here nothing is owned, but a mistake is one.
/// Rule: upstream `k8s.io/apimachinery/pkg/apis/meta/v1/validation`, `ValidateDeleteOptions`.
pub(super) fn propagation(policy: Option<&str>, orphan: Option<bool>) -> Result<(), ApiError> {
    const FIELD: &str = "propagationPolicy";
    match policy {
        Some(policy) if orphan.is_some() => {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            let message = format!("Invalid value: {policy:?}: {why}");
            Err(invalid(FIELD, "FieldValueInvalid", message))
        }
        None | Some("Foreground" | "Background" | "Orphan") => Ok(()),
        Some(other) => Err(unsupported(FIELD, other, &["Foreground", "Background", "Orphan", "nil"])),
    }
}

/// An option with a value that it can not have.
fn unsupported(option: &str, value: &str, supported: &[&str]) -> ApiError {
    let list = supported.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ");
    let message = format!("Unsupported value: {value:?}: supported values: {list}");
    invalid(option, "FieldValueNotSupported", message)
}

fn invalid(option: &str, reason: &'static str, message: String) -> ApiError {
    let text = format!("{option}: {message}");
    let cause = Cause { reason, message, field: option.to_owned() };
    ApiError { causes: vec![cause], ..ApiError::new(422, "Invalid", text) }
}

/// What a list or watch asks for. `limit` is not read: a list is always whole, as it may be.
#[derive(Debug)]
pub(super) struct ListOptions {
    pub(super) labels: Labels,
    pub(super) fields: Fields,
    pub(super) watch: bool,
    /// Watch from here; from the present when there is none.
    pub(super) resource_version: Option<u64>,
    /// Begin the watch with the present, and say where it ends.
    pub(super) send_initial_events: bool,
    pub(super) bookmarks: bool,
    pub(super) timeout: Option<Duration>,
}

impl ListOptions {
    /// Reads the options for objects with these `fields`.
    pub(super) fn read(query: &Query, fields: &[&str]) -> Result<Self, ApiError> {
        let bad = |what: &str, text: &str, error: String| {
            ApiError::bad_request(format!("unable to parse {what} {text:?}: {error}"))
        };
        let text = |name| query.text(name).unwrap_or_default();
        let labels = text("labelSelector");
        let labels = Labels::parse(labels).map_err(|error| bad("label selector", labels, error))?;
        let selector = text("fieldSelector");
        let fields =
            Fields::parse(selector, fields).map_err(|error| bad("field selector", selector, error))?;
        let version = query.text("resourceVersion").filter(|version| *version != "0");
        let version = version.map(|text| {
            let invalid =
                |error| ApiError::bad_request(format!("invalid resource version {text:?}: {error}"));
            text.parse().map_err(invalid)
        });
        let timeout = query.number("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
        Ok(Self {
            labels,
            fields,
            watch: query.flag("watch"),
            resource_version: version.transpose()?,
            send_initial_events: query.flag("sendInitialEvents"),
            bookmarks: query.flag("allowWatchBookmarks"),
            timeout: timeout.filter(|seconds| *seconds > 0).map(Duration::from_secs),
        })
    }
}

/// What a client thinks of fields that nobody knows and fields that stand twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// The options of what changes pods.
#[derive(Debug)]
pub(super) struct WriteOptions {
    pub(super) dry_run: bool,
    pub(super) field_validation: FieldValidation,
    /// Who changes the fields, if the request says so.
    pub(super) field_manager: Option<String>,
    /// Take fields away from their owners.
    pub(super) force: bool,
}

impl WriteOptions {
    pub(super) fn read(query: &Query) -> Result<Self, ApiError> {
        let field_validation = match query.text("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                return Err(unsupported("fieldValidation", other, &["", "Ignore", "Strict", "Warn"]));
            }
        };
        Ok(Self {
            dry_run: query.dry_run()?,
            field_validation,
            field_manager: query.text("fieldManager").map(str::to_owned),
            force: query.flag("force"),
        })
    }

    /// What to warn of; what is `odd` is an error when the client is strict.
    pub(super) fn judge(&self, odd: Vec<String>) -> Result<Vec<String>, ApiError> {
        match self.field_validation {
            FieldValidation::Strict if !odd.is_empty() => {
                Err(ApiError::bad_request(format!("strict decoding error: {}", odd.join(", "))))
            }
            FieldValidation::Ignore => Ok(Vec::new()),
            _ => Ok(odd),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::read(&format!("/api?{text}").parse().unwrap()).unwrap()
    }

    #[test]
    fn values_are_decoded_and_judged() {
        let query = query("watch=1&force=False&labelSelector=a%3Db%2Cc&empty=&n=-3&n=4");
        assert!(query.flag("watch") && !query.flag("force") && !query.flag("empty") && !query.flag("none"));
        assert_eq!((query.text("labelSelector"), query.text("empty")), (Some("a=b,c"), None));
        assert_eq!(query.number("n").unwrap(), Some(-3));
        assert_eq!(query.number("watch").unwrap(), Some(1));
        assert_eq!(query.number("labelSelector").unwrap_err().code, 400);
    }

    #[test]
    fn list_options_that_make_no_sense_are_refused() {
        for (text, code) in [
            ("resourceVersion=x", 400),
            ("resourceVersion=-1", 400),
            ("labelSelector=a+in", 400),
            ("fieldSelector=spec.unknown%3Da", 400),
            ("timeoutSeconds=soon", 400),
        ] {
            assert_eq!(ListOptions::read(&query(text), &["metadata.name"]).unwrap_err().code, code, "{text}");
        }
        let fine = ListOptions::read(&query("resourceVersion=0&timeoutSeconds=0"), &[]).unwrap();
        assert_eq!((fine.resource_version, fine.timeout), (None, None));
    }

    #[test]
    fn write_options_have_few_values() {
        for (text, expected) in [
            ("", Ok((false, FieldValidation::Warn))),
            ("dryRun=All&fieldValidation=Strict", Ok((true, FieldValidation::Strict))),
            ("dryRun=&fieldValidation=Ignore", Ok((false, FieldValidation::Ignore))),
            ("dryRun=true", Err(422)),
            ("dryRun=All&dryRun=None", Err(422)),
            ("fieldValidation=strict", Err(422)),
        ] {
            let found = WriteOptions::read(&query(text)).map(|o| (o.dry_run, o.field_validation));
            assert_eq!(found.map_err(|error| error.code), expected, "{text}");
        }
    }
}
