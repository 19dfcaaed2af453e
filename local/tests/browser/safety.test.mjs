// The safety page: what it says of the store, and that backups are made, looked into, restored and undone without a command.
import assert from 'node:assert/strict';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { amiss } from './accessible.mjs';
import { eventually, gallery, visit } from './browser.mjs';
import { tiles } from './gestures.mjs';
import { draw, range } from './pictures.mjs';
import { folder, Server } from './server.mjs';

/** What the page says came of the last thing that was done. */
const told = (page) => page.locator('#told');
const says = (page, words) => told(page).filter({ hasText: words }).waitFor();
const rows = (page) => page.locator('table.backups tbody tr');
const dialog = (page) => page.getByRole('dialog');
/** Opens the plan of restoring the backup in the nth row, and waits until it stands there. */
async function plan(page, nth) {
  await rows(page).nth(nth).getByRole('button', { name: /^Restore / }).click();
  await dialog(page).locator('.counts').waitFor();
}

/** Waits until so many pictures are shown in the gallery: none is asked for any more. */
const loaded = (page, number) => eventually(async () => assert.equal(
  await tiles(page).locator('img').evaluateAll((all) => all.filter(({ naturalWidth }) => naturalWidth > 0).length), number));

/** A server with five pictures, seen from its safety page. */
async function safety(t) {
  const { server, page } = await gallery(t);
  const stored = await server.upload(await draw(page, range(5)), { category: 'hills', description: 'As it was' });
  await page.goto(`${server.url}/safety`);
  return { server, page, stored };
}

test('the page says what health says: the verdict, its evidence and where the copies are', async (t) => {
  const { server, page } = await safety(t);
  const { persistence } = await server.ask('/api/health');
  const card = page.locator('.verdict');
  await card.getByText(persistence.verdict, { exact: true }).waitFor();
  await card.getByText(persistence.evidence.slice(1)).first().waitFor();
  if (persistence.warning) await card.getByText(persistence.warning.replaceAll('`', '')).waitFor();
  await page.getByText('no image: each has two').waitFor();
});

test('a backup is made by a button, is listed as checked, and tells what is in it', async (t) => {
  const { server, page } = await safety(t);
  await page.getByText('There is no backup yet.').waitFor();
  await page.getByRole('button', { name: 'Back up now' }).click();
  await says(page, 'The backup was made and checked. Images in it: 5');
  const { backups } = await server.ask('/api/backups');
  assert.equal(backups.length, 1);
  await rows(page).getByText(backups[0].name, { exact: true }).waitFor();
  await page.locator('.timeline svg[role=img][aria-label^="Timeline of 1 backup"]').waitFor();
  await rows(page).getByRole('button', { name: /^Contents / }).click();
  await dialog(page).getByText(backups[0].name).waitFor();
  assert.deepEqual(await amiss(page), []);
});

test('a restore shows its plan first, brings back what was deleted and changed, and is undone by a button', async (t) => {
  const { server, page, stored } = await safety(t);
  await page.getByRole('button', { name: 'Back up now' }).click();
  await says(page, 'The backup was made');
  await server.ask(`/api/images/${stored[0].id}`, { method: 'DELETE' });
  await server.ask(`/api/images/${stored[1].id}`, { method: 'DELETE' });
  await server.ask(`/api/images/${stored[2].id}`, { method: 'PATCH', body: '{"description":"Written over"}', headers: { 'content-type': 'application/json' } });
  await server.upload(await draw(page, [6]));

  await plan(page, 0);
  for (const words of ['2 images come back', '1 image changes', '0 images go', '3 images stay as they are']) await dialog(page).getByText(words).waitFor();
  assert.deepEqual(await amiss(page), []);
  assert.equal((await server.images()).length, 4, 'a plan changes nothing');

  await dialog(page).getByLabel('Make everything as it was').check();
  await dialog(page).getByText('1 image goes').waitFor();
  await dialog(page).getByLabel('Keep what came later').check();
  await dialog(page).getByText('0 images go').waitFor();
  await dialog(page).getByRole('button', { name: 'Restore', exact: true }).click();
  await says(page, 'Restored: 2 brought back, 1 changed, 0 removed, 3 kept.');
  const restored = await server.images();
  assert.equal(restored.length, 6);
  assert.equal(restored.find(({ id }) => id === stored[2].id).description, 'As it was');

  await told(page).getByRole('button', { name: 'Undo' }).click();
  await says(page, 'Undone:');
  const undone = await server.images();
  assert.equal(undone.length, 4);
  assert.equal(undone.find(({ id }) => id === stored[2].id).description, 'Written over');
  await rows(page).nth(2).waitFor();
  assert.deepEqual(await amiss(page), []);
});

