<?php
// Installs WordPress by its own functions.

/** Takes the place of the one that would send mail. */
function wp_new_blog_notification()
{
}
require_once ABSPATH . 'wp-admin/includes/upgrade.php';

(static function (array $in) {
    global $wpdb;
    if ($in['language'] !== '' && $in['language'] !== 'en_US' && !in_array($in['language'], get_available_languages(), true)) {
        Kedge::refuse("the platform has no language {$in['language']}; it has en_US " . implode(' ', get_available_languages()));
    }
    if (kedge_option('siteurl') !== null) {
        $shown = $wpdb->suppress_errors(true);
        $user = get_user_by('login', $in['admin_user']);
        $users = (int) $wpdb->get_var("SELECT COUNT(*) FROM $wpdb->users");
        $wpdb->suppress_errors($shown);
        if ($user && wp_check_password($in['admin_password'], $user->user_pass, $user->ID) && kedge_db_version() !== null) {
            Kedge::answer(['installed' => true]);
            return;
        }
        if ($users > 0) {
            Kedge::refuse('another WordPress is installed in this database already');
        }
    }
    // Begun without a first user, it is begun again: every part of it leaves alone what is there.
    wp_install($in['title'], $in['admin_user'], $in['admin_email'], true, '', $in['admin_password'], $in['language']);
    $user = get_user_by('login', $in['admin_user']);
    if (!$user || kedge_option('siteurl') === null) {
        Kedge::refuse('WordPress did not install: ' . ($wpdb->last_error ?: 'it gives no reason'));
    }
    Kedge::answer(['installed' => true]);
})(Kedge::$in);
