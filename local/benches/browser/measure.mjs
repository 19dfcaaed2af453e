// What Chromium says of a page: when it first shows something, how long its tasks are, how much it loads.

const PATIENCE = 180_000;

/** Opens a page in a browser that has never seen it. `slow`: how much slower the processor and the network are made. */
async function open(browser, url, { context: options, slow }, before) {
  const context = await browser.newContext({ ...options, reducedMotion: 'reduce' });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const devtools = await context.newCDPSession(page);
  if (slow) {
    await devtools.send('Emulation.setCPUThrottlingRate', { rate: slow.cpu });
    await devtools.send('Network.enable');
    await devtools.send('Network.emulateNetworkConditions', slow.network);
  }
  if (before) await page.addInitScript(before);
  await page.goto(url, { waitUntil: 'domcontentloaded' });
  return { context, page, devtools };
}

/** Milliseconds until something of the page is painted, and on the gallery until an image of the store is there. */
export async function firstPaint(browser, url, how) {
  const { context, page } = await open(browser, url, how);
  const first = await page.waitForFunction(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime);
  const isGallery = new URL(url).pathname === '/';
  const image = isGallery && await page.waitForFunction(() => {
    const shown = [...document.querySelectorAll('[role=gridcell] img')].find((image) => image.complete && image.naturalWidth);
    return shown && performance.getEntriesByName(shown.currentSrc)[0]?.responseEnd;
  });
  const found = { first: await first.jsonValue(), image: image && await image.jsonValue() };
  await context.close();
  return found;
}

/** How many bytes of script and style a first visit loads, as they go over the wire. */
export async function transferred(browser, url) {
  const context = await browser.newContext();
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  await page.goto(url, { waitUntil: 'domcontentloaded' });
  const files = await page.evaluate(() => performance.getEntriesByType('resource')
    .filter(({ name }) => /\.(js|css)$/.test(new URL(name).pathname)).map(({ name, encodedBodySize }) => ({ name, encodedBodySize })));
  await context.close();
  const once = new Map(files.map(({ name, encodedBodySize }) => [name, encodedBodySize]));
  return { files: once.size, bytes: [...once.values()].reduce((sum, bytes) => sum + bytes, 0) };
}

/** Scrolls down, `step` of a window for each frame that is painted, for so many windows or to the end: how long the tasks were. */
export async function scroll(browser, url, options, { step, windows = Infinity }) {
  const { context, page, devtools } = await open(browser, url, { context: options }, () => {
    window.tasks = [];
    new PerformanceObserver((list) => { for (const { duration } of list.getEntries()) window.tasks.push(duration); }).observe({ type: 'longtask' });
  });
  await page.waitForFunction(() => [...document.querySelectorAll('[role=gridcell] img')].some((image) => image.naturalWidth));
  await browser.startTracing(page, { categories: ['__metadata', 'disabled-by-default-devtools.timeline'] });
  const begun = Date.now();
  const seen = await page.evaluate(async ({ step, windows }) => {
    window.tasks.length = 0;
    const frame = () => new Promise((resolve) => { requestAnimationFrame(resolve); });
    let [still, elements, way] = [0, 0, 0];
    // The end is where there is no further way down, and the last image is there.
    const whole = () => still > 30 && ![...document.querySelectorAll('[role=gridcell]')].some((tile) => tile.getAttribute('aria-label') === 'Loading');
    while (!whole() && way < windows * innerHeight) {
      const before = scrollY;
      scrollBy(0, innerHeight * step);
      await frame();
      way += scrollY - before;
      still = scrollY === before ? still + 1 : 0;
      if (Math.random() < 0.05) elements = Math.max(elements, document.querySelectorAll('*').length);
    }
    return { windows: way / innerHeight, elements, tasks: window.tasks.length, longest: Math.max(0, ...window.tasks) };
  }, { step, windows: Number.isFinite(windows) ? windows : 1e9 });
  seen.seconds = (Date.now() - begun) / 1e3;
  seen.busiest = busiest(JSON.parse(await browser.stopTracing()).traceEvents);
  await devtools.send('HeapProfiler.collectGarbage');
  await devtools.send('Performance.enable');
  const { metrics } = await devtools.send('Performance.getMetrics');
  seen.heap = metrics.find(({ name }) => name === 'JSHeapUsedSize').value;
  await context.close();
  return seen;
}

/** Milliseconds of the processor that the longest task of a page's own thread took; what other processes took meanwhile does not count. */
function busiest(events) {
  const threads = new Set(events.filter(({ name, args }) => name === 'thread_name' && args.name === 'CrRendererMain').map(({ pid, tid }) => `${pid} ${tid}`));
  const tasks = events.filter(({ name, pid, tid, tdur }) => name === 'RunTask' && tdur && threads.has(`${pid} ${tid}`));
  if (tasks.length === 0) throw new Error('the trace has no tasks');
  return tasks.reduce((most, { tdur }) => Math.max(most, tdur), 0) / 1e3;
}
