//! The value that a check observes, and its verdict.

/// The verdict of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nothing is missing.
    Ok,
    /// It works, but costs something: speed, space, a wall of isolation.
    Costs,
    /// Something is missing that VPSes need.
    Missing,
}

impl State {
    /// The word for people and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Costs => "costs",
            Self::Missing => "missing",
        }
    }
}

/// An observed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// It does not exist.
    Absent,
    /// No program that knows it could be asked.
    Unknown,
    /// A number.
    Number(u64),
    /// A word, a version, a path.
    Text(String),
    /// Several.
    List(Vec<String>),
}
