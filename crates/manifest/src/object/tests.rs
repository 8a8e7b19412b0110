use std::path::Path;

use crate::{AnyManifest, Origin, read_any};

use super::*;

fn read(text: &str) -> Result<Described, Vec<String>> {
    let origin = Origin::file(Path::new("/m/o.yaml"), "node1");
    match read_any(text.as_bytes(), origin) {
        Ok(AnyManifest::Object(found)) => Ok(found.object),
        Ok(AnyManifest::Pod(_)) => panic!("a pod"),
        Err(problems) => Err(problems.into_iter().map(|p| p.to_string()).collect()),
    }
}

#[test]
fn a_config_map_and_a_secret_as_the_api_has_them() {
    let map = read(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a.b: plain, empty: ''}\nbinaryData: {raw: AAH/}\n",
    )
    .unwrap();
    assert_eq!(map.key().to_string(), "configmap \"default/settings\"");
    assert_eq!((&*map.object.data["a.b"], &*map.object.data["empty"]), (&b"plain"[..], &b""[..]));
    assert_eq!(map.object.binary_data["raw"], [0, 1, 255]);
    let secret = read(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\ndata: {a: b2xk, b: b2xk}\nstringData: {b: new}\nimmutable: true\n",
    )
    .unwrap();
    assert_eq!(secret.key().to_string(), "secret \"shop/s\"");
    assert_eq!((&*secret.object.data["a"], &*secret.object.data["b"]), (&b"old"[..], &b"new"[..]));
    assert!(secret.object.immutable && secret.object.kind == "Opaque");
    assert_eq!(
        secret.to_value(),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "shop"},
            "type": "Opaque", "immutable": true, "data": {"a": "b2xk", "b": "bmV3"}})
    );
    for described in [map, secret] {
        let text = described.to_value().to_string();
        assert_eq!(read(&text).unwrap(), described, "it comes back as it went");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_without_values() {
    let object =
        |kind: &str, more: &str| format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: o}}\n{more}\n");
    let long = "k".repeat(254);
    for (kind, more, why) in [
        ("ConfigMap", "data: {port: 8080}".to_owned(), ":4:8: data.port: expected a string"),
        ("ConfigMap", "data: [a]".to_owned(), "data: expected keys with their values"),
        ("ConfigMap", "data: {a b: x}".to_owned(), "a valid config key must consist of"),
        ("ConfigMap", "data: {../x: z}".to_owned(), "a valid config key must consist of"),
        (
            "ConfigMap",
            "data: {..x: z}".to_owned(),
            "data[..x]: Invalid value: \"..x\": must not start with '..'",
        ),
        ("ConfigMap", "data: {.: z}".to_owned(), "must not be '.'"),
        ("ConfigMap", format!("data: {{{long}: z}}"), "must be no more than 253 characters"),
        (
            "ConfigMap",
            "data: {k: x}\nbinaryData: {k: eA==}".to_owned(),
            "duplicate of key present in binaryData",
        ),
        (
            "ConfigMap",
            format!("data: {{k: {}}}", "x".repeat(MAX + 1)),
            "Too long: may not be more than 1048576 bytes",
        ),
        ("ConfigMap", "immutable: 3".to_owned(), "immutable: expected true or false"),
        (
            "Secret",
            "data: {k: very-secret}".to_owned(),
            "data.k: is not base64: in a Secret plain text stands in stringData",
        ),
        ("Secret", "stringData: {k: [very-secret]}".to_owned(), "stringData.k: expected a string"),
        ("Secret", "data: {k: 5}".to_owned(), "expected base64 in quotes"),
        (
            "Secret",
            "type: kubernetes.io/tls\nstringData: {tls.crt: x}".to_owned(),
            "data[tls.key]: Required value",
        ),
        ("Secret", "type: kubernetes.io/ssh-auth".to_owned(), "data[ssh-privatekey]: Required value"),
        ("Secret", "type: kubernetes.io/basic-auth".to_owned(), "data[password]: Required value"),
        ("Secret", "type: kubernetes.io/dockercfg".to_owned(), "data[.dockercfg]: Required value"),
        (
            "Secret",
            "type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: very-secret}".to_owned(),
            "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\"",
        ),
        (
            "Secret",
            "type: kubernetes.io/service-account-token".to_owned(),
            "service-account.name]: Required value",
        ),
    ] {
        let found = read(&object(kind, &more)).expect_err(&more[..more.len().min(60)]);
        let all = found.join("\n");
        assert!(all.contains(why), "{all}\n{why}");
        assert!(!all.contains("very-secret") && !all.contains("8080"), "{all}");
    }
    let unnamed = read("apiVersion: v1\nkind: Secret\n").unwrap_err().join("\n");
    assert!(unnamed.contains("metadata.name: Required value"), "{unnamed}");
    let elsewhere =
        read("apiVersion: v1\nkind: Secret\nmetadata: {name: a/b, namespace: ../x}\n").unwrap_err();
    assert_eq!(elsewhere.len(), 2, "{elsewhere:?}");
}

const MAX: usize = 1 << 20;

#[test]
fn what_is_immutable_stays_and_so_does_the_type_of_a_secret() {
    let object = |kind: &str, value: &str, immutable| Object {
        kind: kind.to_owned(),
        data: [("k".to_owned(), value.as_bytes().to_vec())].into(),
        immutable,
        ..Object::default()
    };
    for (kind, old, new, want) in [
        (Kind::ConfigMap, object("", "a", false), object("", "b", true), vec![]),
        (Kind::ConfigMap, object("", "a", true), object("", "a", true), vec![]),
        (Kind::ConfigMap, object("", "a", true), object("", "b", false), vec!["immutable", "data"]),
        (Kind::Secret, object("Opaque", "a", false), object("other", "a", false), vec!["type"]),
    ] {
        let found = check_update(kind, &old, &new).err().unwrap_or_default();
        assert_eq!(found.iter().map(|c| c.field.as_str()).collect::<Vec<_>>(), want);
    }
}
