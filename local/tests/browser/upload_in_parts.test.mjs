// Long files: they come in parts, and go on from where the server is, whatever was in the way.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { Between } from './between.mjs';
import { eventually, visit } from './browser.mjs';
import { answer, dialog, panel, pause, pauseOnce, pick, said, tile, uploaded } from './gestures.mjs';
import { draw, drawLong, range } from './pictures.mjs';
import { folder, Server } from './server.mjs';

const MIB = 2 ** 20;
/** How long a part is. */
const PART = 8 * MIB;
const LENGTH = PART + 5 * MIB;
const BROKEN = ['net::ERR_'];
const digest = ({ buffer }) => createHash('sha256').update(buffer).digest('hex');

/** A gallery with a proxy before its server, and one long picture: `{ path, server, between, page, picture }`. */
async function long(t, { variables, expected = BROKEN, length = LENGTH } = {}) {
  const path = await folder(t);
  const server = await Server.start(t, path, variables);
  const between = await Between.start(t, server);
  const { page } = await visit(t, between, '/', { expected });
  return { path, server, between, page, picture: await drawLong(page, 1, length) };
}

/** Lets the part that begins here pass only so far, and only once. */
function holdAt(between, offset, after) {
  between.plan = ({ method, headers }) => {
    if (method !== 'PATCH' || Number(headers['upload-offset']) !== offset) return undefined;
    between.plan = () => {};
    return { after };
  };
  return between.held();
}

/** The parts that came through: where each began, and how long it was. With `all`, also those that nobody answered. */
function parts(between, all = false) {
  const came = between.of('PATCH').filter(({ status }) => all || status === 201 || status === 204);
  return came.map(({ headers, bytes }) => [Number(headers['upload-offset']), bytes]);
}

/** Fails unless these parts are all of a body, in order, and none of it twice. */
function assertSentOnce(sent, { buffer }) {
  let end = 0;
  for (const [offset, bytes] of sent) {
    assert.equal(offset, end, `each part begins where the last ended: ${JSON.stringify(sent)}`);
    end += bytes;
  }
  assert.ok(end > buffer.length && end < buffer.length + 2000, `the file and what a form has around it: ${end}`);
}

/** How far the server is with the upload. */
async function offsetOf(server, between) {
  const [{ path }] = between.of('PATCH');
  return Number((await fetch(server.url + path, { method: 'HEAD' })).headers.get('upload-offset'));
}

async function assertStored(server, ...pictures) {
  assert.deepEqual((await server.images()).map(({ sha256 }) => sha256).sort(), pictures.map(digest).sort());
}

/** Notes every value that the bar of a file shows from now on. */
async function watch(page, { name }) {
  await panel(page).locator('li').filter({ hasText: name }).locator('progress').evaluate((bar) => {
    window.shown = [];
    new MutationObserver(() => window.shown.push(bar.value)).observe(bar, { attributes: true, attributeFilter: ['value'] });
  });
  return () => page.evaluate(() => window.shown);
}

test('a long file that is paused in the middle of a part goes on from there, and no byte is sent twice', async (t) => {
  const { path, server, between, page, picture } = await long(t);
  const held = holdAt(between, PART, 3 * MIB);
  await pick(page, [picture]);
  await answer(page, { category: 'hills', description: 'Snow \u{1f3d4}' });
  await held;
  const inAll = async () => Number(await panel(page).locator('progress').first().getAttribute('value'));
  await eventually(async () => assert.ok(await inAll() > (PART + MIB) / LENGTH));
  await pause(page);
  await eventually(async () => assert.equal(await offsetOf(server, between), PART + 3 * MIB));
  assert.ok(await inAll() > (PART + MIB) / LENGTH, 'what is there stays counted while it is paused');
  const shown = await watch(page, picture);
  await panel(page).getByRole('button', { name: 'Go on' }).click();
  await uploaded(page, '1 file uploaded');
  const values = await shown();
  assert.ok(values.every((value) => value >= (PART + 3 * MIB) / (LENGTH + 2000)), `no bar jumps back behind what the server has: ${values}`);
  assert.deepEqual(parts(between, true).slice(0, 2), [[0, PART], [PART, 3 * MIB]]);
  assertSentOnce(parts(between, true), picture);
  await assertStored(server, picture);
  const [{ originalName, category, description }] = await server.images();
  assert.deepEqual({ originalName, category, description }, { originalName: picture.name, category: 'hills', description: 'Snow \u{1f3d4}' });
  assert.equal((await readdir(join(path, 'incoming'))).filter((name) => name.includes('.part-')).length, 0, 'no part is left');
});

