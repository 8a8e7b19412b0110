//! What is published when, while files change.

use super::*;

#[test]
fn what_stands_between_the_steps_of_an_editor_is_not_meant() {
    let cases: [(&str, Steps); 6] = [
        (
            "a backup by renaming, the new file written in pieces, the backup removed",
            &[
                |s| s.write("4913", ""),
                |s| s.remove("4913"),
                |s| s.rename("web.yaml", "web.yaml~"),
                |s| s.write("web.yaml", ""),
                |s| s.write("web.yaml", manifest("web", "two")),
                |s| s.remove("web.yaml~"),
            ],
        ),
        (
            "another file beside it, with a name before it, that takes its place",
            &[|s| s.write("sedAbCdEf", manifest("web", "two")), |s| s.rename("sedAbCdEf", "web.yaml")],
        ),
        (
            "another file beside it, with a name after it, that takes its place",
            &[|s| s.write("web.yaml.new", manifest("web", "two")), |s| s.rename("web.yaml.new", "web.yaml")],
        ),
        (
            "removed and written anew",
            &[|s| s.remove("web.yaml"), |s| s.write("web.yaml", manifest("web", "two"))],
        ),
        (
            "a dot-file that takes its place",
            &[
                |s| s.write(".web.yaml.tmp", manifest("web", "two")),
                |s| s.rename(".web.yaml.tmp", "web.yaml"),
            ],
        ),
        (
            "the folder replaced by another one",
            &[
                |s| {
                    fs::create_dir(s.root.path().join("new")).unwrap();
                    fs::write(s.root.path().join("new/web.yaml"), manifest("web", "two")).unwrap();
                },
                |s| fs::rename(&s.path, s.root.path().join("old")).unwrap(),
                |s| fs::rename(s.root.path().join("new"), &s.path).unwrap(),
            ],
        ),
    ];
    for (what, steps) in cases {
        let mut source = Source::file("web.yaml", &manifest("web", "one"));
        let uid = source.scan().pods[0].metadata.uid.clone();
        for step in steps {
            step(&source);
            if let Some(set) = source.files.scan(Timestamp::now(), false) {
                let [pod] = &set.pods[..] else { panic!("{what}: {:?}", names(&set.pods)) };
                assert!(image(pod) == "two" || pod.metadata.uid == uid, "{what}");
                let path = set.locations[&pod::identity(pod).0].path.clone();
                assert_eq!(path, source.path.join("web.yaml"), "{what}");
            }
        }
        let set = source.scan();
        assert_eq!((names(&set.pods), image(&set.pods[0])), (vec!["web-node1".to_owned()], "two"), "{what}");
        assert_eq!(set.problems, [], "{what}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(u8, u8),
    Break(u8),
    Rename(u8, u8),
    Remove(u8),
    Scan { settled: bool },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4u8, 0..3u8).prop_map(|(file, pod)| Step::Write(file, pod)),
        (0..4u8).prop_map(Step::Break),
        (0..4u8, 0..4u8).prop_map(|(from, to)| Step::Rename(from, to)),
        (0..4u8).prop_map(Step::Remove),
        any::<bool>().prop_map(|settled| Step::Scan { settled }),
        Just(Step::Restart),
    ]
}

proptest! {
    // Each case writes to the disk and waits for it.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However a folder came to be what it is, its good manifests are what runs, and of a broken one at most what
    /// once stood in it.
    #[test]
    fn what_runs_depends_on_the_folder_and_not_on_its_history(steps in vec(step(), 0..30)) {
        let mut source = Source::new();
        for step in steps {
            // Not all files are there at all times.
            let path = |file: u8| source.path.join(format!("{file}.yaml"));
            match step {
                Step::Write(file, pod) => source.write(&format!("{file}.yaml"), manifest(&format!("p{pod}"), "x")),
                Step::Break(file) => source.write(&format!("{file}.yaml"), "broken: ["),
                Step::Rename(from, to) => drop(fs::rename(path(from), path(to))),
                Step::Remove(file) => drop(fs::remove_file(path(file))),
                Step::Scan { settled } => {
                    let known: Vec<_> = source.files.scan(Timestamp::now(), settled).into_iter().collect();
                    prop_assert!(!settled || known.len() == 1, "settled, there is always a set");
                    while source.files.has_to_keep() {
                        source.files.keep();
                    }
                }
                Step::Restart => source.restart(),
            }
        }
        let pods = |set: &Set| -> Vec<_> {
            let identity = |pod: &Arc<Pod>| pod::identity(pod);
            set.pods.iter().map(identity).collect()
        };
        let broken = source.scan();
        prop_assert!(broken.pods.len() <= 3);
        for entry in fs::read_dir(&source.path).unwrap() {
            let path = entry.unwrap().path();
            if fs::read(&path).unwrap().starts_with(b"broken") {
                prop_assert!(broken.problems.iter().any(|problem| problem.path == path));
                fs::write(path, manifest("repaired", "x")).unwrap();
            }
        }
        let fresh = Files::new(Settings::new(&source.path, "node1")).scan(Timestamp::now(), true).unwrap();
        let set = source.scan();
        prop_assert_eq!(pods(&set), pods(&fresh));
        prop_assert_eq!(set.problems, fresh.problems);
    }
}

