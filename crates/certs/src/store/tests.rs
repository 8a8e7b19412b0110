use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::template::Template;
use crate::testing::signed;

fn now(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn client(folder: &Path) -> Store {
    Store::open(folder, Signer::Client, None).unwrap()
}

/// A key, and a certificate for it.
fn made(node: &str) -> (Key, String) {
    let key = Key::generate().unwrap();
    let certificate = signed(&Template::client(node), &key);
    (key, certificate)
}

#[test]
fn a_certificate_stands_in_a_dated_file_that_a_link_names() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("pki");
    let store = client(&folder);
    assert_eq!(store.current().unwrap(), None);
    let (key, certificate) = made("node1");
    let pair = store.update(certificate.as_bytes(), &key, now(0)).unwrap();
    assert_eq!(pair.leaf.common_name, "system:node:node1");
    let link = folder.join("kubelet-client-current.pem");
    let dated = folder.join("kubelet-client-2023-11-14-22-13-20.pem");
    assert_eq!(fs::read_link(&link).unwrap(), dated);
    assert_eq!(fs::metadata(&dated).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&link).unwrap(), certificate.replace("\r\n", "\n") + &key.to_pem());
    assert_eq!(store.current().unwrap(), Some(pair));
    // The next one, in the same second, too.
    for second in [5, 5] {
        let (key, certificate) = made("node1");
        let pair = store.update(certificate.as_bytes(), &key, now(second)).unwrap();
        assert_eq!(client(&folder).current().unwrap(), Some(pair));
    }
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let dated = ["kubelet-client-2023-11-14-22-13-20.pem", "kubelet-client-2023-11-14-22-13-25.pem"];
    assert_eq!(names, [dated[0], dated[1], "kubelet-client-current.pem"]);
}

#[test]
fn what_is_not_whole_says_which_file_and_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let store = client(dir.path());
    let (key, certificate) = made("node1");
    let (other, _) = made("node1");
    let both = certificate.clone() + &key.to_pem();
    for (text, said) in [
        (certificate.clone(), "without its key"),
        (key.to_pem(), "no whole certificate"),
        (String::new(), "no whole certificate"),
        (both[..both.len() - 60].to_owned(), "without its key"),
        (both[..certificate.len() / 2].to_owned(), "no whole certificate"),
        (certificate.clone() + &other.to_pem(), "does not go with"),
    ] {
        fs::write(store.current_path(), &text).unwrap();
        let error = util::causes(&store.current().unwrap_err());
        assert!(error.contains(said) && error.contains("kubelet-client-current.pem"), "{error}");
    }
    // A file of somebody else's is not replaced.
    let error = store.update(certificate.as_bytes(), &key, now(0)).unwrap_err().to_string();
    assert!(error.contains("to be a symlink"), "{error}");
    fs::remove_file(store.current_path()).unwrap();
    // Nor is a certificate of another key taken.
    let error = util::causes(&store.update(certificate.as_bytes(), &other, now(0)).unwrap_err());
    assert!(error.contains("does not go with"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn an_update_that_was_cut_off_is_put_right() {
    let dir = tempfile::tempdir().unwrap();
    let store = client(dir.path());
    let (key, certificate) = made("node1");
    let pair = store.update(certificate.as_bytes(), &key, now(0)).unwrap();
    // As upstream's, between its two steps.
    fs::rename(store.current_path(), store.named("updated")).unwrap();
    assert_eq!(client(dir.path()).current().unwrap(), Some(pair.clone()));
    // Ours, before its last; and a file that was not written to its end.
    fs::write(dir.path().join("kubelet-client-2023-11-14-22-13-21.pem.new"), "half").unwrap();
    symlink("/nowhere", store.named("updated")).unwrap();
    assert_eq!(client(dir.path()).current().unwrap(), Some(pair));
    let (key, certificate) = made("node1");
    let pair = store.update(certificate.as_bytes(), &key, now(1)).unwrap();
    assert_eq!(client(dir.path()).current().unwrap(), Some(pair));
    // A link to nothing is as good as none.
    fs::remove_file(fs::read_link(store.current_path()).unwrap()).unwrap();
    assert_eq!(client(dir.path()).current().unwrap(), None);
}

#[test]
fn given_files_and_those_of_old_kubelets_count_until_there_is_one_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    let given = (dir.path().join("given.crt"), dir.path().join("given.key"));
    let store = Store::open(dir.path(), Signer::Serving, Some(given.clone())).unwrap();
    let write = |(certificate, key): &(PathBuf, PathBuf), node: &str| {
        let (of_key, of_certificate) = made(node);
        fs::write(certificate, of_certificate).unwrap();
        fs::write(key, of_key.0.serialize_pem()).unwrap();
    };
    let name = || store.current().unwrap().map(|pair| pair.leaf.common_name);
    write(&(dir.path().join("kubelet-server.crt"), dir.path().join("kubelet-server.key")), "old");
    assert_eq!(name().as_deref(), Some("system:node:old"));
    write(&given, "given");
    assert_eq!(name().as_deref(), Some("system:node:given"));
    let (key, certificate) = made("own");
    store.update(certificate.as_bytes(), &key, now(0)).unwrap();
    assert_eq!(name().as_deref(), Some("system:node:own"));
}

#[test]
fn the_key_of_a_request_is_kept_until_it_is_done_with() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki/kubelet-client.key.tmp");
    let store = client(&dir.path().join("pki"));
    let key = store.pending_key().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(store.pending_key().unwrap().public(), key.public());
    fs::write(&path, &key.to_pem()[..50]).unwrap();
    let new = store.pending_key().unwrap();
    assert_ne!(new.public(), key.public());
    store.forget_key().unwrap();
    store.forget_key().unwrap();
    assert!(!path.exists());
}