test('a plan that is dismissed changes nothing', async (t) => {
  const { server, page, stored } = await safety(t);
  await page.getByRole('button', { name: 'Back up now' }).click();
  await says(page, 'The backup was made');
  await server.ask(`/api/images/${stored[0].id}`, { method: 'DELETE' });
  await plan(page, 0);
  await page.keyboard.press('Escape');
  await dialog(page).waitFor({ state: 'detached' });
  assert.equal((await server.images()).length, 4);
  assert.equal((await server.ask('/api/backups')).backups.length, 1);
});

test('a backup is downloaded as a zip, and deleted only after a question', async (t) => {
  const { server, page } = await safety(t);
  await page.getByRole('button', { name: 'Back up now' }).click();
  await says(page, 'The backup was made');
  const [download] = await Promise.all([page.waitForEvent('download'), rows(page).getByRole('button', { name: /^Download / }).click()]);
  const [{ name }] = (await server.ask('/api/backups')).backups;
  assert.equal(download.suggestedFilename(), `${name}.zip`);
  await download.delete();

  const remove = rows(page).getByRole('button', { name: /^Delete / });
  await remove.click();
  await dialog(page).getByRole('button', { name: 'Cancel' }).click();
  assert.equal((await server.ask('/api/backups')).backups.length, 1);
  await remove.click();
  await dialog(page).getByRole('button', { name: 'Delete' }).click();
  await says(page, `${name} was deleted`);
  assert.equal((await server.ask('/api/backups')).backups.length, 0);
});

test('everything is read through by a button, and a damaged image is repaired from its second copy', async (t) => {
  const path = await folder(t);
  const server = await Server.start(t, path);
  const { page } = await visit(t, server);
  const [image] = await server.upload(await draw(page, [1]));
  await rm(join(path, 'uploads', image.id));
  await page.goto(`${server.url}/safety`);
  await page.getByRole('button', { name: 'Check everything' }).click();
  await dialog(page).getByRole('button', { name: 'Check', exact: true }).click();
  await says(page, 'Everything was read through and is right, after 1 repair');
  await eventually(async () => assert.equal((await fetch(`${server.url}${image.url}`)).status, 200));
});

test('a page that is open learns within a minute that images are gone, and when it is looked at again that they are back', async (t) => {
  const path = await folder(t);
  const server = await Server.start(t, path);
  const { page } = await visit(t, server);
  await server.upload(await draw(page, range(3)));
  await page.clock.install();
  const healthy = page.waitForResponse('**/api/health');
  await page.reload();
  await healthy;
  await loaded(page, 3);
  const banner = page.locator('[data-banner=amiss]');
  await rm(join(path, 'uploads'), { recursive: true });
  await page.clock.fastForward(59_000);
  await banner.getByText(/^3 images are missing/).waitFor();
  await server.ask('/api/verify?repair=true', { method: 'POST' });
  await page.evaluate(() => dispatchEvent(new Event('focus')));
  await banner.waitFor({ state: 'detached' });
  await rm(join(path, 'uploads'), { recursive: true });
  await page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
  await banner.getByText(/^3 images are missing/).waitFor();
});

