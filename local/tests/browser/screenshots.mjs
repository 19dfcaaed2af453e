// The pictures of the pages in docs/images/: `just screenshots` takes them anew, from a store of drawn pictures.
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DESK, launch, PHONE } from './chromium.mjs';
import { draw, range } from './pictures.mjs';
import { folder, Server } from './server.mjs';

const PLACE = 'docs/images';
/** A page of documents is looked at on a phone as well. */
const MOST_BYTES = 300_000;
const VOLUME = '/srv';
const SAID = [
  ['mountains', 'The ridge above the hut'], ['mountains', 'First light'], ['sea', 'Fog over the bay'], ['mountains', 'After the rain'],
  ['sea', 'The islands, from the ferry'], ['mountains', 'Home'], ['garden', 'Behind the house'], ['sea', 'Low water'],
];

const ends = [];
const browser = await launch();
try {
  const server = await filled();
  await mkdir(PLACE, { recursive: true });
  await take(server, 'gallery', { ...DESK, viewport: { width: 1200, height: 720 }, colorScheme: 'light' });
  await take(server, 'gallery-phone', { ...PHONE, deviceScaleFactor: 1, colorScheme: 'dark' });
  await take(server, 'viewer', { ...DESK, viewport: { width: 1200, height: 720 }, colorScheme: 'dark' }, async (page) => {
    await page.getByRole('gridcell', { name: /^The islands/ }).first().click();
    await page.getByRole('button', { name: 'Details' }).click();
    await page.getByText('image/jpeg').waitFor();
  });
  await take(server, 'safety', { ...DESK, viewport: { width: 1200, height: 900 }, colorScheme: 'light' }, async (page) => {
    await page.goto(`${server.url}/safety`);
    await page.locator('.timeline svg').waitFor();
  });
} finally {
  await browser.close();
  for (const end of ends.reverse()) await end();
}

/** A server on a store like that of someone who has used it for a while, after a new deployment. */
async function filled() {
  const t = { after: (end) => ends.push(end) };
  const path = await folder(t);
  const first = await deployed(t, path, 1);
  await fill(first);
  await first.stop();
  return deployed(t, path, 2);
}

/** The nth deployment, with the folder as its volume, as on Railway; where only root could play that, a server on the folder. */
function deployed(t, path, n) {
  if (process.getuid() !== 0) return Server.start(t, path);
  const variables = { PATH: process.env.PATH, RAILWAY_PROJECT_ID: 'p', RAILWAY_SERVICE_ID: 's', RAILWAY_DEPLOYMENT_ID: `4f1c0d2e-000${n}`, RAILWAY_VOLUME_MOUNT_PATH: VOLUME, DATA_DIR: VOLUME };
  return Server.start(t, path, variables, 0, ['unshare', '--mount', 'sh', '-c', `mount --bind '${path}' ${VOLUME} && exec "$0"`]);
}

async function fill(server) {
  const page = await browser.newPage();
  const pictures = await draw(page, range(42, 100), { width: 1200, height: 900 });
  for (const [at, [category, description]] of [...SAID, ...SAID, ...SAID].entries()) await server.upload([pictures[at]], { category, description });
  for (const [at, title] of ['The long walk', 'A week in May'].entries()) {
    const files = (await server.upload(pictures.slice(24 + at * 6, 30 + at * 6), { category: 'mountains' })).map(({ id }) => id);
    await server.ask(`/api/groups/group-${at}`, { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ files, title }) });
  }
  for (const [at, [category, description]] of SAID.slice(0, 6).entries()) await server.upload([pictures[36 + at]], { category, description });
  await server.ask('/api/backup', { method: 'POST' });
  await page.close();
}

/** Takes one picture, after `prepare`, when all images that can be seen are there. */
async function take(server, name, options, prepare) {
  const context = await browser.newContext({ ...options, reducedMotion: 'reduce', locale: 'en-GB', timezoneId: 'UTC' });
  const page = await context.newPage();
  await page.goto(server.url);
  await page.getByRole('gridcell').first().waitFor();
  await prepare?.(page);
  await page.waitForLoadState('networkidle');
  await page.waitForFunction(() => [...document.images].every((image) => image.naturalWidth || image.getBoundingClientRect().top > innerHeight));
  const path = join(PLACE, `${name}.png`);
  await page.screenshot({ path, animations: 'disabled', caret: 'hide' });
  const { size } = await stat(path);
  console.log(`${path}: ${size} bytes`);
  if (size > MOST_BYTES) throw new Error(`${path} has ${size} bytes, which is too much for a page of documents`);
  await context.close();
}
