//! Image definitions: what an image is made of, as data (`images/*.yaml`).

use std::fmt;

use insula_types::{Architecture, Fingerprint, ImageAlias, ImageInfo, InitKind, PoolName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::TreeDigest;

/// The version of the file format. A file of another version is refused.
const VERSION: u32 = 1;

/// The version of the builder, which is part of each [`ImageDefinition::digest`]. Raise it when the builder makes something
/// else of the same definition, so that images are built anew.
const BUILDER: &[u8] = b"insula-image-builder-1\n";

/// Why a text is not an image definition.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The text is not YAML, or a field is missing, unknown, or of the wrong type.
    #[error("failed to read the image definition")]
    Syntax(#[source] serde_norway::Error),
    /// The definition has another version of the format.
    #[error("image definitions of version {0} are not supported, only those of version {VERSION}")]
    Version(u32),
    /// A value has the right type, but breaks a rule.
    #[error("invalid {field} {value:?} in the image definition: {rule}")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value, cut to 80 characters.
        value: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
}

/// What an image is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageDefinition {
    /// The version of this format: 1.
    pub version: u32,
    /// The alias that points to the newest image built from this definition.
    pub name: ImageAlias,
    /// A description for people, of one line.
    pub description: String,
    /// The distribution, such as `debian`.
    pub distribution: String,
    /// The release, such as `"12"`.
    pub release: String,
    /// The release's name in the package archive, such as `bookworm`.
    pub suite: String,
    /// The init that it boots.
    pub init: InitKind,
    /// Whether the archive's lists of packages may be out of date, as with a snapshot or a mirror that lags. An attacker on the
    /// way to the archive could then hold back new packages, but could not forge one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_expired: bool,
    /// The packages that are installed besides apt and the essential ones.
    pub packages: Vec<String>,
    /// Hooks that come with mmdebstrap, by the names of their directories.
    #[serde(default)]
    pub hooks: Vec<String>,
    /// Patterns of paths that dpkg does not unpack, during the build or later: dpkg(1), `path-exclude`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Patterns of paths that are excepted from `exclude`: dpkg(1), `path-include`.
    #[serde(default)]
    pub include: Vec<String>,
    /// Files that are written after all packages were installed.
    #[serde(default)]
    pub files: Vec<ImageFile>,
    /// Shell commands that are run inside the image in the end.
    #[serde(default)]
    pub run: Vec<String>,
}

/// A file of an image. Its owner is root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFile {
    /// Its absolute path.
    pub path: String,
    /// Its permissions.
    #[serde(default)]
    pub mode: FileMode,
    /// Its content.
    pub content: String,
}

/// Permission bits, written as a string of octal digits. The default is `"0644"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileMode(u32);

impl Default for FileMode {
    fn default() -> Self {
        Self(0o644)
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl From<FileMode> for String {
    fn from(mode: FileMode) -> String {
        mode.to_string()
    }
}

impl TryFrom<String> for FileMode {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o7777 => Ok(Self(mode)),
            _ => Err("expected a mode in octal digits, such as \"0644\""),
        }
    }
}

impl ImageDefinition {
    /// Reads and checks a definition.
    pub fn parse(yaml: &str) -> Result<Self, DefinitionError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        // The version is read first, since a newer file may have fields that are unknown here.
        let Versioned { version } = serde_norway::from_str(yaml).map_err(DefinitionError::Syntax)?;
        if version != VERSION {
            return Err(DefinitionError::Version(version));
        }
        let definition: Self = serde_norway::from_str(yaml).map_err(DefinitionError::Syntax)?;
        definition.check()?;
        Ok(definition)
    }

    /// The SHA-256 of what the definition says. The layout of its file, and comments in it, make no difference.
    pub fn digest(&self) -> Fingerprint {
        let canonical = serde_json::to_vec(self).expect("texts and numbers have a form in JSON");
        Fingerprint::from_bytes(Sha256::new_with_prefix(BUILDER).chain_update(canonical).finalize().into())
    }

    /// Describes the image that was built from this definition and has the tree `tree`. `created_at` is in seconds since 1970,
    /// UTC.
    pub fn describe(&self, tree: &TreeDigest, pool: PoolName, created_at: i64) -> ImageInfo {
        ImageInfo {
            fingerprint: tree.fingerprint,
            pool,
            aliases: vec![self.name.clone()],
            description: self.description.clone(),
            distribution: self.distribution.clone(),
            release: self.release.clone(),
            architecture: Architecture::NATIVE,
            init: self.init,
            size: tree.size,
            definition: self.digest(),
            created_at,
        }
    }

    /// Refuses values that could be taken for something else in an argument or a script, where all of them end up.
    fn check(&self) -> Result<(), DefinitionError> {
        check("description", &self.description, one_line, "it must be one line")?;
        check("distribution", &self.distribution, word, WORD)?;
        check("release", &self.release, word, WORD)?;
        check("suite", &self.suite, word, WORD)?;
        check_each("packages", &self.packages, word, WORD)?;
        check_each("hooks", &self.hooks, word, WORD)?;
        check_each("exclude", &self.exclude, absolute, ABSOLUTE)?;
        check_each("include", &self.include, absolute, ABSOLUTE)?;
        check_each("run", &self.run, no_nul, "it must not have a NUL character")?;
        for file in &self.files {
            check("path", &file.path, absolute, ABSOLUTE)?;
            check("content", &file.content, no_nul, "it must not have a NUL character")?;
        }
        Ok(())
    }
}

