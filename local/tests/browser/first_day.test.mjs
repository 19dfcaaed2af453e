// Someone's first day with Keepsake, who has read nothing: everything is done on the two pages.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { amiss } from './accessible.mjs';
import { eventually, visit } from './browser.mjs';
import { answer, dialog, drop, panel, select, tile, tiles, uploaded } from './gestures.mjs';
import { draw, range } from './pictures.mjs';
import { folder, Server } from './server.mjs';

const digest = (bytes) => createHash('sha256').update(bytes).digest('hex');
const show = (page, number) => eventually(async () => assert.equal(await tiles(page).count(), number));
const told = (page, words) => page.locator('#told').getByText(words).waitFor();

test('thirty photos are uploaded, described, deleted, lost with the disk and found again', async (t) => {
  const path = await folder(t);
  const first = await Server.start(t, path, { BACKUP_EVERY: '1000' });
  const { page } = await visit(t, first, '/', { expected: ['net::ERR_'] });
  const photos = await draw(page, range(30), { width: 800, height: 600 });

  // Thirty photos, ten of them as a group.
  await drop(page, photos.slice(0, 20));
  await answer(page, { category: 'hills' });
  await uploaded(page, '20 files uploaded');
  await drop(page, photos.slice(20));
  await answer(page, { category: 'hills', description: 'Over the hills', title: 'The long walk' });
  await uploaded(page, /^(30|10) files uploaded/);
  await tile(page, /^The long walk, group of 10 images/).waitFor();
  await show(page, 21);
  await panel(page).getByRole('button', { name: 'Close' }).click();

  // A description, a group of three that were there already, and a delete that was not meant.
  await tile(page, photos[0].name).click();
  await page.getByRole('button', { name: 'Details' }).click();
  await page.getByRole('complementary', { name: 'Details' }).getByLabel('Description').fill('The first of all');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Saved.').waitFor();
  await page.keyboard.press('Escape');
  await select(page, photos[1].name, photos[2].name, photos[3].name);
  await page.getByRole('button', { name: 'Group', exact: true }).click();
  await dialog(page).getByLabel('Title').fill('Three of a kind');
  await dialog(page).getByRole('button', { name: 'Group', exact: true }).click();
  await tile(page, /^Three of a kind, group of 3 images/).waitFor();
  await show(page, 19);
  await select(page, photos[4].name, photos[5].name);
  await page.getByRole('button', { name: 'Delete', exact: true }).click();
  await show(page, 17);
  await page.getByRole('button', { name: 'Undo' }).click();
  await show(page, 19);

  // A backup; then a delete that was meant, and was a mistake.
  await page.getByRole('link', { name: 'Safety' }).click();
  await page.getByRole('button', { name: 'Back up now' }).click();
  await told(page, 'The backup was made and checked. Images in it: 30');
  await page.getByRole('link', { name: 'Gallery' }).click();
  await show(page, 19);
  await select(page, photos[6].name, photos[7].name, photos[8].name);
  const deleted = page.waitForResponse((response) => response.request().method() === 'DELETE');
  await page.keyboard.press('Delete');
  await deleted;
  await eventually(async () => assert.equal((await first.images()).length, 27));

  // Somebody empties the folder of the images. The page warns, and leads to where it says what is amiss.
  const uploads = join(path, 'uploads');
  for (const name of await readdir(uploads)) await rm(join(uploads, name));
  await page.reload();
  await page.locator('#banner').getByText(/^\d+ images are missing from where they belong\. You see their second copies/).waitFor();
  await page.getByRole('link', { name: 'What to do about it' }).click();
  await page.locator('.verdict').getByRole('heading', { name: /^\d+ images are missing\.$/ }).waitFor();
  await page.getByText(/^Images that are gone from it: \d+\./).waitFor();
  assert.deepEqual(await amiss(page), []);

  // The backup brings back what was deleted by mistake, and the files of all.
  await page.getByRole('button', { name: /^Restore backup-/ }).click();
  // Those that somebody looked at meanwhile are back already, from their second copies.
  await dialog(page).getByText(/^\d+ images come back$/).waitFor();
  await dialog(page).getByRole('button', { name: 'Restore', exact: true }).click();
  await told(page, /^Restored: \d+ brought back/);
  assert.equal((await readdir(uploads)).filter((name) => name.endsWith('.jpg')).length, 30);

  // The whole folder is lost between two starts. The second brings everything back, and says so.
  await first.stop();
  await rm(uploads, { recursive: true });
  const second = await Server.start(t, path, { BACKUP_EVERY: '1000' }, first.port);
  await page.goto(`${second.url}/safety`);
  const checks = page.locator('details.checks');
  await checks.waitFor();
  if (!await checks.evaluate(({ open }) => open)) await checks.locator('summary').click();
  await page.getByText('Images that lacked at start and came back from the archive: 30, of 30.').waitFor();
  await page.getByRole('link', { name: 'Gallery' }).click();
  await show(page, 19);
  await tile(page, /^The first of all/).waitFor();
  await tile(page, /^Three of a kind, group of 3 images/).waitFor();
  await tile(page, /^The long walk, group of 10 images/).waitFor();

  // All thirty, to the bit.
  const images = await second.images();
  const bytes = await Promise.all(images.map(async ({ url }) => Buffer.from(await (await fetch(second.url + url)).arrayBuffer())));
  assert.deepEqual(bytes.map(digest).sort(), photos.map(({ buffer }) => digest(buffer)).sort());
});
