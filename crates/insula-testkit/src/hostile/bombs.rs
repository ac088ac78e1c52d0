//! Bombs: attempts to use up all there is of something. They hold what they have until their input
//! ends, so that others can be observed meanwhile. They also limit themselves, in case nothing else
//! does.

use super::attempt::Attempt;

/// Bombs that a limit of the VPS stops. The limit is in `PROCESSES`, `MEMORY_MIB` or `DISK_MIB` of
/// the environment.
pub const LIMITED_BOMBS: &[Attempt] = &[
    Attempt::perl(
        "fork_bomb",
        "makes more processes than it may",
        r#"
my @children;
while (@children <= $ENV{PROCESSES}) {
    my $child = fork;
    if (!defined $child) { $last = "fork: $!"; last }
    if (!$child) { close STDOUT; close STDERR; sleep 600; exit }
    push @children, $child;
}
my $count = @children;
hold("$count processes");
kill 'KILL', @children;
waitpid $_, 0 for @children;
succeeded("$count processes") if $count > $ENV{PROCESSES};
$last = "$count processes, then $last";
"#,
    ),
    Attempt::perl(
        "memory_bomb",
        "holds more memory than it may",
        r#"
my $most = $ENV{MEMORY_MIB};
my $mebibytes = in_child(sub {
    my ($tell, @held) = @_;
    for (0 .. $most) { push @held, chr(1) x (1 << 20); syswrite($tell, '.') }
});
succeeded("$mebibytes MiB") if $mebibytes > $most;
$last = "$mebibytes MiB, then signal " . ($? & 127);
"#,
    ),
    Attempt::perl(
        "tmpfs_bomb",
        "fills file systems in memory with more than it may have",
        r#"
my $most = $ENV{MEMORY_MIB};
my $mebibytes = in_child(sub {
    my $tell = shift;
    open(my $score, '>', '/proc/self/oom_score_adj'); # what is in files is nobody's: anybody might be killed for it
    syswrite($score, '1000');
    call('unshare', 0x20000);
    call('mount', 'none', '/', 0, 1 << 18 | 1 << 14, 0);
    call('mount', 'none', '/mnt', 'tmpfs', 0, 'size=50%');
    open(my $file, '>', '/mnt/bomb') or die $!;
    for (0 .. $most) { last unless (syswrite($file, chr(1) x (1 << 20)) // 0) == 1 << 20; syswrite($tell, '.') }
});
my $killed = $? & 127;
succeeded("$mebibytes MiB") if $mebibytes > $most;
$last = "$mebibytes MiB, then signal $killed";
"#,
    ),
    DISK_FILLER,
];

/// The one of [`LIMITED_BOMBS`] that fills the disk.
pub const DISK_FILLER: Attempt = Attempt::perl(
    "disk_filler",
    "writes more to the disk than it may",
    r#"
my $mebibytes = 0;
open(my $file, '>', '/root/filler') or die $!;
my $block = join '', map { chr rand 256 } 1 .. 1 << 20;
while ($mebibytes <= $ENV{DISK_MIB}) {
    my $written = syswrite($file, $block) // 0;
    if ($written < length $block) { $last = "write: $!"; last }
    $mebibytes++;
    if ($mebibytes % 16 == 0) { $file->sync // do { $last = "fsync: $!"; last } }
}
hold("$mebibytes MiB");
unlink '/root/filler';
succeeded("$mebibytes MiB") if $mebibytes > $ENV{DISK_MIB};
$last = "$mebibytes MiB, then $last";
"#,
);

/// Bombs that no limit of their own stops. They must not make others run short.
pub const BOMBS: &[Attempt] = &[
    Attempt::perl(
        "file_bomb",
        "makes files without end, in one directory and one in the other",
        r#"
mkdir '/root/files';
my $count = 0;
while ($count < 10_000) { open(my $file, '>', "/root/files/" . $count) or last; $count++ }
chdir '/root/files';
my $depth = 0;
$depth++ while $depth < 1_000 && mkdir('d' x 200) && chdir('d' x 200);
hold("$count files, $depth directories");
chdir '/';
system('rm -rf /root/files');
refused("$count files, $depth directories, and nobody else noticed");
"#,
    ),
    Attempt::perl(
        "descriptor_bomb",
        "opens files until it may not",
        r#"
my $count = in_children(4, sub {
    my ($tell, @held) = @_;
    while (@held < 10_000 && open(my $file, '<', '/dev/null')) { push @held, $file }
    syswrite($tell, '.' x (@held / 100));
    sleep 600;
});
refused("$count hundred descriptors, and nobody else noticed");
"#,
    ),
    Attempt::perl(
        "inotify_bomb",
        "makes instances of inotify until it may not",
        r#"
my @held;
while (@held < 5_000) { my $instance = call('inotify_init1', 0); last if $instance < 0; push @held, $instance }
hold(scalar @held);
refused(@held . " instances, then $last");
"#,
    ),
    Attempt::perl(
        "terminal_bomb",
        "makes terminals until it may not",
        r#"
my @held;
while (@held < 5_000) { sysopen(my $terminal, '/dev/ptmx', O_RDWR | O_NOCTTY) or ($last = "ptmx: $!", last); push @held, $terminal }
hold(scalar @held);
refused(@held . " terminals, then $last");
"#,
    ),
    Attempt::perl(
        "pipe_bomb",
        "makes pipes and fills them",
        r#"
my @held;
while (@held < 800) {
    pipe(my $read, my $write) or ($last = "pipe: $!", last);
    fcntl($write, 1031, 1 << 20) or $last = "F_SETPIPE_SZ: $!";
    fcntl($write, F_SETFL, O_NONBLOCK);
    1 while syswrite($write, "\0" x 4096);
    push @held, [$read, $write];
}
hold(scalar @held);
refused(@held . " pipes, then $last");
"#,
    ),
    Attempt::perl(
        "namespace_bomb",
        "makes network namespaces without end",
        r#"
my $count = in_children(1, sub {
    my ($tell, @held) = @_;
    while (@held < 200) {
        last if call('unshare', 0x40000000) < 0;
        open(my $namespace, '<', '/proc/self/ns/net');
        push @held, $namespace;
    }
    syswrite($tell, '.' x @held);
    sleep 600;
});
refused("$count namespaces, then $last");
"#,
    ),
    Attempt::perl(
        "cgroup_bomb",
        "makes groups of processes without end",
        r#"
my @held;
mkdir '/sys/fs/cgroup/bomb';
for my $number (1 .. 2_000) {
    mkdir "/sys/fs/cgroup/bomb/$number" or ($last = "mkdir: $!", last);
    push @held, $number;
}
hold(scalar @held);
rmdir "/sys/fs/cgroup/bomb/$_" for @held;
rmdir '/sys/fs/cgroup/bomb';
refused(@held . " groups, then $last");
"#,
    ),
    Attempt::perl(
        "console_flood",
        "writes to its console without end",
        r#"
open(my $console, '>', '/dev/console') or die $!;
syswrite($console, "flood\e[2J\e]0;flood\a" x 64 . "\r\n") for 1 .. 4_000;
hold('a flooded console');
refused('the console took it all, and nobody else noticed');
"#,
    ),
    Attempt::perl(
        "notify_flood",
        "says that it is ready without end, and sends descriptors along",
        r#"
socket(my $socket, AF_UNIX, SOCK_DGRAM, 0);
fcntl($socket, F_SETFL, O_NONBLOCK);
connect($socket, sockaddr_un('/run/host/notify')) or die "notify: $!";
my $count = 0;
for my $number (1 .. 3_000) {
    my $text = $number % 2 ? 'READY=1' : "\xff\0STATUS=" . 'x' x 2_000;
    my $vector = pack('PQ', $text, length $text);
    my $rights = pack('QllL2', 24, 1, 1, fileno $socket, fileno $socket);
    my $message = pack('QLx4PQPQlx4', 0, 0, $vector, 1, $rights, length $rights, 0);
    my $sent = call('sendmsg', fileno $socket, $message, 0);
    $count++ if $sent > 0;
    $last = "sendmsg: $!" if $sent < 0;
}
hold("$count messages");
refused("$count messages, then $last");
"#,
    ),
    Attempt::perl(
        "connection_bomb",
        "begins connections without end, which the host has to track",
        r#"
socket(my $socket, AF_INET, SOCK_DGRAM, 0);
my $gateway = inet_aton($ENV{GATEWAY});
my $count = 0;
for my $port (1 .. 20_000) { $count++ if send($socket, 'x', 0, sockaddr_in(20_000 + $port, $gateway)); }
hold("$count packets");
refused("$count packets, and nobody else noticed");
"#,
    ),
    Attempt::perl(
        "cpu_bomb",
        "computes on all CPUs",
        r#"
my $count = in_children(16, sub { syswrite($_[0], '.'); 1 while 1 });
refused("$count busy processes, and nobody else noticed");
"#,
    ),
];
