//! What form an answer should have: JSON or YAML, objects or a table.
//! Rule: upstream `k8s.io/apiserver/pkg/endpoints/handlers/negotiation`.

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT, WARNING};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

use super::Refusal;
use super::query::Query;
use crate::error::ApiError;

/// Most warnings of one answer: a manifest of nonsense must not make a head that no client takes.
const MOST_WARNINGS: usize = 32;
/// Most characters of one warning.
const LONGEST_WARNING: usize = 256;

/// What the client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) form: Form,
    pub(super) table: bool,
    /// Indented, for people.
    pretty: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Yaml,
}

impl<S: Send + Sync> FromRequestParts<S> for Wanted {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let agent = parts.headers.get(USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
        let by_hand = agent.starts_with(b"curl") || agent.starts_with(b"Wget");
        let pretty = match Query::read(&parts.uri)?.text("pretty") {
            None => by_hand,
            Some(value) => !matches!(value, "0" | "false"),
        };
        Ok(Self { pretty, ..accepted(&parts.headers)? })
    }
}

/// The first form that is accepted and known, by the weights of the client.
fn accepted(headers: &HeaderMap) -> Result<Wanted, ApiError> {
    let mut ranges: Vec<_> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter(|range| !range.trim().is_empty())
        .map(Range::read)
        .collect();
    if ranges.is_empty() {
        ranges.push(Range::read("*/*"));
    }
    // A stable sort: of two with one weight the first.
    ranges.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    ranges.iter().find_map(Range::wanted).ok_or_else(|| {
        let message = "only the following media types are accepted: application/json, application/yaml";
        ApiError::new(406, "NotAcceptable", message)
    })
}

/// One part of an Accept header.
struct Range<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    weight: f32,
}

impl<'a> Range<'a> {
    fn read(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
        let weight = parameters.iter().find(|(name, _)| *name == "q").and_then(|(_, q)| q.parse().ok());
        Self { media, parameters, weight: weight.unwrap_or(1.0) }
    }

    fn wanted(&self) -> Option<Wanted> {
        let form = match self.media {
            "application/json" | "application/*" | "*/*" => Form::Json,
            "application/yaml" => Form::Yaml,
            _ => return None,
        };
        let parameter = |name| self.parameters.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        let table = match (parameter("as"), parameter("g"), parameter("v")) {
            (None, ..) => false,
            (Some("Table"), Some("meta.k8s.io"), Some("v1")) => true,
            _ => return None,
        };
        (self.weight > 0.0).then_some(Wanted { form, table, pretty: false })
    }
}

impl Wanted {
    /// Objects, whatever else the client would take.
    pub(super) fn no_table(self) -> Self {
        Self { table: false, ..self }
    }

    pub(super) fn answer(self, code: StatusCode, value: &impl Serialize) -> Response {
        let text = match self.form {
            Form::Yaml => serde_yaml::to_string(value).map(String::into_bytes).map_err(|e| e.to_string()),
            Form::Json if self.pretty => lines(serde_json::to_vec_pretty(value)),
            Form::Json => lines(serde_json::to_vec(value)),
        };
        let kind = match self.form {
            Form::Yaml => "application/yaml",
            Form::Json => "application/json",
        };
        match text {
            Ok(text) => with_type(code, kind, text.into()),
            // The types of the API have nothing that can not be written.
            Err(error) => json(StatusCode::INTERNAL_SERVER_ERROR, &ApiError::internal(error).status()),
        }
    }
}

fn lines(text: serde_json::Result<Vec<u8>>) -> Result<Vec<u8>, String> {
    let mut text = text.map_err(|error| error.to_string())?;
    text.push(b'\n');
    Ok(text)
}

/// An answer that is JSON in any case.
pub(super) fn json(code: StatusCode, value: &impl Serialize) -> Response {
    Wanted { form: Form::Json, table: false, pretty: true }.answer(code, value)
}

pub(super) fn with_type(code: StatusCode, kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Puts `warnings` into the head of an answer; kubectl shows them.
pub(super) fn warn(mut response: Response, warnings: &[String]) -> Response {
    for warning in warnings.iter().take(MOST_WARNINGS) {
        let plain = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
        let text: String = warning.chars().take(LONGEST_WARNING).map(plain).collect();
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::try_from(format!("299 - \"{text}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_form_is_taken_by_weight() {
        let (json, yaml) = (Some((Form::Json, false)), Some((Form::Yaml, false)));
        let table = Some((Form::Json, true));
        for (accept, expected) in [
            ("", json),
            ("*/*", json),
            ("application/json", json),
            ("application/yaml", yaml),
            ("application/json;q=0.5,application/yaml", yaml),
            ("application/vnd.kubernetes.protobuf,application/json", json),
            ("application/vnd.kubernetes.protobuf", None),
            ("text/html", None),
            ("application/json;q=0", None),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", table),
            ("application/json; as=Table; v=v1beta1; g=meta.k8s.io, application/json", json),
            ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", None),
            ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json", json),
        ] {
            let headers = [(ACCEPT, accept.parse().unwrap())].into_iter().collect();
            let found = accepted(&headers).ok().map(|wanted| (wanted.form, wanted.table));
            assert_eq!(found, expected, "{accept}");
        }
        assert_eq!(accepted(&HeaderMap::new()).unwrap().form, Form::Json);
    }

    #[test]
    fn warnings_can_not_break_the_head() {
        let warnings = vec!["unknown field \"a\r\nb\\ü\"".to_owned(); 100];
        let response = warn(json(StatusCode::OK, &()), &warnings);
        let found: Vec<_> = response.headers().get_all(WARNING).iter().collect();
        assert_eq!(found.len(), MOST_WARNINGS);
        assert_eq!(found[0], r#"299 - "unknown field \"a??b\\?\"""#);
    }
}
