# Removes $4 in $3, which is $2 below $1 (empty: is $1). Exit 4: a link is on the way there.
set -eu
[ -d "$1" ] || exit 0
root=$(cd -P -- "$1" && pwd -P)
if ! cd -P -- "$3" 2>/dev/null; then
    [ -e "$3" ] || [ -L "$3" ] || exit 0
    echo "its parent cannot be entered" >&2
    exit 4
fi
if [ "$(pwd -P)" != "${root%/}${2:+/$2}" ]; then
    echo "it is behind a symbolic link" >&2
    exit 4
fi
[ -e "./$4" ] || [ -L "./$4" ] || exit 0
rm -rf --one-file-system -- "./$4"
sync .
