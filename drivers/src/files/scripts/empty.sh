# Empties the directory $1, after a copy that found no room.
set -eu
cd -P -- "$1"
find . -mindepth 1 -xdev -delete
