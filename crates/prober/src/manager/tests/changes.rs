//! Containers and probes that change, and what stays of them.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_container_that_stops_is_not_probed_but_its_outcome_stays() {
    let bed = Bed::new();
    let pod = pod(Container { readiness_probe: exec("ready", 2), ..app() });
    bed.sync(&pod, "c1");
    settle().await;
    bed.prober.sync(&pod, None, &[]);
    bed.fake.ran();
    pass(50).await;
    assert_eq!(bed.fake.ran(), [""; 0]);
    assert_eq!(bed.of("c1").readiness, Some(Success));
    bed.fake.answer("ready", 1);
    bed.sync(&pod, "c1");
    settle().await;
    assert_eq!(bed.of("c1").readiness, Some(Success), "one failure of two");
}

#[tokio::test(start_paused = true)]
async fn a_changed_probe_is_taken_up_and_a_dropped_one_ends() {
    let bed = Bed::new();
    bed.sync(
        &pod(Container { readiness_probe: exec("old", 1), liveness_probe: exec("live", 1), ..app() }),
        "c1",
    );
    settle().await;
    bed.fake.ran();
    bed.sync(&pod(Container { readiness_probe: exec("new", 1), ..app() }), "c1");
    settle().await;
    assert_eq!(bed.fake.ran(), ["c1/new"]);
    assert_eq!(bed.of("c1"), ContainerProbes { readiness: Some(Success), ..Default::default() });
    bed.sync(&pod(app()), "c1");
    pass(50).await;
    assert_eq!(bed.fake.ran(), [""; 0]);
    assert_eq!(*bed.prober.results(&UID.into()), PodProbes::default());
}

#[tokio::test(start_paused = true)]
async fn a_startup_probe_that_is_dropped_lets_the_others_run() {
    let bed = Bed::new();
    bed.fake.answer("start", 1);
    let with = Container { startup_probe: exec("start", 9), readiness_probe: exec("ready", 1), ..app() };
    bed.sync(&pod(with.clone()), "c1");
    settle().await;
    bed.fake.ran();
    bed.sync(&pod(Container { startup_probe: None, ..with }), "c1");
    settle().await;
    assert_eq!(bed.fake.ran(), ["c1/ready"]);
}

#[tokio::test(start_paused = true)]
async fn sidecars_are_probed_and_init_containers_are_not() {
    let bed = Bed::new();
    let probed = |name: &str, policy: Option<&str>| Container {
        name: name.into(),
        restart_policy: policy.map(Into::into),
        readiness_probe: exec(if policy.is_some() { "sidecar" } else { "init" }, 1),
        ..Default::default()
    };
    let pod = pod_of(vec![app()], vec![probed("i", None), probed("s", Some("Always"))]);
    let running = ["i", "s", "app"].map(|name| Running {
        name: name.into(),
        container_id: format!("id-{name}"),
        started_at: bed.started,
    });
    bed.prober.sync(&pod, None, &running);
    settle().await;
    assert_eq!(bed.fake.ran(), ["id-s/sidecar"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_probes_costs_nothing() {
    let bed = Bed::new();
    bed.sync(&pod(app()), "c1");
    assert!(bed.prober.lock().is_empty());
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_counted_outlives_the_container_and_goes_with_the_probe() {
    let bed = Bed::new();
    let mut probed =
        pod(Container { liveness_probe: exec("alive", 3), readiness_probe: exec("ready", 3), ..app() });
    let counted = || {
        let mut counted: Vec<_> = bed.prober.tallies().into_iter().collect();
        counted.sort_by_key(|tallied| tallied.kind);
        let line = |t: Tallied| {
            let (of, c) = (t.pod.metadata.uid.clone().unwrap_or_default(), t.tally);
            format!("{of}/{} {:?} {} {} {}", t.container, t.kind, c.successful, c.failed, c.unknown)
        };
        counted.into_iter().map(line).collect::<Vec<_>>()
    };
    bed.fake.cannot_run("alive");
    bed.sync(&probed, "c1");
    pass(1).await;
    assert_eq!(counted(), ["uid-1/app Liveness 0 0 1", "uid-1/app Readiness 1 0 0"]);
    bed.fake.answer("alive", 1);
    bed.sync(&probed, "c2");
    pass(1).await;
    assert_eq!(counted(), ["uid-1/app Liveness 0 1 1", "uid-1/app Readiness 2 0 0"]);
    bed.prober.terminating(&UID.into());
    assert_eq!(counted(), ["uid-1/app Readiness 2 0 0"]);
    Arc::make_mut(&mut probed).spec.as_mut().unwrap().restart_policy = Some("Never".into());
    bed.prober.sync(&probed, None, &[]);
    assert_eq!(counted(), [""; 0], "it will not run again");
    bed.sync(&probed, "c3");
    pass(1).await;
    assert_eq!(counted(), ["uid-1/app Readiness 1 0 0"]);
    bed.prober.remove(&UID.into());
    assert_eq!(counted(), [""; 0]);
}

/// Tasks wait most of their life, so what they hold while they wait is what a probe costs.
#[tokio::test]
async fn a_waiting_worker_is_small() {
    let bed = Bed::new();
    let worker = Worker {
        shared: bed.prober.shared.clone(),
        pod: bed.prober.entry(&mut bed.prober.lock(), &UID.into()).state.clone(),
        container: "app".into(),
        container_id: "c1".into(),
        kind: ProbeKind::Readiness,
        settings: Settings::from(&Probe::default()),
        has_startup_probe: false,
        tally: tally::Shared::default(),
        first: Instant::now(),
    };
    let size = size_of_val(&worker.run());
    assert!(size <= 768, "{size} bytes");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_overruns_its_period_runs_again_at_once() {
    let bed = Bed::new();
    *bed.fake.script.takes.lock().unwrap() = Duration::from_secs(12);
    bed.sync(&pod(Container { readiness_probe: exec("ready", 1), ..app() }), "c1");
    pass(14).await;
    assert_eq!(bed.fake.ran().len(), 2);
}

/// Real sockets, so a real clock.
#[tokio::test]
async fn a_new_ip_holds_from_the_next_probe_on() {
    let bed = Bed::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let probe = Probe {
        tcp_socket: Some(TCPSocketAction { port: IntOrString::String("web".into()), ..Default::default() }),
        period_seconds: Some(1),
        ..Default::default()
    };
    let web = ContainerPort { name: Some("web".into()), container_port: port.into(), ..Default::default() };
    let pod = pod(Container { readiness_probe: Some(probe), ports: Some(vec![web]), ..app() });
    let running = Running { name: "app".into(), container_id: "c1".into(), started_at: bed.started };
    bed.prober.sync(&pod, None, std::slice::from_ref(&running));
    let deadline = Duration::from_secs(20);
    timeout(deadline, async {
        while bed.fake.heard.events.lock().unwrap().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("an event about the missing IP");
    assert!(bed.fake.events()[0].ends_with("unknown state: the pod has no IP address yet"));
    bed.prober.sync(&pod, Some("127.0.0.1".parse().unwrap()), &[running]);
    timeout(deadline, async {
        while bed.of("c1").readiness != Some(Success) {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the pod to become ready");
}
