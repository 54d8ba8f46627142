<?php
// Takes persons out of a copy: users keep their names and roles, and lose mail address, password and sessions; so do commenters and
// WooCommerce's customers their addresses, as far as they are in WordPress's own tables. No password fits "!".

(static function () {
    global $wpdb;
    if (kedge_option('siteurl') === null) {
        Kedge::refuse('no WordPress is installed in this database');
    }
    $change = static function (string $query) use ($wpdb): void {
        if ($wpdb->query($query) === false) {
            Kedge::refuse("the database refused a statement: $wpdb->last_error");
        }
    };
    $wpdb->suppress_errors(true);
    $change("UPDATE $wpdb->users SET user_pass = '!', user_email = CONCAT('user', ID, '@example.invalid'), user_activation_key = ''");
    $users = (int) $wpdb->get_var("SELECT COUNT(*) FROM $wpdb->users");
    $change("DELETE FROM $wpdb->usermeta WHERE meta_key IN ('session_tokens', '_application_passwords', '_new_email', 'community-events-location')
        OR meta_key LIKE 'billing\\_%' OR meta_key LIKE 'shipping\\_%'");
    $change("UPDATE $wpdb->comments SET comment_author_IP = '', comment_agent = '',
        comment_author_email = IF(comment_author_email = '', '', CONCAT('comment', comment_ID, '@example.invalid'))");
    $change("UPDATE $wpdb->postmeta SET meta_value = '' WHERE meta_key LIKE '\\_billing\\_%' OR meta_key LIKE '\\_shipping\\_%'
        OR meta_key IN ('_customer_ip_address', '_customer_user_agent')");
    $change("UPDATE $wpdb->options SET option_value = 'admin@example.invalid' WHERE option_name = 'admin_email'");
    $change("DELETE FROM $wpdb->options WHERE option_name IN ('new_admin_email', 'mailserver_login', 'mailserver_pass')
        OR option_name LIKE '\\_transient\\_kedge\\_login\\_%'");
    Kedge::answer(['sanitized_users' => $users]);
})();
