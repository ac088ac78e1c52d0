//! Conversions of features.

use insula_types::{FeatureError, Features};

use crate::error::ApiError;
use crate::v1;

/// Converts and checks the features of a request. `field` is the path of the list.
pub fn features(field: &str, words: Vec<String>) -> Result<Features, ApiError> {
    words.try_into().map_err(|error: FeatureError| ApiError::invalid_field(field, error.to_string()))
}

impl From<&Features> for v1::FeatureList {
    fn from(features: &Features) -> Self {
        Self { features: features.clone().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insula_types::Reason;

    #[test]
    fn features_are_checked() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let read = features("features", words(&["tun", "nesting"])).unwrap();
        assert_eq!(v1::FeatureList::from(&read).features, ["nesting", "tun"]);
        for wrong in [words(&["nestng"]), words(&["nesting", "migratable"]), words(&["device:../x"])] {
            let error = features("changes.features", wrong).unwrap_err();
            assert_eq!(
                (&*error.fields[0].field, error.reason()),
                ("changes.features", Some(Reason::InvalidArgument))
            );
        }
    }
}
