//! How changes reach the disk, and what becomes of them when it fails.

use super::*;

/// In a process of its own under nextest: the mask is the whole process's.
#[tokio::test]
async fn files_are_their_owners_alone_whatever_the_mask_says() {
    for mask in [0, 0o777] {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("push");
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
        let store = open(&root);
        store.create(pod("web", "a:1"), false).await.unwrap();
        rustix::process::umask(before);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let files = pod_files(&root).into_iter().chain(["lock", "revision"].map(|name| root.join(name)));
        files.for_each(|file| assert_eq!(mode(&file), 0o600, "{mask:o} {}", file.display()));
        assert_eq!([mode(&root), mode(&root.join("pods"))], [0o700; 2], "{mask:o}");
    }
}

#[tokio::test]
async fn a_write_takes_two_trips_to_the_disk_and_is_told_after_them() {
    let dir = TempDir::new().unwrap();
    let (sender, steps) = mpsc::sync_channel(100);
    let store = with_fault(dir.path(), move |step| {
        sender.send(step).unwrap();
        Ok(())
    });
    let done = || steps.try_iter().collect::<Vec<_>>();
    done();
    let written = [Step::Create, Step::Write, Step::SyncFile, Step::Rename, Step::SyncFolder, Step::Done];
    store.create(pod("web", "a:1"), false).await.unwrap();
    assert_eq!(done(), written);
    replace(&store, "web", "a:2").await.unwrap();
    assert_eq!(done(), written);
    delete(&store, "web", Some(0)).await.unwrap();
    assert_eq!(done(), [Step::Unlink, Step::SyncFolder, Step::Done]);
}

#[tokio::test]
async fn a_slow_disk_holds_up_no_reader() {
    let dir = TempDir::new().unwrap();
    let (reached, is_reached) = mpsc::sync_channel(1);
    let (go_on, gate) = mpsc::sync_channel::<()>(0);
    let gate = Mutex::new(gate);
    let store = Arc::new(with_fault(dir.path(), move |step| {
        if step == Step::SyncFolder && reached.try_send(()).is_ok() {
            gate.lock().unwrap().recv().unwrap();
        }
        Ok(())
    }));
    let writer = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.create(pod("web", "a:1"), false).await }
    });
    tokio::task::spawn_blocking(move || is_reached.recv_timeout(PATIENCE).unwrap()).await.unwrap();
    // The disk hangs. Readers see the state before, and statuses move on.
    assert_eq!(store.get(&key("web")).unwrap_err().code, 404);
    let (objects, version) = store.list();
    assert!(objects.is_empty());
    let mut watch = store.watch(version).unwrap();
    let mut other = pod("other", "i");
    other.metadata.uid = Some("1".to_owned());
    store.observe(&[view(&Arc::new(other), "Running").into()]);
    assert_eq!(described(&next(&mut watch).await.unwrap()), ["added other Running"]);
    assert!(!writer.is_finished());
    go_on.send(()).unwrap();
    writer.await.unwrap().unwrap();
    assert_eq!(described(&next(&mut watch).await.unwrap()), ["added web Pending"]);
}

#[tokio::test]
async fn after_an_error_of_the_disk_the_version_before_is_intact() {
    for (kind, code) in [
        (io::ErrorKind::StorageFull, 507),
        (io::ErrorKind::QuotaExceeded, 507),
        (io::ErrorKind::ReadOnlyFilesystem, 500),
    ] {
        for at in [Step::Create, Step::Write, Step::SyncFile, Step::Rename, Step::Unlink, Step::SyncFolder] {
            let dir = TempDir::new().unwrap();
            let failing = Arc::new(Mutex::new(false));
            let switch = Arc::clone(&failing);
            let store = with_fault(dir.path(), move |step| {
                // Once: the way back must work.
                let fails = step == at && std::mem::take(&mut *switch.lock().unwrap());
                if fails { Err(kind.into()) } else { Ok(()) }
            });
            let before = store.create(pod("web", "a:1"), false).await.unwrap();
            let files = pod_files(dir.path());
            let fail = || *failing.lock().unwrap() = true;
            let mut errors = Vec::new();
            if at != Step::Unlink {
                fail();
                errors.push(store.create(pod("new", "a:1"), false).await.unwrap_err());
                fail();
                errors.push(replace(&store, "web", "a:2").await.unwrap_err());
            }
            if matches!(at, Step::Unlink | Step::SyncFolder) {
                fail();
                errors.push(delete(&store, "web", Some(0)).await.unwrap_err());
            }
            for error in errors {
                assert_eq!(error.code, code, "{at:?}: {error}");
                assert!(error.message.contains("default/"), "{error}");
            }
            assert_eq!(store.get(&key("web")).unwrap().resource_version, before.resource_version, "{at:?}");
            assert_eq!(pod_files(dir.path()), files, "{at:?}: nothing is left over");
            drop(store);
            let store = open(dir.path());
            assert_eq!(images(&store), [("web".to_owned(), "a:1".to_owned())], "{at:?}");
        }
    }
}

