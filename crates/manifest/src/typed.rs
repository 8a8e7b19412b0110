//! The one way from a JSON value to an object. Each other way would put the decoders of all that a pod consists of
//! into the program once more.

use serde::de::DeserializeOwned;
use serde_ignored::Path;
use serde_json::{Error, Value};

/// Decodes `value`. `unknown` hears of each field that `T` does not have. An error knows where it is.
pub fn typed<T: DeserializeOwned>(
    value: Value,
    mut unknown: &mut dyn FnMut(Path<'_>),
) -> Result<T, serde_path_to_error::Error<Error>> {
    serde_path_to_error::deserialize(serde_ignored::Deserializer::new(value, &mut unknown))
}
