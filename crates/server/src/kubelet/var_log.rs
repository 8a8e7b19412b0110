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
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::path::ESCAPED;
use crate::http1::{Body, plain, text, whole};

const ROOT: &str = "/var/log";

/// Bytes a read.
const BLOCK: usize = 64 * 1024;

enum Found {
    File(File, u64),
    Folder(String),
}

/// The file or folder `path` below the root.
pub(super) async fn answer(path: String, as_folder: bool) -> Response<Body> {
    let found = tokio::task::spawn_blocking(move || find(Path::new(ROOT), &path)).await;
    match found.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
        Ok(Found::File(file, size)) => send(file, size),
        Ok(Found::Folder(list)) if as_folder => {
            whole(StatusCode::OK, "text/html; charset=utf-8", list.into())
        }
        Ok(Found::Folder(_)) => moved(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            plain(StatusCode::NOT_FOUND, "404 page not found\n")
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            plain(StatusCode::FORBIDDEN, "403 Forbidden\n")
        }
        Err(error) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("500 Internal Server Error: {error}\n"))
        }
    }
}

fn find(root: &Path, path: &str) -> io::Result<Found> {
    let root = root.canonicalize()?;
    let real = root.join(path.trim_end_matches('/')).canonicalize()?;
    let below = real.strip_prefix(&root).map_err(|_| io::Error::from(io::ErrorKind::PermissionDenied))?;
    let folder =
        rustix::fs::openat(CWD, &root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // The way was free of links a moment ago; if it is not any more, this fails.
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let guarded = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = File::from(rustix::fs::openat2(&folder, below, flags, Mode::empty(), guarded)?);
    let meta = file.metadata()?;
    if meta.is_file() {
        Ok(Found::File(file, meta.len()))
    } else if meta.is_dir() {
        list(&file).map(Found::Folder)
    } else {
        // Pipes, sockets and devices.
        Err(io::ErrorKind::NotFound.into())
    }
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
        page += &format!("<a href=\"./{}\">{shown}</a>\n", utf8_percent_encode(&name, ESCAPED));
    }
    Ok(page + "</pre>\n")
}

/// The links of a list work only below a slash.
fn moved() -> Response<Body> {
    plain(StatusCode::NOT_FOUND, "a folder's path ends with a slash\n")
}

/// As much as the file had when it was opened.
fn send(file: File, size: u64) -> Response<Body> {
    let pieces = futures::stream::unfold((Arc::new(file), 0), move |(file, at)| async move {
        let most = usize::try_from(size.saturating_sub(at)).unwrap_or(BLOCK).min(BLOCK);
        let reader = Arc::clone(&file);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; most];
            let read = reader.read_at(&mut bytes, at)?;
            bytes.truncate(read);
            io::Result::Ok(bytes)
        });
        let bytes = read.await.ok()?.ok().filter(|bytes| !bytes.is_empty())?;
        let next = at + bytes.len() as u64;
        Some((Bytes::from(bytes), (file, next)))
    });
    let mut response =
        Response::new(StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync());
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
