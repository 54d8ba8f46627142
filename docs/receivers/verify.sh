#!/bin/sh
# Verifies a callback of Kedge (Standard Webhooks, symmetric) with a POSIX shell and openssl. The secret never stands in an
# argument of a program, where other users of the machine could read it: the HMAC is put together from two plain digests.
#
# The body on standard input, the rest in the environment: KEDGE_SECRET (whsec_...), WEBHOOK_ID, WEBHOOK_TIMESTAMP,
# WEBHOOK_SIGNATURE. Prints the message's id, which is the same at every attempt; the exit code tells.
set -eu

fail() { echo "not verified: $1" >&2; exit 1; }

case $WEBHOOK_TIMESTAMP in '' | *[!0-9]*) fail "the timestamp is no number" ;; esac
age=$(($(date +%s) - WEBHOOK_TIMESTAMP))
[ "${age#-}" -le 300 ] || fail "the message is too old, or a clock is wrong"

body=$(mktemp)
trap 'rm -f "$body"' EXIT
cat >"$body"

# The key's bytes as decimal numbers.
key=$(printf '%s' "${KEDGE_SECRET#whsec_}" | openssl base64 -d -A | od -An -v -tu1)
# The 64 bytes of the key, filled up with zeros, each XORed with $1.
pad() {
    count=0
    for byte in $key; do
        printf "\\$(printf '%03o' $((byte ^ $1)))"
        count=$((count + 1))
    done
    while [ "$count" -lt 64 ]; do
        printf "\\$(printf '%03o' "$1")"
        count=$((count + 1))
    done
}
expected=$({ pad 92; { pad 54; printf '%s.%s.' "$WEBHOOK_ID" "$WEBHOOK_TIMESTAMP"; cat "$body"; } |
    openssl dgst -sha256 -binary; } | openssl dgst -sha256 -binary | openssl base64 -A)

# Several signatures while a secret is rotated: one that fits is enough.
for given in $WEBHOOK_SIGNATURE; do
    # Compared by their digests, so that the time it takes tells nothing about the expected one.
    if [ "$(printf '%s' "$given" | openssl dgst -sha256)" = "$(printf '%s' "v1,$expected" | openssl dgst -sha256)" ]; then
        printf '%s\n' "$WEBHOOK_ID"
        exit 0
    fi
done
fail "no signature fits"