test('that images are gone is the first thing the page says, with a button that brings them back', async (t) => {
  const path = await folder(t);
  const server = await Server.start(t, path);
  const { page } = await visit(t, server);
  const images = await server.upload(await draw(page, range(2)));
  await page.reload();
  await loaded(page, 2);
  await rm(join(path, 'uploads'), { recursive: true });
  await page.reload();
  await page.locator('[data-banner=amiss]').getByText('2 images are missing from where they belong.').waitFor();
  await page.getByRole('link', { name: 'What to do about it' }).click();
  await page.locator('.verdict').getByRole('heading', { name: '2 images are missing.' }).waitFor();
  assert.deepEqual(await amiss(page), []);
  await page.locator('.verdict').getByRole('button', { name: 'Bring them back' }).click();
  await dialog(page).getByRole('heading', { name: 'Bring the images back' }).waitFor();
  await dialog(page).getByRole('button', { name: 'Bring them back' }).click();
  await says(page, 'Everything was read through and is right, after 2 repairs');
  await page.locator('.verdict').getByRole('heading', { name: 'are missing' }).waitFor({ state: 'detached' });
  assert.deepEqual((await readdir(join(path, 'uploads'))).filter((name) => name.endsWith('.jpg')).sort(), images.map(({ id }) => id).sort());
});

test('a server that goes away is said to be away, and the page goes on when it is back', async (t) => {
  const path = await folder(t);
  const first = await Server.start(t, path);
  const { page } = await visit(t, first, '/safety', { expected: ['net::ERR_'] });
  await page.locator('.verdict').waitFor();
  await first.stop();
  await page.getByRole('button', { name: 'Back up now' }).click();
  await page.locator('#banner').getByText('The server cannot be reached. What you see may be old.', { exact: true }).waitFor();
  await says(page, 'broke off');
  await Server.start(t, path, {}, first.port);
  await page.getByRole('button', { name: 'Back up now' }).click();
  await says(page, 'The backup was made');
  await page.locator('#banner').getByText('The server cannot be reached').waitFor({ state: 'detached' });
});

/** A page that is told by health what a container with a disk of its own would be. */
async function passing(t, options) {
  const { server, page, context } = await gallery(t, options);
  const warning = 'Storage may be ephemeral: the images lie on overlay, and a container\'s own layer and memory go with it. '
    + 'Mount a volume, as with `docker run -v keepsake:/data`, and set DATA_DIR=/data.';
  await context.route('**/api/health', async (route) => {
    const health = await (await route.fetch()).json();
    Object.assign(health.persistence, { verdict: 'ephemeral', warning });
    await route.fulfill({ json: health });
  });
  await server.upload(await draw(page, range(3)));
  await page.reload();
  return { server, page, banner: page.locator('[data-banner=persistence]') };
}

test('that images may be gone soon is said in plain words, and commands stand as such', async (t) => {
  const { server, page, banner } = await passing(t);
  await banner.getByText('Your images may be gone after the next restart or deployment.').waitFor();
  await banner.locator('code', { hasText: /^docker run -v keepsake:\/data$/ }).waitFor();
  assert.ok(!(await banner.textContent()).includes('`'));
  assert.deepEqual(await amiss(page), []);
  await page.goto(`${server.url}/safety`);
  const remedy = page.locator('.remedy');
  await remedy.locator('code', { hasText: /^docker run -v keepsake:\/data$/ }).waitFor();
  assert.ok(!(await page.locator('main').textContent()).includes('`'));
});

test('on a small screen the warning is a line, which leaves room for the images', async (t) => {
  const { page, banner } = await passing(t, { viewport: { width: 640, height: 400 } });
  await banner.getByText('Your images may be gone after the next restart or deployment.').waitFor();
  await banner.getByRole('link', { name: 'What to do' }).waitFor();
  const { height } = await banner.boundingBox();
  assert.ok(height <= 40, `the warning takes ${height} of 400 pixels`);
  assert.deepEqual(await amiss(page), []);
  await banner.getByRole('link', { name: 'What to do' }).click();
  await page.locator('.remedy').getByText('Storage may be ephemeral').waitFor();
});
