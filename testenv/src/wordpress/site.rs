//! Installs a WordPress site by hand, in the layout that Kedge's `install` makes: for tests of what is here, and for tests
//! that want a site which Kedge did not make.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::exec::Exec;
use crate::host::Host;
use crate::spec::Service;
use crate::wordpress::php;

/// A site to install.
#[derive(Debug, Clone, Serialize)]
pub struct SiteSpec {
    /// The code base, such as `/srv/platforms/wordpress-6.1`.
    pub platform_root: String,
    /// The site's host name.
    pub uri: String,
    /// A theme of the platform; it is copied into the site.
    pub theme: String,
    /// The site's title.
    pub title: String,
}

/// An installed site.
#[derive(Debug, Clone)]
pub struct Site {
    /// Its host name.
    pub uri: String,
    /// The code base that it runs on.
    pub platform_root: String,
    /// Its own directory.
    pub dir: String,
    /// Its database, and the name of the account that may use it.
    pub database: String,
    /// The version that WordPress calls itself.
    pub version: String,
    /// The version of its database's schema.
    pub db_version: u64,
}

impl SiteSpec {
    /// A site with the theme that both platforms have.
    pub fn new(platform_root: &str, uri: &str) -> Self {
        Self {
            platform_root: platform_root.to_owned(),
            uri: uri.to_owned(),
            theme: "twentytwentythree".to_owned(),
            title: format!("The harbour of {uri}"),
        }
    }
}

/// Lays down what a platform and a site need on disk. Arguments: platform root, uri, theme; the site's settings on
/// standard input. The dispatcher is the same for all sites of the platform.
const LAYOUT: &str = r#"set -eu
root=$1 site=$1/sites/$2 theme=$3
cat >"$root/wp-config.php.new" <<'PHP'
<?php
// Picks the site by its host name: one code base serves several sites.
$kedge_site = strtolower((string) ($_SERVER['KEDGE_SITE'] ?? $_SERVER['HTTP_HOST'] ?? ''));
$kedge_site = preg_replace('/:[0-9]{1,5}\z/', '', $kedge_site);
if (!preg_match('/\A(?=.{1,253}\z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*\z/', $kedge_site)
    || !is_file(__DIR__ . "/sites/$kedge_site/wp-config.php")) {
    http_response_code(404);
    exit("No such site.\n");
}
require __DIR__ . "/sites/$kedge_site/wp-config.php";
require_once ABSPATH . 'wp-settings.php';
PHP
mv "$root/wp-config.php.new" "$root/wp-config.php"
mkdir -p "$root/sites"
mkdir -m 750 "$site"
chgrp www-data "$site"
for name in themes plugins uploads mu-plugins languages; do mkdir -p "$site/wp-content/$name"; done
cp -R "$root/wp-content/themes/$theme" "$site/wp-content/themes/"
chown -R root:www-data "$site/wp-content"
chown www-data:www-data "$site/wp-content/uploads"
chmod 2775 "$site/wp-content/uploads"
umask 337
cat >"$site/wp-config.php"
chown root:www-data "$site/wp-config.php"
"#;

/// Installs a site with its database, account, files and a virtual host on each web server that the host has.
///
/// The database is the host's own. Fails when the site or its database exists already.
pub async fn install(host: &Host, spec: &SiteSpec) -> Result<Site> {
    check(spec)?;
    let dir = format!("{}/sites/{}", spec.platform_root, spec.uri);
    let database: String = spec.uri.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    let password = secret();
    let sql = format!(
        "CREATE DATABASE `{database}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;\n\
         CREATE USER '{database}'@'localhost' IDENTIFIED BY '{password}';\n\
         GRANT ALL PRIVILEGES ON `{database}`.* TO '{database}'@'localhost';\n"
    );
    host.run_ok(Exec::new(["mariadb"]).stdin(sql)).await?;
    let layout = Exec::new(["sh", "-c", LAYOUT, "layout", &spec.platform_root, &spec.uri, &spec.theme]);
    host.run_ok(layout.stdin(settings(spec, &dir, &database, &password))).await?;
    for (server, path, text, test, reload) in [
        (Service::Nginx, "/etc/nginx/sites-enabled", nginx_vhost(spec, &dir), "nginx -t", "nginx -s reload"),
        (
            Service::Apache,
            "/etc/apache2/sites-enabled",
            apache_vhost(spec, &dir),
            "apachectl configtest",
            "apachectl graceful",
        ),
    ] {
        if host.services.contains(&server) {
            let script = format!("set -e; cat >{path}/{}.conf; {test}; {reload}", spec.uri);
            host.run_ok(Exec::new(["sh", "-c", &script]).stdin(text)).await?;
        }
    }
    #[derive(Serialize)]
    struct Install<'a> {
        #[serde(flatten)]
        site: &'a SiteSpec,
        admin: &'a str,
        admin_password: String,
    }
    #[derive(Deserialize)]
    struct Installed {
        version: String,
        db_version: u64,
    }
    let script = include_str!("install.php");
    let install = Install { site: spec, admin: "admin", admin_password: secret() };
    let installed: Installed = php(host, &install, script, Duration::from_secs(120)).await?;
    Ok(Site {
        uri: spec.uri.clone(),
        platform_root: spec.platform_root.clone(),
        dir,
        database,
        version: installed.version,
        db_version: installed.db_version,
    })
}

