//! What must not be shown: values of headers, and credentials in URLs.

/// The field whose values are secret.
const HEADERS: &str = "staticPodURLHeader";

/// What stands for secrets.
pub(crate) const MASK: &str = "<masked>";

/// Whether what stands in the field at `path`, or in a part of it, is secret.
pub(crate) fn is_secret(path: &str) -> bool {
    path.strip_prefix(HEADERS).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// `url` without what gives access: user and password, and the query, which may hold a token.
pub(crate) fn masked_url(url: &str) -> String {
    let (url, query) = url.split_once('?').map_or((url, None), |(url, query)| (url, Some(query)));
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + "://".len()));
    let server = rest.find('/').unwrap_or(rest.len());
    let masked = match rest[..server].rfind('@') {
        Some(at) => format!("{scheme}{MASK}{}", &rest[at..]),
        None => url.to_owned(),
    };
    if query.is_some_and(|query| !query.is_empty()) { format!("{masked}?{MASK}") } else { masked }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_urls_are_masked_and_nothing_else_is() {
        for (url, shown) in [
            ("http://host/pods", "http://host/pods"),
            ("https://u:p@host:8443/pods", "https://<masked>@host:8443/pods"),
            ("https://u:p@ss@host", "https://<masked>@host"),
            ("http://host/p@th", "http://host/p@th"),
            ("http://host/pods?token=x", "http://host/pods?<masked>"),
            ("u:p@host", "<masked>@host"),
            ("ftp://host", "ftp://host"),
            ("", ""),
        ] {
            assert_eq!(masked_url(url), shown);
        }
    }

    #[test]
    fn headers_are_secret_with_all_that_is_in_them() {
        for (path, secret) in [
            ("staticPodURLHeader", true),
            ("staticPodURLHeader.Authorization[0]", true),
            ("staticPodURLHeader[x.y]", true),
            ("staticPodURL", false),
        ] {
            assert_eq!(is_secret(path), secret, "{path}");
        }
    }
}
