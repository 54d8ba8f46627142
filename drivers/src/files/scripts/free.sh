# Room on the file system of $1 or of its nearest existing parent: free blocks, block size, free inodes, all inodes, device, and 1 where it
# may be written to (to root, only a read-only mount is in the way).
set -eu
path=$1
while [ ! -e "$path" ]; do
    path=${path%/*}
    [ -n "$path" ] || path=/
done
stat -f -c '%a %S %d %c' -- "$path"
stat -L -c '%d' -- "$path"
if [ -w "$path" ]; then echo 1; else echo 0; fi
