//! The agent dies at any step of a write: after the start that follows the pods are those of before or after the
//! request that was under way, and each request that was answered is in them.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// What a child process shall do, as `STEP COUNT DIR`.
const CHILD: &str = "PUSH_STORE_CRASH";

const STEPS: [Step; 7] =
    [Step::Create, Step::Write, Step::SyncFile, Step::Rename, Step::Unlink, Step::SyncFolder, Step::Done];

#[derive(Debug, Clone)]
enum Op {
    Create(String, String),
    Replace(String, String),
    Delete(String),
}

type Set = BTreeMap<String, String>;

impl Op {
    async fn run(&self, store: &Store) -> Result<Object, ApiError> {
        match self {
            Self::Create(name, image) => store.create(pod(name, image), false).await,
            Self::Replace(name, image) => replace(store, name, image).await,
            Self::Delete(name) => delete(store, name, Some(0)).await,
        }
    }

    /// The same on a set; `false`: the store must refuse it.
    fn apply(&self, set: &mut Set) -> bool {
        match self {
            Self::Create(name, image) => {
                let free = !set.contains_key(name);
                set.entry(name.clone()).or_insert_with(|| image.clone());
                free
            }
            Self::Replace(name, image) => set.get_mut(name).map(|old| old.clone_from(image)).is_some(),
            Self::Delete(name) => set.remove(name).is_some(),
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    (0..3_u8, "[abc]", "[xy]:[0-9]").prop_map(|(kind, name, image)| match kind {
        0 => Op::Create(name, image),
        1 => Op::Replace(name, image),
        _ => Op::Delete(name),
    })
}

fn set(store: &Store) -> Set {
    images(store).into_iter().collect()
}

/// Whether the store has what it may have when it died in the request after `answered`.
fn old_or_new(found: &Set, ops: &[Op], answered: usize) -> bool {
    let mut old = Set::new();
    for op in &ops[..answered] {
        op.apply(&mut old);
    }
    let mut new = old.clone();
    if let Some(op) = ops.get(answered) {
        op.apply(&mut new);
    }
    *found == old || *found == new
}

/// A hook that does `die` when it comes to `step` for the `count`th time.
fn at(
    step: Step,
    count: usize,
    die: impl Fn() + Send + Sync + 'static,
) -> impl Fn(Step) -> io::Result<()> + Send + Sync {
    let left = AtomicUsize::new(count);
    move |now| {
        if now == step && left.fetch_sub(1, Ordering::Relaxed) == 0 {
            die();
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A panic ends the write where it is, as death does, and leaves the process to look.
    #[test]
    fn a_write_that_breaks_off_anywhere_leaves_the_old_or_the_new_set(
        ops in proptest::collection::vec(op(), 1..12), step in 0..STEPS.len(), count in 0..8_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = TempDir::new().unwrap();
            let dies = at(STEPS[step], count, || std::panic::resume_unwind(Box::new("death")));
            let store = with_fault(dir.path(), dies);
            let mut answered = 0;
            let mut model = Set::new();
            for op in &ops {
                let before = model.clone();
                let fits = op.apply(&mut model);
                match op.run(&store).await {
                    Ok(_) => assert!(fits),
                    Err(error) if error.code == 500 => break,
                    Err(_) => assert!(!fits && before == model),
                }
                answered += 1;
            }
            let last = store.list().1;
            drop(store);
            let store = open(dir.path());
            let found = set(&store);
            assert!(old_or_new(&found, &ops, answered), "{found:?} after {answered} of {ops:?}");
            assert!(store.state().borrow().problems.is_empty());
            assert!(store.list().1 > last);
            assert!(pod_files(dir.path()).iter().all(|file| file.extension().unwrap() == "json"));
        });
    }
}

/// The requests of a child.
fn ops() -> Vec<Op> {
    let text = str::to_owned;
    vec![
        Op::Create(text("a"), text("i:1")),
        Op::Create(text("b"), text("i:1")),
        Op::Replace(text("a"), text("i:2")),
        Op::Delete(text("a")),
        Op::Create(text("a"), text("i:3")),
    ]
}

/// Runs the requests, says each that was answered, and is killed at a step.
fn child(dir: &Path, step: Step, count: usize) {
    let kill = || {
        let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        panic!("still alive: {killed:?}");
    };
    let store = with_fault(dir, at(step, count, kill));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for op in ops() {
        runtime.block_on(op.run(&store)).unwrap();
        println!("answered");
    }
}

#[test]
fn a_process_that_is_killed_anywhere_leaves_the_old_or_the_new_set() {
    #[expect(clippy::disallowed_methods, reason = "how a child is told what to do")]
    let order = std::env::var(CHILD);
    if let Ok(order) = order {
        let (step, rest) = order.split_once(' ').unwrap();
        let (count, dir) = rest.split_once(' ').unwrap();
        return child(Path::new(dir), STEPS[step.parse::<usize>().unwrap()], count.parse().unwrap());
    }
    let this_test = format!(
        "{}::a_process_that_is_killed_anywhere_leaves_the_old_or_the_new_set",
        module_path!().split_once("::").unwrap().1
    );
    let mut killed = 0;
    for (index, step) in STEPS.into_iter().enumerate() {
        for count in 0.. {
            let dir = TempDir::new().unwrap();
            let output = Command::new(std::env::current_exe().unwrap())
                .args([this_test.as_str(), "--exact", "--nocapture"])
                .env(CHILD, format!("{index} {count} {}", dir.path().display()))
                .stderr(Stdio::inherit())
                .output()
                .unwrap();
            let answered = String::from_utf8(output.stdout).unwrap().matches("answered").count();
            let store = open(dir.path());
            let found = set(&store);
            let what = format!("{step:?} number {count}: {found:?} after {answered}");
            assert!(old_or_new(&found, &ops(), answered), "{what}");
            assert!(store.state().borrow().problems.is_empty(), "{what}");
            assert!(pod_files(dir.path()).len() == found.len(), "{what}");
            if output.status.success() {
                assert_eq!(answered, ops().len(), "{what}");
                break;
            }
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(9), "{what}");
            killed += 1;
        }
    }
    // A write has six steps, a removal three.
    assert_eq!(killed, 4 * 6 + 3);
}
