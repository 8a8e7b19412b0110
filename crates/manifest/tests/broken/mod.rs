//! Manifests that can not be used, each in its own way: one table for every source that reads manifests, so that none
//! of them takes what another refuses.

/// A manifest that must be refused.
pub(crate) struct Broken {
    /// What is wrong with it.
    pub(crate) what: &'static str,
    pub(crate) text: Vec<u8>,
    /// Line and column of the mistake, `3:1`; empty when it has no place.
    pub(crate) at: &'static str,
    /// How the message begins.
    pub(crate) said: &'static str,
}

impl Broken {
    /// What stands in a problem about it: place and message.
    #[allow(dead_code, reason = "the push API tells places in another way")]
    pub(crate) fn message(&self) -> String {
        match self.at {
            "" => self.said.to_owned(),
            at => format!(":{at}: {}", self.said),
        }
    }
}

/// A manifest with nothing wrong.
pub(crate) const GOOD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: c
    image: x
";

/// All of them.
pub(crate) fn all() -> Vec<Broken> {
    let changed = |from: &str, to: &str| GOOD.replacen(from, to, 1).into_bytes();
    let longer = |more: &str| (GOOD.to_owned() + more).into_bytes();
    let case = |what, text, at, said| Broken { what, text, at, said };
    vec![
        case("broken YAML", b"apiVersion: v1\nkind: [\n".to_vec(), "3:1", ""),
        case("broken JSON", b"{\"apiVersion\": \"v1\",\n".to_vec(), "2:1", ""),
        case("half", GOOD.as_bytes()[..GOOD.len() / 2].to_vec(), "1:1", "spec.containers: Required"),
        case("empty", Vec::new(), "", "the manifest is empty"),
        case("only a comment", b"# nothing\n".to_vec(), "", "the manifest is empty"),
        case(
            "plain text",
            b"hello".to_vec(),
            "",
            "expected one Pod (apiVersion: v1, kind: Pod), found plain text",
        ),
        case(
            "no object",
            b"- a\n".to_vec(),
            "",
            "expected one Pod (apiVersion: v1, kind: Pod), found a list",
        ),
        case("NUL bytes", vec![0; 64], "1:1", "control character U+0000"),
        case("no text", b"kind: \xff\xfe\n".to_vec(), "1:7", ""),
        case("UTF-16", b"\xff\xfe{\0}\0".to_vec(), "", ""),
        case("too large", vec![b' '; (10 << 20) + 1], "", "larger than 10485760 bytes"),
        case("alias bomb", alias_bomb(), "6:10", ""),
        case(
            "deep lists",
            "[".repeat(100_000).into_bytes(),
            "1:102",
            "the document is nested deeper than 100 levels",
        ),
        case(
            "deep objects",
            "{\"a\":".repeat(100_000).into_bytes(),
            "1:506",
            "the document is nested deeper than 100 levels",
        ),
        case(
            "deep in a pod",
            longer(&format!("    env: {}", "[".repeat(1000))),
            "9:107",
            "the document is nested deeper than 100 levels",
        ),
        case("wrong kind", changed("Pod", "Service"), "2:1", "kind: \"Service\""),
        case("wrong version", changed("v1", "v2"), "1:1", "apiVersion: \"v2\""),
        case("wrong type", longer("  hostNetwork: 7\n"), "9:3", "spec.hostNetwork: "),
        case("no name", changed("  name: web\n", "  labels: {}\n"), "3:1", "metadata.name: Required"),
        case("bad name", changed("web", "../web"), "4:3", "metadata.name: "),
        case(
            "bad label",
            changed("web\n", "web\n  labels: {\"a b\": c}\n"),
            "5:12",
            "metadata.labels[a b]: ",
        ),
        case(
            "no containers",
            changed("  containers:\n  - name: c\n    image: x\n", "  containers: []\n"),
            "6:3",
            "spec.containers: Required",
        ),
        case("no image", changed("    image: x\n", ""), "7:5", "spec.containers[0].image: Required"),
        case(
            "two of one name",
            longer("  - {name: c, image: x}\n"),
            "9:6",
            "spec.containers[1].name: Duplicate",
        ),
        case(
            "bad quantity",
            longer("    resources: {limits: {cpu: 1x}}\n"),
            "9:26",
            "spec.containers[0].resources.limits[cpu]: ",
        ),
        case(
            "bad port",
            longer("    ports:\n    - containerPort: 65536\n"),
            "10:7",
            "spec.containers[0].ports[0].containerPort: ",
        ),
        case(
            "bad policy",
            longer("  restartPolicy: Sometimes\n"),
            "9:3",
            "spec.restartPolicy: Unsupported value",
        ),
        case(
            "a claim",
            longer("  volumes:\n  - {name: s, persistentVolumeClaim: {claimName: s}}\n"),
            "10:15",
            "spec.volumes[0].persistentVolumeClaim: Forbidden",
        ),
    ]
}

fn alias_bomb() -> Vec<u8> {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        text += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "));
    }
    text.into_bytes()
}
