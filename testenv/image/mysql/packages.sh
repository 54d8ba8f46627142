#!/bin/sh
# Installs what a host with MySQL runs. Nothing is started while it builds.
set -eu
export DEBIAN_FRONTEND=noninteractive

# The sources of the building machine replace those of the base, so that apt works in a container as it does there.
ours=/etc/apt/sources.list.d/kedge-testenv.sources
if [ -e "$ours" ]; then
    rm -f /etc/apt/sources.list
    find /etc/apt/sources.list.d -type f ! -path "$ours" -delete
fi

printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get update -q
apt-get install -q -y --no-install-recommends \
    openssh-server mysql-server mysql-client \
    rsync zstd curl sudo procps util-linux acl attr ca-certificates
rm -f /usr/sbin/policy-rc.d
update-ca-certificates >/dev/null
apt-get clean
mysqld --version | grep -q 'Ver 9\.' || { echo "this is another MySQL than the 9 that was meant: $(mysqld --version)" >&2; exit 1; }