#[test]
fn a_broken_new_version_does_not_lose_the_last_good_one_to_the_way_it_was_written() {
    let mut source = Source::file("web.yaml", &manifest("web", "one"));
    let before = source.scan().pods;
    source.rename("web.yaml", "web.yaml~");
    assert!(source.files.scan(Timestamp::now(), false).is_none());
    source.write("web.yaml", "broken: [");
    source.remove("web.yaml~");
    let set = source.files.scan(Timestamp::now(), false).unwrap();
    assert!(Arc::ptr_eq(&before[0], &set.pods[0]));
    assert_eq!(set.problems.len(), 1);
}

#[test]
fn what_takes_nothing_away_is_there_at_once_and_the_rest_once_it_settled() {
    let mut source = Source::file("a.yaml", &manifest("a", "x"));
    let look = |source: &mut Source, settled| {
        let set = source.files.scan(Timestamp::now(), settled)?;
        Some((names(&set.pods), set.problems.len()))
    };
    let expected =
        |names: &[&str], problems| Some((names.iter().map(|n| (*n).to_owned()).collect(), problems));
    assert_eq!(look(&mut source, false), expected(&["a-node1"], 0));
    source.write("b.yaml", manifest("b", "x"));
    assert_eq!(look(&mut source, false), expected(&["a-node1", "b-node1"], 0), "a new file");
    source.write("a.yaml", "broken: [");
    assert_eq!(look(&mut source, false), expected(&["a-node1", "b-node1"], 1), "a broken old one");
    source.write("c.yaml", "");
    assert_eq!(look(&mut source, false), None, "a broken new one");
    assert_eq!(look(&mut source, true), expected(&["a-node1", "b-node1"], 2));
    assert_eq!(look(&mut source, false), expected(&["a-node1", "b-node1"], 2), "which is then an old one");
    source.remove("b.yaml");
    assert_eq!(look(&mut source, false), None, "a removed one");
    assert_eq!(look(&mut source, true), expected(&["a-node1"], 2));
    let aside = source.root.path().join("aside");
    fs::rename(&source.path, &aside).unwrap();
    assert_eq!(look(&mut source, false), None, "the folder gone");
    assert_eq!(look(&mut source, true), expected(&["a-node1"], 3));
    assert_eq!(look(&mut source, false), expected(&["a-node1"], 3), "still");
}

#[test]
fn only_what_changed_is_parsed() {
    let mut source = Source::new();
    for number in 0..50 {
        source.write(&format!("{number:02}.yaml"), manifest(&format!("p{number}"), "x"));
    }
    assert_eq!(source.scan().pods.len(), 50);
    assert_eq!(source.files.parsed(), 50);
    source.scan();
    source.scan_at(Timestamp::now() + Duration::from_secs(60));
    assert_eq!(source.files.parsed(), 50, "neither unchanged files nor equal texts");
    source.write("07.yaml", manifest("p7", "z"));
    source.scan();
    assert_eq!(source.files.parsed(), 51, "the one that changed");
    source.restart();
    source.scan();
    assert_eq!(source.files.parsed(), 50, "nor twice what was kept on disk, too");
}

