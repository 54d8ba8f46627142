# What is at $1 in the format $2, its bytes (a little more than allowed at most), and again what is there. Nothing if it is absent.
set -eu
[ -e "$1" ] || [ -L "$1" ] || exit 0
find "$1" -maxdepth 0 -printf "$2"
if [ -f "$1" ] && [ ! -L "$1" ]; then
    dd if="$1" iflag=nofollow,nonblock,fullblock bs=65536 count=5 status=none
fi
find "$1" -maxdepth 0 -printf "$2"
