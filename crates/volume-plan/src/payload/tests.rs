use std::collections::BTreeMap;

use kube_model::core::{Pod, Volume};
use kube_model::downward::Allocatable;
use serde_json::{Value, json};

use super::*;

type Map = BTreeMap<String, Vec<u8>>;

fn map(pairs: &[(&str, &str)]) -> Map {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "labels": {"k": "v"}},
        "spec": spec
    }))
    .unwrap()
}

/// The files of a volume in a pod `spec`, one `mode owner path=content` each, where there are ConfigMaps `cm` and `bin`,
/// a Secret `s` and a token for `vault`, and a Secret that is forbidden.
fn files(volume: Value, spec: Value) -> Result<String, String> {
    let mut volume = volume;
    volume["name"] = "v".into();
    let volume: Volume = serde_json::from_value(volume).unwrap();
    let pod = pod(spec);
    let (cm, s) = (map(&[("a", "1"), ("b", "2")]), map(&[("a", "one"), ("p", "pass")]));
    let (bin, none) = (map(&[("a", "\u{1}"), ("c", "3")]), Map::new());
    let content = Content::of(&volume).unwrap();
    let mut found = Found::default();
    for need in content.needs() {
        match need {
            Need::Object(kind, name) => {
                let object = match (kind, name) {
                    (Kind::ConfigMap, "cm") => Ok(Object { data: &cm, binary_data: &none }),
                    (Kind::ConfigMap, "bin") => Ok(Object { data: &cm, binary_data: &bin }),
                    (Kind::Secret, "s") => Ok(Object { data: &s, binary_data: &none }),
                    (Kind::Secret, "locked") => {
                        Err(Missing::Unreadable("secret \"locked\" is forbidden".into()))
                    }
                    _ => Err(Missing::NotFound),
                };
                found.objects.insert((kind, name), object);
            }
            Need::Token(token) => {
                let value = match (token.audience, token.expiration_seconds) {
                    ("vault", Some(700)) => Ok(Secret("vault.jwt")),
                    ("", None) => Ok(Secret("api.jwt")),
                    _ => Err("failed to fetch token: serviceaccounts \"x\" not found".to_owned()),
                };
                found.tokens.insert(token, value);
            }
        }
    }
    let allocatable = Allocatable { milli_cpu: 2000, memory: 1 << 30, ephemeral_storage: 1 << 30 };
    let set = content.files(Facts { pod: &pod, allocatable: &allocatable }, &found);
    let line = |(path, file): (&str, &File<'_>)| {
        let owner = file.owner.unwrap_or(0);
        format!("{:o} {owner} {path}={}", file.mode, file.data.escape_ascii())
    };
    set.map(|set| set.iter().map(line).collect::<Vec<_>>().join("; ")).map_err(|error| error.to_string())
}

#[test]
fn objects_become_files() {
    for (case, volume, want) in [
        ("all keys", json!({"configMap": {"name": "cm"}}), Ok("644 0 a=1; 644 0 b=2")),
        (
            "binary keys too, which win",
            json!({"configMap": {"name": "bin", "defaultMode": 256}}),
            Ok("400 0 a=\\x01; 400 0 b=2; 400 0 c=3"),
        ),
        ("a secret", json!({"secret": {"secretName": "s"}}), Ok("644 0 a=one; 644 0 p=pass")),
        (
            "items with modes, the rest left out",
            json!({"configMap": {"name": "bin", "defaultMode": 384, "items": [
                {"key": "b", "path": "sub/dir/b.txt", "mode": 256}, {"key": "c", "path": "c"}]}}),
            Ok("600 0 c=3; 400 0 sub/dir/b.txt=2"),
        ),
        (
            "a key that is missing",
            json!({"configMap": {"name": "cm", "items": [{"key": "x", "path": "x"}]}}),
            Err("configmap references non-existent config key: x"),
        ),
        (
            "of a secret",
            json!({"secret": {"secretName": "s", "items": [{"key": "x", "path": "x"}]}}),
            Err("references non-existent secret key: x"),
        ),
        (
            "and may be",
            json!({"configMap": {"name": "cm", "optional": true, "items": [
                {"key": "x", "path": "x"}, {"key": "a", "path": "a"}]}}),
            Ok("644 0 a=1"),
        ),
        ("missing", json!({"configMap": {"name": "no"}}), Err("configmap \"no\" not found")),
        ("missing, as it may be", json!({"secret": {"secretName": "no", "optional": true}}), Ok("")),
        (
            "optional is no leave to be forbidden",
            json!({"secret": {"secretName": "locked", "optional": true}}),
            Err("secret \"locked\" is forbidden"),
        ),
        (
            "out of the volume",
            json!({"configMap": {"name": "cm", "items": [{"key": "a", "path": "x/../../etc"}]}}),
            Err("invalid path: must not contain '..': x/../../etc"),
        ),
    ] {
        let want = want.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(files(volume, json!({"containers": []})), want, "{case}");
    }
}

