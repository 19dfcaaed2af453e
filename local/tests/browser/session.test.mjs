// The door as people meet it: signing in with a token, what is shown without one, and signing out.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { amiss } from './accessible.mjs';
import { eventually, gallery } from './browser.mjs';
import { answer, dialog, drop, hold, tiles, uploaded } from './gestures.mjs';
import { draw, range } from './pictures.mjs';

const TOKEN = 'correct-horse-battery-staple-0123456789';
const GUARDED = { variables: { API_TOKEN: TOKEN }, expected: ['status of 401'] };

async function signIn(page, token = TOKEN) {
  await dialog(page).getByLabel('Token').fill(token);
  await dialog(page).getByRole('button', { name: 'Sign in' }).click();
}

test('a wrong token is said to be wrong, the right one signs in, and nothing of it can be read by a script', async (t) => {
  const { server, page, context } = await gallery(t, GUARDED);
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
  assert.deepEqual(await amiss(page), []);
  await dialog(page).locator('code', { hasText: 'keepsake token new laptop --scope admin' }).waitFor();
  const [field, help] = [await dialog(page).getByLabel('Token').boundingBox(), await dialog(page).locator('p.muted').boundingBox()];
  assert.ok(help.y - field.y - field.height >= 8, 'the help does not touch the field');
  await signIn(page, 'a-wrong-token');
  await dialog(page).getByRole('alert').getByText('This token is not known here.').waitFor();
  assert.deepEqual(await amiss(page), []);
  await signIn(page);
  await page.getByText('You are signed in.').waitFor();
  const [cookie] = await context.cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.path], [true, 'Strict', '/']);
  assert.equal(await page.evaluate(() => document.cookie + Object.values(localStorage) + Object.values(sessionStorage)), '');
  await drop(page, await draw(page, [1]));
  await answer(page);
  await uploaded(page, '1 file uploaded');
  await page.goto(`${server.url}/safety`);
  await page.getByRole('button', { name: 'Back up now' }).click();
  await page.locator('#told').getByText('The backup was made').waitFor();
});

test('whoever is not signed in is asked for a token when they want to change something', async (t) => {
  const { server, page } = await gallery(t, GUARDED);
  await page.getByRole('button', { name: 'Sign in', exact: true }).waitFor();
  await drop(page, await draw(page, range(2)));
  await signIn(page);
  await answer(page, { category: 'hills' });
  await uploaded(page, '2 files uploaded');
  assert.equal((await server.images()).length, 2);
});

test('after signing out nothing can be changed any more', async (t) => {
  const { page, context } = await gallery(t, GUARDED);
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
  await signIn(page);
  await page.locator('#toasts').getByText('You are signed in.').waitFor();
  assert.equal(await page.locator('#session .muted').textContent(), 'Signed in');
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('button', { name: 'Sign in', exact: true }).waitFor();
  assert.equal(await page.getByText('signed in', { exact: false }).count(), 0, 'nothing says that one is still signed in');
  assert.deepEqual(await context.cookies(), []);
  assert.equal(await page.evaluate(async () => (await fetch('/api/backup', { method: 'POST' })).status), 401);
});

test('of a private gallery nothing is shown before one has signed in', async (t) => {
  const { server, page } = await gallery(t, { ...GUARDED, variables: { API_TOKEN: TOKEN, READ: 'token' } });
  const [picture] = await draw(page, [1]);
  await server.upload([picture], { description: 'A secret' }, TOKEN);
  await page.reload();
  await page.getByText('These images are private').waitFor();
  assert.equal(await page.getByText('A secret').count(), 0);
  // It may ask by itself as well.
  if (!await dialog(page).isVisible()) await page.getByRole('button', { name: 'Sign in' }).first().click();
  await signIn(page);
  await eventually(async () => assert.equal(await tiles(page).count(), 1));
  await eventually(async () => assert.ok(await tiles(page).locator('img').evaluate((image) => image.naturalWidth > 0)));
});

test('a private gallery is shown to whoever signed in before the page knew that they had not', async (t) => {
  const { server, page } = await gallery(t, { ...GUARDED, variables: { API_TOKEN: TOKEN, READ: 'token' } });
  await server.upload(await draw(page, [1]), {}, TOKEN);
  const letGo = await hold(page, '**/api/session', { answered: true });
  await page.reload();
  await signIn(page);
  await page.getByText('You are signed in.').waitFor();
  await eventually(async () => assert.equal(await tiles(page).count(), 1));
  const late = page.waitForResponse('**/api/session');
  letGo();
  await (await late).finished();
  await page.evaluate(() => new Promise(requestAnimationFrame));
  assert.equal(await page.locator('#session .muted').textContent(), 'Signed in');
});

test('another site can change nothing in the name of who is signed in', async (t) => {
  const { server, page, context } = await gallery(t, { ...GUARDED, expected: ['status of 401', 'status of 403', 'CORS', 'net::ERR_FAILED'] });
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
  await signIn(page);
  await page.getByText('You are signed in.').waitFor();
  const other = await context.newPage();
  // The same machine by another name: another site to the browser.
  await other.route('http://other.test/**', (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>Elsewhere</title>' }));
  await other.goto('http://other.test/');
  await other.evaluate((url) => fetch(`${url}/api/backup`, { method: 'POST', mode: 'no-cors', credentials: 'include' }).catch(() => null), server.url);
  await other.evaluate((url) => {
    const form = Object.assign(document.createElement('form'), { method: 'post', action: `${url}/api/backup` });
    document.body.append(form);
    form.submit();
  }, server.url);
  await other.waitForURL(`${server.url}/api/backup`);
  assert.deepEqual((await server.ask('/api/backups', { token: TOKEN })).backups, []);
});