test('the server is killed in the middle of a part, and the upload goes on by itself with the next one', async (t) => {
  const { path, server, between, page, picture } = await long(t);
  const held = holdAt(between, PART, 3 * MIB);
  await pick(page, [picture]);
  await answer(page);
  await held;
  await server.kill();
  await panel(page).getByText('It goes on by itself when it can.').waitFor();
  await Server.start(t, path, {}, server.port);
  await uploaded(page, '1 file uploaded');
  assertSentOnce(parts(between), picture);
  assert.deepEqual(parts(between, true).filter(([offset]) => offset !== PART), parts(between).filter(([offset]) => offset !== PART),
    'only the part that the server died in is sent again');
  await assertStored(server, picture);
  await tile(page, picture.name).waitFor();
});

for (const [when, deaf] of [['before it began', 'early'], ['in the middle of it', 'late']]) {
  test(`who lost the last answer ${when} is told what was stored, and it is stored once`, async (t) => {
    const { server, between, page, picture } = await long(t, { expected: [...BROKEN, 'status of 400'] });
    between.plan = ({ headers }) => {
      if (headers['upload-complete'] !== '?1') return undefined;
      between.plan = () => {};
      return { deaf };
    };
    await pick(page, [picture]);
    await answer(page);
    await uploaded(page, '1 file uploaded');
    assertSentOnce(parts(between), picture);
    assert.equal(between.of('POST', '/api/upload').length, 1);
    await assertStored(server, picture);
    await tile(page, picture.name).waitFor();
  });
}

test('a disk that is full in the middle of an upload is said to be, and after a retry it goes on where it was', async (t) => {
  const { path, server, between, page, picture } = await long(t, { expected: [...BROKEN, 'status of 507', 'status of 503'] });
  const held = holdAt(between, PART, 0);
  await pick(page, [picture]);
  await answer(page);
  await held;
  await server.kill();
  const full = await Server.start(t, path, { RESERVE_BYTES: String(2 ** 60), RUST_LOG: 'off' }, server.port);
  await panel(page).getByText('The disk is full. What is uploaded is safe.').waitFor();
  await said(page, picture.name, 'There is no room left for it.').waitFor();
  await full.kill();
  await Server.start(t, path, {}, server.port);
  await panel(page).getByRole('button', { name: `Retry ${picture.name}` }).click();
  await uploaded(page, '1 file uploaded');
  assert.deepEqual(parts(between, true).filter(([offset]) => offset < PART), [[0, PART]], 'what was there is not sent again');
  await assertStored(server, picture);
});

test('a token that no longer holds in the middle of an upload is asked for, and it goes on where it was', async (t) => {
  const [old, young] = ['the-first-of-two-tokens', 'the-second-of-two-tokens'];
  const { path, server, between, page, picture } = await long(t, { variables: { API_TOKEN: old }, expected: [...BROKEN, 'status of 401'] });
  const signIn = async (token) => {
    await dialog(page).getByLabel('Token').fill(token);
    await dialog(page).getByRole('button', { name: 'Sign in' }).click();
  };
  await page.locator('#session').getByRole('button', { name: 'Sign in' }).click();
  await signIn(old);
  await page.getByText('You are signed in.').waitFor();
  const held = holdAt(between, PART, 0);
  await pick(page, [picture]);
  await answer(page);
  await held;
  await server.kill();
  await Server.start(t, path, { API_TOKEN: young }, server.port);
  await panel(page).getByText('Sign in to go on.').waitFor();
  await signIn(young);
  await uploaded(page, '1 file uploaded');
  assert.deepEqual(parts(between, true).filter(([offset]) => offset < PART), [[0, PART]], 'what was there is not sent again');
  await assertStored(server, picture);
});

test('a long file that is no image is said to be none, also when it is chosen again', async (t) => {
  const { server, between, page, picture } = await long(t, { expected: ['status of 415'] });
  const text = { ...picture, buffer: Buffer.alloc(LENGTH, 'This is no image. ') };
  await pick(page, [text]);
  await answer(page);
  await uploaded(page, '0 of 1 uploaded, 1 failed');
  await said(page, text.name, 'Not an image').waitFor();
  await pick(page, [text]);
  await answer(page);
  await uploaded(page, '0 of 2 uploaded, 2 failed');
  // The refusal comes while the first part is on its way, and a browser may lose it with the connection and begin once more.
  assert.ok(between.of('POST', '/api/upload').length >= 2);
  assert.equal(await said(page, text.name, 'Not an image').count(), 2);
  assert.deepEqual(await server.images(), []);
});

