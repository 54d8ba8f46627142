#!/usr/bin/env python3
"""Verifies a callback of Kedge (Standard Webhooks, symmetric) with nothing but the standard library.

    from verify import verify
    verify(secret, request.headers, request.get_data())   # raises ValueError

As a command: the body on standard input, the rest in the environment (KEDGE_SECRET, WEBHOOK_ID, WEBHOOK_TIMESTAMP,
WEBHOOK_SIGNATURE); the exit code tells.
"""

import base64
import hashlib
import hmac
import os
import sys
import time

TOLERANCE_S = 300


def verify(secret, headers, body, now=None):
    """`secret`: whsec_...; `headers`: a mapping; `body`: the raw bytes as they came, before any parsing."""
    message_id = headers["webhook-id"]
    timestamp = headers["webhook-timestamp"]
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE_S:
        raise ValueError("the message is too old, or a clock is wrong")
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    # Several signatures while a secret is rotated: one that fits is enough.
    if not any(hmac.compare_digest(expected, given) for given in headers["webhook-signature"].split(" ")):
        raise ValueError("no signature fits")
    return message_id  # the same at every attempt: keep it, and take each message once


if __name__ == "__main__":
    given = {name: os.environ[name.replace("-", "_").upper()] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
    try:
        print(verify(os.environ["KEDGE_SECRET"], given, sys.stdin.buffer.read()))
    except ValueError as error:
        sys.exit(f"not verified: {error}")
