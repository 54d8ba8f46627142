<?php
// What the site is made of.

(static function (string $dir) {
    global $wp_version;
    $plugins = @unserialize((string) kedge_option('active_plugins'), ['allowed_classes' => false]);
    $themes = [kedge_option('stylesheet'), kedge_option('template')];
    $core = ['kind' => 'core', 'name' => 'wordpress', 'version' => $wp_version, 'schema_version' => kedge_db_version(), 'enabled' => true];
    $packages = kedge_packages("$dir/wp-content", is_array($plugins) ? $plugins : [], $themes, true);
    Kedge::answer(['packages' => array_merge([$core], $packages)]);
})(Kedge::$in['dir']);
