//! JSON patch, RFC 6902, within bounds. An operation may double what it finds or put it deeper, and a request of a few
//! bytes has thousands of them: without bounds one request could fill the memory, or make an object so deep that to
//! drop it overflows the stack, and both end the whole process.
//!
//! Rule: upstream `k8s.io/apiserver/pkg/endpoints/handlers/patch.go` and `pkg/server/config.go`
//! (`JSONPatchMaxCopyBytes`). The depth and the work are bounds of our own: Go's stack grows.

use std::io;

use json_patch::PatchOperation as Operation;
use serde::Deserialize as _;
use serde_json::Value;

use super::PatchError;

/// Most operations of one patch.
const MOST_OPERATIONS: usize = 10_000;
/// Most bytes, as JSON, that all copies of one patch may add.
const MOST_COPIED: usize = 3 << 20;
/// How deep a value may stand in the pod. What comes as text is no deeper: the parser sees to that.
const DEEPEST: usize = 128;
/// Most values that are looked at to find out how deep they are: a large one may be moved ten thousand times.
const MOST_LOOKED_AT: usize = 10_000_000;

/// Applies `patch` to `pod`, which is of no use after an error.
pub(super) fn apply(pod: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let operations = patch.as_array().map_or(0, Vec::len);
    if operations > MOST_OPERATIONS {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {operations}"
        )));
    }
    let patch = json_patch::Patch::deserialize(patch)
        .map_err(|error| PatchError::Malformed(format!("not a JSON patch: {error}")))?;
    let mut spent = Spent::default();
    for (index, operation) in patch.iter().enumerate() {
        let refused = |why: &dyn std::fmt::Display| {
            let path = operation.path();
            PatchError::Unprocessable(format!("operation '/{index}' failed at path '{path}': {why}"))
        };
        spent.add(pod, operation).map_err(|why| refused(&why))?;
        json_patch::patch_unsafe(pod, std::slice::from_ref(operation))
            .map_err(|error| refused(&error.kind))?;
    }
    Ok(())
}

/// What the operations of a patch have used up.
#[derive(Default)]
struct Spent {
    copied: usize,
    looked_at: usize,
}

impl Spent {
    /// Says why the next operation goes too far. One that finds nothing at its places is not judged: it will fail.
    fn add(&mut self, pod: &Value, operation: &Operation) -> Result<(), String> {
        let (path, value) = match operation {
            Operation::Add(add) => (&add.path, Some(&add.value)),
            Operation::Replace(replace) => (&replace.path, Some(&replace.value)),
            Operation::Move(moved) => (&moved.path, pod.pointer(moved.from.as_str())),
            Operation::Copy(copy) => {
                let value = pod.pointer(copy.from.as_str());
                self.copied = self.copied.saturating_add(value.map_or(0, size));
                (&copy.path, value)
            }
            Operation::Remove(_) | Operation::Test(_) => return Ok(()),
        };
        if self.copied > MOST_COPIED {
            let copied = self.copied;
            return Err(format!(
                "the accumulated size increase of copy is {copied}, exceeding the limit {MOST_COPIED}"
            ));
        }
        let Some(value) = value else { return Ok(()) };
        let room = DEEPEST.checked_sub(path.count());
        if room.is_none_or(|room| self.is_deeper(value, room)) {
            return Err(format!("the pod would be more than {DEEPEST} levels deep"));
        }
        if self.looked_at > MOST_LOOKED_AT {
            return Err("the patch moves too much".to_owned());
        }
        Ok(())
    }

    /// Whether the value has more than `room` levels. Looks no deeper than that, and no longer than it may.
    fn is_deeper(&mut self, value: &Value, room: usize) -> bool {
        self.looked_at += 1;
        if self.looked_at > MOST_LOOKED_AT {
            return false;
        }
        let Some(below) = room.checked_sub(1) else { return true };
        match value {
            Value::Array(items) => items.iter().any(|item| self.is_deeper(item, below)),
            Value::Object(fields) => fields.values().any(|value| self.is_deeper(value, below)),
            _ => false,
        }
    }
}

/// The bytes of a value as JSON.
fn size(value: &Value) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Neither a value nor the counter fails.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(pod: Value, patch: &[Value]) -> String {
        let mut patched = pod;
        apply(&mut patched, &Value::from(patch)).unwrap_err().to_string()
    }

    fn deep(levels: usize) -> Value {
        (0..levels).fold(json!({}), |below, _| json!({ "a": below }))
    }

    #[test]
    fn copies_of_copies_do_not_fill_the_memory() {
        let pod = json!({"metadata": {"annotations": {"a": "x".repeat(1000)}}});
        let double = |index| json!({"op": "copy", "from": "/metadata/annotations", "path": format!("/metadata/annotations/{index}")});
        let bomb: Vec<Value> = (0..30).map(double).collect();
        let error = refusal(pod.clone(), &bomb);
        assert!(error.contains("operation '/11' failed at path '/metadata/annotations/11': "), "{error}");
        assert!(error.contains("exceeding the limit 3145728"), "{error}");
        let mut few = pod;
        apply(&mut few, &Value::from(&bomb[..3])).unwrap();
        assert_eq!(few["metadata"]["annotations"]["2"]["1"]["0"]["a"].as_str().map(str::len), Some(1000));
    }

    #[test]
    fn nothing_gets_so_deep_that_the_stack_overflows() {
        let path = "/a".repeat(100);
        let mut bomb = vec![json!({"op": "add", "path": "/p", "value": {}})];
        for _ in 0..2000 {
            bomb.push(json!({"op": "add", "path": "/q", "value": deep(100)}));
            bomb.push(json!({"op": "move", "from": "/p", "path": format!("/q{path}")}));
            bomb.push(json!({"op": "move", "from": "/q", "path": "/p"}));
        }
        let error = refusal(json!({}), &bomb);
        assert!(error.contains("operation '/5'") && error.contains("more than 128 levels deep"), "{error}");
        let into = |depth: usize| json!({"op": "copy", "from": "/v", "path": "/a".repeat(depth)});
        for (levels, depth, fits) in [(100, 28, true), (100, 29, false), (1, 127, true), (1, 128, false)] {
            let mut pod = deep(130);
            pod["v"] = deep(levels - 1);
            let found = apply(&mut pod, &json!([into(depth)])).map_err(|error| error.to_string());
            assert_eq!(found.is_ok(), fits, "{levels} levels at {depth}: {found:?}");
        }
    }

    #[test]
    fn operations_are_counted_and_so_is_their_work() {
        let test = json!({"op": "test", "path": "", "value": {}});
        apply(&mut json!({}), &Value::from(vec![test.clone(); 10_000])).unwrap();
        let many = apply(&mut json!({}), &Value::from(vec![test; 10_001])).unwrap_err();
        assert!(matches!(many, PatchError::TooLarge(_)), "{many}");
        let pod = json!({"a": vec![0; 100_000]});
        let there_and_back = |index| match index % 2 {
            0 => json!({"op": "move", "from": "/a", "path": "/b"}),
            _ => json!({"op": "move", "from": "/b", "path": "/a"}),
        };
        let moves: Vec<Value> = (0..10_000).map(there_and_back).collect();
        assert!(refusal(pod, &moves).contains("the patch moves too much"));
    }
}
