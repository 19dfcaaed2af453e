#!/usr/bin/env bash
# Uppy's XHRUpload reports a server's refusal as a network failure, after it has sent the file four times.
#
# One would guess: a 415 with a JSON body ends the upload at once, and the `upload-error` event carries the server's answer.
# What happens: XHRUpload retries a 415 as it retries a lost connection (one request, three retries). Then `error.isNetworkError` is true, the
# message blames "an internet provider or a firewall", and the event's `response` is empty; the server's answer is only in
# `error.request.responseText`. A server cannot get its reason onto the screen of an app that shows `error.message`.
# npm: @uppy/core 6.0.0, @uppy/xhr-upload 6.0.0; Debian's Chromium, driven by playwright-core.
# Source: packages/@uppy/utils/src/fetcher.ts and packages/@uppy/xhr-upload/src/index.ts of transloadit/uppy.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
if ! command -v chromium >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium
fi
npm init -y >/dev/null
npm install --silent --no-fund --no-audit @uppy/core@6.0.0 @uppy/xhr-upload@6.0.0 esbuild@0.25.12 playwright-core@1.65.1
cat >page.js <<'JS'
import Uppy from "@uppy/core";
import XHRUpload from "@uppy/xhr-upload";
window.run = async () => {
  const uppy = new Uppy();
  uppy.use(XHRUpload, { endpoint: "/upload" });
  const errors = [];
  uppy.on("upload-error", (file, error, response) => errors.push({
    message: error.message, isNetworkError: error.isNetworkError, response: response ?? null, body: error.request?.responseText,
  }));
  uppy.addFile({ name: "photo.jpg", type: "image/jpeg", data: new Blob(["not an image"]) });
  await uppy.upload();
  return errors;
};
JS
npx esbuild page.js --bundle --outfile=bundle.js --log-level=error
cat >main.mjs <<'JS'
import http from "node:http";
import fs from "node:fs";
import { chromium } from "playwright-core";
let posts = 0;
const server = http.createServer((request, response) => {
  if (request.method === "POST") {
    posts += 1;
    request.resume().on("end", () => {
      response.writeHead(415, { "content-type": "application/json" });
      response.end(JSON.stringify({ error: "This is not an image." }));
    });
  } else if (request.url === "/bundle.js") {
    response.writeHead(200, { "content-type": "text/javascript" }).end(fs.readFileSync("bundle.js"));
  } else {
    response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><script src=/bundle.js></script>");
  }
}).listen(0, "127.0.0.1");
await new Promise((done) => server.once("listening", done));
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
const page = await browser.newPage();
await page.goto(`http://127.0.0.1:${server.address().port}/`);
const begun = Date.now();
const errors = await page.evaluate(() => window.run());
console.log(`requests: ${posts}, seconds: ${((Date.now() - begun) / 1000).toFixed(1)}`);
console.log(JSON.stringify(errors, null, 2));
await browser.close();
server.close();
const asFound = posts === 4 && errors.length === 1 && /network error/.test(errors[0].message);
if (!asFound) console.log("changed");
process.exit(asFound ? 0 : 1);
JS
node --version
npm ls @uppy/core @uppy/xhr-upload playwright-core
chromium --version
node main.mjs
