// Bringing images in: by drop, paste and button; many at once; and what happens to those that cannot be kept.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { amiss } from './accessible.mjs';
import { eventually, gallery, visit } from './browser.mjs';
import { answer, dialog, drop, panel, paste, pick, said, tile, tiles, uploaded } from './gestures.mjs';
import { draw, range } from './pictures.mjs';
import { folder, Server } from './server.mjs';

const TEXT = { name: 'notes.jpg', mimeType: 'image/jpeg', buffer: Buffer.from('This is no image, whatever it is called.') };
const digests = (files) => files.map(({ buffer }) => createHash('sha256').update(buffer).digest('hex')).sort();

test('files that are dropped are stored bit for bit, and shown without loading the page again', async (t) => {
  const { server, page } = await gallery(t);
  await page.getByText('Drop photos here').waitFor();
  const pictures = await draw(page, range(3));
  await drop(page, pictures);
  await answer(page, { category: 'hills', description: 'By drop' });
  await uploaded(page, '3 files uploaded');
  await eventually(async () => assert.equal(await tiles(page).count(), 3));
  const images = await server.images();
  assert.deepEqual(images.map(({ sha256 }) => sha256).sort(), digests(pictures));
  for (const { category, description } of images) assert.deepEqual({ category, description }, { category: 'hills', description: 'By drop' });
  assert.deepEqual(await amiss(page), []);
});

test('a category that is left empty stays empty, and such images can be found', async (t) => {
  const { server, page } = await gallery(t);
  const [one, other] = await draw(page, range(2));
  await drop(page, [one]);
  await answer(page);
  await uploaded(page, '1 file uploaded');
  await drop(page, [other]);
  await answer(page, { category: 'hills' });
  await eventually(async () => assert.equal(await tiles(page).count(), 2));
  assert.deepEqual((await server.images()).map(({ category }) => category).sort(), ['', 'hills']);
  await page.getByLabel('Category', { exact: true }).selectOption('Without a category');
  await eventually(async () => assert.equal(await tiles(page).count(), 1));
  await tile(page, one.name).waitFor();
  assert.deepEqual(Object.fromEntries(new URL(page.url()).searchParams), { withoutCategory: 'true' });
  await page.reload();
  await tile(page, one.name).waitFor();
  assert.equal(await tiles(page).count(), 1);
  assert.deepEqual(await amiss(page), []);
  await page.getByLabel('Category', { exact: true }).selectOption('hills');
  await tile(page, other.name).waitFor();
  assert.equal(await tiles(page).count(), 1);
});

test('files of one selection stand in the order in which they were picked', async (t) => {
  const { server, page } = await gallery(t);
  const pictures = await draw(page, range(5));
  // The first file arrives last.
  let [arrived, release] = [0, null];
  const others = new Promise((resolve) => { release = resolve; });
  await page.route('**/api/upload', async (route) => {
    const body = route.request().postDataBuffer()?.toString('latin1') ?? '';
    if (body.includes(`filename="${pictures[0].name}"`)) await others;
    const answer = await route.fetch();
    arrived += 1;
    if (arrived === pictures.length - 1) release();
    await route.fulfill({ response: answer });
  });
  await drop(page, pictures);
  await answer(page);
  await uploaded(page, '5 files uploaded');
  const picked = pictures.map(({ name }) => name);
  const shown = () => tiles(page).evaluateAll((all) => all.map((one) => one.getAttribute('aria-label').split(',')[0]));
  await eventually(async () => assert.deepEqual(await shown(), picked));
  assert.deepEqual((await server.images()).map(({ originalName }) => originalName), picked);
  // The page knows the server's time to the second, from the last answer.
  const newest = Date.parse((await server.images())[0].queuedAt);
  const second = async () => Math.floor(Date.parse((await server.ask('/api/health')).timestamp) / 1000) * 1000;
  await eventually(async () => assert.ok(await second() > newest));
  await page.reload();
  await eventually(async () => assert.deepEqual(await shown(), picked));
  const [later] = await draw(page, [9]);
  await drop(page, [later]);
  await answer(page);
  await eventually(async () => assert.deepEqual(await shown(), [later.name, ...picked]));
});

test('an image that is pasted is stored', async (t) => {
  const { server, page } = await gallery(t);
  const [picture] = await draw(page, [1], { mimeType: 'image/png' });
  await paste(page, [picture]);
  await answer(page);
  await uploaded(page, '1 file uploaded');
  await tile(page, picture.name).waitFor();
  assert.equal((await server.images())[0].contentType, 'image/png');
});

