use std::fs;
use std::path::PathBuf;

use super::*;

/// `user:secret-of-user` in base64.
fn auth(user: &str) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(format!("{user}:secret-of-{user}"))
}

/// One entry a location; the location is the user's name.
fn keyring(locations: &[&str]) -> Keyring {
    let entries: Vec<String> =
        locations.iter().map(|at| format!(r#""{at}":{{"username":"{at}","password":"p"}}"#)).collect();
    Keyring::from_config_json(format!(r#"{{"auths":{{{}}}}}"#, entries.join(",")).as_bytes()).unwrap()
}

fn users(keyring: &Keyring, image: &str) -> String {
    keyring.lookup(image).into_iter().map(|c| c.username).collect::<Vec<_>>().join(" ")
}

#[test]
fn credentials_go_to_the_registries_that_they_are_for() {
    for (location, image, want) in [
        ("example.com", "example.com/a", true),
        ("example.com", "example.com/a/b:v1", true),
        ("https://example.com/v2/", "example.com/a@sha256:0", true),
        ("example.com", "example.com:5000/a", false),
        ("example.com:5000", "example.com:5000/a:v1", true),
        ("example.com:5000", "example.com/a", false),
        ("localhost:5000", "localhost:5000/a", true),
        ("example.com", "sub.example.com/a", false),
        ("example.com", "example.org/a", false),
        // Paths begin alike.
        ("example.com/team", "example.com/team/a", true),
        ("example.com/team", "example.com/teams/a", true),
        ("example.com/team", "example.com/other/a", false),
        ("example.com/team/a", "example.com/team", false),
        // Patterns stay within their part of the host, and do not reach into ports and paths.
        ("*.example.com", "eu.example.com/a", true),
        ("*.example.com", "example.com/a", false),
        ("*.example.com", "a.eu.example.com/a", false),
        ("*.*.example.com", "a.eu.example.com/a", true),
        ("*.example.com:5000", "eu.example.com:5000/a", true),
        ("*.example.com:*", "eu.example.com:5000/a", false),
        ("eu*.example.com", "eu-1.example.com/a", true),
        ("eu[0-9].example.com", "eu1.example.com/a", true),
        ("example.com/*", "example.com/a", false),
        ("*", "busybox", false),
        ("[::1]:5000", "[::1]:5000/a", true),
        ("[::1]", "[::1]/a", true),
        // Docker Hub.
        ("docker.io", "busybox", true),
        ("docker.io", "team/app:v1", true),
        ("docker.io/library", "busybox", true),
        ("docker.io/library", "team/app", false),
        ("index.docker.io", "busybox", true),
        ("https://index.docker.io/v1/", "team/app", true),
        ("https://index.docker.io/v1/", "docker.io/team/app", true),
        ("https://index.docker.io/v1/", "index.docker.io/team/app", true),
        ("https://index.docker.io/v1/", "example.com/team/app", false),
        ("https://index.docker.io/v1/", "localhost/a", false),
        ("registry-1.docker.io", "busybox", false),
    ] {
        let want = if want { location } else { "" };
        assert_eq!(users(&keyring(&[location]), image), want, "{location} {image}");
    }
}

#[test]
fn the_most_specific_is_tried_first_and_the_hub_only_if_nothing_else_fits() {
    let all = keyring(&["example.com", "example.com/team", "*.com", "example.com/team/a", "other.com"]);
    assert_eq!(users(&all, "example.com/team/a"), "example.com/team/a example.com/team example.com *.com");
    let hub = keyring(&["docker.io", "index.docker.io"]);
    assert_eq!(users(&hub, "busybox"), "docker.io");
}

#[test]
fn what_comes_later_for_the_same_registry_is_tried_later() {
    let one = |user: &str| {
        let text = format!(r#"{{"example.com":{{"username":"{user}"}}}}"#);
        Keyring::from_dockercfg(text.as_bytes()).unwrap()
    };
    let mut all = one("old");
    all.append(one("new"));
    assert_eq!(users(&all, "example.com/a"), "old new");
}

#[test]
fn secrets_of_both_types_are_read() {
    let good = auth("me");
    let entries = format!(r#"{{"example.com":{{"auth":"{good}","email":"a@b","more":[1]}}}}"#);
    let json = format!(r#"{{"auths":{entries},"credsStore":"x"}}"#);
    let (new, old) = ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg");
    let me = |password: &str| Ok(vec![Credential { username: "me".into(), password: password.into() }]);
    let plain = r#"{"auths":{"example.com":{"username":"me","password":"p:w","auth":""}}}"#;
    let unpadded = json.replace('=', "");
    let wrong = r#"{"auths":{"example.com":{"auth":"c2VjcmV0"}}}"#;
    let not_base64 = r#"{"auths":{"example.com":{"auth":"s3cret!"}}}"#;
    let auth_error = || Err(InvalidConfig::Auth("example.com".into()));
    for (kind, key, text, want) in [
        (new, ".dockerconfigjson", json.as_str(), me("secret-of-me")),
        (new, ".dockerconfigjson", unpadded.as_str(), me("secret-of-me")),
        (old, ".dockercfg", entries.as_str(), me("secret-of-me")),
        (new, ".dockerconfigjson", plain, me("p:w")),
        (new, ".dockerconfigjson", r#"{"auths":null}"#, Ok(Vec::new())),
        (new, ".dockerconfigjson", "{}", Ok(Vec::new())),
        (new, ".dockerconfigjson", wrong, auth_error()),
        (new, ".dockerconfigjson", not_base64, auth_error()),
        (
            new,
            ".dockerconfigjson",
            r#"{"auths":{"a":{"password":7}}}"#,
            Err(InvalidConfig::Json { line: 1, column: 27 }),
        ),
        (new, ".dockerconfigjson", "s3cret", Err(InvalidConfig::Json { line: 1, column: 1 })),
        (new, ".dockerconfigjson", "", Err(InvalidConfig::Key(".dockerconfigjson"))),
        (new, ".dockercfg", entries.as_str(), Err(InvalidConfig::Key(".dockerconfigjson"))),
        ("Opaque", ".dockerconfigjson", json.as_str(), Err(InvalidConfig::Kind("Opaque".into()))),
    ] {
        let data = [(key.to_owned(), text.as_bytes().to_vec())].into();
        let got = Keyring::from_secret(kind, &data).map(|keyring| keyring.lookup("example.com/a"));
        assert_eq!(got, want, "{kind} {text}");
        if let Err(error) = got {
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}

#[test]
fn passwords_are_not_printed() {
    let text = format!(r#"{{"example.com":{{"auth":"{}"}}}}"#, auth("me"));
    let keyring = Keyring::from_dockercfg(text.as_bytes()).unwrap();
    let printed = format!("{keyring:?} {:?}", keyring.lookup("example.com/a"));
    assert!(printed.contains("\"me\"") && !printed.contains("secret-of"), "{printed}");
}

#[test]
fn the_nodes_own_file_is_the_first_that_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let write = |path: PathBuf, text: &str| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let config = |user: &str| format!(r#"{{"auths":{{"example.com":{{"username":"{user}"}}}}}}"#);
    let found = DockerConfigPaths { config_json: vec![at("a"), at("b")], dockercfg: vec![at("c")] };
    let read = || {
        let (keyring, problems) = found.read();
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        (users(&keyring, "example.com/a"), problems)
    };
    assert_eq!(read(), (String::new(), Vec::new()));
    write(at("c/.dockercfg"), r#"{"example.com":{"username":"old"}}"#);
    assert_eq!(read(), ("old".into(), Vec::new()));
    write(at("b/config.json"), &config("b"));
    assert_eq!(read(), ("b".into(), Vec::new()));
    write(at("a/config.json"), "{");
    let broken = format!("registry credentials in {}", at("a/config.json").display());
    assert_eq!(read(), ("b".into(), vec![broken]));
    write(at("a/config.json"), &config("a"));
    assert_eq!(read(), ("a".into(), Vec::new()));
}

#[test]
fn the_node_is_searched_as_the_kubelet_does() {
    let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
    let root = std::path::Path::new("/var/lib/kubelet");
    let found = DockerConfigPaths::of_node(root, Some("/root".as_ref()));
    assert_eq!(found.config_json, paths(&["/var/lib/kubelet", ".", "/root/.docker", "/.docker"]));
    assert_eq!(found.dockercfg, paths(&["/var/lib/kubelet", ".", "/root/", "/"]));
    assert_eq!(DockerConfigPaths::of_node(root, None).dockercfg, paths(&["/var/lib/kubelet", ".", "/"]));
}
