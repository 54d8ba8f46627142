#!/bin/sh
# Turns the installed packages and the files of rootfs/ into a host.
set -eu

useradd --create-home --shell /bin/bash --password '*' deploy
printf 'deploy ALL=(ALL:ALL) NOPASSWD: ALL\n' >/etc/sudoers.d/deploy
chmod 440 /etc/sudoers.d/deploy
visudo -cq
install -d -m 700 /root/.ssh
install -d -m 700 -o deploy -g deploy /home/deploy/.ssh
rm -f /etc/ssh/ssh_host_*   # each host makes its own when it starts

printf 'Listen 8080\n' >/etc/apache2/ports.conf
printf 'ServerName localhost\n' >/etc/apache2/conf-available/servername.conf
a2enconf -q servername
a2dismod -q -f mpm_prefork 2>/dev/null || true   # not enabled on every release
a2enmod -q mpm_event rewrite headers alias proxy proxy_fcgi setenvif
apache2ctl configtest

for conf in /etc/php/*/fpm/conf.d /etc/php/*/cli/conf.d; do
    ln -s /usr/share/kedge-testenv/php.ini "$conf/99-kedge-testenv.ini"
done
nginx -t

# The data directory is made once with our small sizes; a host unpacks it where its storage is (volume or tmpfs).
rm -rf /var/lib/mysql
install -d -m 755 -o mysql -g mysql /var/lib/mysql
mariadb-install-db --user=mysql --auth-root-authentication-method=socket --skip-test-db >/tmp/build/mysql.log
tar -C /var/lib/mysql --zstd -cf /usr/share/kedge-testenv/mysql.tar.zst .
find /var/lib/mysql -mindepth 1 -delete

chmod 755 /usr/local/sbin/kedge-init /usr/local/sbin/kedge-service
find /var/log -type f -exec truncate -s 0 {} +
