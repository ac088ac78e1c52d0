//! Repairs that need no reboot: it raises sysctls that are too low.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::Finding;
use super::observe::sysctl_file;
use super::table::{Judge, Source};
use super::value::{State, Value};

/// The file that is read at boot: sysctl.d(5).
pub const FILE: &str = "/etc/sysctl.d/60-insula.conf";

const HEAD: &str = "# Written by `insula doctor --fix`, which raises numbers here and lowers none. docs/doctor.md says what they are.\n";

/// A sysctl to raise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raise {
    /// Its name as in sysctl(8).
    pub key: &'static str,
    /// The value before.
    pub from: u64,
    /// The value after.
    pub to: u64,
}

/// Plans which sysctls to raise.
pub fn plan_raises(findings: &[Finding]) -> Vec<Raise> {
    let mut raises: Vec<Raise> = vec![];
    for Finding { check, value, state } in findings {
        let (Source::Sysctl(key), Value::Number(from), true) = (&check.source, value, *state != State::Ok)
        else {
            continue;
        };
        let to = match check.judge {
            Judge::AtLeast { wanted } => wanted,
            _ => continue, // another check of the same key says how much is enough
        };
        raises.push(Raise { key, from: *from, to });
    }
    raises
}

/// Renders the file with these values and those that it already has: the higher one of each.
pub fn plan_file(there: &str, raises: &[Raise]) -> String {
    let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
    let lines = there.lines().filter_map(|line| line.trim_start_matches('-').split_once('='));
    let known = lines.filter_map(|(key, value)| Some((key.trim().to_owned(), value.trim().parse().ok()?)));
    for (key, number) in known.chain(raises.iter().map(|raise| (raise.key.to_owned(), raise.to))) {
        let kept = numbers.entry(key).or_insert(number);
        *kept = number.max(*kept);
    }
    // The dash: a sysctl that the kernel does not have yet, such as that of a module, is not an error.
    let lines = numbers.iter().map(|(key, number)| format!("-{key} = {number}\n"));
    HEAD.to_owned() + &lines.collect::<String>()
}

/// Raises the numbers, at once and for the next boot. Returns whether the file was written.
pub fn apply(raises: &[Raise]) -> Result<(), (String, io::Error)> {
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |error| (format!("failed to write {path}"), error)
    };
    if raises.is_empty() {
        return Ok(());
    }
    let file = Path::new(FILE);
    let there = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        result => result.map_err(|error| (format!("failed to read {FILE}"), error))?,
    };
    let wanted = plan_file(&there, raises);
    if wanted != there {
        let directory = file.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory).map_err(at(directory))?;
        let new = directory.join(".60-insula.conf.new");
        std::fs::write(&new, wanted).and_then(|()| std::fs::rename(&new, file)).map_err(at(file))?;
    }
    // Thresholds that have an order are raised from the top.
    for raise in raises.iter().rev() {
        let path = sysctl_file(raise.key);
        std::fs::write(&path, raise.to.to_string()).map_err(at(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::judge;
    use crate::doctor::table::CHECKS;

    fn findings(value: &Value) -> Vec<Finding> {
        let finding = |check| Finding { check, state: judge(&check.judge, value), value: value.clone() };
        CHECKS.iter().map(finding).collect()
    }

    #[test]
    fn what_is_too_low_is_raised_and_nothing_else() {
        let low = plan_raises(&findings(&Value::Number(0)));
        let budgets = CHECKS.iter().filter(|check| matches!(check.judge, Judge::AtLeast { .. })).count();
        assert_eq!(low.len(), budgets);
        assert!(low.iter().all(|raise| raise.to > raise.from));
        assert_eq!(plan_raises(&findings(&Value::Number(u64::MAX))), []);
        assert_eq!(plan_raises(&findings(&Value::Absent)), []);
    }

    #[test]
    fn the_file_is_only_raised() {
        let raise = |key, to| Raise { key, from: 0, to };
        let first = plan_file("", &[raise("kernel.pty.max", 100), raise("fs.file-max", 7)]);
        assert_eq!(first, format!("{HEAD}-fs.file-max = 7\n-kernel.pty.max = 100\n"));
        assert_eq!(plan_file(&first, &[raise("kernel.pty.max", 50)]), first);
        assert!(plan_file(&first, &[raise("kernel.pty.max", 200)]).contains("-kernel.pty.max = 200\n"));
        assert!(plan_file("vm.swappiness = 3\n# x\n", &[]).contains("-vm.swappiness = 3\n"));
    }
}
