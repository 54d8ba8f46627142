# renameat2(2) with RENAME_NOREPLACE: replaces nothing, whatever happens meanwhile. Numbers of the call by architecture.
use strict;
use Config;
my ($from, $to) = @ARGV;
my %call = (x86_64 => 316, i386 => 353, i686 => 353, arm => 382, aarch64 => 276, riscv64 => 276, loongarch64 => 276,
    powerpc64 => 357, powerpc64le => 357, s390x => 347);
my ($machine) = split /-/, $Config{archname};
my $here = -100;
my $answer = defined $call{$machine} ? syscall($call{$machine}, $here, $from, $here, $to, 1) : -1;
exit 0 if $answer == 0;
my ($exists, $unknown) = ($!{EEXIST}, !defined $call{$machine} || $!{EINVAL} || $!{ENOSYS});
my $why = $!;
exit 5 if $exists || lstat $to;
if ($unknown) {
    # The file system or the kernel does not know the flag: the target was not there a moment ago.
    exit 0 if rename $from, $to;
    $why = $!;
}
print STDERR "$from: $why\n";
exit 4;
