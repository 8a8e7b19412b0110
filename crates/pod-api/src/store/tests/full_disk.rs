//! A file system that is filled to the brim.

use std::process::Command;

use super::*;

/// The folder on the small file system, for the process that has it.
const DIR: &str = "PUSH_STORE_FULL_DISK";

/// On a file system of its own, which needs root or user namespaces and ends with the process.
#[test]
fn a_full_disk_refuses_new_pods_and_keeps_the_old() {
    #[expect(
        clippy::disallowed_methods,
        reason = "how the process on the small file system is told where it is"
    )]
    let small = std::env::var(DIR);
    if let Ok(small) = small {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        return runtime.block_on(fill(Path::new(&small)));
    }
    let this_test = format!(
        "{}::a_full_disk_refuses_new_pods_and_keeps_the_old",
        module_path!().split_once("::").unwrap().1
    );
    let dir = TempDir::new().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c"])
        .arg("mount -t tmpfs -o size=256k tmpfs \"$1\" && shift && exec \"$@\"")
        .args(["sh".as_ref(), dir.path().as_os_str(), std::env::current_exe().unwrap().as_os_str()])
        .args([this_test.as_str(), "--exact", "--nocapture"])
        .env(DIR, dir.path())
        .output()
        .expect("this test needs the program unshare");
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "this test needs root, or user namespaces to mount a tmpfs:\n{text}");
    assert!(text.contains("1 passed"), "{text}");
}

async fn fill(dir: &Path) {
    let store = open(dir);
    let big = |name: &str, letter: &str| pod(name, &letter.repeat(20_000));
    let (mut stored, mut refused) = (Vec::new(), Vec::new());
    for index in 0..40 {
        let name = format!("p{index}");
        match store.create(big(&name, "a"), false).await {
            Ok(_) => stored.push(name),
            Err(error) => refused.push(error),
        }
    }
    assert!(!stored.is_empty() && stored.len() + refused.len() == 40, "{} stored", stored.len());
    for error in &refused {
        assert_eq!((error.code, error.reason), (507, "InsufficientStorage"), "{error}");
        assert!(error.message.contains("No space left on device"), "{error}");
    }
    assert_eq!(replace(&store, &stored[0], &"b".repeat(60_000)).await.unwrap_err().code, 507);
    assert_eq!(images(&store).len(), stored.len());
    // What was refused left nothing behind: there is room again as soon as one goes.
    delete(&store, &stored[0], Some(0)).await.unwrap();
    store.create(big("last", "c"), false).await.unwrap();
    let before = images(&store);
    drop(store);
    // To the brim: also then the agent starts, with all its pods.
    let rest = fs::write(dir.join("rest"), vec![0; 1 << 20]).unwrap_err();
    assert_eq!(rest.kind(), io::ErrorKind::StorageFull);
    let store = open(dir);
    assert_eq!(images(&store), before);
    deletions(dir, store).await;
}

/// A deletion needs no room: it is answered, outlives the agent, can be shortened, and makes room in the end.
async fn deletions(dir: &Path, store: Store) {
    let name = images(&store)[0].0.clone();
    let grace = |store: &Store| store.get(&key(&name)).unwrap().metadata().deletion_grace_period_seconds;
    let at = |store: &Store| store.get(&key(&name)).unwrap().metadata().deletion_timestamp;
    let count = images(&store).len();
    delete(&store, &name, Some(3600)).await.unwrap();
    let first = at(&store).unwrap();
    drop(store);
    let store = open(dir);
    assert_eq!((grace(&store), at(&store)), (Some(3600), Some(first.clone())));
    delete(&store, &name, Some(60)).await.unwrap();
    drop(store);
    let store = open(dir);
    assert_eq!((grace(&store), images(&store).len(), pod_files(dir).len()), (Some(60), count, count));
    assert_eq!(at(&store).unwrap().0.as_second(), first.0.as_second() - 3540);
    // With room the text says it, and the name nothing any more.
    fs::remove_file(dir.join("rest")).unwrap();
    let (other, count) = (images(&store)[1].0.clone(), count - 1);
    delete(&store, &other, Some(0)).await.unwrap();
    delete(&store, &name, Some(30)).await.unwrap();
    assert!(pod_files(dir).iter().all(|file| !file.to_string_lossy().contains("deleted")));
    drop(store);
    let store = open(dir);
    assert_eq!(grace(&store), Some(30));
    fs::write(dir.join("rest"), vec![0; 1 << 20]).unwrap_err();
    delete(&store, &name, Some(20)).await.unwrap();
    delete(&store, &name, Some(0)).await.unwrap();
    drop(store);
    assert_eq!((images(&open(dir)).len(), pod_files(dir).len()), (count - 1, count - 1));
}