test('a file that is too long is refused before any of it is sent', async (t) => {
  const { between, page, picture } = await long(t, { variables: { MAX_UPLOAD_BYTES: String(PART) }, expected: ['status of 413'] });
  await pick(page, [picture]);
  await answer(page);
  await said(page, picture.name, 'Too large: at most 8.4 MB.').waitFor();
  assert.deepEqual(parts(between), []);
});

test('an upload of which the server knows nothing any more begins anew by itself', async (t) => {
  const { path, server, between, page, picture } = await long(t, { expected: [...BROKEN, 'status of 404'] });
  const held = holdAt(between, PART, 0);
  await pauseOnce(page, held, picture);
  await rm(join(path, 'incoming'), { recursive: true });
  await panel(page).getByRole('button', { name: 'Go on' }).click();
  await uploaded(page, '1 file uploaded');
  assertSentOnce(parts(between).slice(1), picture);
  await assertStored(server, picture);
});

test('an upload that is cancelled leaves nothing on the disk', async (t) => {
  const { path, between, page, picture } = await long(t);
  const held = holdAt(between, PART, 0);
  await pick(page, [picture]);
  await answer(page);
  await held;
  await panel(page).getByRole('button', { name: `Cancel ${picture.name}` }).click();
  await eventually(() => assert.equal(between.of('DELETE')[0]?.status, 204));
  assert.deepEqual(await readdir(join(path, 'incoming')), []);
});

test('a file that is gone while its upload is paused is said to be, and holds up no other', async (t) => {
  const { path, server, between, page, picture } = await long(t);
  const [other] = await draw(page, [2]);
  const file = join(path, 'gone.jpg');
  await writeFile(file, picture.buffer);
  const held = holdAt(between, PART, 0);
  await pick(page, file);
  await answer(page);
  await held;
  await panel(page).getByRole('button', { name: 'Pause' }).click();
  await rm(file);
  await pick(page, [other]);
  await answer(page);
  await panel(page).getByRole('button', { name: 'Go on' }).click();
  await uploaded(page, '1 of 2 uploaded, 1 failed');
  await said(page, 'gone.jpg', 'The file cannot be read.').waitFor();
  await assertStored(server, other);
});

test('behind a proxy that lets one mebibyte through, files come in parts as short as that', async (t) => {
  const { server, between, page, picture } = await long(t, { expected: ['status of 413'], length: 3 * MIB });
  between.plan = ({ headers }) => (Number(headers['content-length'] ?? 0) > MIB ? { answer: [413, '<h1>413 Request Entity Too Large</h1>'] } : undefined);
  const longer = await drawLong(page, 2, PART + MIB);
  await pick(page, [picture]);
  await answer(page);
  await uploaded(page, '1 file uploaded');
  await pick(page, [longer]);
  await answer(page);
  await uploaded(page, '2 files uploaded');
  assert.equal(between.seen.filter(({ status }) => status === 413).length, 2, 'the whole file once, and a long part once');
  await assertStored(server, picture, longer);
});

for (const [what, plan] of [
  ['by a server that does not know of parts', ({ headers }) => ({ without: Object.keys(headers).filter((name) => name.startsWith('upload-')) })],
  ['through a proxy that knows no PATCH', ({ method }) => (method === 'PATCH' ? { answer: 405 } : undefined)],
]) {
  test(`long files are stored ${what}, and only the first finds that out`, async (t) => {
    const { server, between, page } = await long(t, { expected: ['status of 400', 'status of 405'] });
    between.plan = plan;
    const pictures = [];
    for (const number of range(3)) {
      pictures.push(await drawLong(page, number, PART + number * MIB));
      await pick(page, pictures.slice(-1));
      await answer(page);
      await uploaded(page, number === 1 ? '1 file uploaded' : `${number} files uploaded`);
    }
    assert.equal(between.seen.filter(({ status }) => status >= 400).length, 1);
    assert.equal(between.of('POST', '/api/upload').length, 4);
    await assertStored(server, ...pictures);
  });
}
