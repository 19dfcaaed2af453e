// Files that are too long for one request where no parts are taken, as on AWS: they come by tickets.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { Between } from './between.mjs';
import { eventually, visit } from './browser.mjs';
import { answer, panel, pause, pauseOnce, pick, said, tile, uploaded } from './gestures.mjs';
import { draw, drawLong } from './pictures.mjs';
import { folder, Server } from './server.mjs';

const MIB = 2 ** 20;
/** What makes a server take itself for a function. */
const FUNCTION = { AWS_LAMBDA_FUNCTION_NAME: 'keepsake-upload' };
const isUpload = ({ method, path }) => method === 'POST' && path === '/api/upload';
const digest = ({ buffer }) => createHash('sha256').update(buffer).digest('hex');

/** A gallery as on AWS: uploads come to a function, which takes 4.5 MB, and the bytes of tickets to whoever takes all of them. */
async function wanting(t, expected = []) {
  const path = await folder(t);
  const server = await Server.start(t, path);
  const lambda = await Server.start(t, path, FUNCTION);
  const between = await Between.start(t, server);
  between.usual = (request) => (isUpload(request) ? { to: lambda } : undefined);
  between.plan = between.usual;
  const { page } = await visit(t, between, '/', { expected: ['status of 413', 'status of 400', ...expected] });
  return { path, server, between, page };
}

/** Does this to the next request with this method and path. */
function once(between, method, path, what) {
  between.plan = (request) => {
    if (request.method !== method || !path.test(request.path)) return between.usual(request);
    between.plan = between.usual;
    return what;
  };
  return between.held();
}

async function assertStored(server, ...pictures) {
  assert.deepEqual((await server.images()).map(({ sha256 }) => sha256).sort(), pictures.map(digest).sort());
}

test('files that are too long for a request come by tickets, bit for bit, and only the first of them asks in vain', async (t) => {
  const { path, server, between, page } = await wanting(t);
  const [short] = await draw(page, [9]);
  const long = [];
  for (const [number, length] of [[1, 12 * MIB], [2, 7 * MIB], [3, 5 * MIB]]) {
    long.push(await drawLong(page, number, length));
    await pick(page, long.slice(-1));
    await answer(page, { category: 'hills', description: 'By ticket' });
    await uploaded(page, `${number} file${number > 1 ? 's' : ''} uploaded`);
  }
  await pick(page, [short]);
  await answer(page, { category: 'hills', description: 'By ticket' });
  await uploaded(page, '4 files uploaded');
  await tile(page, 'By ticket').nth(3).waitFor();
  await assertStored(server, ...long, short);
  for (const { category, description } of await server.images()) assert.deepEqual({ category, description }, { category: 'hills', description: 'By ticket' });
  assert.deepEqual(between.of('POST', '/api/upload').filter(({ status }) => status >= 400).map(({ status }) => status), [400],
    'once for whether parts are taken, which also says how long a request may be');
  assert.equal(between.of('PUT').length, 3);
  assert.deepEqual(await readdir(join(path, 'incoming')), []);
});

test('how much of a ticket\'s bytes is sent is shown, and a pause and what follows store the file once', async (t) => {
  const { server, between, page } = await wanting(t, ['status of 409']);
  const picture = await drawLong(page, 1, 12 * MIB);
  const held = once(between, 'PUT', /./, { after: 3 * MIB });
  await pick(page, [picture]);
  await answer(page);
  await held;
  await panel(page).locator('li').getByText(/^[1-9]\d? % of |Being stored/).waitFor();
  await pause(page);
  await said(page, picture.name, 'Waiting').waitFor();
  await panel(page).getByRole('button', { name: 'Go on' }).click();
  await uploaded(page, '1 file uploaded');
  assert.equal(between.of('POST', '/api/upload/tickets').length, 1, 'the ticket is still good');
  await assertStored(server, picture);
});

for (const [what, method, path] of [['to the bytes', 'PUT', /./], ['to the completion', 'POST', /\/complete$/]]) {
  test(`a file is stored once where the answer ${what} was lost, and is not sent again`, async (t) => {
    const { server, between, page } = await wanting(t, ['net::ERR_']);
    const picture = await drawLong(page, 1, 9 * MIB);
    once(between, method, path, { deaf: 'late' });
    await pick(page, [picture]);
    await answer(page);
    await uploaded(page, '1 file uploaded');
    assert.equal(between.of('PUT').length, 1);
    await assertStored(server, picture);
    await tile(page, picture.name).waitFor();
  });
}

test('bytes that came before, as 412 says, are completed', async (t) => {
  const { server, between, page } = await wanting(t, ['net::ERR_', 'status of 409', 'status of 412']);
  const picture = await drawLong(page, 1, 9 * MIB);
  // Whether they came is not known at once: the first who asks is told that they did not.
  let [puts, asked] = [0, 0];
  between.plan = (request) => {
    if (request.method === 'PUT') return ++puts === 1 ? { deaf: 'late' } : { answer: [412, JSON.stringify({ type: '/problems/upload-already-received', detail: 'They are here.' })] };
    if (request.path.endsWith('/complete') && ++asked === 1) return { answer: [409, JSON.stringify({ type: '/problems/upload-missing', detail: 'Not yet.' })] };
    return between.usual(request);
  };
  await pick(page, [picture]);
  await answer(page);
  await uploaded(page, '1 file uploaded');
  assert.deepEqual(between.of('PUT').map(({ status }) => status), [200, 412]);
  await assertStored(server, picture);
});

test('a ticket that is gone is replaced by itself', async (t) => {
  const { path, server, between, page } = await wanting(t, ['status of 404']);
  const picture = await drawLong(page, 1, 9 * MIB);
  const held = once(between, 'PUT', /./, { after: MIB });
  await pauseOnce(page, held, picture);
  await rm(join(path, 'incoming'), { recursive: true });
  await panel(page).getByRole('button', { name: 'Go on' }).click();
  await uploaded(page, '1 file uploaded');
  assert.equal(between.of('POST', '/api/upload/tickets').length, 2);
  await assertStored(server, picture);
});

test('a ticket that has expired when its bytes come is replaced by itself', async (t) => {
  const { server, between, page } = await wanting(t, ['status of 403', 'status of 409']);
  const picture = await drawLong(page, 1, 9 * MIB);
  const held = once(between, 'PUT', /./, { after: MIB });
  await pauseOnce(page, held, picture);
  // As a bucket says it.
  once(between, 'PUT', /./, { answer: [403, '<Code>AccessDenied</Code>'] });
  await panel(page).getByRole('button', { name: 'Go on' }).click();
  await uploaded(page, '1 file uploaded');
  assert.equal(between.of('POST', '/api/upload/tickets').length, 2);
  await assertStored(server, picture);
});

test('what came by a ticket and is no image is said to be none', async (t) => {
  const { server, between, page } = await wanting(t, ['status of 415']);
  const text = { name: 'notes.jpg', mimeType: 'image/jpeg', buffer: Buffer.alloc(9 * MIB, 'This is no image. ') };
  await pick(page, [text]);
  await answer(page);
  await said(page, text.name, 'Not an image').waitFor();
  await eventually(() => assert.equal(between.of('PUT').length, 1));
  assert.deepEqual(await server.images(), []);
});
