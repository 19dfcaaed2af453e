// What people write is text: nothing of it is ever run, wherever it is shown.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually, gallery } from './browser.mjs';
import { answer, dialog, drop, said, tile, tiles, uploaded } from './gestures.mjs';
import { draw, range } from './pictures.mjs';

/** Markup that would run, and something to tell its places apart. */
const hostile = (where) => `"'><img src=x onerror="window.ran='${where}'"><script>window.ran='${where}'</script>`;

/** Fails if anything of it was run or became an element. */
async function unharmed(page) {
  assert.equal(await page.evaluate(() => window.ran), undefined);
  assert.equal(await page.locator('img[src=x], [onerror]').count(), 0);
}

test('names, descriptions, categories and titles are shown as text and never run', async (t) => {
  const { server, page } = await gallery(t);
  const [first, ...rest] = await draw(page, range(4));
  const name = `${hostile('name').replaceAll('/', '')}.jpg`;
  await server.upload([{ ...first, name }]);
  await server.upload([rest[0]], { description: hostile('description'), category: hostile('category') });
  const grouped = await server.upload(rest.slice(1));
  await server.ask('/api/groups/g', {
    method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ files: grouped.map(({ id }) => id), title: hostile('title') }),
  });
  await page.reload();
  await eventually(async () => assert.equal(await tiles(page).count(), 3));
  const labels = (await tiles(page).evaluateAll((all) => all.map((tile) => tile.getAttribute('aria-label')))).join('\n');
  for (const text of [hostile('description'), hostile('category'), hostile('title')]) assert.ok(labels.includes(text), `${labels}\nlacks\n${text}`);
  await page.getByLabel('Category').locator('option', { hasText: hostile('category') }).waitFor({ state: 'attached' });
  await unharmed(page);

  await tile(page, hostile('description')).click();
  await page.locator('.viewer').getByRole('heading', { name: hostile('description') }).waitFor();
  await page.getByRole('button', { name: 'Details' }).click();
  assert.equal(await page.getByRole('complementary', { name: 'Details' }).getByLabel('Description').inputValue(), hostile('description'));
  await unharmed(page);
  await page.keyboard.press('Escape');
  await tile(page, hostile('title')).click();
  await page.getByRole('heading', { name: hostile('title') }).waitFor();
  await unharmed(page);
  await page.goto(`${server.url}/?q=${encodeURIComponent(hostile('search'))}&category=${encodeURIComponent(hostile('place'))}`);
  await page.getByText('Nothing matches').waitFor();
  await unharmed(page);
});

test('the name of a file that is being uploaded is text as well', async (t) => {
  const { page } = await gallery(t, { expected: ['status of 415'] });
  const name = '<img src=x onerror=window.ran=1>.jpg';
  await drop(page, [{ name, mimeType: 'image/jpeg', buffer: Buffer.from('no image') }]);
  await dialog(page).getByRole('heading', { name: `Upload ${name}` }).waitFor();
  await unharmed(page);
  await answer(page, { category: hostile('category') });
  await uploaded(page, /1 failed/);
  await said(page, name, 'Not an image').waitFor();
  await unharmed(page);
});

test('the policy stops a script even where markup would get into a page', async (t) => {
  const { page } = await gallery(t, { expected: ['Content Security Policy', 'the policy forbids', 'status of 404'] });
  // Beside what the page has: it may still be writing into its own.
  const forbidden = await page.evaluate((markup) => new Promise((resolve) => {
    const directives = new Set();
    addEventListener('securitypolicyviolation', ({ violatedDirective }) => directives.add(violatedDirective).size === 2 && resolve([...directives].sort()));
    document.body.insertAdjacentHTML('beforeend', markup);
    document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = 2' }));
  }), '<img src=x onerror="window.ran=1">');
  assert.deepEqual(forbidden, ['script-src-attr', 'script-src-elem']);
  assert.equal(await page.evaluate(() => window.ran), undefined);
});

test('a link that is a script is refused, and a linked video is played only when it is wanted', async (t) => {
  const { server, page } = await gallery(t, { expected: ['status of 400'] });
  await page.getByRole('button', { name: 'Add a link' }).click();
  await dialog(page).getByLabel('Address').fill('javascript:window.ran=1');
  await dialog(page).getByRole('button', { name: 'Add' }).click();
  await dialog(page).getByRole('alert').waitFor();
  await dialog(page).getByLabel('Address').fill('https://www.youtube.com/watch?v=aqz-KE-bpKQ');
  await dialog(page).getByLabel('Description').fill('A film');
  await dialog(page).getByRole('button', { name: 'Add' }).click();
  const asked = [];
  page.on('request', (request) => asked.push(new URL(request.url()).origin));
  await tile(page, /^A film, link/).click();
  await page.getByRole('button', { name: 'Play from YouTube' }).waitFor();
  assert.deepEqual(asked.filter((origin) => origin !== server.url), []);
  await page.route('https://www.youtube-nocookie.com/**', (route) => route.fulfill({ contentType: 'text/html', body: 'The player' }));
  await page.getByRole('button', { name: 'Play from YouTube' }).click();
  await page.frameLocator('.viewer iframe').getByText('The player').waitFor();
});
