// Groups: made, opened, put in order by keys and by the pointer, named, and taken apart.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { amiss } from './accessible.mjs';
import { eventually, gallery } from './browser.mjs';
import { dialog, select, tile, tiles } from './gestures.mjs';
import { draw, range } from './pictures.mjs';

const NAMES = ['One', 'Two', 'Three', 'Four'];

/** A gallery with four images, named, none in a group. */
async function four(t, options) {
  const { server, page } = await gallery(t, options);
  const pictures = await draw(page, range(NAMES.length));
  const ids = {};
  for (const [at, name] of NAMES.entries()) [{ id: ids[name] }] = await server.upload([pictures[at]], { description: name });
  return { server, page, ids };
}

/** Likewise, in a group that is open. */
async function opened(t, options) {
  const { server, page, ids } = await four(t, options);
  const group = await server.ask('/api/groups/trip', {
    method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ files: NAMES.map((name) => ids[name]), title: 'The trip' }),
  });
  assert.equal(group.fileCount, 4);
  await page.goto(`${server.url}/?group=trip`);
  await order(page, NAMES);
  return { server, page, ids };
}

/** What somebody else does: another image comes into the group. */
const join = async (server, page) => server.upload(await draw(page, [9]), { groupId: 'trip', description: 'Five' });
const ALL = [...NAMES, 'Five'];
const said = (page, words) => page.locator('.toast').filter({ hasText: words }).waitFor();

const order = (page, names) => eventually(async () => assert.deepEqual(
  await tiles(page).evaluateAll((all) => all.map((tile) => tile.getAttribute('aria-label').split(',')[0])), names));
const kept = (server, names) => eventually(async () => assert.deepEqual(
  (await server.ask('/api/groups/trip')).files.map(({ description }) => description), names));

test('images become a group that is shown as one, and opens', async (t) => {
  const { server, page } = await four(t);
  await page.reload();
  await select(page, 'One', 'Three');
  await page.getByRole('button', { name: 'Group', exact: true }).click();
  await dialog(page).getByLabel('Title').fill('A pair');
  await dialog(page).getByRole('button', { name: 'Group', exact: true }).click();
  await eventually(async () => assert.equal(await tiles(page).count(), 3));
  assert.deepEqual(await amiss(page), []);
  await tile(page, /^A pair, group of 2 images/).click();
  await page.getByRole('heading', { name: 'A pair' }).waitFor();
  await eventually(async () => assert.equal(await tiles(page).count(), 2));
  assert.deepEqual(await amiss(page), []);
  const { images } = await server.ask('/api/images');
  assert.deepEqual(images.map(({ type }) => type).sort(), ['group', 'image', 'image']);
  await page.goBack();
  await tile(page, /^A pair, group of 2 images/).waitFor();
});

test('the keys put a group in order, which lasts', async (t) => {
  const { server, page } = await opened(t);
  await tile(page, 'One').focus();
  await page.keyboard.press('Alt+ArrowRight');
  await page.keyboard.press('Alt+ArrowRight');
  const after = ['Two', 'Three', 'One', 'Four'];
  await order(page, after);
  assert.match(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), /^One/, 'the focus goes with it');
  await page.locator('#announce').getByText('One: place 3 of 4.').waitFor({ state: 'attached' });
  await kept(server, after);
  await page.reload();
  await order(page, after);
});

test('the pointer drags an image to its place', async (t) => {
  const { server, page } = await opened(t);
  await tile(page, 'Four').dragTo(tile(page, 'Two'));
  const after = ['One', 'Four', 'Two', 'Three'];
  await order(page, after);
  await kept(server, after);
});

test('buttons move what is selected, for those who cannot drag', async (t) => {
  const { server, page } = await opened(t);
  await select(page, 'Three', 'Four');
  await page.getByRole('button', { name: 'Move earlier' }).click();
  const after = ['One', 'Three', 'Four', 'Two'];
  await order(page, after);
  await kept(server, after);
  assert.deepEqual(await amiss(page), []);
});

