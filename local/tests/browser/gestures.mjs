// What people do with files and tiles.

/** Drops files onto the page, as from a folder on the screen. */
export async function drop(page, files) {
  const dataTransfer = await transferOf(page, files);
  for (const type of ['dragenter', 'dragover', 'drop']) await page.dispatchEvent('#main', type, { dataTransfer });
}

/** Pastes files. */
export async function paste(page, files) {
  const transfer = await transferOf(page, files);
  await page.evaluate((clipboardData) => document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true })), transfer);
}

function transferOf(page, files) {
  const sent = files.map(({ buffer, ...rest }) => ({ ...rest, base64: buffer.toString('base64') }));
  return page.evaluateHandle((sent) => {
    const transfer = new DataTransfer();
    for (const { name, mimeType, base64 } of sent) {
      const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
      transfer.items.add(new File([bytes], name, { type: mimeType }));
    }
    return transfer;
  }, sent);
}

/** Chooses files by the button for it. */
export async function pick(page, files) {
  const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.getByRole('button', { name: 'Upload', exact: true }).click()]);
  await chooser.setFiles(files);
}

/** Fills in the dialog that asks what the files have in common, and sends them. */
export async function answer(page, { category = '', description = '', title } = {}) {
  const asked = dialog(page);
  await asked.getByLabel('Category').fill(category);
  await asked.getByLabel('Description').fill(description);
  if (title !== undefined) {
    await asked.getByLabel('As a group, shown as one').check();
    await asked.getByLabel('Title of the group').fill(title);
  }
  await asked.getByRole('button', { name: 'Upload' }).click();
}

export const dialog = (page) => page.locator('dialog[open]');
/** The tiles that are in the document, but for those that are still to come. */
export const tiles = (page) => page.locator('[role=gridcell][aria-selected]');
/** The tile that is read out as this. */
export const tile = (page, name) => page.getByRole('gridcell', { name });
/** The panel of uploads. */
export const panel = (page) => page.locator('#uploads section');
/** What the panel says of a file. */
export const said = (page, name, words) => panel(page).locator('li').filter({ hasText: name }).getByText(words);
/** Waits until the panel says this at its top. */
export const uploaded = (page, words) => panel(page).getByRole('heading', { name: words }).waitFor();

/** Pauses the only upload, and waits until it rests. */
export async function pause(page) {
  await panel(page).getByRole('button', { name: 'Pause' }).click();
  await panel(page).getByRole('heading', { name: 'Paused: 0 of 1 done' }).waitFor();
}

/** Sends one file, and pauses once it is `held`. */
export async function pauseOnce(page, held, file) {
  await pick(page, [file]);
  await answer(page);
  await held;
  await pause(page);
}

/** Selects tiles by their names, as with a pointer and Ctrl. */
export async function select(page, ...names) {
  for (const name of names) await tile(page, name).click({ modifiers: ['Control'] });
}

/** Holds the next request like this, of this `method` if one is given, until the returned function is called, and then does with it
 * what `after` does; where it is `answered`, it is only the answer that comes late. */
export async function hold(page, pattern, { method, answered = false, after = (route) => route.continue() } = {}) {
  let letGo;
  const held = new Promise((resolve) => { letGo = resolve; });
  let caught = false;
  await page.route(pattern, async (route) => {
    if (caught || method && route.request().method() !== method) return route.fallback();
    caught = true;
    const response = answered && await route.fetch();
    await held;
    return response ? route.fulfill({ response }) : after(route);
  });
  return letGo;
}
