//! What runs out on a node, and from where on it is scarce (upstream `pkg/kubelet/eviction/api/types.go`, and
//! `pkg/kubelet/eviction/types.go` `signalObservation`).

use std::collections::BTreeMap;

/// Something that runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Memory of the node that pods could still get, in bytes.
    MemoryAvailable,
    /// Bytes free on the file system of the root folder.
    NodefsAvailable,
    /// Inodes free there.
    NodefsInodesFree,
    /// Bytes free on the file system of the images.
    ImagefsAvailable,
    /// Inodes free there.
    ImagefsInodesFree,
    /// Process ids that are left.
    PidAvailable,
}

impl Signal {
    /// As configuration names it.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "memory.available" => Self::MemoryAvailable,
            "nodefs.available" => Self::NodefsAvailable,
            "nodefs.inodesFree" => Self::NodefsInodesFree,
            "imagefs.available" => Self::ImagefsAvailable,
            "imagefs.inodesFree" => Self::ImagefsInodesFree,
            "pid.available" => Self::PidAvailable,
            _ => return None,
        })
    }
}

/// From where on something is scarce.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// Of what.
    pub signal: Signal,
    /// At least this much has to be left.
    pub value: ThresholdValue,
}

/// An amount, on its own or of the whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ThresholdValue {
    /// In the unit of the signal: bytes, or a count.
    Quantity(i64),
    /// A part of the capacity, 0 to 1.
    Percentage(f32),
}

impl ThresholdValue {
    /// In the unit of the signal. Rule: upstream `GetThresholdQuantity`; it counts in 32 bits, and the node's
    /// allocatable shows it.
    pub fn of(self, capacity: i64) -> i64 {
        match self {
            Self::Quantity(quantity) => quantity,
            #[expect(clippy::cast_possible_truncation, reason = "Go cuts it off, too")]
            #[expect(clippy::cast_precision_loss, reason = "Go computes it in 64 bits of floating point")]
            Self::Percentage(part) => (capacity as f64 * f64::from(part)) as i64,
        }
    }
}

/// How much there is of something, and how much of it is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalObservation {
    /// In all.
    pub capacity: i64,
    /// Left.
    pub available: i64,
}

/// What was measured. Signals that could not be measured are missing.
pub type SignalObservations = BTreeMap<Signal, SignalObservation>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_counted_in_32_bits_and_cut_off() {
        let cases = [
            (ThresholdValue::Quantity(100), 1000, 100),
            (ThresholdValue::Quantity(100), 10, 100),
            (ThresholdValue::Percentage(0.15), 1000, 150),
            (ThresholdValue::Percentage(0.1), 5, 0),
            (ThresholdValue::Percentage(0.1), 264_212_084 << 10, 27_055_317_804),
        ];
        for (value, capacity, want) in cases {
            assert_eq!(value.of(capacity), want, "{value:?} of {capacity}");
        }
    }
}
