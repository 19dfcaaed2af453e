// How the gallery does with very many images: `just bench-browser` fills a store, looks at it with Chromium, and prints a table.
// It fails where a bound is broken. `--images N` makes it another number than 100,000; `--folder PATH` keeps the store there and
// uses it again. `--paints N` opens each page N times, 0 none. It needs 3 GB on the disk of the target directory for a while.
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { DESK, launch, PHONE } from '../../tests/browser/chromium.mjs';
import { Server } from '../../tests/browser/server.mjs';
import { fill } from './fill.mjs';
import { firstPaint, scroll, transferred } from './measure.mjs';
import { Table } from './table.mjs';

/** What Lighthouse plays as a phone: its processor is this many times slower, and its network like this. */
const SLOW = { cpu: 4, network: { offline: false, latency: 150, downloadThroughput: 1.6e6 / 8, uploadThroughput: 750e3 / 8 } };

/** Someone who looks at what comes by, and someone who drags the bar at the side to the end. `step`: windows for each frame. */
const MANNERS = { looking: { step: 1 / 15, windows: 40 }, 'through all of it': { step: 3 } };

const { values: options } = parseArgs({ options: { images: { type: 'string', default: '100000' }, folder: { type: 'string' }, paints: { type: 'string', default: '5' } } });
const images = Number(options.images);
const ends = [];
const browser = await launch();
ends.push(() => browser.close());
try {
  const folder = options.folder ?? await temporary();
  if (!existsSync(join(folder, 'image-metadata.json'))) {
    console.error(`browser: making a store of ${images} images`);
    await mkdir(folder, { recursive: true });
    await fill(await browser.newPage(), folder, images);
  }
  console.error('browser: starting the server');
  const server = await Server.start({ after: (end) => ends.push(end) }, folder);
  console.error(server.greeting.join('\n'));
  process.exitCode = await measure(server) ? 0 : 1;
} finally {
  for (const end of ends.reverse()) await end();
}

async function temporary() {
  await mkdir('target', { recursive: true });
  const folder = await mkdtemp(join('target', 'bench-browser-'));
  ends.push(() => rm(folder, { recursive: true, force: true }));
  return join(process.cwd(), folder);
}

async function measure(server) {
  const table = new Table(`${images} images`);
  for (const [name, path] of [['gallery', '/'], ['safety page', '/safety']]) {
    const own = await transferred(browser, server.url + path);
    table.row(`${name}: own script and style, kB`, own.bytes / 1e3, { below: 100 });
    for (const [device, how] of options.paints === '0' ? [] : [['desk', { context: DESK }], ['phone', { context: PHONE }], ['phone as Lighthouse slows it down', { context: PHONE, slow: SLOW }]]) {
      const paints = [];
      for (let time = 0; time < Number(options.paints); time += 1) paints.push(await firstPaint(browser, server.url + path, how));
      table.row(`${name}, ${device}: first contentful paint, s`, median(paints.map(({ first }) => first)) / 1e3, how.slow ? {} : { below: 1 });
      if (path === '/') table.row(`  first image of the store shown, s`, median(paints.map(({ image }) => image)) / 1e3);
    }
  }
  for (const [device, context] of [['desk', DESK], ['phone', PHONE]]) {
    for (const [manner, how] of Object.entries(MANNERS)) {
      console.error(`browser: scrolling on the ${device}, ${manner}`);
      const seen = await scroll(browser, server.url, context, how);
      table.row(`scrolling on the ${device}, ${manner}: longest task, ms`, seen.longest, { below: 200 });
      table.row('  the same in time of the processor, ms', seen.busiest, { below: 200 });
      table.row('  tasks over 50 ms', seen.tasks);
      table.row('  windows passed', seen.windows);
      table.row('  windows a second', seen.windows / seen.seconds);
      table.row('  elements in the document at most', seen.elements);
      table.row('  memory of the script afterwards, MB', seen.heap / 1e6);
    }
  }
  return table.print();
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}
