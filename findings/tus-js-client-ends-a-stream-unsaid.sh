#!/usr/bin/env bash
# tus-js-client 4.3.1 (npm) in the modes ietf-draft-03 and -05, reading a stream of Node.js in chunks.
# One would guess that the last request says `Upload-Complete: ?1`. It says ?0, since the
# end of a stream is only seen by reading on; the client then takes an answer whose Upload-Offset is the length for success.
# A server that waits for ?1 never has the upload, though its client was told of success.
set -euo pipefail
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund tus-js-client@4.3.1
cat >try.mjs <<'JS'
import http from 'node:http';
import { createReadStream, writeFileSync } from 'node:fs';
import * as tus from 'tus-js-client';

writeFileSync('file', Buffer.alloc(250));
const said = [];
const server = http.createServer((request, answer) => {
  let length = 0;
  request.on('data', (chunk) => { length += chunk.length; });
  request.on('end', () => {
    const offset = Number(request.headers['upload-offset'] ?? 0) + length;
    said.push(`${request.method} ${request.headers['upload-complete']} ${offset}`);
    answer.writeHead(request.method === 'POST' ? 201 : 204, { location: '/upload', 'upload-offset': offset }).end();
  });
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const ended = await new Promise((resolve) => new tus.Upload(createReadStream('file'), {
  endpoint: `http://127.0.0.1:${server.address().port}/`, protocol: process.argv[2], uploadSize: 250, chunkSize: 100,
  onSuccess: () => resolve('success'), onError: (error) => resolve(error.message),
}).start());
server.close();
console.log(`${process.argv[2]}: ${said.join(', ')}: ${ended}`);
process.exit(said.at(-1) === 'PATCH ?0 250' && ended === 'success' ? 0 : 1);
JS
node --version
for protocol in ietf-draft-03 ietf-draft-05; do node try.mjs "$protocol"; done
