use std::path::PathBuf;

use kube_model::view::Problem;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;
use server::local::LocalSocket;
use server::testing::{FakeView, now, pod, pod_streams, running, snapshot};

struct Served {
    folder: TempDir,
    view: Arc<FakeView>,
    runtime: Runtime,
}

/// A served view; the commands run on the test's own thread.
fn serve(snapshot: ViewSnapshot) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let view = FakeView::new(snapshot);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let socket = LocalSocket::bind(folder.path()).unwrap();
    runtime.spawn(socket.serve(pod_streams(&view)));
    Served { folder, view, runtime }
}

impl Served {
    fn pods(&self, names: &[&str], form: Form) -> (Result<(), ShowError>, String, String) {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let request = PodsRequest { root_dir: self.folder.path(), names: &names, form, watch: false };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let result = pods(request, &mut out, &mut err);
        (result, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }
}

fn problem() -> Problem {
    Problem {
        path: PathBuf::from("/etc/m/broken.yaml"),
        line: Some(1),
        column: None,
        field: None,
        message: "is empty".into(),
        warning: false,
    }
}

fn first_words(table: &str) -> Vec<&str> {
    table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect()
}

#[test]
fn sources_are_shown_in_each_form() {
    let served = serve(snapshot(vec![]));
    let shown = |form| {
        let mut out = Vec::new();
        sources(served.folder.path(), form, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert!(shown(Form::Text).contains("/etc/m/a.yaml:3:9: spec.containers[0].image: Required value"));
    assert!(shown(Form::Wide).contains("MESSAGE"));
    let expected = serde_json::to_value(server::testing::sources_snapshot()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&shown(Form::Json)).unwrap(), expected);
    assert_eq!(serde_yaml::from_str::<Value>(&shown(Form::Yaml)).unwrap(), expected);
    let nobody = tempfile::tempdir().unwrap();
    let error = sources(nobody.path(), Form::Text, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("no agent runs"), "{error}");
}

#[test]
fn pods_are_listed_and_problems_follow_on_stderr() {
    let mut state = snapshot(vec![pod("a", running()), pod("b", running())]);
    state.problems = vec![problem()];
    state.runtime.ready = false;
    state.runtime.message = "connection refused".into();
    let (result, out, err) = serve(state).pods(&[], Form::Text);
    result.unwrap();
    assert_eq!(first_words(&out), ["a-node1", "b-node1"]);
    assert_eq!(
        err,
        "The runtime at unix:///run/containerd/containerd.sock is not ready: connection refused\n\
         /etc/m/broken.yaml:1: is empty\n"
    );
}

#[test]
fn no_pods_is_said() {
    let (result, out, err) = serve(snapshot(vec![])).pods(&[], Form::Text);
    result.unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("", "No pods on node1.\n"));
}

#[test]
fn named_pods_are_shown_and_a_missing_one_is_an_error() {
    let served = serve(snapshot(vec![pod("a", running()), pod("bee", running()), pod("c", running())]));
    let (result, out, _) = served.pods(&["c", "a"], Form::Text);
    result.unwrap();
    assert_eq!(first_words(&out), ["a-node1", "c-node1"]);

    let (result, out, _) = served.pods(&["a", "bea"], Form::Text);
    assert_eq!(result.unwrap_err().to_string(), "no pod \"bea\" here; did you mean bee-node1?");
    assert_eq!(first_words(&out), ["a-node1"]);
}

#[test]
fn json_and_yaml_are_kubernetes_objects_with_their_status() {
    let served = serve(snapshot(vec![pod("a", running()), pod("b", running())]));
    let (_, json, _) = served.pods(&[], Form::Json);
    let (_, yaml, _) = served.pods(&[], Form::Yaml);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json, serde_yaml::from_str::<Value>(&yaml).unwrap());
    assert_eq!((&json["kind"], &json["apiVersion"]), (&"List".into(), &"v1".into()));
    let item = &json["items"][1];
    assert_eq!((&item["kind"], &item["apiVersion"]), (&"Pod".into(), &"v1".into()));
    assert_eq!(item["metadata"]["name"], "b-node1");
    assert_eq!(item["status"]["phase"], "Running");

    let (_, one, _) = served.pods(&["a"], Form::Json);
    let one: Value = serde_json::from_str(&one).unwrap();
    assert_eq!((&one["kind"], &one["metadata"]["name"]), (&"Pod".into(), &"a-node1".into()));
}

