<?php
// Empties the object cache and drops transients that are over. The opcode cache belongs to PHP-FPM: it sees changed files by itself.

wp_cache_flush();
if (kedge_option('siteurl') !== null) {
    delete_expired_transients(true);
}
Kedge::answer(['cleared' => true]);
