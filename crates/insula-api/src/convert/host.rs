//! Conversions of what a host offers to VPSes: images and profiles.

use insula_types::{ImageInfo, Profile};

use super::field::{etag, timestamp};
use crate::v1;

impl From<&ImageInfo> for v1::Image {
    fn from(image: &ImageInfo) -> Self {
        Self {
            fingerprint: image.fingerprint.to_string(),
            aliases: image.aliases.iter().map(ToString::to_string).collect(),
            description: image.description.clone(),
            distribution: image.distribution.clone(),
            release: image.release.clone(),
            architecture: image.architecture.to_string(),
            init: image.init.to_string(),
            pool: image.pool.to_string(),
            size_bytes: image.size.bytes(),
            create_time: Some(timestamp(image.created_at)),
        }
    }
}

impl From<&Profile> for v1::Profile {
    fn from(profile: &Profile) -> Self {
        Self {
            name: profile.name.to_string(),
            description: profile.description.clone(),
            limits: Some((&profile.limits).into()),
            networks: profile.networks.iter().map(ToString::to_string).collect(),
            supervision: Some((&profile.supervision).into()),
            etag: etag(profile.revision),
            features: profile.features.clone().into(),
        }
    }
}
