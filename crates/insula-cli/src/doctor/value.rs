//! What a check sees, and how good that is.

/// How well off the host is in one respect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// All is there.
    Ok,
    /// It works, and costs something: speed, room, a wall.
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

/// What was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// It is not there.
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
