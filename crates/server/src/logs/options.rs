//! `PodLogOptions` from a query. Rules: upstream `pkg/apis/core/v1/validation` `ValidatePodLogOptions`, and
//! apimachinery's conversion of queries, which looks at the first value of a name only.

use http::StatusCode;
use kube_model::Timestamp;

/// What is wanted of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// Go on until the container ends.
    pub follow: bool,
    /// The container's previous instance.
    pub previous: bool,
    /// Put its time before each line.
    pub timestamps: bool,
    /// Rows from this time on.
    pub since: Option<Timestamp>,
    /// The last rows of the file.
    pub tail_lines: Option<u64>,
    /// Most bytes to send; at least 1.
    pub limit_bytes: Option<u64>,
    /// One stream only, which needs a feature that this agent does not have.
    pub stream: Option<&'static str>,
}

/// Why a query is refused. Displays as the kubelet words it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadQuery {
    #[error(r#"{{"message": "Unable to decode query."}}"#)]
    Undecodable,
    #[error(r#"{{"message": "Invalid request."}}"#)]
    Invalid,
}

impl BadQuery {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Undecodable => StatusCode::BAD_REQUEST,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }
}

impl LogOptions {
    /// The query that says so.
    pub fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, wanted) in
            [("follow", self.follow), ("previous", self.previous), ("timestamps", self.timestamps)]
        {
            if wanted {
                query.append_pair(name, "true");
            }
        }
        for (name, number) in [("tailLines", self.tail_lines), ("limitBytes", self.limit_bytes)] {
            if let Some(number) = number {
                query.append_pair(name, &number.to_string());
            }
        }
        if let Some(since) = self.since {
            query.append_pair("sinceTime", &since.to_string());
        }
        if let Some(stream) = self.stream {
            query.append_pair("stream", stream);
        }
        query.finish()
    }

    /// Reads a query; `now` is what `sinceSeconds` counts from.
    pub(crate) fn parse(query: &str, now: Timestamp) -> Result<Self, BadQuery> {
        let first = |name: &str| {
            form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, v)| v)
        };
        let flag =
            |name| first(name).is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"));
        let number = |name| {
            first(name).map(|value| value.parse::<i64>()).transpose().map_err(|_| BadQuery::Undecodable)
        };
        let tail_lines = match first("tail").as_deref() {
            None | Some("") => number("tailLines")?,
            Some("all") => None,
            Some(_) => number("tail")?,
        };
        let limit_bytes = number("limitBytes")?;
        let since_seconds = number("sinceSeconds")?;
        let since_time = first("sinceTime").map(|value| time(&value)).transpose()?;
        let stream = match first("stream").as_deref() {
            None | Some("All") => None,
            Some("Stdout") => Some("Stdout"),
            Some("Stderr") => Some("Stderr"),
            Some(_) => return Err(BadQuery::Invalid),
        };
        let invalid = tail_lines.is_some_and(|lines| lines < 0)
            || limit_bytes.is_some_and(|bytes| bytes < 1)
            || since_seconds.is_some_and(|seconds| seconds < 1)
            || (since_seconds.is_some() && since_time.is_some())
            || (stream.is_some() && tail_lines.is_some());
        if invalid {
            return Err(BadQuery::Invalid);
        }
        let before = |seconds| {
            let past = jiff::SignedDuration::from_secs(seconds);
            now.checked_sub(past).unwrap_or(Timestamp::MIN)
        };
        Ok(Self {
            follow: flag("follow"),
            previous: flag("previous"),
            timestamps: flag("timestamps"),
            since: since_seconds.map(before).or(since_time),
            tail_lines: tail_lines.and_then(|lines| lines.try_into().ok()),
            limit_bytes: limit_bytes.and_then(|bytes| bytes.try_into().ok()),
            stream,
        })
    }
}

/// Nothing and `null` are Go's zero time.
fn time(value: &str) -> Result<Timestamp, BadQuery> {
    match value {
        "" | "null" => Ok(Timestamp::MIN),
        // jiff also reads other forms of ISO 8601.
        value if value.as_bytes().get(10) == Some(&b'T') => value.parse().map_err(|_| BadQuery::Undecodable),
        _ => Err(BadQuery::Undecodable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<LogOptions, BadQuery> {
        LogOptions::parse(query, "2026-11-23T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_query_says_what_is_wanted() {
        let plain = LogOptions::default();
        let since = |time: &str| LogOptions { since: Some(time.parse().unwrap()), ..LogOptions::default() };
        let tail = |lines| LogOptions { tail_lines: Some(lines), ..LogOptions::default() };
        for (query, expected) in [
            ("", plain.clone()),
            (
                "follow=true&previous=1&timestamps",
                LogOptions { follow: true, previous: true, timestamps: true, ..plain.clone() },
            ),
            ("follow=FALSE&previous=0&timestamps=false", plain.clone()),
            ("tailLines=0", tail(0)),
            ("tailLines=5&tailLines=x", tail(5)),
            ("tail=7&tailLines=5", tail(7)),
            ("tail=all&tailLines=5", plain.clone()),
            ("tail=&tailLines=5", tail(5)),
            ("limitBytes=1", LogOptions { limit_bytes: Some(1), ..plain.clone() }),
            ("sinceSeconds=60", since("2026-11-23T11:59:00Z")),
            ("sinceTime=2026-11-23T11%3A00%3A00%2B01%3A00", since("2026-11-23T10:00:00Z")),
            ("stream=All&container=app&insecureSkipTLSVerifyBackend=true", plain.clone()),
            ("stream=Stderr", LogOptions { stream: Some("Stderr"), ..plain }),
        ] {
            assert_eq!(parse(query).as_ref(), Ok(&expected), "{query}");
            assert_eq!(parse(&expected.query()), Ok(expected), "{query}, there and back");
        }
        assert_eq!(parse("sinceSeconds=9223372036854775807").unwrap().since, Some(Timestamp::MIN));
    }

    #[test]
    fn a_query_that_is_no_query_is_told_from_one_that_makes_no_sense() {
        for query in
            ["tailLines=x", "tailLines=", "limitBytes=1.5", "sinceSeconds=1m", "sinceTime=now", "tail=ten"]
        {
            assert_eq!(parse(query), Err(BadQuery::Undecodable), "{query}");
        }
        for query in [
            "tailLines=-1",
            "limitBytes=0",
            "sinceSeconds=0",
            "sinceSeconds=1&sinceTime=2026-11-23T11:00:00Z",
            "stream=stdin",
            "stream=Stdout&tailLines=1",
        ] {
            assert_eq!(parse(query), Err(BadQuery::Invalid), "{query}");
        }
    }
}
