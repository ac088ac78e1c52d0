//! Mounts, device nodes, `/proc` and `/sys`, ways out of the root, and the file system that all guests share.

use super::attempt::Attempt;

/// All attempts of this kind.
pub const FILES: &[Attempt] = &[
    Attempt::perl(
        "host_sysctls",
        "writes the host's settings, each with what it has",
        r#"
my $own = qr(^/proc/sys/(net|user|fs/mqueue|fs/binfmt_misc)/|^/proc/sys/kernel/(hostname|domainname|shm|msg|sem|auto_msgmni|ns_last_pid|pid_max));
walk('/proc/sys', sub { try_open($_[0]) unless $_[0] =~ $own });
"#,
    ),
    Attempt::perl(
        "core_pattern",
        "has the host run a program when one of its own crashes",
        r#"
for my $path (qw(/proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kernel/hotplug)) {
    open(my $file, '<', $path) or next;
    try_write($path, scalar <$file>);
}
"#,
    ),
    Attempt::perl(
        "proc_files",
        "opens the kernel's controls in /proc for writing",
        r#"
my $own = qr(^/proc/(\d+|self|thread-self|sys|net)(/|$)|^/proc/(pressure/|uptime|meminfo|cpuinfo|stat|loadavg|swaps|diskstats));
opendir(my $entries, '/proc');
for my $path (map { "/proc/$_" } grep { !/^\.|^\d|^(self|thread-self|sys|net)$/ } readdir $entries) {
    walk($path, sub { try_open($_[0]) unless $_[0] =~ $own }) if -d $path;
    try_open($path) if -f $path && !-l $path && $path !~ $own;
}
"#,
    ),
    Attempt::perl(
        "sys_files",
        "makes /sys writable, and writes the kernel's controls there",
        r#"
system('mount -o remount,bind,rw /sys 2>/dev/null; mount -t sysfs none /mnt 2>/dev/null');
my $own = qr(^/(sys|mnt)/(fs/cgroup/|devices/virtual/net/));
for my $top ('/sys', '/mnt') {
    walk("$top/$_", sub { try_open($_[0]) unless $_[0] =~ $own }) for qw(kernel power fs module devices/system bus);
}
"#,
    ),
    Attempt::perl(
        "write_sys",
        "writes to /sys as it finds it",
        r#"try_open('/sys/kernel/uevent_helper'); try_write('/sys/class/net/lo/tx_queue_len', '1000');"#,
    ),
    Attempt::perl(
        "covered_paths",
        "reads what is covered in /proc and /sys",
        r#"
for my $path (qw(/proc/acpi /proc/asound /proc/latency_stats /proc/keys /proc/timer_list /proc/sched_debug /proc/kcore /sys/firmware)) {
    if (-d $path) {
        opendir(my $entries, $path);
        my @names = grep { !/^\./ } readdir $entries;
        succeeded("$path has @names") if @names;
        $last = "$path is empty";
    } elsif (-e $path) { try_read($path) }
}
"#,
    ),
    Attempt::perl(
        "below_the_covers",
        "takes the covers off, and reads and writes what is below",
        r#"
system("umount -l $_ 2>/dev/null") for qw(/proc/kcore /proc/timer_list /proc/sched_debug /proc/sysrq-trigger /proc/irq /proc/bus /proc/fs);
system('mount -t proc proc /mnt 2>/dev/null');
for my $proc ('/proc', '/mnt') {
    try_read("$proc/$_") for qw(kcore timer_list sched_debug kpagecount kpageflags vmallocinfo slabinfo);
    try_open("$proc/$_") for qw(sysrq-trigger mtrr irq/default_smp_affinity sys/kernel/core_pattern);
}
"#,
    ),
    Attempt::perl(
        "device_nodes",
        "makes nodes of the host's devices, and opens them",
        r#"
system('mount -t tmpfs none /mnt');
for my $place ('/root', '/mnt', '/dev') {
    for ([S_IFCHR, 1, 1], [S_IFCHR, 1, 11], [S_IFCHR, 10, 237], [S_IFCHR, 10, 229], [S_IFBLK, 7, 0], [S_IFBLK, 254, 0]) {
        my ($kind, $major, $minor) = @$_;
        my $path = "$place/device-$major-$minor";
        call('mknodat', -100, $path, $kind | 0600, $major << 8 | $minor);
        try_open($path, O_RDONLY) if -e $path;
    }
}
"#,
    ),
    Attempt::perl(
        "devices_of_the_host",
        "opens what there is in /dev beyond the harmless",
        r#"
my %harmless = map { $_ => 1 } qw(1:3 1:5 1:7 1:8 1:9 5:0 5:2);
my $look; $look = sub {
    opendir(my $entries, $_[0]) or return;
    for my $path (map { "$_[0]/$_" } grep { !/^\.\.?$/ } readdir $entries) {
        my @stat = lstat $path;
        my $number = ($stat[6] >> 8 & 0xfff) . ':' . ($stat[6] & 0xff);
        if (-d _) { $look->($path) }
        elsif ((-b _ || -c _) && !$harmless{$number} && $number !~ /^13[6-9]:/) { try_open($path, O_RDONLY) }
    }
};
$look->('/dev');
$last = 'there is none' if $last =~ /^nothing/;
"#,
    ),
    Attempt::perl(
        "disks_of_the_host",
        "mounts file systems from devices",
        r#"
for my $type (qw(btrfs ext4 xfs erofs squashfs iso9660 vfat)) {
    for my $source (qw(/dev/loop0 /dev/loop1 /dev/vda /dev/sda /dev/root)) {
        my $context = call('fsopen', $type, 0);
        next if $context < 0;
        call('fsconfig', $context, 1, 'source', $source, 0);
        try_call('fsconfig', $context, 6, 0, 0, 0);
        try_call('mount', $source, '/mnt', $type, 0, 0);
        POSIX::close($context);
    }
}
"#,
    ),
    Attempt::shell(
        "file_systems_of_the_kernel",
        "mounts what shows the kernel's insides",
        r"
for type in debugfs tracefs securityfs devtmpfs configfs efivarfs pstore resctrl selinuxfs rpc_pipefs nfsd; do
    try 'mount -t $type none /mnt'
done
",
    ),
    Attempt::shell(
        "loop_device",
        "binds a file to a loop device and mounts it",
        r"
truncate -s 1M /root/disk
try 'losetup -f --show /root/disk'
try 'mount -o loop -t ext4 /root/disk /mnt'
",
    ),
    Attempt::perl(
        "dot_dot",
        "walks up past its root, and out of a second one",
        r#"
my $root = sub { join ':', (stat $_[0])[0, 1] };
my $own = $root->('/');
my $up = '../' x 40;
succeeded('above the root') if -e "/$up$ENV{CANARY}" || $root->("/$up") ne $own;
mkdir '/root/cell';
opendir(my $outside, '/');
chroot('/root/cell') or die;
chdir $outside;
chdir '..' for 1 .. 40;
chroot '.';
$last = "the root is still $own";
succeeded('another root') if -e $ENV{CANARY} || $root->('/') ne $own;
"#,
    ),
    Attempt::perl(
        "below_the_root_mount",
        "takes its root mount off, and turns it",
        r#"
my $child = fork // die;
if (!$child) {
    call('unshare', 0x20000);
    call('mount', 'none', '/', 0, 1 << 18 | 1 << 14, 0);
    for (1 .. 3) {
        call('umount2', '/', 2);
        chdir '/', chroot '/';
        succeeded('the host is below') if -e $ENV{CANARY};
        chdir '/', call('pivot_root', '.', '.');
        call('umount2', '.', 2);
        succeeded('the host was there before') if -e $ENV{CANARY};
    }
    refused("no host below: $last");
}
waitpid $child, 0;
exit;
"#,
    ),
    Attempt::perl(
        "descriptors_of_the_host",
        "looks for directories that were left open: of itself, of init, of all",
        r#"
opendir(my $processes, '/proc');
for my $process (grep { /^\d+$/ } readdir $processes) {
    my @ways = ("/proc/$process/root", "/proc/$process/cwd");
    for my $directory ("/proc/$process/fd", "/proc/$process/map_files") {
        opendir(my $entries, $directory) or next;
        push @ways, map { "$directory/$_" } grep { !/^\./ } readdir $entries;
    }
    for my $way (@ways) {
        succeeded("$way leads out") if -e "$way/" . '../' x 40 . $ENV{CANARY};
        my $target = readlink $way // next;
        succeeded("$way is $target") if $target =~ /$ENV{HOST_NAMES}|memfd:.*insula/;
        $last = "$way is $target";
    }
    for my $file (qw(environ cmdline cgroup mountinfo maps comm)) {
        next if $file eq 'environ' && $process == $$; # it was told
        open(my $text, '<', "/proc/$process/$file") or next;
        while (<$text>) { succeeded("$file of $process: $_") if /$ENV{HOST_NAMES}/ }
    }
}
my @own = grep { $_ > 2 } map { m(/proc/self/fd/(\d+)) } glob '/proc/self/fd/*';
for (@own) { my $target = readlink "/proc/self/fd/$_" // next; succeeded("$_ is $target") if $target !~ m(^(/proc|pipe:)) }
"#,
    ),
    Attempt::perl(
        "id_mapped_mount",
        "mounts the shared file system with ids of its own choice",
        r#"
pipe(my $wait, my $go), pipe(my $ready, my $there);
my $child = fork // die;
if (!$child) { close $go; call('unshare', 0x10000000); syswrite($there, '.'); sysread($wait, $_, 1); exit }
sysread($ready, my $dot, 1);
for my $file (qw(uid_map gid_map)) { open(my $map, '>', "/proc/$child/$file"); syswrite($map, '0 1000 1') }
for my $namespace ("/proc/$child/ns/user", '/proc/self/ns/user') {
    my $tree = call('open_tree', -100, '/root', 1);
    my $ids = POSIX::open($namespace, O_RDONLY);
    try_call('mount_setattr', $tree, '', 0x1000, pack('Q4', 0x100000, 0, 0, $ids), 32);
}
"#,
    ),
    Attempt::perl(
        "freeze_the_pool",
        "freezes and trims the file system that all guests are on",
        r#"
opendir(my $root, '/');
if (ioctl($root, 0xc0045877, my $none = 0)) { ioctl($root, 0xc0045878, $none); succeeded('FIFREEZE') }
try_ioctl($root, 0xc0185879, pack('Q3', 0, ~0, 0));
try_ioctl($root, 0x8004587d, pack('L', 0));
"#,
    ),
    Attempt::perl(
        "subvolumes",
        "makes subvolumes, which no limit counts and no snapshot has",
        r#"
my $root = POSIX::open('/root', O_RDONLY);
open(my $file, '<&=', $root);
my $old = pack('q', $root) . 'volume' . "\0" x 4082;
my $new = pack('qQQQQ', $root, 0, 0, 0, 0) . "\0" x 16 . 'volume' . "\0" x 4034;
for ([0x5000940e, $old], [0x50009401, $old], [0x50009418, $new], [0x50009417, $new]) {
    my ($number, $argument) = @$_;
    try_ioctl($file, $number, $argument);
    try_call('ioctl', $root, 1 << 32 | $number, $argument);
}
"#,
    ),
    Attempt::perl(
        "controls_of_btrfs",
        "lifts quotas, resizes, sends, searches the trees of others",
        r#"
open(my $root, '<', '/etc/hostname');
opendir(my $directory, '/');
for my $file ($directory, $root) {
    try_ioctl($file, 0xc0109428, pack('QQ', 2, 0));                       # QUOTA_CTL: off
    try_ioctl($file, 0x8030942b, pack('Q6', 0, 0, 0, 0, 0, 0));           # QGROUP_LIMIT: none
    try_ioctl($file, 0x4010942a, pack('QQ', 1, 1 << 48 | 99));            # QGROUP_CREATE
    try_ioctl($file, 0x40189429, pack('Q3', 0, 256, 1 << 48 | 99));       # QGROUP_ASSIGN: out of the own
    try_ioctl($file, 0x50009403, pack('q', 0) . 'max' . "\0" x 4085);     # RESIZE
    try_ioctl($file, 0x5000940a, pack('q', 0) . '/dev/loop0' . "\0" x 4078); # ADD_DEV
    try_ioctl($file, 0x40089413, pack('Q', 5));                           # DEFAULT_SUBVOL
    try_ioctl($file, 0xd0009411, pack('Q13', 1, 0, ~0, 0, ~0, 0, ~0, 0 | ~0 << 32, 16, 0, 0, 0, 0) . "\0" x 3992);
    try_ioctl($file, 0xd0009412, pack('QQ', 5, 257) . "\0" x 4080);       # INO_LOOKUP in the top
    try_ioctl($file, 0x40489426, pack('qQPQQ', 1, 0, "\0" x 8, 0, 0) . "\0" x 32); # SEND
    try_ioctl($file, 0xc0389424, pack('Q7', 0, 64, 0, 0, 0, 0, 0));       # LOGICAL_INO
}
"#,
    ),
    Attempt::perl(
        "immutable_files",
        "makes files that nobody can delete",
        r#"open(my $file, '>', '/root/for-ever'); try_ioctl($file, 0x40086602, pack('L', $_)) for 0x10, 0x20;"#,
    ),
    Attempt::shell(
        "ids_beyond_the_range",
        "owns files as somebody outside of its range",
        r"
touch /root/file
for id in 65536 100000 4294967294; do try 'chown $id /root/file'; try 'setpriv --reuid $id --clear-groups true'; done
",
    ),
];
