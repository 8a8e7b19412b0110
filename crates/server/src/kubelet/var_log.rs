//! `/logs/`: the node's `/var/log`, for reading. Links are followed inside of it only: pods may mount and fill
//! folders there, and must not be able to show other files of the node through us.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use percent_encoding::utf8_percent_encode;

use super::path::ESCAPED;
use crate::files::{self, OpenError, blocking};
use crate::http1::{Body, plain, text, whole};
use crate::unsent;

const ROOT: &str = "/var/log";

/// Bytes a read.
const BLOCK: usize = unsent::PIECE;

#[derive(Debug)]
enum Found {
    File(File, u64),
    Folder(String),
}

/// The file or folder `path` below the root.
pub(super) async fn answer(path: &str) -> Response<Body> {
    let below = path.to_owned();
    match blocking(move || find(Path::new(ROOT), &below)).await {
        Ok(Found::File(file, size)) => send(file, size),
        // The links of a list work only below a slash.
        Ok(Found::Folder(_)) if !path.is_empty() && !path.ends_with('/') => with_slash(path),
        Ok(Found::Folder(list)) => whole(StatusCode::OK, "text/html; charset=utf-8", list.into()),
        Err(OpenError::Link(_)) => plain(StatusCode::FORBIDDEN, "403 Forbidden\n"),
        Err(error @ OpenError::Special(_)) => {
            text(StatusCode::FORBIDDEN, format!("403 Forbidden: {error}\n"))
        }
        Err(OpenError::Io(error)) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                plain(StatusCode::NOT_FOUND, "404 page not found\n")
            }
            io::ErrorKind::PermissionDenied => plain(StatusCode::FORBIDDEN, "403 Forbidden\n"),
            _ => text(StatusCode::INTERNAL_SERVER_ERROR, format!("500 Internal Server Error: {error}\n")),
        },
    }
}

/// Sends the client to the same path with a slash.
fn with_slash(path: &str) -> Response<Body> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut response = plain(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(to) = header::HeaderValue::try_from(format!("./{}/", utf8_percent_encode(name, ESCAPED))) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

fn find(root: &Path, path: &str) -> Result<Found, OpenError> {
    let root = root.canonicalize()?;
    let real = root.join(path.trim_end_matches('/')).canonicalize()?;
    let Ok(below) = real.strip_prefix(&root) else { return Err(OpenError::Link(root)) };
    // The way was free of links a moment ago; if it is not any more, this fails.
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    let file = files::open_any(&root, below)?;
    let meta = file.metadata()?;
    if meta.is_dir() { Ok(list(&file).map(Found::Folder)?) } else { Ok(Found::File(file, meta.len())) }
}

/// As Go's file server lists folders.
fn list(folder: &File) -> io::Result<String> {
    let mut names = vec![];
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            let slash = if entry.file_type().is_dir() { "/" } else { "" };
            names.push(name + slash);
        }
    }
    names.sort_unstable();
    let mut page =
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n".to_owned();
    for name in names {
        let shown = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        page += &format!("<a href=\"{}\">{shown}</a>\n", utf8_percent_encode(&name, ESCAPED));
    }
    Ok(page + "</pre>\n")
}

/// As much as the file had when it was opened.
fn send(file: File, size: u64) -> Response<Body> {
    let pieces = futures::stream::unfold((Arc::new(file), 0), move |(file, at)| async move {
        let most = usize::try_from(size.saturating_sub(at)).unwrap_or(BLOCK).min(BLOCK);
        let reader = Arc::clone(&file);
        let read = blocking(move || {
            let mut bytes = vec![0; most];
            let read = reader.read_at(&mut bytes, at)?;
            bytes.truncate(read);
            io::Result::Ok(bytes)
        });
        let bytes = read.await.ok().filter(|bytes| !bytes.is_empty())?;
        let next = at + bytes.len() as u64;
        Some((Bytes::from(bytes), (file, next)))
    });
    let mut response =
        Response::new(StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync());
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// The contents, or what is wrong.
    fn found(root: &Path, path: &str) -> Result<String, String> {
        let words = |error| match error {
            OpenError::Io(error) => format!("{:?}", error.kind()),
            OpenError::Link(_) => "link".to_owned(),
            OpenError::Special(kind) => kind.to_owned(),
        };
        match find(root, path).map_err(words)? {
            Found::File(file, size) => {
                let mut bytes = vec![0; size as usize];
                file.read_exact_at(&mut bytes, 0).unwrap();
                Ok(String::from_utf8(bytes).unwrap())
            }
            Found::Folder(list) => Ok(list),
        }
    }

    #[test]
    fn links_are_followed_inside_only() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("log");
        fs::create_dir_all(root.join("pods/web")).unwrap();
        fs::write(root.join("pods/web/0.log"), "hello").unwrap();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        symlink(root.join("pods/web/0.log"), root.join("absolute")).unwrap();
        symlink("pods/web", root.join("folder")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink(folder.path(), root.join("pods/out")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("fifo"), rustix::fs::Mode::RUSR).unwrap();
        for path in ["pods/web/0.log", "absolute", "folder/0.log"] {
            assert_eq!(found(&root, path), Ok("hello".to_owned()), "{path}");
        }
        for path in ["out", "pods/out/secret", "pods/out", "..", "../secret"] {
            assert_eq!(found(&root, path), Err("link".to_owned()), "{path}");
        }
        for path in ["nope", "pods/web/nope"] {
            assert_eq!(found(&root, path), Err("NotFound".to_owned()), "{path}");
        }
        assert_eq!(found(&root, "fifo"), Err("a named pipe".to_owned()));
        assert!(found(&root, "loop").is_err() && found(&root, "absolute/x").is_err());
    }

    #[test]
    fn a_folder_is_listed_by_name_and_odd_names_are_escaped() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("pods")).unwrap();
        for name in ["b.log", "a <\"&>.log"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let list = found(folder.path(), "").unwrap();
        let (_, rows) = list.split_once("<pre>\n").unwrap();
        assert_eq!(
            rows,
            "<a href=\"a%20%3C%22%26%3E.log\">a &lt;\"&amp;&gt;.log</a>\n\
             <a href=\"b.log\">b.log</a>\n\
             <a href=\"pods/\">pods/</a>\n\
             </pre>\n"
        );
        assert_eq!(found(folder.path(), "pods/").unwrap().lines().count(), 4);
    }
}
