<?php
// What the platform gives its sites.

(static function (string $root) {
    include "$root/wp-includes/version.php";
    if (!isset($wp_version, $wp_db_version)) {
        Kedge::refuse("$root is not a WordPress platform: wp-includes/version.php names no version");
    }
    $core = ['kind' => 'core', 'name' => 'wordpress', 'version' => (string) $wp_version, 'schema_version' => (int) $wp_db_version];
    Kedge::answer(['packages' => array_merge([$core], kedge_packages("$root/wp-content", [], [], false))]);
})(Kedge::$in['platform_root']);
