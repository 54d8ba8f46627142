# Renames $1 (in $2) to $3 (in $4) without replacing anything, by the Perl program $5 where there is Perl. Both parents are synced.
# Exit 5: the target exists. Exit 4: refused.
set -eu
if [ ! -d "$4/" ]; then
    echo "$4 is not a directory" >&2
    exit 4
fi
if command -v perl >/dev/null; then
    perl -e "$5" -- "$1" "$3"
else
    # mv would copy to another file system, and it says nothing when it does not replace.
    if [ -e "$3" ] || [ -L "$3" ]; then exit 5; fi
    if [ ! -e "$1" ] && [ ! -L "$1" ]; then
        echo "$1 does not exist" >&2
        exit 4
    fi
    if [ "$(stat -c %d -- "$1")" != "$(stat -c %d -- "$4/")" ]; then
        echo "$1 and $4 are on different file systems" >&2
        exit 4
    fi
    inode=$(stat -c %i -- "$1")
    mv -nT -- "$1" "$3"
    [ "$(stat -c %i -- "$3")" = "$inode" ] || exit 5
fi
sync "$2/" "$4/"