#[tokio::test]
async fn an_ended_pod_that_can_not_be_removed_is_told_and_tried_again() {
    let dir = TempDir::new().unwrap();
    let broken = Arc::new(Mutex::new(true));
    let switch = Arc::clone(&broken);
    let store = with_fault(dir.path(), move |step| {
        if step == Step::Unlink && *switch.lock().unwrap() { Err(io::Error::other("broken")) } else { Ok(()) }
    });
    store.create(pod("web", "a:1"), false).await.unwrap();
    let deleted = delete(&store, "web", None).await.unwrap();
    let finished: Vec<Arc<PodView>> =
        vec![PodView { finished: true, ..view(&deleted.pod, "Running") }.into()];
    store.observe(&finished);
    let mut state = store.state();
    let problems = tokio::time::timeout(PATIENCE, state.wait_for(|state| !state.problems.is_empty()));
    let problem = problems.await.unwrap().unwrap().problems[0].to_string();
    assert!(
        problem.contains(
            "the pod default/web has ended and stays on the list: Internal error occurred: can not remove"
        ),
        "{problem}"
    );
    *broken.lock().unwrap() = false;
    store.observe(&finished);
    until_gone(&store, "web").await;
    assert!(store.state().borrow().problems.is_empty(), "what is over is not told");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// What a client has that lists once and then applies what the watch tells is what the store has.
    #[test]
    fn a_list_and_a_watch_add_up_to_the_store(ops in proptest::collection::vec((0..4_u8, 0..3_u8), 0..60), pauses in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let dir = TempDir::new().unwrap();
            let store = open(dir.path());
            let (objects, version) = store.list();
            let mut mirror: std::collections::BTreeMap<_, _> = objects.into_iter().map(|o| (o.key(), o.resource_version)).collect();
            let mut watch = store.watch(version).unwrap();
            let mut last = version;
            for (index, (op, name)) in ops.into_iter().enumerate() {
                let name = format!("p{name}");
                // Errors are as good as any other outcome here.
                match op {
                    0 => drop(store.create(pod(&name, "a:1"), false).await),
                    1 => drop(replace(&store, &name, &format!("a:{index}")).await),
                    2 => drop(delete(&store, &name, Some(0)).await),
                    _ => {
                        let shown = store.state().borrow().pods.iter().map(|pod| view(pod, &index.to_string()).into()).collect::<Vec<_>>();
                        store.observe(&shown);
                    }
                }
                if pauses >> (index % 64) & 1 == 1 {
                    while watch.resource_version() < store.list().1 {
                        for event in next(&mut watch).await.unwrap() {
                            assert!(event.object.resource_version > last);
                            last = event.object.resource_version;
                            let known = match event.change {
                                Change::Deleted => mirror.remove(&event.object.key()).is_some(),
                                Change::Added => mirror.insert(event.object.key(), last).is_none(),
                                Change::Modified(_) => mirror.insert(event.object.key(), last).is_some(),
                            };
                            assert!(known);
                        }
                    }
                    let (objects, _) = store.list();
                    assert_eq!(mirror, objects.into_iter().map(|o| (o.key(), o.resource_version)).collect());
                }
            }
        });
    }
}

#[tokio::test]
async fn objects_for_pods_come_back_after_a_restart_and_a_disk_that_fails_changes_nothing() {
    use kube_model::objects::{Key, Kind};
    use manifest::object::submitted;
    let object = |value: &str| {
        let object = serde_json::json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "s", "namespace": "default"}, "stringData": {"k": value}});
        submitted(object).unwrap().0
    };
    let key = Key { kind: Kind::Secret, namespace: "default".into(), name: "s".into() };
    let value = |store: &Store| {
        let object = Arc::clone(store.state().borrow().objects.values().next().unwrap());
        String::from_utf8(object.data["k"].clone()).unwrap()
    };
    let dir = TempDir::new().unwrap();
    let fails = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let hook = Arc::clone(&fails);
    let store = with_fault(dir.path(), move |step| {
        let fails = step == Step::SyncFolder && hook.load(std::sync::atomic::Ordering::SeqCst);
        if fails { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    });
    let made = store.create_content(object("one"), false).await.unwrap();
    assert_eq!(store.create_content(object("one"), false).await.unwrap_err().reason, "AlreadyExists");
    let mut watch = store.watch_contents(made.resource_version).unwrap();
    store.update_content(key.clone(), true, move |_| Ok(object("dry"))).await.unwrap();
    fails.store(true, std::sync::atomic::Ordering::SeqCst);
    let refused = store.update_content(key.clone(), false, move |_| Ok(object("lost"))).await.unwrap_err();
    assert!(refused.message.contains("secret \"default/s\"") && refused.message.contains("the disk is gone"));
    fails.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(value(&store), "one");
    store.update_content(key.clone(), false, move |_| Ok(object("two"))).await.unwrap();
    let events = watch.next().await.unwrap();
    assert!(matches!(&events[..], [Event { change: Change::Modified(_), .. }]), "{events:?}");
    drop(store);
    let store = open(dir.path());
    assert_eq!(value(&store), "two");
    let again = store.content(&key).unwrap();
    assert_eq!(again.described.metadata.uid, made.described.metadata.uid);
    assert!(again.resource_version > made.resource_version);
    store.delete_content(key, Preconditions::default(), false).await.unwrap();
    assert!(store.state().borrow().objects.is_empty());
    drop(store);
    assert!(open(dir.path()).state().borrow().objects.is_empty());
}
