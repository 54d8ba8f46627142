<?php
// search and replace as WP-CLI goes about it, where WP-CLI is not at hand: a column without serialised values by SQL alone, one with
// some row by row, through WordPress' own connection. Arguments: platform root, the copy's site, the text, its replacement.
[, $root, $site, $from, $to] = $argv;
$_SERVER += ['HTTP_HOST' => $site, 'KEDGE_SITE' => $site, 'REQUEST_URI' => '/', 'REQUEST_METHOD' => 'GET'];
require "$root/wp-load.php";

function replaced($value, string $from, string $to, bool $inside = false) {
    if (is_string($value)) {
        $data = is_serialized($value) ? @unserialize($value, ['allowed_classes' => false]) : false;
        if ($data !== false) { return serialize(replaced($data, $from, $to, true)); }
        return str_replace($from, $to, $value);
    }
    if (is_array($value)) { return array_map(fn ($item) => replaced($item, $from, $to, true), $value); }
    return $value; // objects of unknown classes stay as they are: so they do with WP-CLI
}

$like = '%' . $wpdb->esc_like($from) . '%';
foreach ($wpdb->get_col("SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'") as $table) {
    $columns = $wpdb->get_results("SHOW COLUMNS FROM `$table`");
    $keys = array_column(array_filter($columns, fn ($column) => $column->Key === 'PRI'), 'Field');
    foreach ($columns as $column) {
        if (!preg_match('/char|text/', $column->Type) || $column->Key === 'PRI' || $column->Extra !== '') { continue; }
        $name = "`$column->Field`";
        $serialised = $wpdb->get_var("SELECT COUNT($name) FROM `$table` WHERE $name REGEXP '^[aiO]:[1-9]'");
        if (!$serialised || !$keys) {
            $wpdb->query($wpdb->prepare("UPDATE `$table` SET $name = REPLACE($name, %s, %s) WHERE $name LIKE %s", $from, $to, $like));
            continue;
        }
        $primary = '`' . implode('`, `', $keys) . '`';
        foreach ($wpdb->get_results($wpdb->prepare("SELECT $primary, $name FROM `$table` WHERE $name LIKE %s", $like), ARRAY_A) as $row) {
            $value = $row[$column->Field];
            unset($row[$column->Field]);
            $wpdb->update($table, [$column->Field => replaced($value, $from, $to)], $row);
        }
    }
}
