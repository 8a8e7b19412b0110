//! Values of one flag each: addresses, taints, reserved memory, verbosity of source files, sizes of buffers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use kube_model::core::Taint;
use kube_model::quantity::Quantity;

use super::{FlagValue, kind, parse_verbosity};
use crate::config::{MemoryReservation, VModuleItem};
use crate::flag::{Kind, Slot};

/// A slot for an IP address that is kept as text.
pub(crate) struct IpSlot<T>(fn(&mut T) -> &mut String);

/// The slot for the address that `get` gives access to.
pub(crate) const fn ip<T>(get: fn(&mut T) -> &mut String) -> IpSlot<T> {
    IpSlot(get)
}

impl<T> Slot<T> for IpSlot<T> {
    fn kind(&self) -> Kind {
        kind("ip", "an IP address")
    }

    /// An empty text leaves what is there.
    fn set(&self, values: &mut T, text: &str, _first: bool) -> Result<(), String> {
        if !text.is_empty() {
            parse_ip(text).ok_or_else(|| format!("{text:?} is not a valid IP address"))?;
            text.clone_into((self.0)(values));
        }
        Ok(())
    }
}

/// An address as Kubernetes reads it: the numbers of an IPv4 address may have leading zeros, and are decimal.
pub(crate) fn parse_ip(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next().filter(|part| part.bytes().all(|b| b.is_ascii_digit()))?;
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

impl FlagValue for Vec<Taint> {
    const KIND: Kind = kind("[]v1.Taint", "taints such as key=value:NoSchedule,key:NoExecute");

    /// Each use replaces what was there.
    fn set(&mut self, text: &str, _first: bool) -> Result<(), String> {
        let texts = text.split(',').filter(|_| !text.is_empty());
        *self = texts.map(taint).collect::<Result<_, _>>()?;
        Ok(())
    }
}

/// `key=value:effect` or `key:effect`. What key, value and effect may be is left to validation.
fn taint(text: &str) -> Result<Taint, String> {
    let invalid = || format!("invalid taint spec: {text}, expected key=value:effect or key:effect");
    let (name, effect) = text.split_once(':').ok_or_else(invalid)?;
    let (key, value) = match name.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (name, None),
    };
    if key.is_empty() || !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(invalid());
    }
    Ok(Taint { key: key.to_owned(), value, effect: effect.to_owned(), time_added: None })
}

impl FlagValue for Vec<MemoryReservation> {
    const KIND: Kind = kind("reserved-memory", "a NUMA node's memory such as 0:memory=1Gi,hugepages-2Mi=1Gi");

    /// One NUMA node for each use.
    fn set(&mut self, text: &str, first: bool) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        let reservation = reservation(text)?;
        if first {
            self.clear();
        }
        self.push(reservation);
        Ok(())
    }
}

fn reservation(text: &str) -> Result<MemoryReservation, String> {
    let (node, limits) = text
        .split_once(':')
        .filter(|(_, limits)| !limits.contains(':'))
        .ok_or_else(|| format!("expected numaNodeID:type=quantity[,type=quantity...], got {text}"))?;
    let numa_node = node.parse().map_err(|_| format!("the NUMA node must be a number, got {node}"))?;
    let mut read = BTreeMap::new();
    for limit in limits.split(',') {
        let (name, quantity) = limit
            .split_once('=')
            .filter(|(_, quantity)| !quantity.contains('='))
            .ok_or_else(|| format!("expected type=quantity, got {limit}"))?;
        if name != "memory" && !name.starts_with("hugepages-") {
            return Err(format!("unknown memory type {name:?}, expected memory or hugepages-<size>"));
        }
        read.insert(name.to_owned(), parse_quantity(quantity)?);
    }
    Ok(MemoryReservation { numa_node, limits: read })
}

fn parse_quantity(text: &str) -> Result<Quantity, String> {
    text.parse().map_err(|error: kube_model::quantity::QuantityError| format!("{text:?}: {error}"))
}

impl FlagValue for Quantity {
    const KIND: Kind = kind("quantity", "a quantity such as 512 or 2Ki");

    fn set(&mut self, text: &str, _first: bool) -> Result<(), String> {
        *self = parse_quantity(text)?;
        Ok(())
    }
}

impl FlagValue for Vec<VModuleItem> {
    const KIND: Kind = kind("pattern=N,...", "verbosities of files such as kubelet=4,cri_*=5");

