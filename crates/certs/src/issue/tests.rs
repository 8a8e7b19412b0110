use kube_model::k8s_openapi::serde_json::{from_value, json};

use super::*;
use crate::testing::signed;

fn request(conditions: &serde_json::Value, certificate: Option<&str>) -> CertificateSigningRequest {
    let mut request: CertificateSigningRequest = from_value(json!({
        "metadata": {"name": "csr-1", "uid": "u1"},
        "spec": {"request": "", "signerName": Signer::Client.name()},
        "status": {"conditions": conditions},
    }))
    .unwrap();
    let status = request.status.as_mut().unwrap();
    status.certificate = certificate.map(|text| ByteString(text.as_bytes().to_vec()));
    request
}

fn condition(kind: &str) -> serde_json::Value {
    json!([{"type": kind, "status": "True", "reason": "Why", "message": "because"}])
}

#[test]
fn a_request_is_answered_when_it_is_approved_and_signed() {
    let asked = Asked { name: "csr-1".to_owned(), uid: Some("u1".to_owned()) };
    let judged = |conditions: serde_json::Value, certificate| {
        verdict(&asked, &request(&conditions, certificate)).map_err(|error| error.to_string())
    };
    assert_eq!(judged(json!([]), None), Ok(Verdict::Waits { approved: false }));
    assert_eq!(judged(json!([]), Some("c")), Ok(Verdict::Waits { approved: false }));
    assert_eq!(judged(condition("Approved"), None), Ok(Verdict::Waits { approved: true }));
    assert_eq!(judged(condition("Approved"), Some("")), Ok(Verdict::Waits { approved: true }));
    assert_eq!(judged(condition("Approved"), Some("c")), Ok(Verdict::Issued(b"c".to_vec())));
    assert!(
        judged(condition("Denied"), None).unwrap_err().contains("is denied, reason: Why, message: because")
    );
    assert!(judged(condition("Failed"), Some("c")).unwrap_err().contains("failed, reason: Why"));
    let other = Asked { uid: Some("u0".to_owned()), ..asked };
    assert!(matches!(verdict(&other, &request(&json!([]), None)), Err(IssueError::Gone(_))));
}

#[test]
fn a_request_that_is_there_is_used_if_it_is_the_same() {
    let (key, template) = (Key::generate().unwrap(), Template::client("node1"));
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let there = |key: &Key, template: &Template, certificate: Option<&str>| {
        let mut there = request(&json!([]), certificate);
        there.spec.request = ByteString(template.request(key).unwrap().into_bytes());
        there
    };
    let differs =
        |there: &CertificateSigningRequest, now| incompatible(there, &template, Signer::Client, &key, now);
    assert_eq!(differs(&there(&key, &template, None), now), None);
    let certificate = signed(&template, &key);
    assert_eq!(differs(&there(&key, &template, Some(&certificate)), now), None);
    let late = Timestamp::MAX;
    assert!(differs(&there(&key, &template, Some(&certificate)), late).unwrap().contains("has ended"));
    let other = Key::generate().unwrap();
    assert_eq!(differs(&there(&other, &template, None), now).as_deref(), Some("it is for another key"));
    let name = differs(&there(&key, &Template::client("node2"), None), now).unwrap();
    assert!(name.contains("system:node:node2"), "{name}");
    let mut serving = there(&key, &template, None);
    serving.spec.signer_name = Signer::Serving.name().to_owned();
    assert!(differs(&serving, now).unwrap().contains("kubelet-serving"));
    assert_eq!(differs(&request(&json!([]), None), now).as_deref(), Some("it holds no request in PEM"));
}
