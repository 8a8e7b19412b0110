//! `logging`: component-base's `LoggingConfiguration`.

use std::fmt;

use kube_model::duration::GoDuration;
use kube_model::quantity::Quantity;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::zero;

/// The highest verbosity that klog knows: it keeps it in an int32.
pub const MAX_VERBOSITY: u32 = i32::MAX.unsigned_abs();

/// How and how much to log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Logging {
    /// Layout of log lines: `text` or `json`. Default `text`.
    #[serde(skip_serializing_if = "zero")]
    pub format: String,
    /// Longest time that a line may stay in a buffer. Default 5s.
    pub flush_frequency: FlushFrequency,
    /// How much to log: 0 (default) for what an operator must know, up to [`MAX_VERBOSITY`].
    pub verbosity: u32,
    /// Other verbosities for single source files; only with format `text`. Default none.
    #[serde(skip_serializing_if = "zero")]
    pub vmodule: Vec<VModuleItem>,
    /// Settings of each layout; alpha.
    pub options: FormatOptions,
}

/// A duration that, for old configurations, may also be a number of nanoseconds, and is then written as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushFrequency {
    /// The duration.
    pub duration: GoDuration,
    /// Whether it was given as a number.
    pub as_nanos: bool,
}

impl Serialize for FlushFrequency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.as_nanos {
            serializer.serialize_i64(self.duration.as_nanos())
        } else {
            self.duration.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for FlushFrequency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = FlushFrequency;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"5s\", or a number of nanoseconds")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<FlushFrequency, E> {
                let duration = text.parse().map_err(E::custom)?;
                Ok(FlushFrequency { duration, as_nanos: false })
            }

            fn visit_i64<E: Error>(self, nanos: i64) -> Result<FlushFrequency, E> {
                Ok(FlushFrequency { duration: GoDuration::from_nanos(nanos), as_nanos: true })
            }

            fn visit_u64<E: Error>(self, nanos: u64) -> Result<FlushFrequency, E> {
                self.visit_i64(i64::try_from(nanos).map_err(E::custom)?)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A verbosity for the source files whose names match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VModuleItem {
    /// A file's name without folder and ending, or a glob for such names; no `,` and no `=`.
    pub file_pattern: String,
    /// The verbosity for it.
    pub verbosity: u32,
}

/// Settings of each layout.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FormatOptions {
    /// Of `text`.
    pub text: OutputRouting,
    /// Of `json`.
    pub json: OutputRouting,
}

/// Where lines go; alpha.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OutputRouting {
    /// Whether errors go to stderr and the rest, buffered, to stdout. Default false: all to one stream.
    #[serde(skip_serializing_if = "zero")]
    pub split_stream: bool,
    /// Bytes of the buffer for what is no error. Default 0: none.
    pub info_buffer_size: Quantity,
}
