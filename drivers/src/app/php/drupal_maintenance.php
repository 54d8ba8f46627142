<?php
// Puts the site's own maintenance mode to what it was: an update that was broken off or done leaves it as it likes.

(static function (bool $seven, bool $on) {
    if ($seven) {
        kedge_rows("REPLACE INTO {variable} (name, value) VALUES ('maintenance_mode', ?)", [serialize($on ? 1 : 0)]);
        kedge_rows("DELETE FROM {cache_bootstrap} WHERE cid = 'variables'");
    } else {
        $value = serialize($on);
        kedge_rows("REPLACE INTO {key_value} (collection, name, value) VALUES ('state', 'system.maintenance_mode', ?)", [$value]);
        kedge_rows("DELETE FROM {cache_bootstrap} WHERE cid = 'state'");
    }
    Kedge::answer(['set' => $on]);
})($kedge_core['seven'], Kedge::$in['maintenance']);