    fn set(&mut self, text: &str, first: bool) -> Result<(), String> {
        let mut items = Vec::new();
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (pattern, level) = item
                .split_once('=')
                .filter(|(pattern, level)| !pattern.is_empty() && !level.is_empty())
                .ok_or_else(|| format!("{item:?} does not have the pattern=N format"))?;
            let verbosity =
                parse_verbosity(level).map_err(|error| format!("parsing verbosity in {item:?}: {error}"))?;
            items.push(VModuleItem { file_pattern: pattern.to_owned(), verbosity });
        }
        if first {
            self.clear();
        }
        self.extend(items);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<V: FlagValue + Default>(texts: &[&str]) -> Result<V, String> {
        let mut value = V::default();
        for (index, text) in texts.iter().enumerate() {
            value.set(text, index == 0)?;
        }
        Ok(value)
    }

    #[test]
    fn addresses_are_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("10.0.0.1", Some("10.0.0.1")),
            ("010.000.0.09", Some("10.0.0.9")),
            ("::1", Some("::1")),
            ("", None),
            ("1.2.3", None),
            ("1.2.3.4.5", None),
            ("1.2.3.256", None),
            ("1.2.3.+4", None),
            ("localhost", None),
            (" ::1", None),
        ] {
            assert_eq!(parse_ip(text), expected.map(|text| text.parse().unwrap()), "{text:?}");
        }
        let mut address = "1.1.1.1".to_owned();
        let slot = ip(|text: &mut String| text);
        slot.set(&mut address, "", true).unwrap();
        assert_eq!(address, "1.1.1.1", "an empty text changes nothing, as in the kubelet");
    }

    #[test]
    fn taints_have_an_effect() {
        let taints: Vec<Taint> =
            read(&["x=y:NoSchedule", "a=b:NoExecute,c:PreferNoSchedule,d=:NoSchedule"]).unwrap();
        let shown: Vec<_> =
            taints.iter().map(|t| (t.key.as_str(), t.value.as_deref(), t.effect.as_str())).collect();
        assert_eq!(
            shown,
            [("a", Some("b"), "NoExecute"), ("c", None, "PreferNoSchedule"), ("d", Some(""), "NoSchedule")]
        );
        assert_eq!(read::<Vec<Taint>>(&[""]).unwrap(), vec![]);
        for text in ["a", "a=b", "a:Nope", ":NoSchedule", "a:NoSchedule-", "a=b:NoSchedule,"] {
            assert!(read::<Vec<Taint>>(&[text]).unwrap_err().starts_with("invalid taint spec"), "{text}");
        }
    }

    #[test]
    fn memory_is_reserved_by_numa_node() {
        let reserved: Vec<MemoryReservation> =
            read(&["0:memory=1Gi,hugepages-1Gi=2Gi", "1:memory=512Mi"]).unwrap();
        assert_eq!(reserved.len(), 2);
        assert_eq!(reserved[0].limits["hugepages-1Gi"], "2Gi".parse().unwrap());
        assert_eq!((reserved[1].numa_node, &reserved[1].limits["memory"]), (1, &"512Mi".parse().unwrap()));
        for (text, error) in [
            ("memory=1Gi", "expected numaNodeID:type=quantity[,type=quantity...], got memory=1Gi"),
            ("x:memory=1Gi", "the NUMA node must be a number, got x"),
            ("0:memory", "expected type=quantity, got memory"),
            ("0:cpu=1", "unknown memory type \"cpu\", expected memory or hugepages-<size>"),
            ("0:memory=1,", "expected type=quantity, got "),
        ] {
            assert_eq!(read::<Vec<MemoryReservation>>(&[text]).unwrap_err(), error);
        }
        assert!(
            read::<Vec<MemoryReservation>>(&["0:memory=x"]).unwrap_err().starts_with("\"x\": quantities")
        );
    }

    #[test]
    fn files_have_their_own_verbosity() {
        let item = |pattern: &str, verbosity| VModuleItem { file_pattern: pattern.into(), verbosity };
        assert_eq!(
            read::<Vec<VModuleItem>>(&["a=1,,b*=0x2", "c=3"]).unwrap(),
            [item("a", 1), item("b*", 2), item("c", 3)]
        );
        assert_eq!(read::<Vec<VModuleItem>>(&["a"]).unwrap_err(), "\"a\" does not have the pattern=N format");
        assert_eq!(
            read::<Vec<VModuleItem>>(&["a=-1"]).unwrap_err(),
            "parsing verbosity in \"a=-1\": strconv.ParseUint: parsing \"-1\": invalid syntax"
        );
    }
}