const WORD: &str = "it must begin with a-z or 0-9, and only those and . + - are allowed";
const ABSOLUTE: &str = "it must be an absolute path on one line, without \"..\"";

fn word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.bytes().next().is_some_and(plain) && text.bytes().all(|byte| plain(byte) || b".+-".contains(&byte))
}

fn one_line(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

fn absolute(text: &str) -> bool {
    text.starts_with('/') && one_line(text) && text.split('/').all(|part| part != "..")
}

fn no_nul(text: &str) -> bool {
    !text.contains('\0')
}

fn check_each(
    field: &'static str,
    values: &[String],
    is_valid: fn(&str) -> bool,
    rule: &'static str,
) -> Result<(), DefinitionError> {
    values.iter().try_for_each(|value| check(field, value, is_valid, rule))
}

fn check(
    field: &'static str,
    value: &str,
    is_valid: fn(&str) -> bool,
    rule: &'static str,
) -> Result<(), DefinitionError> {
    match is_valid(value) {
        true => Ok(()),
        false => Err(DefinitionError::Field { field, value: value.chars().take(80).collect(), rule }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const SMALL: &str = "version: 1\nname: tiny\ndescription: The least\ndistribution: debian\nrelease: '12'\n\
                         suite: bookworm\ninit: systemd\npackages: [systemd-sysv]\n";

    #[test]
    fn every_definition_of_the_project_is_valid() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images");
        let mut names = vec![];
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let definition = ImageDefinition::parse(&std::fs::read_to_string(&path).unwrap());
            let definition = definition.unwrap_or_else(|error| panic!("{path:?}: {error:?}"));
            assert_eq!(path.file_name().unwrap().to_str().unwrap(), format!("{}.yaml", definition.name));
            names.push(definition.name.to_string());
        }
        names.sort();
        assert!(names.len() > 3, "{names:?}"); // which ones: tests/guests.rs
    }

    #[test]
    fn wrong_definitions_are_refused_with_the_reason() {
        let cases = [
            (SMALL.replace("version: 1", "version: 2\nnew: field"), "version 2"),
            (SMALL.replace("suite: bookworm", "suite: --simulate"), "invalid suite"),
            (SMALL.replace("suite: bookworm", "suite: /etc/passwd"), "invalid suite"),
            (SMALL.replace("[systemd-sysv]", "['a,b']"), "invalid packages"),
            (SMALL.replace("[systemd-sysv]", "['./x.deb']"), "invalid packages"),
            (format!("{SMALL}hooks: [../../evil]"), "invalid hooks"),
            (format!("{SMALL}exclude: [usr]"), "invalid exclude"),
            (format!("{SMALL}files: [{{path: /a/../../b, content: x}}]"), "invalid path"),
            (format!("{SMALL}run: [\"a\\0b\"]"), "invalid run"),
            (format!("{SMALL}colour: blue"), "unknown field `colour`"),
            (format!("{SMALL}files: [{{path: /a, mode: '9', content: x}}]"), "octal"),
            (SMALL.replace("name: tiny", "name: ../tiny"), "invalid image alias"),
            (String::new(), "missing field"),
        ];
        for (yaml, expected) in cases {
            let error = ImageDefinition::parse(&yaml).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            assert!(format!("{error}: {source}").contains(expected), "{yaml}\n{error}: {source}");
        }
    }

    #[test]
    fn the_digest_is_that_of_the_meaning() {
        let digest = |yaml: &str| ImageDefinition::parse(yaml).unwrap().digest();
        assert_eq!(digest(SMALL), digest(&format!("# a comment\n{SMALL}run: []\n")));
        assert_ne!(digest(SMALL), digest(&format!("{SMALL}run: ['true']\n")));
        assert_ne!(digest(SMALL), digest(&SMALL.replace("bookworm", "trixie")));
    }
}