/// Takes `lines` lines and then does `then` once; closes after `more` further ones.
struct Reader<F> {
    text: String,
    steps: Vec<(usize, F)>,
}

impl<F: FnOnce()> Write for Reader<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.push_str(std::str::from_utf8(bytes).unwrap());
        while self.steps.first().is_some_and(|(lines, _)| self.text.lines().count() >= *lines) {
            let (_, step) = self.steps.remove(0);
            step();
        }
        if self.steps.is_empty() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_watch_shows_changed_rows_until_its_reader_goes() {
    let served = serve(snapshot(vec![pod("a", running()), pod("b", running())]));
    let set = |pods: Vec<PodView>| {
        let view = Arc::clone(&served.view);
        Box::new(move || view.set(snapshot(pods))) as Box<dyn FnOnce()>
    };
    let failed = || pod("b", json!({ "phase": "Failed" }));
    let mut out = Reader {
        text: String::new(),
        steps: vec![
            (3, set(vec![pod("a", running()), failed()])),
            (4, set(vec![failed(), pod("c", running())])),
            (6, Box::new(|| {}) as Box<dyn FnOnce()>),
        ],
    };
    let request = PodsRequest { root_dir: served.folder.path(), names: &[], form: Form::Text, watch: true };
    pods(request, &mut out, &mut io::sink()).unwrap();
    let shown: Vec<_> = out
        .text
        .lines()
        .map(|line| line.split_whitespace().skip(1).take(3).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        shown,
        [
            "NAME READY STATUS",
            "a-node1 1/1 Running",
            "b-node1 1/1 Running",
            "b-node1 0/1 Failed",
            "c-node1 1/1 Running",
            "a-node1 0/0 Removed",
        ]
    );
}

#[test]
fn a_watch_ends_with_an_error_when_the_agent_stops() {
    let served = serve(snapshot(vec![pod("a", running())]));
    let runtime = served.runtime;
    let stop: Box<dyn FnOnce()> = Box::new(move || runtime.shutdown_background());
    let never: Box<dyn FnOnce()> = Box::new(|| {});
    let mut out = Reader { text: String::new(), steps: vec![(2, stop), (99, never)] };
    let request = PodsRequest { root_dir: served.folder.path(), names: &[], form: Form::Text, watch: true };
    let error = pods(request, &mut out, &mut io::sink()).unwrap_err();
    assert!(
        matches!(error, ShowError::Stopped(_) | ShowError::Client(ClientError::Broken { .. })),
        "{error}"
    );
}

fn explained(snapshot: &ViewSnapshot, name: &str, form: Form) -> Result<String, String> {
    let mut out = Vec::new();
    explain_in(snapshot, name, form, &mut out, now()).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn explain_finds_a_pod_a_manifest_or_says_what_is_close() {
    let mut state = snapshot(vec![pod("web", running()), pod("db", running())]);
    state.problems = vec![problem()];
    assert!(explained(&state, "web", Form::Text).unwrap().starts_with("Pod        default/web-node1\n"));
    assert_eq!(
        explained(&state, "broken", Form::Text).unwrap(),
        "No pod came of this manifest:\n  /etc/m/broken.yaml:1: is empty\n"
    );
    assert_eq!(
        explained(&state, "wbe", Form::Text).unwrap_err(),
        "no pod \"wbe\" here; did you mean web-node1?"
    );
    assert_eq!(explained(&state, "zzzzzz", Form::Text).unwrap_err(), "no pod \"zzzzzz\" here");

    let view: PodView = serde_json::from_str(&explained(&state, "web", Form::Json).unwrap()).unwrap();
    assert_eq!(view, *state.pods[0]);
    let view: PodView = serde_yaml::from_str(&explained(&state, "web", Form::Yaml).unwrap()).unwrap();
    assert_eq!(view, *state.pods[0]);
}

#[test]
fn explain_refuses_to_guess() {
    let mut other = pod("web", running());
    let mut moved = (*other.pod).clone();
    moved.metadata.namespace = Some("other".into());
    other.pod = Arc::new(moved);
    let state = snapshot(vec![pod("web", running()), other]);
    assert_eq!(
        explained(&state, "web", Form::Text).unwrap_err(),
        "\"web\" may be any of default/web-node1, other/web-node1: give one of these names"
    );
    assert!(explained(&state, "other/web", Form::Text).is_ok());
}
