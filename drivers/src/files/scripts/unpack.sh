# Unpacks a tar stream into the directory $1 and makes it durable.
set -eu
cd -P -- "$1"
tar --extract --file=- --preserve-permissions --same-owner --numeric-owner --acls --xattrs --xattrs-include='*' \
    --delay-directory-restore --warning=no-timestamp --warning=no-unknown-keyword
sync -f .