test('another image becomes the title image, by which the group is seen', async (t) => {
  const { server, page, ids } = await opened(t);
  await select(page, 'Three');
  await page.getByRole('button', { name: 'Make title image' }).click();
  await kept(server, ['Three', 'One', 'Two', 'Four']);
  const group = await server.ask('/api/groups/trip');
  assert.ok(group.url.includes(ids.Three), group.url);
  await page.getByRole('button', { name: 'Back to all images' }).click();
  const face = tile(page, /^The trip, group of 4 images/).locator('img');
  await eventually(async () => assert.ok((await face.getAttribute('src')).includes(ids.Three)));
});

test('a group is renamed, an image leaves it, and it is dissolved without a loss', async (t) => {
  const { server, page } = await opened(t);
  await page.getByRole('button', { name: 'Rename' }).click();
  await dialog(page).getByLabel('Title').fill('The long trip');
  await dialog(page).getByRole('button', { name: 'Save' }).click();
  await page.getByRole('heading', { name: 'The long trip' }).waitFor();
  await select(page, 'Two');
  await page.getByRole('button', { name: 'Take out of the group' }).click();
  await order(page, ['One', 'Three', 'Four']);
  await page.getByRole('button', { name: 'Dissolve' }).click();
  await dialog(page).getByRole('button', { name: 'Dissolve' }).click();
  await eventually(async () => assert.equal(await tiles(page).count(), 4));
  assert.deepEqual((await server.images()).map(({ groupId }) => groupId), [null, null, null, null]);
});

test('a group is downloaded as a zip', async (t) => {
  const { page } = await opened(t);
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'Download as zip' }).click()]);
  assert.match(download.suggestedFilename(), /\.zip$/);
  await download.delete();
});

test('the group that is open is deleted as its tile is: it can be undone, and so long nothing is sent', async (t) => {
  const { server, page } = await opened(t);
  const sent = [];
  page.on('request', (request) => request.method() === 'DELETE' && sent.push(request.url()));
  await page.getByRole('button', { name: 'Delete group' }).click();
  await page.getByText('Drop photos here').waitFor();
  await page.locator('.toast').filter({ hasText: '4 images are being deleted.' }).getByRole('button', { name: 'Undo' }).click();
  await tile(page, /^The trip, group of 4 images/).waitFor();
  await eventually(async () => assert.match(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), /^The trip/));
  assert.deepEqual(await amiss(page), []);
  assert.deepEqual(sent, []);
  await kept(server, NAMES);
  await tile(page, /^The trip/).click();
  await order(page, NAMES);
  await page.getByRole('button', { name: 'Delete group' }).click();
  await said(page, '4 images are being deleted.');
  // As when the page is left, which ends the time for undoing.
  await page.evaluate(() => dispatchEvent(new Event('pagehide')));
  await eventually(async () => assert.deepEqual(await server.images(), []));
  await page.getByText('Drop photos here').waitFor();
});

test('a group into which an image came since it was looked at is not deleted, but shown again', async (t) => {
  const { server, page } = await opened(t, { expected: ['status of 412'] });
  await page.getByRole('button', { name: 'Back to all images' }).click();
  await tile(page, /^The trip, group of 4 images/).focus();
  await page.keyboard.press('Delete');
  await said(page, '4 images are being deleted.');
  await join(server, page);
  // As when the page is left, which ends the time for undoing.
  await page.evaluate(() => dispatchEvent(new Event('pagehide')));
  await said(page, 'The group "The trip" changed meanwhile, so nothing of it was deleted. It is shown as it is now.');
  await tile(page, /^The trip, group of 5 images/).waitFor();
  await kept(server, ALL);
  assert.deepEqual(await amiss(page), []);
  await tile(page, /^The trip/).focus();
  await page.keyboard.press('Delete');
  await said(page, '5 images are being deleted.');
  await page.evaluate(() => dispatchEvent(new Event('pagehide')));
  await eventually(async () => assert.deepEqual(await server.images(), []));
});