test('files that are chosen by the button are stored, as a group where that is wanted', async (t) => {
  const { server, page } = await gallery(t);
  const pictures = await draw(page, range(4));
  await pick(page, pictures);
  assert.deepEqual(await amiss(page), []);
  await answer(page, { title: 'A walk' });
  await uploaded(page, '4 files uploaded');
  await tile(page, /^A walk, group of 4 images/).waitFor();
  await eventually(async () => assert.equal(await tiles(page).count(), 1));
  const { images: [group] } = await server.ask('/api/images');
  assert.deepEqual(group.files.map(({ originalName }) => originalName), pictures.map(({ name }) => name), 'in the order they were chosen');
});

test('an image that is cut off is stored, and the page says that it is cut off', async (t) => {
  const { server, page } = await gallery(t);
  const [whole, other] = await draw(page, range(2));
  const cut = { ...other, buffer: other.buffer.subarray(0, other.buffer.length / 2) };
  await pick(page, [whole, cut]);
  await answer(page);
  await uploaded(page, '2 files uploaded, 1 cut off');
  await said(page, cut.name, 'Stored, but the file is cut off: part of the picture may be missing.').waitFor();
  assert.deepEqual((await server.images()).map(({ truncated }) => truncated).sort(), [true, undefined]);
  await tile(page, cut.name).click();
  await page.getByRole('button', { name: 'Details' }).click();
  await page.getByRole('complementary', { name: 'Details' }).getByText('The file ends early. Part of the picture may be missing.').waitFor();
  assert.deepEqual(await amiss(page), []);
});

test('nothing is sent where the question is dismissed', async (t) => {
  const { server, page } = await gallery(t);
  await drop(page, await draw(page, [1]));
  await dialog(page).getByRole('button', { name: 'Cancel' }).click();
  await page.getByText('Drop photos here').waitFor();
  assert.deepEqual(await server.images(), []);
});

test('a file that is no image is said to be none, and those beside it are stored', async (t) => {
  const { server, page } = await gallery(t, { expected: ['status of 415', 'status of 400'] });
  const pictures = await draw(page, range(2));
  const empty = { name: 'empty.png', mimeType: 'image/png', buffer: Buffer.alloc(0) };
  await drop(page, [pictures[0], TEXT, empty, pictures[1]]);
  await answer(page);
  await uploaded(page, '2 of 4 uploaded, 2 failed');
  await said(page, TEXT.name, 'Not an image or a video that can be kept here. These are: JPEG, PNG, GIF, WebP').waitFor();
  await said(page, empty.name, 'The file is empty.').waitFor();
  await said(page, pictures[1].name, 'Done').waitFor();
  assert.equal((await server.images()).length, 2);
  assert.deepEqual(await amiss(page), []);
});

test('only what can succeed is offered to be sent again', async (t) => {
  const { server, page } = await gallery(t, { expected: ['status of 415', 'status of 400', 'status of 500', 'status of 422'] });
  const pictures = await draw(page, range(2));
  const empty = { name: 'empty.png', mimeType: 'image/png', buffer: Buffer.alloc(0) };
  const damaged = { ...pictures[0], name: 'damaged.jpg', buffer: pictures[0].buffer.subarray(0, 40) };
  const [sent, fails] = [[], { some: true }];
  await page.route('**/api/upload', async (route) => {
    sent.push(/filename="([^"]*)"/.exec(route.request().postDataBuffer()?.toString('latin1') ?? '')?.[1]);
    if (fails.some && pictures.some(({ name }) => name === sent.at(-1))) await route.fulfill({ status: 500, body: '' });
    else await route.continue();
  });
  await drop(page, [TEXT, pictures[0], empty, damaged, pictures[1]]);
  await answer(page);
  await uploaded(page, '0 of 5 uploaded, 5 failed');
  assert.deepEqual(await panel(page).getByRole('button', { name: /^Retry .*\./ }).evaluateAll((all) => all.map((button) => button.getAttribute('aria-label'))),
    pictures.map(({ name }) => `Retry ${name}`));
  sent.length = 0;
  fails.some = false;
  await panel(page).getByRole('button', { name: 'Retry all' }).click();
  await uploaded(page, '2 of 5 uploaded, 3 failed');
  assert.deepEqual(sent.sort(), pictures.map(({ name }) => name).sort());
  await panel(page).getByRole('button', { name: 'Retry all' }).waitFor({ state: 'hidden' });
  assert.equal((await server.images()).length, 2);
  assert.deepEqual(await amiss(page), []);
});

test('the first file that failed comes into view', async (t) => {
  const { page } = await gallery(t, { expected: ['status of 415'] });
  const pictures = await draw(page, range(12), { width: 64, height: 48 });
  await drop(page, [...pictures, TEXT]);
  await answer(page);
  await uploaded(page, '12 of 13 uploaded, 1 failed');
  const row = panel(page).getByRole('listitem').filter({ hasText: TEXT.name });
  await eventually(async () => {
    const [list, failed] = [await panel(page).getByRole('list').boundingBox(), await row.boundingBox()];
    assert.ok(failed.y >= list.y - 1 && failed.y + failed.height <= list.y + list.height + 1, JSON.stringify({ list, failed }));
  });
});

