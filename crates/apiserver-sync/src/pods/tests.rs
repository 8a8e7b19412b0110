use std::convert::Infallible;
use std::sync::Mutex;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::sleep;
use tower::service_fn;

use super::*;

/// A server with pods, which applies what it is sent only as far as a test needs.
#[derive(Clone)]
struct Fixture {
    requests: Arc<Mutex<Vec<(String, Value)>>>,
    answers: Arc<Mutex<Vec<(u16, Value)>>>,
    server: watch::Sender<Option<Vec<Arc<Pod>>>>,
    local: Arc<TestLocal>,
    node: watch::Sender<Option<Arc<Node>>>,
    reached: watch::Sender<()>,
}

struct TestLocal {
    pods: Mutex<Vec<PodState>>,
    changes: watch::Sender<u64>,
    refused: Mutex<Vec<String>>,
    sent_after: Mutex<Vec<Duration>>,
}

impl Local for TestLocal {
    fn pods(&self) -> Vec<PodState> {
        self.pods.lock().unwrap().clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn complete(&self) -> bool {
        true
    }

    fn refused(&self, _: &PodUid, message: String) {
        self.refused.lock().unwrap().push(message);
    }

    fn status_sent(&self, took: Duration) {
        self.sent_after.lock().unwrap().push(took);
    }
}

fn start() -> Fixture {
    let local = TestLocal {
        pods: Mutex::default(),
        changes: watch::Sender::new(0),
        refused: Mutex::default(),
        sent_after: Mutex::default(),
    };
    let fixture = Fixture {
        requests: Arc::default(),
        answers: Arc::default(),
        server: watch::Sender::new(None),
        local: Arc::new(local),
        node: watch::Sender::new(None),
        reached: watch::Sender::new(()),
    };
    let (requests, answers) = (Arc::clone(&fixture.requests), Arc::clone(&fixture.answers));
    let service = service_fn(move |request: Request<Body>| {
        let (requests, answers) = (Arc::clone(&requests), Arc::clone(&answers));
        async move {
            let what = format!("{} {}", request.method(), request.uri().path());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let (code, answer) = answers.lock().unwrap().pop().unwrap_or_else(|| {
                let version = requests.lock().unwrap().len() + 100;
                let meta = json!({"uid": body["metadata"]["uid"], "resourceVersion": version.to_string()});
                (200, json!({"metadata": meta, "status": body["status"]}))
            });
            requests.lock().unwrap().push((what, body));
            let answer = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, Infallible>(answer.unwrap())
        }
    });
    let pods = Pods {
        client: Client::new(service, "default"),
        local: Arc::clone(&fixture.local),
        server: fixture.server.subscribe(),
        pods: |pods| pods.as_deref(),
        node: fixture.node.subscribe(),
        reached: fixture.reached.subscribe(),
    };
    tokio::spawn(pods.run());
    fixture
}

/// What the agent has of a pod.
pub(super) fn state(pod: Pod, status: PodStatus, finished: bool) -> PodState {
    let (uid, key) = kube_model::pod::identity(&pod);
    PodState { uid, key, pod: Arc::new(pod), status: Arc::new(status), removing: finished, finished }
}

fn pod(value: Value) -> Arc<Pod> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn meta(source: &str) -> Value {
    json!({"name": "p", "namespace": "d", "uid": "1", "resourceVersion": "5",
        "annotations": {"kubernetes.io/config.source": source}})
}

impl Fixture {
    fn local(&self, meta: &Value, phase: &str, finished: bool) {
        let status = json!({"phase": phase, "hostIP": "192.0.2.2", "conditions": []});
        let pod = serde_json::from_value(json!({"metadata": meta})).unwrap();
        *self.local.pods.lock().unwrap() =
            vec![state(pod, serde_json::from_value(status).unwrap(), finished)];
        self.local.changes.send_modify(|n| *n += 1);
    }

    fn serve(&self, pods: Vec<Arc<Pod>>) {
        self.server.send_replace(Some(pods));
    }

