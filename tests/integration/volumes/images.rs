//! Images as volumes: mounted by the runtime, fetched by the agent.

use testkit::env::Line;

use crate::node::{Node, uid_of};

const POD: &str = "
terminationGracePeriodSeconds: 0
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, 'sleep 3600']
  volumeMounts:
  - {name: image, mountPath: /img}
- name: other
  image: $BUSYBOX
  command: [sh, -c, 'sleep 3600']
volumes:
- name: image
  image: {reference: $BUSYBOX, pullPolicy: Never}
";

/// Containerd 1.6 mounts no images.
#[test]
fn an_image_is_mounted_read_only_and_one_that_cannot_be_had_holds_up_who_mounts_it() {
    let node = Node::with(Line::V2_1, &[]);
    node.apply("image", POD);
    let pod = node.until_ready("image");
    let seen =
        node.exec("image", "app", "cmp /bin/busybox /img/bin/busybox && echo same; touch /img/x 2>&1; true");
    assert!(seen.starts_with("same\n") && seen.contains("Read-only file system"), "{seen}");
    assert_eq!(node.exec("image", "other", "ls -d /img 2>/dev/null; echo none"), "none\n");
    // The agent itself has nothing on the node for it.
    let dir = node.agent.root().join("pods").join(uid_of(&pod)).join("volumes");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    node.delete("image");
    node.until_gone("image");

    node.apply("missing", &POD.replace("reference: $BUSYBOX", "reference: 'none.invalid/image:1'"));
    node.until_container("missing", "app", "waits for the image that it mounts", |status| {
        status["state"]["waiting"]["reason"] == "ErrImageNeverPull"
    });
    node.until_event(
        "missing",
        "ErrImageNeverPull",
        "Container image \"none.invalid/image:1\" is not present",
    );
    node.until_container("missing", "other", "runs without it", |status| {
        !status["state"]["running"].is_null()
    });
    node.delete("missing");
    node.until_gone("missing");
}