#[test]
fn of_projected_sources_the_later_wins_and_all_errors_are_told() {
    let sources = json!([
        {"secret": {"name": "s"}}, {"configMap": {"name": "cm"}},
        {"secret": {"name": "s", "items": [{"key": "a", "path": "sub/a", "mode": 256}]}},
        {"downwardAPI": {"items": [{"path": "sub/labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"serviceAccountToken": {"path": "sub/token", "audience": "vault", "expirationSeconds": 700}}
    ]);
    let got =
        files(json!({"projected": {"sources": sources, "defaultMode": 288}}), json!({"containers": []}));
    let want = "440 0 a=1; 440 0 b=2; 440 0 p=pass; 400 0 sub/a=one; 440 0 sub/labels=k=\\\"v\\\"; \
                440 0 sub/token=vault.jwt";
    assert_eq!(got.as_deref(), Ok(want));

    let sources = json!([
        {"secret": {"name": "no"}}, {"secret": {"name": "no"}}, {"configMap": {"name": "no", "optional": true}},
        {"serviceAccountToken": {"path": "t", "audience": "who"}},
        {"downwardAPI": {"items": [
            {"path": "a", "fieldRef": {"fieldPath": "status.podIP"}},
            {"path": "b", "resourceFieldRef": {"containerName": "x", "resource": "limits.cpu"}}]}},
        {"clusterTrustBundle": {"path": "ca", "name": "x"}}
    ]);
    let got = files(json!({"projected": {"sources": sources}}), json!({"containers": []}));
    let want = "[secret \"no\" not found, failed to fetch token: serviceaccounts \"x\" not found, file \"a\": \
                unsupported fieldPath: status.podIP, file \"b\": the pod has no container \"x\", \
                clusterTrustBundle projections are not supported yet]";
    assert_eq!(got.unwrap_err(), want);
}

#[test]
fn a_token_is_for_the_one_user_and_the_group_of_the_pod() {
    let app = |user: Value| json!({"name": "a", "securityContext": {"runAsUser": user}});
    let token = |mode: Value| json!({"projected": {"defaultMode": mode, "sources": [{"serviceAccountToken": {"path": "t"}}]}});
    let nobody = Value::Null;
    for (case, mode, spec, want) in [
        ("nobody is named", 420, json!({"containers": [app(nobody.clone())]}), "644 0"),
        ("a mode of its own", 256, json!({"containers": [app(nobody.clone())]}), "400 0"),
        (
            "the pod's user",
            256,
            json!({"securityContext": {"runAsUser": 1000}, "containers": [app(nobody.clone())]}),
            "600 1000",
        ),
        ("one user", 420, json!({"containers": [app(7.into()), app(7.into())]}), "600 7"),
        ("two users", 420, json!({"containers": [app(7.into()), app(8.into())]}), "644 0"),
        ("one and none", 420, json!({"containers": [app(7.into()), app(nobody.clone())]}), "644 0"),
        (
            "an init container of another user",
            420,
            json!({"initContainers": [app(8.into())], "containers": [app(7.into())]}),
            "644 0",
        ),
        (
            "an ephemeral container of another user",
            420,
            json!({"ephemeralContainers": [app(8.into())], "containers": [app(7.into())]}),
            "644 0",
        ),
        (
            "a group",
            420,
            json!({"securityContext": {"fsGroup": 2000}, "containers": [app(7.into()), app(8.into())]}),
            "600 0",
        ),
        (
            "both",
            256,
            json!({"securityContext": {"runAsUser": 1000, "fsGroup": 2000}, "containers": [app(nobody)]}),
            "600 1000",
        ),
    ] {
        assert_eq!(files(token(mode.into()), spec), Ok(format!("{want} t=api.jwt")), "{case}");
    }
}

#[test]
fn what_a_volume_needs_is_said_once() {
    let volume: Volume = serde_json::from_value(json!({"name": "v", "projected": {"sources": [
        {"secret": {"name": "x"}}, {"configMap": {"name": "x"}}, {"secret": {"name": "x", "optional": true}},
        {"serviceAccountToken": {"path": "a"}}, {"serviceAccountToken": {"path": "b"}},
        {"serviceAccountToken": {"path": "c", "audience": "z", "expirationSeconds": 600}}]}}))
    .unwrap();
    let token = |audience, expiration_seconds| Need::Token(Token { audience, expiration_seconds });
    let want = [
        Need::Object(Kind::ConfigMap, "x"),
        Need::Object(Kind::Secret, "x"),
        token("", None),
        token("z", Some(600)),
    ];
    assert_eq!(Content::of(&volume).unwrap().needs(), want.into());
}
