#!/bin/sh
# Turns the installed packages into a host.
set -eu

useradd --create-home --shell /bin/bash --password '*' deploy
printf 'deploy ALL=(ALL:ALL) NOPASSWD: ALL\n' >/etc/sudoers.d/deploy
chmod 440 /etc/sudoers.d/deploy
visudo -cq
install -d -m 700 /root/.ssh
install -d -m 700 -o deploy -g deploy /home/deploy/.ssh
rm -f /etc/ssh/ssh_host_*   # each host makes its own when it starts

# The data directory that the package has made, made again with our small sizes: root and Debian's own account log in by socket,
# as the package leaves them, and keys and certificates are the server's own.
rm -rf /var/lib/mysql
install -d -m 700 -o mysql -g mysql /var/lib/mysql
install -d -o mysql -g mysql /run/mysqld
cat >/var/lib/mysql-files/accounts.sql <<'END'
USE mysql;
INSTALL PLUGIN auth_socket SONAME 'auth_socket.so';
ALTER USER 'root'@'localhost' IDENTIFIED WITH 'auth_socket';
CREATE USER 'debian-sys-maint'@'localhost' IDENTIFIED WITH 'auth_socket' AS 'root';
GRANT ALL ON *.* TO 'debian-sys-maint'@'localhost' WITH GRANT OPTION;
END
chown mysql:mysql /var/lib/mysql-files/accounts.sql
mysqld --initialize-insecure --user=mysql --init-file=/var/lib/mysql-files/accounts.sql
rm /var/lib/mysql-files/accounts.sql
mkdir -p /usr/share/kedge-testenv
tar -C /var/lib/mysql --zstd -cf /usr/share/kedge-testenv/mysql.tar.zst .
find /var/lib/mysql -mindepth 1 -delete

chmod 755 /usr/local/sbin/kedge-init /usr/local/sbin/kedge-service
find /var/log -type f -exec truncate -s 0 {} +
