<?php
// What the platform is: its version file holds nothing but assignments.

$answer = (static function (string $root) {
    foreach (['wp-load.php', 'wp-settings.php', 'wp-includes/version.php', 'wp-admin/includes/upgrade.php'] as $file) {
        if (!is_readable("$root/$file")) {
            Kedge::refuse("$root is not a WordPress platform: PHP cannot read $file");
        }
    }
    include "$root/wp-includes/version.php";
    if (!isset($wp_version, $wp_db_version)) {
        Kedge::refuse("$root is not a WordPress platform: wp-includes/version.php names no version");
    }
    return ['version' => (string) $wp_version, 'schema_version' => (int) $wp_db_version];
})(Kedge::$in['platform_root']);
Kedge::answer($answer);
