//! What this host has and lacks: a table of checks, observed, judged, and fixed where that can be done at once.
//!
//! [`table`] is data, [`observe`](observe::observe) reads the host, [`judge`] is pure, [`fix`] writes.

pub mod fix;
pub mod observe;
pub mod table;
mod value;

use table::{CHECKS, Check, Judge};

pub use value::{State, Value};

/// The result of a check.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The check.
    pub check: &'static Check,
    /// An observed value.
    pub value: Value,
    /// The verdict.
    pub state: State,
}

/// Runs all checks. `pool_quota` is the agent's answer about its pool.
pub fn examine(pool_quota: Option<&str>) -> Vec<Finding> {
    let examine = |check: &'static Check| {
        let value = observe::observe(&check.source, pool_quota);
        Finding { check, state: judge(&check.judge, &value), value }
    };
    CHECKS.iter().map(examine).collect()
}

/// The verdict on an observed value.
pub fn judge(judge: &Judge, value: &Value) -> State {
    match (judge, value) {
        (_, Value::Unknown) => State::Ok,
        // A kernel without the budget has no such bound.
        (Judge::AtLeast { .. }, Value::Absent) => State::Ok,
        (Judge::AtLeast { wanted }, Value::Number(number)) if number >= wanted => State::Ok,
        (Judge::Present(_), Value::Absent) | (Judge::NotZero, Value::Number(0) | Value::Absent) => {
            lack_of(judge)
        }
        (Judge::Present(_), _) | (Judge::NotZero, _) => State::Ok,
        (Judge::Version { needed, wanted }, Value::Text(text)) => match version(text) {
            Some(found) if found >= *wanted => State::Ok,
            Some(found) if found >= *needed => State::Costs,
            _ => State::Missing,
        },
        (Judge::Word { best, good }, Value::Text(text)) => match () {
            () if best == text => State::Ok,
            () if good.contains(&&**text) => State::Costs,
            () => State::Missing,
        },
        (Judge::Has { needed, wanted }, Value::List(there)) => {
            let lacks = |words: &[&str]| words.iter().any(|word| !there.iter().any(|found| found == word));
            match (lacks(needed), lacks(wanted)) {
                (true, _) => State::Missing,
                (false, true) => State::Costs,
                (false, false) => State::Ok,
            }
        }
        (Judge::None, Value::List(there)) if there.is_empty() => State::Ok,
        (Judge::None, Value::Absent) => State::Ok,
        _ => lack_of(judge),
    }
}

/// The verdict if no rule fits the value.
fn lack_of(judge: &Judge) -> State {
    match judge {
        Judge::Present(lack) => *lack,
        Judge::AtLeast { .. } => State::Costs,
        _ => State::Missing,
    }
}

/// `6.18.5-1-amd64` as 6 and 18.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

impl Value {
    /// The value as text for people.
    pub fn render(&self) -> String {
        match self {
            Self::Absent => "not there".into(),
            Self::Unknown => "no agent answers".into(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
            Self::List(list) if list.is_empty() => "none".into(),
            Self::List(list) => list.join(", "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_judged_by_the_table() {
        let text = |text: &str| Value::Text(text.into());
        let list = |words: &[&str]| Value::List(words.iter().map(ToString::to_string).collect());
        let version = Judge::Version { needed: (5, 15), wanted: (6, 7) };
        let word = Judge::Word { best: "unified", good: &["hybrid"] };
        let has = Judge::Has { needed: &["cpu"], wanted: &["io"] };
        let enough = Judge::AtLeast { wanted: 10 };
        use State::*;
        for (rule, value, state) in [
            (&version, text("6.18.44-fc-v595"), Ok),
            (&version, text("6.7.0"), Ok),
            (&version, text("6.1.0-13-amd64"), Costs),
            (&version, text("5.15"), Costs),
            (&version, text("5.14.99"), Missing),
            (&version, text("none"), Missing),
            (&word, text("unified"), Ok),
            (&word, text("hybrid"), Costs),
            (&word, text("legacy"), Missing),
            (&word, Value::Absent, Missing),
            (&word, Value::Unknown, Ok),
            (&has, list(&["cpu", "io"]), Ok),
            (&has, list(&["cpu"]), Costs),
            (&has, list(&["io"]), Missing),
            (&has, Value::Absent, Missing),
            (&enough, Value::Number(10), Ok),
            (&enough, Value::Number(9), Costs),
            (&enough, Value::Number(0), Costs),
            (&enough, Value::Absent, Ok),
            (&Judge::NotZero, Value::Number(1), Ok),
            (&Judge::NotZero, Value::Number(0), Missing),
            (&Judge::NotZero, Value::Absent, Missing),
            (&Judge::Present(Costs), Value::Absent, Costs),
            (&Judge::Present(Missing), Value::Absent, Missing),
            (&Judge::Present(Missing), text("/usr/sbin/nft"), Ok),
            (&Judge::None, list(&[]), Ok),
            (&Judge::None, list(&["ip filter FORWARD"]), Missing),
        ] {
            assert_eq!(judge(rule, &value), state, "{rule:?} {value:?}");
        }
    }
}
