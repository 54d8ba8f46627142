<?php
// Verifies a callback of Kedge (Standard Webhooks, symmetric) with nothing but PHP's own functions.
//
//     require 'verify.php';
//     kedge_verify($secret, array_change_key_case(getallheaders()), file_get_contents('php://input')); // throws
//
// As a command: the body on standard input, the rest in the environment (KEDGE_SECRET, WEBHOOK_ID, WEBHOOK_TIMESTAMP,
// WEBHOOK_SIGNATURE); the exit code tells.

const KEDGE_TOLERANCE_S = 300;

/** $secret: whsec_...; $headers: with lower-case names; $body: the raw bytes as they came, before any parsing. */
function kedge_verify(string $secret, array $headers, string $body, ?int $now = null): string
{
    $id = $headers['webhook-id'] ?? '';
    $timestamp = $headers['webhook-timestamp'] ?? '';
    if (!ctype_digit($timestamp) || abs(($now ?? time()) - (int) $timestamp) > KEDGE_TOLERANCE_S) {
        throw new RuntimeException('the message is too old, or a clock is wrong');
    }
    $key = base64_decode(preg_replace('/^whsec_/', '', $secret), true);
    if ($key === false || $key === '') {
        throw new RuntimeException('the secret is whsec_ and base64');
    }
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    // Several signatures while a secret is rotated: one that fits is enough.
    foreach (explode(' ', $headers['webhook-signature'] ?? '') as $given) {
        if (hash_equals($expected, $given)) {
            return $id; // the same at every attempt: keep it, and take each message once
        }
    }
    throw new RuntimeException('no signature fits');
}

if (PHP_SAPI === 'cli' && realpath($_SERVER['argv'][0]) === __FILE__) {
    $headers = [];
    foreach (['webhook-id', 'webhook-timestamp', 'webhook-signature'] as $name) {
        $headers[$name] = (string) getenv(strtoupper(strtr($name, '-', '_')));
    }
    try {
        echo kedge_verify((string) getenv('KEDGE_SECRET'), $headers, stream_get_contents(STDIN)), "\n";
    } catch (RuntimeException $error) {
        fwrite(STDERR, "not verified: {$error->getMessage()}\n");
        exit(1);
    }
}
