//! Bombs: a guest that takes everything takes it from itself.

use std::process::Stdio;

use insula_testkit::hostile::{Attempt, BOMBS, LIMITED_BOMBS, Verdict};
use insula_testkit::{PATIENCE, Process};

use super::arena::{ATTACKER, Arena, NEIGHBOUR};
use super::pulse::Pulse;
use super::witness::Witness;

/// What every guest may expect to get: a process, an inotify instance, a terminal, a file on the
/// disk, memory.
const NEEDS: &str = r#"
use strict; use Fcntl;
my $child = fork // die "fork: $!";
exit unless $child;
waitpid $child, 0;
(my $instance = syscall($ENV{INOTIFY_INIT1}, 0)) >= 0 or die "inotify: $!";
sysopen(my $terminal, '/dev/ptmx', O_RDWR | O_NOCTTY) or die "ptmx: $!";
pipe(my $read, my $write) or die "pipe: $!";
open(my $file, '>', '/root/needed') or die "file: $!";
print $file 'x' x 100_000 or die "write: $!";
close $file or die "write: $!";
my $memory = chr(1) x (32 << 20);
print "served\n";
"#;

#[test]
fn bombs_hit_nobody_else() {
    let arena = Arena::new();
    let before = Witness::observe(&arena);
    let failures: Vec<String> =
        LIMITED_BOMBS.iter().chain(BOMBS).filter_map(|bomb| explode(&arena, bomb, &before).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Sets off a bomb, checks on the neighbour while the bomb holds what it has taken, and ends it.
fn explode(arena: &Arena, bomb: &Attempt, before: &Witness) -> Result<(), String> {
    let pulse = Pulse::start(&arena.host, NEIGHBOUR);
    let mut output = tempfile::NamedTempFile::new().unwrap();
    let stdout = output.reopen().unwrap();
    let mut process = arena.command(ATTACKER, bomb).spawn_with(
        Stdio::piped(),
        stdout.try_clone().unwrap().into(),
        stdout.into(),
    );
    wait_for_hold(&mut process, output.path());
    let neighbour = look_after(arena);
    drop(process.child().stdin.take()); // the end of its input
    let status = process.wait(PATIENCE);
    let text = std::io::read_to_string(output.as_file_mut()).unwrap();
    let (name, tries) = (bomb.name, bomb.tries);
    let result = match Verdict::parse(&text) {
        _ if status.is_none() => Err(format!("{name} does not end: {text}")),
        Some(Verdict::Refused(what)) => {
            println!("{name}: {what}");
            Ok(())
        }
        Some(Verdict::Succeeded(what)) => Err(format!("{name} ({tries}) has succeeded: {what}")),
        None => Err(format!("{name} did not come to an end of its own ({status:?}): {text}")),
    };
    pulse.stop().assert_bearable(&arena.idle);
    result.and(neighbour.map_err(|error| format!("{name} ({tries}) hits the neighbour: {error}")))?;
    let changes = Witness::observe(arena).changes_since(before);
    if changes.is_empty() { Ok(()) } else { Err(format!("{name} ({tries}) has changed {changes}")) }
}

/// Waits until the bomb holds what it has taken, or has ended.
pub fn wait_for_hold(process: &mut Process, output: &std::path::Path) {
    insula_testkit::eventually("the bomb has gone off", || {
        let text = std::fs::read_to_string(output).unwrap_or_default();
        let has_ended = process.wait(std::time::Duration::ZERO).is_some();
        (has_ended || text.contains("holds: ")).then_some(())
    });
}

/// Checks that the neighbour gets what it needs.
fn look_after(arena: &Arena) -> Result<(), String> {
    let number = format!("INOTIFY_INIT1={}", insula_testkit::hostile::INOTIFY_INIT1);
    let outcome =
        arena.host.insula(&["exec", "--no-tty", "--env", &number, NEIGHBOUR, "--", "perl", "-e", NEEDS]);
    if outcome.text() == "served" { Ok(()) } else { Err(outcome.to_string()) }
}
