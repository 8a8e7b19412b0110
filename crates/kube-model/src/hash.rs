//! The kubelet's hashes: FNV over Go's printed form of a value. A restarted agent compares them with what is
//! in the runtime, so they must come out as the kubelet's do.

use crate::core::Container;

/// The annotation `io.kubernetes.container.hash`: changes when the container's name or image does, and with
/// nothing else. Lowercase hex without leading zeros.
///
/// FNV-1a-32 over `([]uint8)[123 34 ...]`, the decimal bytes of `{"image":"...","name":"..."}` as Go's
/// debug printer writes them. Rule: upstream `pkg/kubelet/container/helpers.go` `HashContainer`.
pub fn container_hash(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let json = format!("{{\"image\":{},\"name\":{}}}", go_json(image), go_json(&container.name));
    let mut hash: u32 = 0x811c_9dc5;
    let mut write = |text: &str| {
        for byte in text.bytes() {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    };
    write("([]uint8)[");
    for (i, byte) in json.bytes().enumerate() {
        if i > 0 {
            write(" ");
        }
        write(&byte.to_string());
    }
    write("]");
    format!("{hash:x}")
}

/// A JSON string as Go's `encoding/json` writes it: safe to stand in HTML.
fn go_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

/// FNV-1a with 128 bits: the hash that the UID of a static pod is made with (upstream `pkg/kubelet/config/common.go`).
///
/// ```
/// let mut hash = kube_model::hash::Fnv128a::default();
/// hash.write(b"a");
/// assert_eq!(hash.hex(), "d228cb696f1a8caf78912b704e4a8964");
/// ```
#[derive(Debug, Clone)]
pub struct Fnv128a(u128);

impl Default for Fnv128a {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Fnv128a {
    /// Takes in more bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul((1 << 88) + 0x13b);
        }
    }

    /// The hash so far as 32 lowercase hex digits.
    pub fn hex(&self) -> String {
        format!("{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(name: &str, image: &str) -> String {
        container_hash(&Container { name: name.into(), image: Some(image.into()), ..Container::default() })
    }

    #[test]
    fn a_container_hash_is_the_kubelets() {
        let busybox = "registry.k8s.io/e2e-test-images/busybox:1.37.0-1";
        for (name, image, want) in [
            ("test_container", "foo/image:v1", "8e45cbd0"),
            // From the recordings of the kubelet.
            ("app", busybox, "2f35d113"),
            ("i1", busybox, "51efb9d8"),
            ("side", busybox, "5f5f5957"),
            ("after", busybox, "814849e8"),
        ] {
            assert_eq!(hash(name, image), want, "{name} {image}");
        }
    }

    #[test]
    fn only_name_and_image_count() {
        let mut container = Container { name: "a".into(), image: Some("b".into()), ..Container::default() };
        let before = container_hash(&container);
        container.command = Some(vec!["sh".into()]);
        assert_eq!(container_hash(&container), before);
        container.image = Some("c".into());
        assert_ne!(container_hash(&container), before);
    }

    #[test]
    fn json_is_escaped_as_go_does() {
        assert_eq!(go_json("a<b>&\"\\\n\u{1}\u{2028}ä"), r#""a\u003cb\u003e\u0026\"\\\n\u0001\u2028ä""#);
    }

    #[test]
    fn fnv128a_agrees_with_published_vectors() {
        for (input, want) in [
            ("", "6c62272e07bb014262b821756295c58d"),
            ("a", "d228cb696f1a8caf78912b704e4a8964"),
            ("foobar", "343e1662793c64bf6f0d3597ba446f18"),
        ] {
            let mut hash = Fnv128a::default();
            hash.write(input.as_bytes());
            assert_eq!(hash.hex(), want, "{input}");
        }
    }
}
