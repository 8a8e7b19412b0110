//! One reading of the URL: a request, those that its redirects ask for, and the whole answer.

use std::error::Error as _;
use std::io::Read;
use std::time::Duration;

use ::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, ETAG, HOST, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LAST_MODIFIED, LOCATION, USER_AGENT,
};
use ::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, response};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use tokio::pin;
use tokio::time::{Instant, timeout};

use super::Redirects;
use super::tls::{self, Connector};
use super::url::{RedirectError, Target};

/// As many redirects as Go's client follows.
const MAX_REDIRECTS: usize = 10;

/// A document without an entity tag is read whole after this time even if the server would say that it was not
/// modified: when an older version of it is put in place, some servers do not see that.
const WHOLE_AGAIN: Duration = Duration::from_secs(600);

/// How long a document must have been left alone before its time of modification can stand for it: that time
/// counts seconds, and two changes within one look like one.
const STEP: Duration = Duration::from_secs(2);

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] tls::Error),
    #[error("no whole answer came within {0:?}")]
    Timeout(Duration),
    #[error("the answer is broken")]
    Exchange(#[from] hyper::Error),
    #[error("the request can not be made")]
    Request(#[from] ::http::Error),
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    #[error("there are more than {MAX_REDIRECTS} redirects")]
    Redirects,
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the answer is larger than {0} bytes when it is unpacked")]
    Bomb(usize),
    #[error("the answer can not be unpacked")]
    Gzip(#[source] std::io::Error),
    #[error("the answer is encoded as {0:?}, for which it was not asked")]
    Encoding(HeaderValue),
}

/// What the server said.
#[derive(Debug)]
pub(super) enum Answer {
    /// The document is still the one that the validators are of.
    NotModified,
    Document(Box<Document>),
}

/// A document as it came.
#[derive(Debug)]
pub(super) struct Document {
    body: Bytes,
    gzip: bool,
    /// What the server takes it for.
    pub(super) content_type: Option<HeaderValue>,
    /// Identify this version of it.
    pub(super) validators: Validators,
}

impl Document {
    /// The text, of at most `max` bytes.
    pub(super) fn unpack(&self, max: usize) -> Result<Bytes, Error> {
        if !self.gzip {
            return Ok(self.body.clone());
        }
        let mut text = Vec::new();
        let packed = MultiGzDecoder::new(&*self.body);
        packed.take(max as u64 + 1).read_to_end(&mut text).map_err(Error::Gzip)?;
        if text.len() > max { Err(Error::Bomb(max)) } else { Ok(text.into()) }
    }
}

/// What the server may be asked with whether there is another version of a document.
#[derive(Debug, Clone)]
pub(super) struct Validators {
    /// Where the document came from in the end: those of another are not compared.
    uri: Uri,
    etag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
    read: Instant,
}

impl Validators {
    fn of(uri: &Uri, headers: &HeaderMap) -> Self {
        let time = |name| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
        let settled = match (time(DATE), time(LAST_MODIFIED)) {
            (Some(now), Some(modified)) => now.duration_since(modified).is_ok_and(|age| age >= STEP),
            _ => false,
        };
        let modified = headers.get(LAST_MODIFIED).filter(|_| settled).cloned();
        Self { uri: uri.clone(), etag: headers.get(ETAG).cloned(), modified, read: Instant::now() }
    }

    /// Adds the conditions to a request of `uri`; whether there are any.
    fn ask(&self, uri: &Uri, headers: &mut HeaderMap) -> bool {
        if self.uri != *uri || (self.etag.is_none() && self.read.elapsed() >= WHOLE_AGAIN) {
            return false;
        }
        for (name, value) in [(IF_NONE_MATCH, &self.etag), (IF_MODIFIED_SINCE, &self.modified)] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        self.etag.is_some() || self.modified.is_some()
    }
}

/// Reads the URL. Holds no connection between two readings.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) target: Target,
    /// Of the settings: for the server of `target` alone.
    pub(super) headers: HeaderMap,
    pub(super) redirects: Redirects,
    pub(super) timeout: Duration,
    pub(super) max_bytes: usize,
    pub(super) connector: Connector,
}

impl Client {
    /// Reads the document, unless it is the `known` one. Cancel safe: the connection ends with the future.
    pub(super) async fn get(&mut self, known: Option<&Validators>) -> Result<Answer, Error> {
        let limit = self.timeout;
        timeout(limit, self.follow(known)).await.unwrap_or(Err(Error::Timeout(limit)))
    }

    async fn follow(&mut self, known: Option<&Validators>) -> Result<Answer, Error> {
        let mut target = self.target.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = self.headers_for(&target)?;
            let conditional = known.is_some_and(|known| known.ask(&target.uri, &mut headers));
            let (answer, body) = self.exchange(&target, headers).await?;
            let headers = answer.headers;
            let is = |value: &HeaderValue, name: &str| value.as_bytes().eq_ignore_ascii_case(name.as_bytes());
            match answer.status {
                StatusCode::OK => {
                    let gzip = match headers.get(CONTENT_ENCODING) {
                        None => false,
                        Some(encoding) if is(encoding, "identity") => false,
                        Some(encoding) if is(encoding, "gzip") || is(encoding, "x-gzip") => true,
                        Some(other) => return Err(Error::Encoding(other.clone())),
                    };
                    let content_type = headers.get(CONTENT_TYPE).cloned();
                    let validators = Validators::of(&target.uri, &headers);
                    let document = Document { body, gzip, content_type, validators };
                    return Ok(Answer::Document(Box::new(document)));
                }
                StatusCode::NOT_MODIFIED if conditional => return Ok(Answer::NotModified),
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
                    let location = location.ok_or(RedirectError::Location)?;
                    target = target.redirected(location, self.redirects)?;
                }
                status => return Err(Error::Status(status)),
            }
        }
        Err(Error::Redirects)
    }

    fn headers_for(&self, target: &Target) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        let host = target.uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        headers.insert(HOST, HeaderValue::from_str(host).map_err(::http::Error::from)?);
        headers
            .insert(USER_AGENT, HeaderValue::from_static(concat!("podsource/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        if self.target.is_server_of(target) {
            // As in Go a header that was set beats the credentials of the URL.
            headers.extend(self.target.authorization.clone().map(|value| (AUTHORIZATION, value)));
            for name in self.headers.keys() {
                headers.remove(name);
            }
            for (name, value) in &self.headers {
                headers.append(name, value.clone());
            }
        }
        Ok(headers)
    }

    /// One request over a connection of its own, and the body of the answer if that is the document.
    async fn exchange(
        &mut self,
        target: &Target,
        headers: HeaderMap,
    ) -> Result<(response::Parts, Bytes), Error> {
        let path = target.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::get(path).body(Empty::<Bytes>::new())?;
        *request.headers_mut() = headers;
        let stream = self.connector.connect(&target.uri).await?;
        let (mut sender, connection) = http1::handshake(stream).await?;
        let max = self.max_bytes;
        // The connection ends when the sender is gone, at the end of this block.
        let exchange = async move {
            let (answer, body) = sender.send_request(request).await?.into_parts();
            if answer.status != StatusCode::OK {
                return Ok((answer, Bytes::new()));
            }
            match Limited::new(body, max).collect().await {
                Ok(whole) => Ok((answer, whole.to_bytes())),
                Err(error) => Err(match error.downcast::<hyper::Error>() {
                    Ok(error) => Error::Exchange(*error),
                    // The limit's own error.
                    Err(_) => Error::TooLarge(max),
                }),
            }
        };
        pin!(exchange, connection);
        let mut ended = None;
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut exchange => break answer?,
                result = &mut connection, if ended.is_none() => ended = Some(result),
            }
        };
        if answer.0.status == StatusCode::OK {
            let ended = match ended {
                Some(result) => result,
                None => connection.await,
            };
            // The end of the connection itself is no matter any more. But when something came behind the body the
            // server gave a wrong length, and who knows what was cut off.
            if let Err(error) = ended
                && error.source().is_none()
            {
                return Err(error.into());
            }
        }
        Ok(answer)
    }
}