test('the group that is open is not deleted with an image that came into it unseen', async (t) => {
  const { server, page } = await opened(t, { expected: ['status of 412'] });
  await page.getByRole('button', { name: 'Delete group' }).click();
  await said(page, '4 images are being deleted.');
  await join(server, page);
  await page.evaluate(() => dispatchEvent(new Event('pagehide')));
  await said(page, 'The group "The trip" changed meanwhile, so nothing of it was deleted. It is shown as it is now.');
  await tile(page, /^The trip, group of 5 images/).waitFor();
  await kept(server, ALL);
});

test('what came into a group unseen is not pushed out by taking out another, nor by an order, a title or a dissolution', async (t) => {
  const { server, page } = await opened(t, { expected: ['status of 412'] });
  await join(server, page);
  await select(page, 'Two');
  await page.getByRole('button', { name: 'Take out of the group' }).click();
  await said(page, 'The group changed meanwhile, so nothing was changed.');
  await order(page, ALL);
  await kept(server, ALL);
  await page.getByRole('button', { name: 'Take out of the group' }).click();
  const rest = ['One', 'Three', 'Four', 'Five'];
  await order(page, rest);
  await kept(server, rest);

  const touch = (title) => server.ask('/api/groups/trip/title', { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ title }) });
  await touch('A');
  await tile(page, 'One').focus();
  await page.keyboard.press('Alt+ArrowRight');
  await page.getByRole('heading', { name: 'A', exact: true }).waitFor();
  await order(page, rest);
  await page.getByRole('button', { name: 'Rename' }).click();
  await touch('B');
  await dialog(page).getByLabel('Title').fill('C');
  await dialog(page).getByRole('button', { name: 'Save' }).click();
  await dialog(page).getByText('Its title is "B" now.').waitFor();
  await dialog(page).getByRole('button', { name: 'Save' }).click();
  await page.getByRole('heading', { name: 'C', exact: true }).waitFor();
  await page.getByRole('button', { name: 'Dissolve' }).click();
  await touch('D');
  await dialog(page).getByRole('button', { name: 'Dissolve' }).click();
  await page.getByRole('heading', { name: 'D', exact: true }).waitFor();
  await kept(server, rest);
});

test('an order that is changed again while the last one is on its way is kept', async (t) => {
  const { server, page } = await opened(t);
  let answer;
  const held = new Promise((resolve) => { answer = resolve; });
  const asked = [];
  await page.route('**/api/groups/trip/order', async (route) => {
    asked.push(route.request().headers()['if-match']);
    if (asked.length === 1) await held;
    await route.continue();
  });
  await tile(page, 'One').focus();
  await page.keyboard.press('Alt+ArrowRight');
  await eventually(async () => assert.equal(asked.length, 1));
  await page.keyboard.press('Alt+ArrowRight');
  answer();
  const after = ['Two', 'Three', 'One', 'Four'];
  await kept(server, after);
  await order(page, after);
  assert.equal(new Set(asked).size, 2, 'each says the version that the one before made');
});

test('images join a group as it is by then', async (t) => {
  const { server, page, ids } = await four(t, { expected: ['status of 412'] });
  await server.ask('/api/groups/trip', { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ files: [ids.One, ids.Two], title: 'The trip' }) });
  await page.reload();
  await select(page, /^The trip/, 'Three');
  await page.getByRole('button', { name: 'Group', exact: true }).click();
  await join(server, page);
  await dialog(page).getByRole('button', { name: 'Group', exact: true }).click();
  await dialog(page).getByText('The group changed meanwhile, and has 3 images now.').waitFor();
  await dialog(page).getByRole('button', { name: 'Group', exact: true }).click();
  await tile(page, /^The trip, group of 4 images/).waitFor();
  const { files } = await server.ask('/api/groups/trip');
  assert.deepEqual(files.map(({ description }) => description).sort(), ['Five', 'One', 'Three', 'Two']);
});
