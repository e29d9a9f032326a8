// What the official functions say of callbacks: a JSON array of {body, headers, secret} on stdin, one boolean for each.
import { verifyWebhookFromRequest, verifyWebhookSignature } from "@blaxel/core";
import { readFileSync } from "node:fs";

const said = JSON.parse(readFileSync(0, "utf8")).map(({ body, headers, secret }) => {
  const signature = headers["x-blaxel-signature"];
  const timestamp = headers["x-blaxel-timestamp"];
  const both = [
    verifyWebhookSignature({ body, signature, secret, timestamp }),
    verifyWebhookFromRequest({ body, headers }, secret),
  ];
  if (both[0] !== both[1]) throw new Error(`the two functions disagree: ${both}`);
  return both[0];
});
console.log(JSON.stringify(said));
