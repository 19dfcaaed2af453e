// What a person has before them: a page in a browser of its own, which is watched while it is used.
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { DESK, launch } from './chromium.mjs';
import { afterwards, folder, Server } from './server.mjs';

/** As many milliseconds as a busy machine may need for what a person would see at once. */
const PATIENCE = 60_000;
/** Each answer of the API comes up to so many milliseconds late: for finding tests, and pages, that count on an order of answers. */
const LATE = Number(process.env.KEEPSAKE_LATE ?? 0);
let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

/** A server on a new folder, and its gallery in a browser of its own: `{ server, page, context }`. */
export async function gallery(t, { variables, ...options } = {}) {
  const server = await Server.start(t, await folder(t), variables);
  return { server, ...await visit(t, server, '/', options) };
}

/** Opens a page of the server. Whatever the browser complains of until the end of the test fails it: errors of scripts, and
 * whatever the policy forbids. `expected` are the parts of complaints that belong to the test, such as "status of 401". */
export async function visit(t, server, path = '/', { expected = [], ...options } = {}) {
  const context = await browser.newContext({ ...DESK, reducedMotion: 'reduce', ...options });
  context.setDefaultTimeout(PATIENCE);
  const complaints = [];
  context.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(`${message.text()} (${message.location().url})`));
  context.on('weberror', (error) => complaints.push(String(error.error().stack)));
  context.on('page', (page) => page.on('crash', () => complaints.push('the page crashed')));
  await context.addInitScript(() => addEventListener('securitypolicyviolation',
    (event) => console.error(`the policy forbids ${event.violatedDirective}: ${event.blockedURI} ${event.sample}`)));
  afterwards(t, async () => {
    await context.close();
    assert.deepEqual(complaints.filter((complaint) => !expected.some((part) => complaint.includes(part))), [], 'what the browser complained of');
  });
  if (LATE) await context.route('**/api/**', async (route) => {
    await new Promise((resolve) => setTimeout(resolve, Math.random() * LATE));
    await route.fallback().catch(() => {}); // The page may be gone by now.
  });
  const page = await context.newPage();
  await page.goto(server.url + path);
  return { page, context };
}

/** Waits until `check` passes without throwing, and returns what it returns. */
export async function eventually(check) {
  const end = performance.now() + PATIENCE;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
