// Verifies a callback of Kedge (Standard Webhooks, symmetric) with nothing but Node's own modules.
//
//     import { verify } from "./verify.mjs";
//     verify(secret, request.headers, rawBody); // throws
//
// As a command: the body on standard input, the rest in the environment (KEDGE_SECRET, WEBHOOK_ID, WEBHOOK_TIMESTAMP,
// WEBHOOK_SIGNATURE); the exit code tells.

import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const TOLERANCE_S = 300;

/** `secret`: whsec_...; `headers`: an object with lower-case names; `body`: the raw bytes as they came, before any parsing. */
export function verify(secret, headers, body, now = Date.now() / 1000) {
  const id = headers["webhook-id"];
  const timestamp = headers["webhook-timestamp"];
  if (!(Math.abs(now - Number(timestamp)) <= TOLERANCE_S)) throw new Error("the message is too old, or a clock is wrong");
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const expected = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest();
  // Several signatures while a secret is rotated: one that fits is enough.
  const fits = headers["webhook-signature"].split(" ").some((one) => {
    const given = one.startsWith("v1,") ? Buffer.from(one.slice(3), "base64") : Buffer.alloc(0);
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
  if (!fits) throw new Error("no signature fits");
  return id; // the same at every attempt: keep it, and take each message once
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
  const headers = Object.fromEntries(names.map((name) => [name, process.env[name.replaceAll("-", "_").toUpperCase()]]));
  try {
    console.log(verify(process.env.KEDGE_SECRET, headers, readFileSync(0)));
  } catch (error) {
    console.error(`not verified: ${error.message}`);
    process.exit(1);
  }
}
