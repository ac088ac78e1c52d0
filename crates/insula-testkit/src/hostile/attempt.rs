//! The form of an attempt, and the prelude of its program.

use std::fmt::Write;

use super::numbers::NUMBERS;

/// One thing that a hostile root tries.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// The attempt's name.
    pub name: &'static str,
    /// What the attempt tries to do, for people.
    pub tries: &'static str,
    program: Program,
}

#[derive(Debug, Clone, Copy)]
enum Program {
    Shell(&'static str),
    Perl(&'static str),
}

/// The result of an attempt, as its program reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that it tried was refused. Says how the last try was.
    Refused(String),
    /// It got what it wanted. Says what.
    Succeeded(String),
}

impl Attempt {
    pub(super) const fn shell(name: &'static str, tries: &'static str, program: &'static str) -> Self {
        Self { name, tries, program: Program::Shell(program) }
    }

    pub(super) const fn perl(name: &'static str, tries: &'static str, program: &'static str) -> Self {
        Self { name, tries, program: Program::Perl(program) }
    }

    /// The command that is executed in the guest.
    pub fn argv(&self) -> [String; 3] {
        match self.program {
            Program::Shell(text) => {
                ["sh".into(), "-c".into(), format!("{SHELL}\n{text}\nrefused \"$last\"\n")]
            }
            Program::Perl(text) => {
                ["perl".into(), "-e".into(), format!("{}\n{PERL}\n{text}\nrefused($last);\n", numbers())]
            }
        }
    }
}

impl Verdict {
    /// Parses the output of an attempt. `None` if the attempt ended before it could try anything.
    pub fn parse(output: &str) -> Option<Self> {
        let line = |word: &str| output.lines().find_map(|line| line.strip_prefix(word)).map(str::to_owned);
        match (line("succeeded: "), line("refused: ")) {
            (Some(what), _) => Some(Self::Succeeded(what)),
            (None, Some(what)) if what != NOTHING => Some(Self::Refused(what)),
            _ => None,
        }
    }
}

const NOTHING: &str = "nothing was tried";

/// The prelude of shell programs. `try LINE`: the attempt has succeeded if the line succeeds.
const SHELL: &str = r#"
last='nothing was tried'
succeeded() { echo "succeeded: $*" | tr '\n' ' '; echo; exit 0; }
refused() { echo "refused: $*" | tr '\n' ' '; echo; exit 0; }
try() { if said=$(eval "$1" 2>&1); then succeeded "$1"; else last="$1: $said"; fi; }
"#;

/// The prelude of Perl programs.
///
/// * `call(NAME, ARGUMENT…)`: makes a system call
/// * `try_call(…)`: the attempt has succeeded if the call succeeds
/// * `reach(…)`: … or if the call fails for another reason than that it is forbidden or missing
/// * `try_write(PATH, TEXT)`, `try_open(PATH)`, `try_read(PATH)`: … if that works; no file is
///   created or truncated
/// * `try_ioctl(FILE, NUMBER, ARGUMENT)`: … if that works
/// * `hold(WHAT)`: reports that it has what it wanted, and waits for the end of its input
/// * `in_child(SUB)`: calls it in another process, which may be killed; returns how many bytes that
///   wrote to its argument
/// * `in_children(COUNT, SUB)`: the same in several processes, which stay; holds, and ends them
/// * `walk(DIRECTORY, SUB)`: calls it with the path of every regular file, other file systems
///   excepted
const PERL: &str = r#"
use strict; use IO::Handle; use Errno qw(:POSIX); use Fcntl qw(:DEFAULT :mode); use Socket; use POSIX ();
our $last = 'nothing was tried';
$| = 1;
$SIG{ALRM} = sub { refused('it took too long') };
sub succeeded { print "succeeded: @_\n"; exit 0 }
sub refused { print "refused: @_\n"; exit 0 }
sub call {
    my $name = shift;
    for (0 .. $#_) { my $copy = $_[$_]; splice(@_, $_, 1, $copy) if Internals::SvREADONLY($_[$_]) } # the kernel writes
    my $result = syscall($main::NR{$name} // die("the number of $name is not known"), @_);
    $last = "$name: $!" if $result < 0;
    return $result;
}
sub try_call { my $result = call(@_); succeeded("$_[0] = $result") if $result >= 0 }
sub reach {
    my $result = call(@_);
    succeeded("$_[0] = $result") if $result >= 0;
    succeeded($last) unless $!{EPERM} || $!{ENOSYS} || $!{EACCES};
}
sub opened {
    my ($path, $mode) = @_;
    return $_ if sysopen($_, $path, $mode | O_NONBLOCK | O_NOCTTY);
    $last = "$path: $!";
    return undef;
}
sub try_open { local $_; succeeded("$_[0] can be opened") if opened($_[0], $_[1] // O_WRONLY) }
sub try_write {
    my ($path, $text) = @_;
    local $_;
    my $file = opened($path, O_WRONLY) or return;
    succeeded("$path takes $text") if defined syswrite($file, $text);
    $last = "$path: $!";
}
sub try_read {
    local $_;
    my $file = opened($_[0], O_RDONLY) or return;
    my $read = sysread($file, my $text, 16);
    succeeded("$_[0] can be read") if $read;
    $last = "$_[0]: " . (defined $read ? 'empty' : $!);
}
sub try_ioctl {
    my ($file, $number, $argument) = @_;
    succeeded(sprintf 'ioctl %#x', $number) if ioctl($file, $number, $argument);
    $last = sprintf('ioctl %#x: ', $number) . $!;
}
sub hold { print "holds: @_\n"; 1 while sysread(STDIN, my $rest, 4096) }
sub in_child {
    pipe(my $told, my $tell);
    my $child = fork // die;
    if (!$child) { close $told; $_[0]->($tell); POSIX::_exit(0) }
    close $tell;
    my $count = 0;
    while (my $read = sysread($told, my $bytes, 65536)) { $count += $read }
    waitpid $child, 0;
    my $ended = $?;
    select(undef, undef, undef, 0.3); # the kernel frees its file systems in memory a tick later: who needs any before is killed
    $? = $ended;
    return $count;
}
sub in_children {
    my ($number, $act) = @_;
    my ($count, @children) = 0;
    for (1 .. $number) {
        pipe(my $told, my $tell);
        my $child = fork // last;
        if (!$child) { close $told; $act->($tell); POSIX::_exit(0) }
        push @children, $child;
        $count += sysread($told, my $bytes, 65536) // 0;
    }
    hold($count);
    kill 'KILL', @children;
    waitpid $_, 0 for @children;
    return $count;
}
sub walk {
    my ($directory, $visit, $device) = @_;
    $device //= (lstat $directory)[0];
    opendir(my $entries, $directory) or return;
    for my $name (sort readdir $entries) {
        my $path = "$directory/$name";
        next if $name =~ /^\.\.?$/ or ((lstat $path)[0] // -1) != $device;
        if (-l _) { next } elsif (-d _) { walk($path, $visit, $device) } elsif (-f _) { $visit->($path) }
    }
}
"#;

/// The numbers of the system calls that programs make by name: `%NR`.
fn numbers() -> String {
    let mut text = String::from("our %NR = (");
    for (name, number) in NUMBERS {
        let _ = write!(text, "{name} => {number}, "); // to a string: it can't fail
    }
    text + ");"
}