/// The values go into a shell's arguments, SQL and configuration files: only plain ones are taken.
fn check(spec: &SiteSpec) -> Result<()> {
    let plain = |text: &str, more: &str| {
        !text.is_empty()
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(c))
    };
    let good = plain(&spec.uri, ".-")
        && spec.uri.starts_with(|c: char| c.is_ascii_alphanumeric())
        && plain(&spec.theme, "-_")
        && spec.platform_root.starts_with('/')
        && plain(&spec.platform_root, "/.-_");
    if good {
        Ok(())
    } else {
        Err(Error::Spec(format!("a site's host name, theme and platform must be plain: {spec:?}")))
    }
}

/// 160 random bits: enough for a password, and letters and digits only.
fn secret() -> String {
    (0..5).map(|_| format!("{:08x}", rand::random::<u32>())).collect()
}

fn settings(spec: &SiteSpec, dir: &str, database: &str, password: &str) -> String {
    let uri = &spec.uri;
    let mut text = format!(
        "<?php\n\
         define('DB_NAME', '{database}');\ndefine('DB_USER', '{database}');\ndefine('DB_PASSWORD', '{password}');\n\
         define('DB_HOST', 'localhost');\ndefine('DB_CHARSET', 'utf8mb4');\ndefine('DB_COLLATE', '');\n\
         define('WP_HOME', 'http://{uri}');\ndefine('WP_SITEURL', 'http://{uri}');\n\
         define('WP_CONTENT_DIR', '{dir}/wp-content');\ndefine('WP_CONTENT_URL', 'http://{uri}/wp-content');\n\
         define('DISALLOW_FILE_MODS', true);\ndefine('AUTOMATIC_UPDATER_DISABLED', true);\n"
    );
    for name in ["AUTH", "SECURE_AUTH", "LOGGED_IN", "NONCE"] {
        text.push_str(&format!(
            "define('{name}_KEY', '{}');\ndefine('{name}_SALT', '{}');\n",
            secret(),
            secret()
        ));
    }
    text.push_str("$table_prefix = 'wp_';\n");
    text
}

fn nginx_vhost(spec: &SiteSpec, dir: &str) -> String {
    let SiteSpec { uri, platform_root, .. } = spec;
    format!(
        "server {{\n    listen 80;\n    server_name {uri};\n    root {platform_root};\n    index index.php;\n\
         \x20   location ^~ /sites/ {{ return 404; }}\n\
         \x20   location ^~ /wp-content/ {{\n        alias {dir}/wp-content/;\n        location ~ \\.php$ {{ return 404; }}\n    }}\n\
         \x20   location / {{ try_files $uri $uri/ /index.php?$args; }}\n\
         \x20   location ~ \\.php$ {{\n        try_files $uri =404;\n        include fastcgi_params;\n\
         \x20       fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;\n        fastcgi_param KEDGE_SITE {uri};\n\
         \x20       fastcgi_pass unix:/run/php/php-fpm.sock;\n    }}\n}}\n"
    )
}

fn apache_vhost(spec: &SiteSpec, dir: &str) -> String {
    let SiteSpec { uri, platform_root, .. } = spec;
    format!(
        "<VirtualHost *:8080>\n    ServerName {uri}\n    DocumentRoot {platform_root}\n    SetEnv KEDGE_SITE {uri}\n\
         \x20   <Directory {platform_root}>\n        Require all granted\n        DirectoryIndex index.php\n        FallbackResource /index.php\n    </Directory>\n\
         \x20   <Directory {platform_root}/sites>\n        Require all denied\n    </Directory>\n\
         \x20   Alias /wp-content/ {dir}/wp-content/\n\
         \x20   <Directory {dir}/wp-content>\n        Require all granted\n        FallbackResource disabled\n    </Directory>\n\
         \x20   <FilesMatch \\.php$>\n        SetHandler \"proxy:unix:/run/php/php-fpm.sock|fcgi://localhost/\"\n    </FilesMatch>\n\
         </VirtualHost>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_values_reach_a_shell() {
        assert!(check(&SiteSpec::new("/srv/platforms/wordpress-6.1", "a-b.example.test")).is_ok());
        for (root, uri) in
            [("/srv", "a'b"), ("/srv", ""), ("/srv", "-a"), ("/srv", "../x"), ("srv", "a"), ("/s rv", "a")]
        {
            assert!(check(&SiteSpec::new(root, uri)).is_err(), "{root} {uri}");
        }
    }

    #[test]
    fn secrets_differ() {
        let (one, other) = (secret(), secret());
        assert!(one != other && one.len() == 40);
    }
}