    async fn settle(&self) -> Vec<String> {
        sleep(Duration::from_millis(500)).await;
        self.requests.lock().unwrap().iter().map(|(what, _)| what.clone()).collect()
    }
}

const PATCH: &str = "PATCH /api/v1/namespaces/d/pods/p/status";
const DELETE: &str = "DELETE /api/v1/namespaces/d/pods/p";

#[tokio::test(start_paused = true)]
async fn each_change_is_sent_once_also_when_the_watch_is_late() {
    let fixture = start();
    fixture.local(&meta("api"), "Pending", false);
    assert_eq!(fixture.settle().await, [""; 0], "the server's pods are not known");
    fixture.serve(vec![pod(json!({"metadata": meta("api")}))]);
    assert_eq!(fixture.settle().await, [PATCH]);
    fixture.local(&meta("api"), "Pending", false);
    assert_eq!(fixture.settle().await, [PATCH]);
    fixture.local(&meta("api"), "Running", false);
    assert_eq!(fixture.settle().await, [PATCH, PATCH]);
    let second = fixture.requests.lock().unwrap()[1].1.clone();
    assert_eq!(second["metadata"]["uid"], "1");
    assert_eq!(second["status"]["phase"], "Running");
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_wrote_over_is_put_right() {
    let fixture = start();
    fixture.local(&meta("api"), "Running", false);
    fixture.serve(vec![pod(json!({"metadata": meta("api")}))]);
    assert_eq!(fixture.settle().await, [PATCH]);
    let mut newer = meta("api");
    newer["resourceVersion"] = json!("700");
    fixture.serve(vec![pod(
        json!({"metadata": newer, "status": {"phase": "Pending", "qosClass": "Burstable"}}),
    )]);
    assert_eq!(fixture.settle().await, [PATCH, PATCH]);
}

#[tokio::test(start_paused = true)]
async fn an_ended_pod_is_deleted_after_its_last_status() {
    let fixture = start();
    let mut leaving = meta("api");
    leaving["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    fixture.local(&leaving, "Succeeded", true);
    fixture.serve(vec![pod(json!({"metadata": leaving, "status": {"phase": "Running"}}))]);
    let requests = fixture.settle().await;
    assert_eq!(requests, [PATCH, DELETE]);
    let options = fixture.requests.lock().unwrap()[1].1.clone();
    assert_eq!((&options["gracePeriodSeconds"], &options["preconditions"]["uid"]), (&json!(0), &json!("1")));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_is_asked_again_ever_more_slowly_and_nothing_is_lost() {
    let fixture = start();
    let failure =
        || (500, json!({"kind": "Status", "code": 500, "message": "no", "reason": "x", "status": "Failure"}));
    *fixture.answers.lock().unwrap() = vec![failure(), failure(), failure()];
    fixture.local(&meta("api"), "Running", false);
    fixture.serve(vec![pod(json!({"metadata": meta("api")}))]);
    assert_eq!(fixture.settle().await.len(), 1);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(fixture.settle().await.len(), 2);
    fixture.reached.send_replace(());
    assert_eq!(fixture.settle().await.len(), 3, "somebody has reached it");
    assert!(fixture.local.sent_after.lock().unwrap().is_empty());
    sleep(Duration::from_secs(20)).await;
    assert_eq!(fixture.settle().await.len(), 4);
    let sent_after = fixture.local.sent_after.lock().unwrap().clone();
    assert!(
        matches!(*sent_after, [took] if took > Duration::from_secs(2)),
        "counted from the first attempt: {sent_after:?}"
    );
    sleep(Duration::from_secs(600)).await;
    assert_eq!(fixture.settle().await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_gets_its_mirror_when_the_node_is_there_and_a_refusal_is_told() {
    let fixture = start();
    *fixture.answers.lock().unwrap() = vec![(
        403,
        json!({"kind": "Status", "code": 403, "message": "quota", "reason": "Forbidden", "status": "Failure"}),
    )];
    fixture.local(&meta("file"), "Running", false);
    fixture.serve(Vec::new());
    assert_eq!(fixture.settle().await, [""; 0]);
    fixture.node.send_replace(Some(Arc::default()));
    assert_eq!(fixture.settle().await, ["POST /api/v1/namespaces/d/pods"]);
    assert_eq!(*fixture.local.refused.lock().unwrap(), ["quota"]);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(fixture.settle().await.len(), 2, "it may be let in later");
}
