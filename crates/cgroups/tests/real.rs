//! Against the cgroups of this machine, whichever version it has, in a cgroup of their own. Needs root. `cargo xtask test`
//! runs the same in the guest, which has v2.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use cgroups::{Cgroups, NodeLimits, PodLimits, Settings, Version};
use kube_model::PodUid;
use kube_model::qos::QosClass;

const ROOT: &str = "/sys/fs/cgroup";

/// Each test twice: on this machine, and in the guest.
macro_rules! tests {
    ($($name:ident)*) => {
        mod here {
            $(#[test] fn $name() { super::$name(); })*
        }
        mod guest {
            $(#[test] #[ignore = "for the guest"] fn $name() {
                assert_eq!(super::version(), super::Version::V2);
                super::$name();
            })*
        }
    };
}

tests! {
    the_kernel_takes_every_value
    removing_a_pod_kills_what_runs_in_it
    one_container_of_a_pod_is_killed_and_the_others_go_on
    a_pod_that_comes_back_while_its_cgroup_is_removed_gets_a_whole_one
}

fn version() -> Version {
    Version::at(Path::new(ROOT))
}

fn wait<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(test)
}

/// A cgroup root that goes away with everything in it.
struct Private {
    name: String,
}

impl Private {
    fn new(test: &str) -> (Self, Arc<Cgroups>) {
        let name = format!("cgroups-test-{test}-{}", std::process::id());
        let settings = Settings { cgroup_root: name.clone(), pod_pids_limit: 50, ..Settings::default() };
        let cgroups = Cgroups::detect(Path::new(ROOT), settings).expect("cgroups are mounted");
        assert_eq!(cgroups.version(), version());
        (Self { name }, Arc::new(cgroups))
    }

    fn file(&self, controller: &str, path: &str) -> PathBuf {
        let root = match version() {
            Version::V1 => Path::new(ROOT).join(controller),
            Version::V2 => ROOT.into(),
        };
        root.join(&self.name).join(path)
    }

    fn read(&self, controller: &str, path: &str) -> String {
        let path = self.file(controller, path);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        fn remove(dir: &Path) {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    remove(&entry.path());
                }
            }
            let _ = fs::remove_dir(dir);
        }
        remove(&Path::new(ROOT).join(&self.name));
        for mount in fs::read_dir(ROOT).into_iter().flatten().flatten() {
            remove(&mount.path().join(&self.name));
        }
    }
}

/// A process that ends when the test does.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").spawn().expect("sleep starts"))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn the_kernel_takes_every_value() {
    let (private, cgroups) = Private::new("values");
    let node = NodeLimits {
        milli_cpu: Some(1500),
        memory: Some(1 << 30),
        pids: Some(1000),
        hugepages: Some(BTreeMap::new()),
        cpus: Some("0".to_owned()),
    };
    cgroups.ensure_base().unwrap();
    // Twice: what the kernel reads back must count as what was written.
    for _ in 0..2 {
        cgroups.limit_pods(&node).unwrap();
    }
    let is = |controller, file: (&str, &str), want: (&str, &str)| {
        let (file, want) = match version() {
            Version::V1 => (file.0, want.0),
            Version::V2 => (file.1, want.1),
        };
        assert_eq!(private.read(controller, &format!("kubepods/{file}")), want, "{file}");
    };
    is("cpu", ("cpu.shares", "cpu.weight"), ("1536", "59"));
    is("memory", ("memory.limit_in_bytes", "memory.max"), ("1073741824", "1073741824"));
    is("pids", ("pids.max", "pids.max"), ("1000", "1000"));
    if version() == Version::V2 && private.file("cpuset", "kubepods/cpuset.cpus").exists() {
        assert_eq!(private.read("cpuset", "kubepods/cpuset.cpus"), "0");
    }
    is("cpu", ("besteffort/cpu.shares", "besteffort/cpu.weight"), ("2", "1"));

    let uid = PodUid::from("u1");
    let limits =
        PodLimits { cpu_shares: 102, milli_cpu: Some(3), memory: Some(100_000_000), ..PodLimits::default() };
    assert!(!cgroups.pod_exists(&uid));
    // Twice: what the kernel reads back must count as what was written.
    for _ in 0..2 {
        cgroups.ensure_pod(&uid, QosClass::Burstable, &limits).unwrap();
    }
    assert!(cgroups.pod_exists(&uid));
    let pod = |files: (&str, &str)| {
        (format!("burstable/podu1/{}", files.0), format!("burstable/podu1/{}", files.1))
    };
    for (controller, files, want) in [
        ("cpu", ("cpu.shares", "cpu.weight"), ("102", "4")),
        ("cpu", ("cpu.cfs_quota_us", "cpu.max"), ("1000", "1000 100000")),
        ("memory", ("memory.limit_in_bytes", "memory.max"), ("99999744", "99999744")),
        ("pids", ("pids.max", "pids.max"), ("50", "50")),
    ] {
        let (v1, v2) = pod(files);
        is(controller, (&v1, &v2), want);
    }
    if version() == Version::V1 {
        assert_eq!(private.read("cpu", "kubepods/burstable/podu1/cpu.cfs_period_us"), "100000");
        assert!(!private.read("cpuset", "kubepods/burstable/podu1/cpuset.cpus").is_empty());
    }
    cgroups.set_burstable_shares(2000).unwrap();
    is("cpu", ("burstable/cpu.shares", "burstable/cpu.weight"), ("2048", "79"));
    assert_eq!(cgroups.pods().unwrap(), [uid]);
}

