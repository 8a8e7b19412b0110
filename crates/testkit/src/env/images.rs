//! Two tiny OCI images, built here without a registry: `pause` and `busybox`.
//!
//! Every time stamp and owner is zero and the layer is stored uncompressed, so the same programs give the same
//! digests.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::command::output;
use super::error::At;
use super::{Error, Tools};

/// The sandbox image: one static program that sleeps.
pub const PAUSE: &str = "localhost/pause:1";
/// A static busybox with all its applets in `/bin`, and a page to serve in `/www`.
pub const BUSYBOX: &str = "localhost/busybox:1";

/// One image archive for both containerd lines, built on first use.
///
/// # Errors
/// Without a C compiler (`cc`, which Rust itself needs to link), or when a file cannot be written.
pub(crate) fn archive(tools: &Tools) -> Result<PathBuf, Error> {
    let dir = tools.images();
    let done = dir.join("images.tar");
    fs::create_dir_all(&dir).at("create", &dir)?;
    let lock = fs::File::create(dir.join("lock")).at("create", dir.join("lock"))?;
    lock.lock().at("lock", dir.join("lock"))?;
    if !done.exists() {
        let (pause, busybox) = (pause(&dir)?, busybox(tools)?);
        let temporary = dir.join("images.tar.new");
        let bytes = layout(&[(PAUSE, &pause), (BUSYBOX, &busybox)]).at("write", &temporary)?;
        fs::write(&temporary, bytes).at("write", &temporary)?;
        fs::rename(&temporary, &done).at("create", &done)?;
    }
    Ok(done)
}

/// What an image is made of: its one layer and its `config` section.
struct Image {
    layer: Vec<u8>,
    config: Value,
}

fn pause(dir: &Path) -> Result<Image, Error> {
    let (source, program) = (dir.join("pause.c"), dir.join("pause"));
    fs::write(&source, include_str!("pause.c")).at("write", &source)?;
    output(
        Command::new("cc")
            .args(["-static", "-Os", "-s", "-Wl,--build-id=none", "-o"])
            .arg(&program)
            .arg(&source),
    )?;
    let bytes = fs::read(&program).at("read", &program)?;
    let mut layer = Layer::default();
    layer.file("pause", 0o755, &bytes).at("pack", &program)?;
    Ok(Image { layer: layer.finish().at("pack", &program)?, config: json!({"Entrypoint": ["/pause"]}) })
}

fn busybox(tools: &Tools) -> Result<Image, Error> {
    let program = tools.busybox();
    let bytes = fs::read(&program).at("read", &program)?;
    let applets = output(Command::new(&program).arg("--list"))?;
    let layer = busybox_layer(&bytes, applets.lines()).at("pack", &program)?;
    let config = json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]});
    Ok(Image { layer, config })
}

fn busybox_layer<'a>(program: &[u8], applets: impl Iterator<Item = &'a str>) -> std::io::Result<Vec<u8>> {
    let mut layer = Layer::default();
    for (dir, mode) in
        [("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("var", 0o755), ("www", 0o755)]
    {
        layer.dir(dir, mode)?;
    }
    layer.file("bin/busybox", 0o755, program)?;
    for applet in applets.filter(|a| *a != "busybox") {
        layer.link(&format!("bin/{applet}"), "busybox")?;
    }
    layer.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    layer.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    layer.file("www/index.html", 0o644, b"<h1>It runs.</h1>\n")?;
    layer.finish()
}

/// An uncompressed layer in which everything belongs to root and dates from 1970.
struct Layer(Builder<Vec<u8>>);

impl Default for Layer {
    fn default() -> Self {
        Self(Builder::new(Vec::new()))
    }
}

impl Layer {
    fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> std::io::Result<()> {
        let mut header = header(EntryType::Regular, mode, bytes.len() as u64);
        self.0.append_data(&mut header, path, bytes)
    }

    fn dir(&mut self, path: &str, mode: u32) -> std::io::Result<()> {
        self.0.append_data(&mut header(EntryType::Directory, mode, 0), format!("{path}/"), std::io::empty())
    }

    fn link(&mut self, path: &str, target: &str) -> std::io::Result<()> {
        self.0.append_link(&mut header(EntryType::Symlink, 0o777, 0), path, target)
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        self.0.into_inner()
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// An OCI image layout in a tar: each blob once, and an index that names each image.
fn layout(images: &[(&str, &Image)]) -> std::io::Result<Vec<u8>> {
    let mut archive = Layer::default();
    archive.file("oci-layout", 0o644, json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes())?;
    archive.dir("blobs", 0o755)?;
    archive.dir("blobs/sha256", 0o755)?;
    let mut blob = |media_type: &str, bytes: &[u8]| -> std::io::Result<Value> {
        let digest = hex(&Sha256::digest(bytes));
        archive.file(&format!("blobs/sha256/{digest}"), 0o644, bytes)?;
        Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()}))
    };
    let mut manifests = Vec::new();
    for (name, image) in images {
        let layer = blob("application/vnd.oci.image.layer.v1.tar", &image.layer)?;
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": image.config,
            // The layer is not compressed, so its digest is its diff id.
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        });
        let config = blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [layer],
        });
        let mut entry = blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes())?;
        entry["annotations"] = json!({"io.containerd.image.name": name});
        entry["platform"] = json!({"architecture": architecture(), "os": "linux"});
        manifests.push(entry);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    });
    archive.file("index.json", 0o644, index.to_string().as_bytes())?;
    archive.finish()
}

/// This machine's processor in the words of OCI.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a Vec cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn sample() -> Vec<u8> {
        let layer = busybox_layer(b"program", ["ls", "busybox", "sh"].into_iter()).unwrap();
        layout(&[("localhost/x:1", &Image { layer, config: json!({"Cmd": ["sh"]}) })]).unwrap()
    }

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().mtime().unwrap(), 0);
            let path = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(path, bytes);
        }
        files
    }

    #[cfg(feature = "runtime-tests")]
    #[test]
    fn the_images_are_built_once() {
        let tools = Tools::ensure().unwrap();
        let built = archive(&tools).unwrap();
        let when = |path: &Path| path.metadata().unwrap().modified().unwrap();
        let first = when(&built);
        assert_eq!(when(&archive(&tools).unwrap()), first);
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        assert_eq!(sample(), sample());
    }

    #[test]
    fn every_descriptor_leads_to_a_blob_with_that_digest_and_size() {
        let files = files(&sample());
        let follow = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let blob = &files[&format!("blobs/sha256/{digest}")];
            assert_eq!(hex(&Sha256::digest(blob)), digest);
            assert_eq!(descriptor["size"], blob.len());
            blob
        };
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let entry = &index["manifests"][0];
        assert_eq!(entry["annotations"]["io.containerd.image.name"], "localhost/x:1");
        let manifest: Value = serde_json::from_slice(follow(entry)).unwrap();
        let config: Value = serde_json::from_slice(follow(&manifest["config"])).unwrap();
        follow(&manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        assert_eq!(config["config"]["Cmd"][0], "sh");
    }

    #[test]
    fn each_applet_is_a_link_to_busybox_and_busybox_is_none_to_itself() {
        let layer = busybox_layer(b"program", ["ls", "busybox"].into_iter()).unwrap();
        let mut links = Vec::new();
        for entry in tar::Archive::new(layer.as_slice()).entries().unwrap() {
            let entry = entry.unwrap();
            if let Some(target) = entry.link_name().unwrap() {
                links.push((entry.path().unwrap().display().to_string(), target.display().to_string()));
            }
        }
        assert_eq!(links, [("bin/ls".to_owned(), "busybox".to_owned())]);
    }
}
