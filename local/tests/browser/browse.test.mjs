// Finding and looking: search, filters, the grid and the viewer, with the pointer and with the keys alone.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { amiss } from './accessible.mjs';
import { eventually, gallery } from './browser.mjs';
import { PHONE } from './chromium.mjs';
import { answer, drop, tile, tiles, uploaded } from './gestures.mjs';
import { draw, range } from './pictures.mjs';

/** A gallery with one picture for each pair of category and description, the last of which is the newest. */
async function filled(t, pairs, options) {
  const { server, page, context } = await gallery(t, options);
  const pictures = await draw(page, range(pairs.length));
  for (const [at, [category, description]] of pairs.entries()) await server.upload([pictures[at]], { category, description });
  await page.reload();
  await eventually(async () => assert.equal(await tiles(page).count(), pairs.length));
  return { server, page, context, pictures };
}

const NAMED = [['hills', 'A path uphill'], ['sea', 'Waves'], ['hills', 'Über den Wolken'], ['sea', 'A path to the sea']];
const viewer = (page) => page.getByRole('dialog', { name: /./ }).and(page.locator('.viewer'));
const viewed = (page, name) => viewer(page).getByRole('heading', { name }).waitFor();
const shown = (page) => tiles(page).evaluateAll((all) => all.map((tile) => tile.getAttribute('aria-label').split(',')[0]));
const shows = (page, names) => eventually(async () => assert.deepEqual(await shown(page), names));

test('a search finds by words, a filter by category, and both stand in the address', async (t) => {
  const { page } = await filled(t, NAMED);
  const all = NAMED.map(([, name]) => name).reverse();
  await page.getByRole('searchbox', { name: 'Search' }).fill('path');
  await shows(page, ['A path to the sea', 'A path uphill']);
  await page.getByLabel('Category').selectOption('sea');
  await shows(page, ['A path to the sea']);
  assert.deepEqual(Object.fromEntries(new URL(page.url()).searchParams), { q: 'path', category: 'sea' });
  await page.reload();
  await shows(page, ['A path to the sea']);
  await page.getByRole('searchbox', { name: 'Search' }).fill('über');
  await page.getByText('Nothing matches').waitFor();
  assert.deepEqual(await amiss(page), []);
  await page.getByRole('button', { name: 'Clear the search' }).click();
  await shows(page, all);
  await page.goBack();
  await page.getByText('Nothing matches').waitFor();
});

test('a search finds what has all of its words in whatever order, and what is uploaded meanwhile likewise', async (t) => {
  const { page } = await filled(t, NAMED);
  await page.getByRole('searchbox', { name: 'Search' }).fill('uphill PATH');
  await shows(page, ['A path uphill']);
  await page.getByRole('searchbox', { name: 'Search' }).fill('sea path');
  await shows(page, ['A path to the sea']);
  const [one, other] = await draw(page, [11, 12]);
  await drop(page, [one]);
  await answer(page, { description: 'Path by night', category: 'lake' });
  await uploaded(page, '1 file uploaded');
  await drop(page, [other]);
  await answer(page, { description: 'Path by night', category: 'sea' });
  await shows(page, ['Path by night', 'A path to the sea']);
});

test('the viewer is opened, turned, zoomed and closed with the keys alone, and gives the focus back', async (t) => {
  const { page } = await filled(t, NAMED);
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main', 'the first link skips to the images');
  while (!await page.evaluate(() => document.activeElement.matches('[role=gridcell]'))) await page.keyboard.press('Tab');
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('Enter');
  await viewed(page, 'Über den Wolken');
  assert.deepEqual(await amiss(page), []);
  await page.keyboard.press('ArrowRight');
  await viewed(page, 'Waves');
  const width = async () => (await viewer(page).locator('.stage img').boundingBox()).width;
  await viewer(page).locator('.stage img').evaluate((image) => image.decode());
  const before = await width();
  await page.keyboard.press('+');
  await eventually(async () => assert.ok(await width() > before * 1.4));
  await page.keyboard.press('0');
  await eventually(async () => assert.ok(await width() < before * 1.01));
  await page.keyboard.press('Escape');
  await viewer(page).waitFor({ state: 'hidden' });
  assert.match(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), /^Waves/);
});

test('the keys end at the first and the last image', async (t) => {
  const { page } = await filled(t, NAMED);
  await tile(page, /^A path to the sea/).click();
  await viewed(page, 'A path to the sea');
  await viewer(page).getByRole('button', { name: 'Previous' }).waitFor({ state: 'hidden' });
  for (const name of ['Über den Wolken', 'Waves', 'A path uphill']) {
    await page.keyboard.press('ArrowRight');
    await viewed(page, name);
  }
  await page.keyboard.press('ArrowRight');
  await viewed(page, 'A path uphill');
  await viewer(page).getByRole('button', { name: 'Next' }).waitFor({ state: 'hidden' });
});

test('an image is opened by its address, and the back button leads to where one was', async (t) => {
  const { server, page } = await filled(t, NAMED);
  await tile(page, /^Waves/).click();
  await viewed(page, 'Waves');
  const address = page.url();
  await page.goBack();
  await viewer(page).waitFor({ state: 'hidden' });
  await page.goto(address);
  await viewed(page, 'Waves');
  await viewer(page).getByRole('button', { name: 'Close' }).click();
  await viewer(page).waitFor({ state: 'hidden' });
  assert.equal(page.url(), `${server.url}/`);
});

test('what is downloaded is what was uploaded, under its own name', async (t) => {
  const { page, pictures } = await filled(t, [['hills', 'To keep']]);
  await tile(page, /^To keep/).click();
  const [download] = await Promise.all([page.waitForEvent('download'), viewer(page).getByRole('link', { name: 'Download' }).click()]);
  assert.equal(download.suggestedFilename(), pictures[0].name);
  assert.deepEqual(await readFile(await download.path()), pictures[0].buffer);
  await download.delete();
});

test('on a phone the viewer fills the screen, and a swipe turns the page', async (t) => {
  const { page, context } = await filled(t, NAMED, PHONE);
  await tile(page, /^A path to the sea/).tap();
  await viewed(page, 'A path to the sea');
  await viewer(page).locator('.stage img').evaluate((image) => image.decode());
  assert.deepEqual(await amiss(page), []);
  const devtools = await context.newCDPSession(page);
  const touch = (type, x) => devtools.send('Input.dispatchTouchEvent', { type, touchPoints: x === null ? [] : [{ x, y: 400 }] });
  await touch('touchStart', 320);
  for (const x of [260, 180, 100, 60]) await touch('touchMove', x);
  await touch('touchEnd', null);
  await viewed(page, 'Über den Wolken');
});

test('of very many images only those near the window are in the document, and the last can be reached with a key', async (t) => {
  const { server, page } = await gallery(t);
  const [picture] = await draw(page, [1], { width: 32, height: 24 });
  const copies = range(600).map((number) => ({ ...picture, name: `number ${String(number).padStart(3, '0')}.jpg` }));
  for (let at = 0; at < copies.length; at += 100) await server.upload(copies.slice(at, at + 100));
  await page.reload();
  await tiles(page).first().waitFor();
  await tiles(page).first().focus();
  await page.keyboard.press('Control+End');
  const last = (await server.images()).at(-1);
  await tile(page, last.originalName).waitFor();
  await eventually(async () => assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label').split(',')[0]), last.originalName));
  assert.ok(await page.locator('[role=gridcell]').count() < 150);
});
