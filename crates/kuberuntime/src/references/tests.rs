//! Against an API server and a runtime of the tests.

use std::collections::BTreeMap;
use std::sync::Mutex;

use apiserver_sync::objects::Strategy;
use cri_client::Client;
use cri_client::v1::PullImageRequest;
use cri_config::{ContainerInputs, ImageUser, container_config};
use images::{Images, PullPolicy};
use kube_model::labels;
use serde_json::{Value, json};
use testkit::fake_api::FakeApi;
use testkit::fake_cri::{Code, FakeCri, Fault};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::CriImages;

/// An API server that has these objects of the namespace `shop`, by the end of their path; what it was asked for;
/// and the references to it.
struct Api {
    references: References,
    local: watch::Sender<Arc<LocalObjects>>,
    read: Arc<Mutex<Vec<String>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Api {
    async fn start(objects: &[(&str, Value)]) -> Self {
        let mut api = FakeApi::start().await;
        let client = kube::Client::try_from(kube::Config::new(api.url().parse().unwrap())).unwrap();
        let objects: BTreeMap<_, _> =
            objects.iter().map(|(path, object)| (format!("/api/v1/{path}"), object.clone())).collect();
        let read = Arc::<Mutex<Vec<String>>>::default();
        let asked = Arc::clone(&read);
        let serving = tokio::spawn(async move {
            let mut watches = Vec::new();
            loop {
                let call = api.next().await;
                if call.is_watch() {
                    watches.push(call.stream());
                    continue;
                }
                asked.lock().unwrap().push(call.path.trim_start_matches("/api/v1/").to_owned());
                match objects.get(&call.path) {
                    Some(object) => call.json(200, object),
                    None => call.refuse(404, "NotFound", "not found"),
                }
            }
        });
        let services = Services::watch(client.clone(), CancellationToken::new());
        let api = ApiReferences { objects: Objects::new(client, Strategy::Watch), services };
        let local = watch::Sender::new(Arc::default());
        let references = References { api: Some(api), local: local.subscribe() };
        Self { references, local, read, _serving: AbortOnDropHandle::new(serving) }
    }

    fn objects(&self) -> &Objects {
        &self.references.api.as_ref().unwrap().objects
    }

    /// All that was read but services, sorted.
    fn read(&self) -> Vec<String> {
        let mut read: Vec<_> =
            self.read.lock().unwrap().iter().filter(|path| *path != "services").cloned().collect();
        read.sort();
        read
    }
}

fn services() -> (&'static str, Value) {
    let metadata = json!({"name": "web", "namespace": "shop", "resourceVersion": "4"});
    let web = json!({"metadata": metadata, "spec": {"clusterIP": "10.0.0.1", "ports": []}});
    let list = json!({"apiVersion": "v1", "kind": "ServiceList", "metadata": {"resourceVersion": "9"},
        "items": [web]});
    ("services", list)
}

fn object(data: Value) -> Value {
    json!({"metadata": {"resourceVersion": "5"}, "type": "Opaque", "data": data})
}

fn pod(spec: Value) -> Pod {
    let metadata = json!({"name": "app", "namespace": "shop", "uid": "uid-1"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn pod_with_env(env: Value) -> Pod {
    pod(json!({"containers": [{"name": "app", "env": env}]}))
}

/// The variables of the pod's first container, or why there are none.
async fn env(api: &Api, pod: &Pod) -> Result<Vec<String>, String> {
    api.objects().register(pod);
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let found = api.references.of_container(pod, container).await.map_err(|e| e.to_string())?;
    let inputs = ContainerInputs {
        pod,
        container,
        restart_count: 0,
        image_ref: "sha256:1",
        image_user: &ImageUser::Uid(0),
        pod_ips: &[],
        hosts_file: None,
        termination_log: "/t".as_ref(),
        references: Some(&found.as_inputs()),
        extras: &cri_config::ContainerExtras::default(),
    };
    let config = container_config(inputs, &cri_config::Settings::default()).map_err(|e| e.to_string())?;
    let line =
        |var: cri_client::v1::KeyValue| format!("{}={}", var.key, String::from_utf8(var.value).unwrap());
    Ok(config.envs.into_iter().map(line).collect())
}

#[tokio::test]
async fn a_container_gets_what_it_refers_to_and_no_more_is_read() {
    let api = Api::start(&[
        services(),
        ("namespaces/shop/configmaps/cm", object(json!({"a": "1"}))),
        ("namespaces/shop/secrets/sec", object(json!({"p": "czNjcmV0"}))),
    ])
    .await;
    let key = |kind: &str, name: &str, key: &str| json!({kind: {"name": name, "key": key}});
    let good = pod_with_env(json!([
        {"name": "A", "valueFrom": key("configMapKeyRef", "cm", "a")},
        {"name": "P", "valueFrom": key("secretKeyRef", "sec", "p")},
        {"name": "B", "value": "$(A)$(WEB_SERVICE_HOST)"},
    ]));
    assert_eq!(
        env(&api, &good).await.unwrap(),
        ["A=1", "B=110.0.0.1", "P=s3cret", "WEB_SERVICE_HOST=10.0.0.1"]
    );
    assert_eq!(api.read(), ["namespaces/shop/configmaps/cm", "namespaces/shop/secrets/sec"]);

    let mut without_links = pod_with_env(json!([]));
    without_links.spec.as_mut().unwrap().enable_service_links = Some(false);
    assert_eq!(env(&api, &without_links).await.unwrap(), Vec::<String>::new());

    for (source, want) in [
        (key("configMapKeyRef", "nope", "a"), "configmap \"nope\" not found"),
        (key("secretKeyRef", "nope", "a"), "secret \"nope\" not found"),
        (key("configMapKeyRef", "cm", "none"), "couldn't find key none in ConfigMap shop/cm"),
    ] {
        let bad = pod_with_env(json!([{"name": "A", "valueFrom": source}]));
        assert_eq!(env(&api, &bad).await.unwrap_err(), want);
    }
}

#[tokio::test]
async fn a_pod_of_this_node_gets_what_this_nodes_manifests_have_and_no_other_does() {
    let api = Api::start(&[
        services(),
        ("namespaces/shop/configmaps/both", object(json!({"a": "of the server"}))),
        ("namespaces/shop/configmaps/remote", object(json!({"a": "1"}))),
    ])
    .await;
    let key = |name: &str| Key { kind: Kind::ConfigMap, namespace: "shop".into(), name: name.into() };
    let local = |value: &str| {
        let data = [("a".to_owned(), value.as_bytes().to_vec())].into();
        Arc::new(Object { data, ..Object::default() })
    };
    let objects = [(key("both"), local("of the node")), (key("local"), local("2"))];
    api.local.send_replace(Arc::new(objects.into()));
    let pod = |name: &str, source: &str| {
        let from = json!({"configMapKeyRef": {"name": name, "key": "a"}});
        let mut pod = pod_with_env(json!([{"name": "A", "valueFrom": from}]));
        pod.metadata.annotations = Some([(labels::CONFIG_SOURCE.to_owned(), source.to_owned())].into());
        pod.metadata.uid = Some(format!("{name}-{source}"));
        pod.spec.as_mut().unwrap().enable_service_links = Some(false);
        pod
    };
    for (name, source, want) in [
        ("both", "api", Ok("A=of the server")),
        ("both", "file", Ok("A=of the node")),
        ("both", "push", Ok("A=of the node")),
        ("local", "http", Ok("A=2")),
        ("local", "api", Err("configmap \"local\" not found")),
        ("remote", "file", Err("configmap \"remote\" not found")),
    ] {
        let found = env(&api, &pod(name, source)).await.map(|vars| vars.concat());
        assert_eq!(found, want.map(str::to_owned).map_err(str::to_owned), "{name} {source}");
    }
    let alone = References { api: None, local: api.local.subscribe() };
    let found = alone.object(&pod("local", "push"), Kind::ConfigMap, "local").await.unwrap();
    assert_eq!(found.data["a"], b"2");
}

#[tokio::test(start_paused = true)]
async fn only_static_pods_start_before_the_services_are_known() {
    // No list of services: 404.
    let api = Api::start(&[]).await;
    let mut pod = pod_with_env(json!([{"name": "A", "value": "a"}]));
    let error = env(&api, &pod).await.unwrap_err();
    assert_eq!(error, "services have not yet been read at least once, cannot construct envvars");
    pod.metadata.annotations = Some([(labels::CONFIG_SOURCE.to_owned(), "file".to_owned())].into());
    assert_eq!(env(&api, &pod).await.unwrap(), ["A=a"]);
}

#[tokio::test]
async fn the_runtime_is_given_credentials_of_pull_secrets_then_of_the_node_until_one_works() {
    use base64::Engine as _;
    let docker_config =
        |user: &str| json!({"auths": {"example.com": {"username": user, "password": "s3cret"}}});
    let secret = |user| {
        let text = base64::prelude::BASE64_STANDARD.encode(docker_config(user).to_string());
        let data = json!({".dockerconfigjson": text});
        json!({"metadata": {"resourceVersion": "5"}, "type": "kubernetes.io/dockerconfigjson", "data": data})
    };
    let api = Api::start(&[services(), ("namespaces/shop/secrets/of-pod", secret("of-pod"))]).await;
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("config.json"), docker_config("of-node").to_string()).unwrap();
    let runtime = FakeCri::start().await.unwrap();
    let user = |request: &PullImageRequest| request.auth.as_ref().map(|auth| auth.username.clone());
    let refused = Fault::Fail(Code::Unknown, "pull access denied".to_owned());
    runtime.fault(refused, move |request: &PullImageRequest| user(request).as_deref() != Some("of-node"));
    let service = CriImages {
        metrics: Arc::default(),
        pulled_for: Box::new(|_, _| {}),
        client: Client::builder(&runtime.endpoint()).unwrap().build(),
        config: Arc::default(),
        docker_config: images::credentials::DockerConfigPaths {
            config_json: vec![root.path().to_owned()],
            dockercfg: Vec::new(),
        },
        references: api.references.clone(),
    };
    let images = Images::new(service, &images::Settings::default());
    let spec = json!({"containers": [], "imagePullSecrets": [{"name": "of-pod"}, {"name": "gone"}]});
    let pod = pod(spec);
    api.objects().register(&pod);
    let events = Mutex::new(Vec::new());
    let heard = |event: images::ImageEvent| {
        events.lock().unwrap().push(format!("{} {}", event.reason, event.message));
    };
    images.ensure(&pod, "example.com/a:v1", PullPolicy::Always, &heard).await.unwrap();

    let given: Vec<_> =
        runtime.calls_of::<PullImageRequest>().into_iter().map(|request| request.auth).collect();
    let given: Vec<_> =
        given.iter().flatten().map(|auth| (auth.username.as_str(), auth.password.as_str())).collect();
    assert_eq!(given, [("of-pod", "s3cret"), ("of-node", "s3cret")]);
    assert_eq!(
        events.lock().unwrap()[0],
        "FailedToRetrieveImagePullSecret Unable to retrieve some image pull secrets (gone); attempting to pull \
         the image may not succeed."
    );
    assert!(!events.lock().unwrap().concat().contains("s3cret"));
    // Another registry is none of theirs.
    images.ensure(&pod, "example.org/a:v1", PullPolicy::Always, &heard).await.unwrap_err();
    assert_eq!(runtime.calls_of::<PullImageRequest>().last().unwrap().auth, None);
}
