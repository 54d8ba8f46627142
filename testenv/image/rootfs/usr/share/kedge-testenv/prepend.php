<?php
// Read before every script. WordPress takes these constants as if they stood in wp-config.php.
defined('WP_HTTP_BLOCK_EXTERNAL') || define('WP_HTTP_BLOCK_EXTERNAL', true);
defined('DISABLE_WP_CRON') || define('DISABLE_WP_CRON', true);