test('where files are to be dropped is said over nothing else', async (t) => {
  const { page } = await gallery(t);
  await page.getByText('Drop photos here').waitFor();
  const dataTransfer = await page.evaluateHandle(() => {
    const transfer = new DataTransfer();
    transfer.items.add(new File(['x'], 'x.png', { type: 'image/png' }));
    return transfer;
  });
  await page.dispatchEvent('#main', 'dragenter', { dataTransfer });
  const shown = await page.evaluate(() => {
    const { content, backgroundColor } = getComputedStyle(document.documentElement, '::after');
    return { content, backgroundColor };
  });
  assert.equal(shown.content, '"Drop to upload"');
  assert.match(shown.backgroundColor, /^rgb\(/, 'nothing shines through');
});

test('what failed is sent again by a button, and is stored once', async (t) => {
  const { server, page } = await gallery(t, { expected: ['status of 500'] });
  const [picture] = await draw(page, [1]);
  // The server has stored it, but nobody hears of it.
  await page.route('**/api/upload', async (route) => {
    await route.fetch();
    await route.fulfill({ status: 500, body: '' });
  }, { times: 1 });
  await drop(page, [picture]);
  await answer(page);
  await uploaded(page, '0 of 1 uploaded, 1 failed');
  await panel(page).getByRole('button', { name: `Retry ${picture.name}` }).click();
  await uploaded(page, '1 file uploaded');
  assert.equal((await server.images()).length, 1);
});

test('uploads are paused and go on, with true progress, and none is stored twice', async (t) => {
  const { server, page, context } = await gallery(t);
  const pictures = await draw(page, range(8), { width: 1200, height: 900 });
  const devtools = await context.newCDPSession(page);
  await devtools.send('Network.enable');
  const pace = (uploadThroughput) => devtools.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput });
  await pace(30_000);
  await drop(page, pictures);
  await answer(page);
  await panel(page).getByText(/^[1-9]\d? % of /).first().waitFor();
  await panel(page).getByRole('button', { name: 'Pause' }).click();
  await panel(page).getByRole('heading', { name: /^Paused: \d of 8 done/ }).waitFor();
  assert.equal(await panel(page).getByText(/ % of /).count(), 0, 'nothing is on its way while it is paused');
  await pace(-1);
  await panel(page).getByRole('button', { name: 'Go on' }).click();
  await uploaded(page, '8 files uploaded');
  assert.deepEqual((await server.images()).map(({ sha256 }) => sha256).sort(), digests(pictures));
});

test('without a connection uploads wait, which is said, and go on by themselves', async (t) => {
  const { server, page, context } = await gallery(t, { expected: ['net::ERR_INTERNET_DISCONNECTED'] });
  const pictures = await draw(page, range(4));
  await context.setOffline(true);
  await drop(page, pictures);
  await answer(page);
  await panel(page).getByText('The server cannot be reached. It goes on by itself when it can.').waitFor();
  await page.locator('#banner').getByText('The server cannot be reached').waitFor();
  assert.deepEqual(await amiss(page), []);
  await context.setOffline(false);
  await uploaded(page, '4 files uploaded');
  await page.locator('#banner').getByText('The server cannot be reached').waitFor({ state: 'detached' });
  assert.deepEqual((await server.images()).map(({ sha256 }) => sha256).sort(), digests(pictures));
});

test('a full disk is said to be full, and the uploads go on when there is room', async (t) => {
  const path = await folder(t);
  const full = await Server.start(t, path, { RESERVE_BYTES: String(2 ** 60), RUST_LOG: 'off' });
  const { page } = await visit(t, full, '/', { expected: ['status of 507', 'status of 503', 'net::ERR_'] });
  const pictures = await draw(page, range(5));
  await drop(page, pictures);
  await answer(page);
  await panel(page).getByText('The disk is full. What is uploaded is safe.').waitFor();
  await page.locator('#banner').getByText('the disk is full').waitFor();
  assert.deepEqual(await full.images(), []);
  await full.stop();
  const server = await Server.start(t, path, {}, full.port);
  const again = panel(page).getByRole('button', { name: /^Retry all/ });
  if (await again.isVisible()) await again.click();
  else await panel(page).getByRole('button', { name: /^Retry/ }).first().click();
  await uploaded(page, '5 files uploaded');
  assert.deepEqual((await server.images()).map(({ sha256 }) => sha256).sort(), digests(pictures));
});