fn removing_a_pod_kills_what_runs_in_it() {
    wait(async {
        let (private, cgroups) = Private::new("remove");
        cgroups.ensure_base().unwrap();
        let (uid, other) = (PodUid::from("u1"), PodUid::from("u2"));
        for uid in [&uid, &other] {
            cgroups.ensure_pod(uid, QosClass::BestEffort, &PodLimits::default()).unwrap();
        }
        let (mut in_pod, mut nested, mut bystander) = (Sleeper::new(), Sleeper::new(), Sleeper::new());
        let container = private.file("pids", "kubepods/besteffort/podu1/container");
        fs::create_dir(&container).unwrap();
        for (sleeper, path) in [
            (&in_pod, private.file("cpuset", "kubepods/besteffort/podu1/cgroup.procs")),
            (&nested, container.join("cgroup.procs")),
            (&bystander, private.file("pids", "kubepods/besteffort/podu2/cgroup.procs")),
        ] {
            fs::write(&path, sleeper.0.id().to_string()).unwrap();
        }
        // Reaped as they die; a zombie is out of its cgroup, but this also shows how they died.
        let reaper =
            tokio::task::spawn_blocking(move || (in_pod.0.wait().unwrap(), nested.0.wait().unwrap()));
        cgroups.remove_pod(&uid).await.unwrap();
        let (in_pod, nested) = reaper.await.unwrap();
        for status in [in_pod, nested] {
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        }
        assert!(!container.exists());
        assert!(!private.file("memory", "kubepods/besteffort/podu1").exists());
        assert_eq!(cgroups.pods().unwrap(), std::slice::from_ref(&other));
        assert_eq!(bystander.0.try_wait().unwrap(), None, "the other pod goes on");
        drop(bystander);
        cgroups.remove_pod(&other).await.unwrap();
    });
}

fn one_container_of_a_pod_is_killed_and_the_others_go_on() {
    wait(async {
        let (private, cgroups) = Private::new("kill");
        cgroups.ensure_base().unwrap();
        let uid = PodUid::from("u1");
        cgroups.ensure_pod(&uid, QosClass::BestEffort, &PodLimits::default()).unwrap();
        let (mut inside, mut beside) = (Sleeper::new(), Sleeper::new());
        for (sleeper, controller, id) in [(&inside, "pids", "c1"), (&beside, "pids", "c2")] {
            let container = private.file(controller, &format!("kubepods/besteffort/podu1/{id}"));
            fs::create_dir(&container).unwrap();
            fs::write(container.join("cgroup.procs"), sleeper.0.id().to_string()).unwrap();
        }
        assert!(!cgroups.remove_empty_pod(&uid).unwrap());
        assert!(cgroups.kill_container(&uid, "c1").await.unwrap());
        let status = inside.0.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        assert_eq!(beside.0.try_wait().unwrap(), None);
        assert!(!cgroups.kill_container(&uid, "c1").await.unwrap(), "nothing is left in it");
        assert!(cgroups.kill_container(&uid, "c2").await.unwrap());
        assert!(cgroups.remove_empty_pod(&uid).unwrap());
        assert_eq!(cgroups.pods().unwrap(), []);
    });
}

fn a_pod_that_comes_back_while_its_cgroup_is_removed_gets_a_whole_one() {
    wait(async {
        let (private, cgroups) = Private::new("back");
        cgroups.ensure_base().unwrap();
        let uid = PodUid::from("u1");
        let make = |cgroups: &Cgroups| {
            cgroups.ensure_pod(&PodUid::from("u1"), QosClass::BestEffort, &PodLimits::default())
        };
        make(&cgroups).unwrap();
        let (asked, mut is_asked) = tokio::sync::mpsc::channel(1);
        let (back, is_back) = std::sync::mpsc::sync_channel::<()>(0);
        let is_back = Mutex::new(is_back);
        let wanted = move || {
            asked.try_send(()).unwrap();
            let _ = is_back.lock().unwrap().recv();
            false
        };
        let (remover, of) = (Arc::clone(&cgroups), uid.clone());
        let removing = tokio::spawn(async move { remover.remove_pod_unless(&of, wanted).await });
        is_asked.recv().await.unwrap();
        // Nobody wanted it when that was asked; it comes back before anything is removed.
        let mut made = pin!(cgroups.run(make));
        assert!(made.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(back);
        removing.await.unwrap().unwrap();
        made.await.unwrap();
        assert!(cgroups.pod_exists(&uid));

        let mut sleeper = Sleeper::new();
        let pid = sleeper.0.id().to_string();
        fs::write(private.file("pids", "kubepods/besteffort/podu1/cgroup.procs"), pid).unwrap();
        cgroups.remove_pod_unless(&uid, || true).await.unwrap();
        assert!(cgroups.pod_exists(&uid));
        assert_eq!(sleeper.0.try_wait().unwrap(), None, "what is wanted again goes on");
    });
}
