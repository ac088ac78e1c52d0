//! The images that tests take, by the names of their definitions.

use std::fs;
use std::path::PathBuf;

use insula_image::ImageDefinition;

use crate::paths::project_file;

/// An image that a scratch host has from the beginning, by the name of its file: one of `images/` or `tests/images/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image(&'static str);

impl Image {
    /// `images/debian-12.yaml`, which most tests take.
    #[expect(non_upper_case_globals, reason = "it reads as one of a kind")]
    pub const Debian12: Self = Self("debian-12");
    /// `images/debian-13.yaml`
    #[expect(non_upper_case_globals, reason = "it reads as one of a kind")]
    pub const Debian13: Self = Self("debian-13");
    /// `tests/images/debian-12-docker.yaml`
    #[expect(non_upper_case_globals, reason = "it reads as one of a kind")]
    pub const Debian12Docker: Self = Self("debian-12-docker");

    /// The one that is built from `images/<name>.yaml`.
    pub const fn named(name: &'static str) -> Self {
        Self(name)
    }

    /// Its alias.
    pub fn alias(self) -> &'static str {
        self.0
    }

    /// What it is made of.
    pub fn read(self) -> ImageDefinition {
        let text = fs::read_to_string(self.definition()).expect("the definition");
        ImageDefinition::parse(&text).expect("the definition")
    }

    /// Its definition's file.
    pub fn definition(self) -> PathBuf {
        let directory = if self == Self::Debian12Docker { "tests/images" } else { "images" };
        project_file(directory).join(format!("{}.yaml", self.alias()))
    }

    /// The template's name in the store.
    pub fn template(self) -> String {
        let digest = self.read().digest().to_string();
        format!("template-{}-{}", self.alias(), &digest[..12])
    }
}
