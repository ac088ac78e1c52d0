//! The images that tests use, by the names of their definitions.

use std::fs;
use std::path::PathBuf;

use insula_image::ImageDefinition;

use crate::paths::project_file;

/// An image that a scratch host has from the start, by the name of its file in `images/` or
/// `tests/images/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image(&'static str);

impl Image {
    /// `images/debian-12.yaml`, which most tests use.
    #[expect(non_upper_case_globals, reason = "it reads as one of a kind")]
    pub const Debian12: Self = Self("debian-12");
    /// `images/debian-13.yaml`
    #[expect(non_upper_case_globals, reason = "it reads as one of a kind")]
    pub const Debian13: Self = Self("debian-13");
    /// `tests/images/debian-12-docker.yaml`
    #[expect(non_upper_case_globals, reason = "it reads as one of a kind")]
    pub const Debian12Docker: Self = Self("debian-12-docker");

    /// The image that is built from `images/<name>.yaml`.
    pub const fn named(name: &'static str) -> Self {
        Self(name)
    }

    /// The image's alias.
    pub fn alias(self) -> &'static str {
        self.0
    }

    /// The image's definition.
    pub fn read(self) -> ImageDefinition {
        let text = fs::read_to_string(self.definition()).expect("the definition");
        ImageDefinition::parse(&text).expect("the definition")
    }

    /// The path of the image's definition.
    pub fn definition(self) -> PathBuf {
        let directory = if self == Self::Debian12Docker { "tests/images" } else { "images" };
        project_file(directory).join(format!("{}.yaml", self.alias()))
    }

    /// The name of the image's template in the store.
    pub fn template(self) -> String {
        let digest = self.read().digest().to_string();
        format!("template-{}-{}", self.alias(), &digest[..12])
    }
}