#[test]
fn when_it_was_read_tells_of_the_last_usable_answer() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let mut source = Source::new();
    assert_eq!(source.scan_at(at(1)).read_at, Some(at(1)), "an empty folder is an answer");
    source.write("a.yaml", "");
    assert_eq!(source.scan_at(at(2)).read_at, Some(at(2)), "and so is a folder with a bad manifest");
    let aside = source.root.path().join("aside");
    fs::rename(&source.path, &aside).unwrap();
    assert_eq!(source.scan_at(at(3)).read_at, Some(at(2)), "but not a folder that is not there");

    source.path = aside.join("a.yaml");
    source.restart();
    assert_eq!(source.scan_at(at(4)).read_at, None, "of one file, a bad manifest is no answer");
    fs::write(&source.path, manifest("a", "x")).unwrap();
    assert_eq!(source.scan_at(at(5)).read_at, Some(at(5)));
    assert_eq!(source.scan_at(at(60)).read_at, Some(at(60)));
    fs::remove_file(&source.path).unwrap();
    let removed = source.scan_at(at(70));
    assert_eq!((removed.pods.len(), removed.read_at), (0, Some(at(70))), "that it was removed is one");
    assert_eq!(source.scan_at(at(71)).problems, [], "however often it is looked at");
}

#[test]
fn a_set_is_there_before_its_texts_are_kept_and_a_text_is_kept_though_the_file_broke_meanwhile() {
    let mut source = Source::file("web.yaml", &manifest("web", "x"));
    let cache = source.cache.clone().unwrap();
    assert_eq!(source.files.scan(Timestamp::now(), true).unwrap().pods.len(), 1);
    assert!(!cache.exists() && source.files.has_to_keep());
    source.write("web.yaml", "");
    source.scan();
    assert!(!source.files.has_to_keep());
    source.restart();
    assert_eq!(source.look().0, ["web-node1"]);
}

#[test]
fn a_text_that_could_not_be_kept_is_forgotten_when_the_file_is_as_the_kept_one_again() {
    let mut source = Source::file("web.yaml", &manifest("web", "one"));
    source.scan();
    let (agent, aside) = (source.root.path().join("agent"), source.root.path().join("aside"));
    fs::rename(&agent, &aside).unwrap();
    fs::write(&agent, "a file in its place").unwrap();
    source.write("web.yaml", manifest("web", "two"));
    assert_eq!(source.scan().problems.len(), 1);
    source.write("web.yaml", manifest("web", "one"));
    assert_eq!(source.scan().problems, []);
    fs::remove_file(&agent).unwrap();
    fs::rename(&aside, &agent).unwrap();
    source.write("web.yaml", "");
    source.scan();
    source.restart();
    assert_eq!(image(&source.scan().pods[0]), "one");
}

#[test]
fn what_yaml_takes_for_another_type_is_told_with_its_place_and_what_to_write() {
    let good = manifest("web\n  labels: {}\n  annotations: {}", "x");
    let cases = [
        ("annotations: {}", "annotations: {x: y}", "6:17: metadata.annotations.x: ", "write \"y\" in quotes"),
        ("labels: {}", "labels: {v: 1.10}", "5:12: metadata.labels.v: ", "write \"1.10\" in quotes"),
        (
            "image: x",
            "image: x\n    env: [{name: A, value: 1}]",
            "11:21: spec.containers[0].env[0].value: ",
            "write \"1\" in quotes",
        ),
        (
            "image: x",
            "image: x\n    args: [no]",
            "11:12: spec.containers[0].args[0]: ",
            "write \"no\" in quotes",
        ),
        (
            "image: x",
            "image: x\n    tty: \"true\"",
            "11:5: spec.containers[0].tty: ",
            "write true without quotes",
        ),
        (
            "image: x",
            "image: x\n    ports: [{containerPort: \"80\"}]",
            "11:14: spec.containers[0].ports[0].containerPort: ",
            "write 80 without quotes",
        ),
    ];
    for (old, new, place, hint) in cases {
        let mut source = Source::file("web.yaml", &good);
        assert_eq!(source.look(), (vec!["web-node1".to_owned()], vec![]));
        source.write("web.yaml", good.replace(old, new));
        let (names, problems) = source.look();
        assert_eq!(names, ["web-node1"]);
        let [problem] = &problems[..] else { panic!("{new}: {problems:?}") };
        assert!(
            problem.starts_with(&format!("web.yaml:{place}")) && problem.contains(hint),
            "{new}: {problem}"
        );
    }
}
