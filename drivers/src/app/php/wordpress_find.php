<?php
// What a site is that Kedge did not make, by its own settings and code. Tells no password.

$kedge_home = defined('WP_HOME') ? WP_HOME : kedge_option('home');
if ($kedge_home === null || kedge_db_version() === null) {
    Kedge::refuse('WordPress is not installed in the database of ' . Kedge::$in['dir']);
}
$kedge_url = parse_url($kedge_home);
if (!isset($kedge_url['host']) || isset($kedge_url['port']) || trim($kedge_url['path'] ?? '', '/') !== '') {
    Kedge::refuse("the site's address is $kedge_home: a site is served under a host name of its own, without port and path");
}
$kedge_site = defined('WP_SITEURL') ? WP_SITEURL : kedge_option('siteurl');
if (trim((string) parse_url((string) $kedge_site, PHP_URL_PATH), '/') !== '') {
    Kedge::refuse("WordPress itself is at $kedge_site, below the site's address: move it up first");
}
if (realpath(WP_CONTENT_DIR) !== realpath(Kedge::$in['dir']) . '/wp-content') {
    Kedge::refuse('its wp-content is at ' . WP_CONTENT_DIR . ': it has to be the directory wp-content beside its wp-config.php');
}
// The uploads are below wp-content, by its own place and not by that of the core: nothing else comes along.
$kedge_dir = rtrim(Kedge::$in['dir'], '/') . '/';
$kedge_uploads = trim((string) kedge_option('upload_path'));
if (defined('UPLOADS')) {
    Kedge::refuse('its wp-config.php defines UPLOADS (' . UPLOADS . '), a place beside the core: move the uploads to wp-content/uploads and take the line out first');
}
if (!in_array($kedge_uploads, ['', 'wp-content/uploads'], true) && strpos("$kedge_uploads/", $kedge_dir . 'wp-content/') !== 0) {
    Kedge::refuse("its option upload_path is $kedge_uploads: move the uploads to wp-content/uploads and empty the option first");
}
$kedge_real = realpath($kedge_dir) . '/';
foreach (get_included_files() as $kedge_file) {
    $kedge_file = (string) realpath($kedge_file);
    if (strpos($kedge_file, $kedge_real) === 0 && !preg_match('~^wp-(?:config\.php|settings\.php|(?:admin|content|includes)/)~', substr($kedge_file, strlen($kedge_real)))) {
        Kedge::refuse("its wp-config.php includes $kedge_file, which would not come along: write what is in it into wp-config.php, or move it below wp-content");
    }
}
$kedge_core = '~^(?:\.\.?|index\.php|license\.txt|readme\.html|xmlrpc\.php|wp-(?:admin|content|includes)|wp-(?:activate|blog-header|comments-post|config|config-sample|cron|links-opml|load|login|mail|settings|signup|trackback)\.php)$~D';
Kedge::answer([
    'left' => array_values(preg_grep($kedge_core, @scandir($kedge_dir) ?: [], PREG_GREP_INVERT)),
    'host' => $kedge_url['host'],
    'https' => strtolower($kedge_url['scheme'] ?? '') === 'https',
    'version' => $wp_version,
    'schema_version' => kedge_db_version(),
    'database_host' => DB_HOST,
    'database' => DB_NAME,
    'user' => DB_USER,
    'tables' => (int) $wpdb->get_var('SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()'),
]);
