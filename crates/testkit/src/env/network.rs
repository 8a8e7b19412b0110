//! The pod network of one run: a bridge of its own, a subnet that nobody uses, and the CNI configuration.
//!
//! The bridge gets its address here rather than from the CNI plugin, which would turn on IP forwarding for the
//! whole machine. Pods reach each other and the host, as probes need, and nothing else.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::command::output;
use super::error::At;
use super::{Error, Run, Tools};

/// Makes the bridge once for a run and returns the folder with its CNI configuration.
pub(crate) fn ensure(run: &Run, tools: &Tools) -> Result<PathBuf, Error> {
    let conf = run.dir().join("cni");
    if conf.exists() {
        return Ok(conf);
    }
    let bridge = run.name();
    let ip = |args: &[&str]| output(Command::new(tools.busybox()).arg("ip").args(args));
    let subnet = free_subnet()?;
    ip(&["link", "add", "name", bridge, "type", "bridge"])?;
    ip(&["addr", "add", &format!("{subnet}.1/24"), "dev", bridge])?;
    ip(&["link", "set", bridge, "up"])?;
    fs::create_dir(&conf).at("create", &conf)?;
    let file = conf.join("10-test.conflist");
    fs::write(&file, configuration(bridge, &subnet, run.dir()).to_string()).at("write", &file)?;
    Ok(conf)
}

fn configuration(bridge: &str, subnet: &str, dir: &Path) -> serde_json::Value {
    json!({
        "cniVersion": "0.4.0",
        "name": bridge,
        "plugins": [
            {
                "type": "bridge",
                "bridge": bridge,
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": dir.join("cni-addresses"),
                    "ranges": [[{"subnet": format!("{subnet}.0/24"), "gateway": format!("{subnet}.1")}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": false}},
        ],
    })
}

/// The first three numbers of a random 10.x.y.0/24 that no route of this machine touches.
fn free_subnet() -> Result<String, Error> {
    let routes = fs::read_to_string("/proc/net/route").at("read", "/proc/net/route")?;
    let random = RandomState::new();
    (0u32..1000)
        .map(|attempt| random.hash_one(attempt).to_ne_bytes())
        .map(|bytes| [10, bytes[0], bytes[1], 0])
        .find(|subnet| !in_use(&routes, *subnet))
        .map(|[a, b, c, _]| format!("{a}.{b}.{c}"))
        .ok_or_else(|| Error::Machine("no free 10.x.y.0/24 subnet for the pod network".to_owned()))
}

/// Whether a route, the default route aside, overlaps the /24. Lines are `iface destination gateway flags refcnt
/// use metric mask ...`, addresses in hexadecimal as they lie in memory.
fn in_use(routes: &str, subnet: [u8; 4]) -> bool {
    let address = |hex: &str| u32::from_str_radix(hex, 16).ok().map(|n| u32::from_be_bytes(n.to_ne_bytes()));
    let wanted = u32::from_be_bytes(subnet);
    routes.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(destination), Some(mask)) =
            (fields.get(1).copied().and_then(address), fields.get(7).copied().and_then(address))
        else {
            return false;
        };
        // Two ranges overlap when they agree in the shorter prefix of both.
        let common = mask & 0xffff_ff00;
        mask != 0 && destination & common == wanted & common
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_that_any_route_touches_is_in_use() {
        let hex = |a: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(a));
        let table = |destination, mask| {
            format!("Iface Destination\nx0 {} 00000000 0001 0 0 0 {} 0 0 0\n", hex(destination), hex(mask))
        };
        let cases = [
            ([10, 7, 7, 0], [255, 255, 255, 0], true, "the same"),
            ([10, 7, 8, 0], [255, 255, 255, 0], false, "its neighbour"),
            ([10, 7, 0, 0], [255, 255, 0, 0], true, "one around it"),
            ([10, 7, 7, 128], [255, 255, 255, 128], true, "one inside it"),
            ([0, 0, 0, 0], [0, 0, 0, 0], false, "the default route"),
        ];
        for (destination, mask, expected, case) in cases {
            assert_eq!(in_use(&table(destination, mask), [10, 7, 7, 0]), expected, "{case}");
        }
    }

    #[test]
    fn a_free_subnet_is_found_and_is_private() {
        assert!(free_subnet().unwrap().starts_with("10."));
    }
}
