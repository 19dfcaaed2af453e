// Both pages, as they come: what the browser and the rules for accessible pages have against them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { amiss } from './accessible.mjs';
import { gallery } from './browser.mjs';
import { DESK, PHONE } from './chromium.mjs';
import { draw, range } from './pictures.mjs';

for (const [size, device] of Object.entries({ phone: PHONE, desk: DESK })) {
  for (const colorScheme of ['light', 'dark']) {
    test(`both pages are accessible on a ${size} in ${colorScheme} colours`, async (t) => {
      const { server, page } = await gallery(t, { ...device, colorScheme });
      assert.deepEqual(await amiss(page), []);
      await server.upload(await draw(page, range(3)), { category: 'hills' });
      for (const path of ['/', '/safety']) {
        await page.goto(server.url + path);
        assert.deepEqual(await amiss(page), [], path);
      }
    });
  }
}

test('nothing but files of the pages is loaded, and nothing is sent elsewhere', async (t) => {
  const { server, page, context } = await gallery(t);
  const asked = [];
  context.on('request', (request) => asked.push(new URL(request.url()).origin));
  for (const path of ['/', '/safety']) await page.goto(server.url + path, { waitUntil: 'networkidle' });
  assert.deepEqual([...new Set(asked)], [server.url]);
});

test('a page goes nowhere sideways on a narrow screen', async (t) => {
  const { server, page } = await gallery(t, { ...PHONE, viewport: { width: 320, height: 640 } });
  for (const path of ['/', '/safety']) {
    await page.goto(server.url + path, { waitUntil: 'networkidle' });
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), path);
  }
});

test('nothing moves for those who do not want it', async (t) => {
  const { server, page } = await gallery(t);
  await server.upload(await draw(page, range(2)));
  const moving = () => page.evaluate(() => [...document.querySelectorAll('*')].flatMap((element) => [null, '::before', '::after'].map((part) => getComputedStyle(element, part)))
    .filter((style) => style.animationName !== 'none' || style.transitionDuration.split(',').some((time) => parseFloat(time) > 0) || style.scrollBehavior === 'smooth').length);
  for (const path of ['/', '/safety']) {
    await page.goto(server.url + path, { waitUntil: 'networkidle' });
    assert.equal(await moving(), 0, path);
  }
  // What moves for the others: the word that is shown while the first images are on their way, which they are here until the end.
  await page.route('**/api/images?*', () => {});
  await page.goto(server.url);
  await page.locator('.late').waitFor();
  assert.equal(await moving(), 0);
  await page.emulateMedia({ reducedMotion: 'no-preference' });
  assert.equal(await moving(), 1);
});
