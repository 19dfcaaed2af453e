// Saying something of images, and deleting them: what is sent when, and what can be taken back.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { amiss } from './accessible.mjs';
import { eventually, gallery } from './browser.mjs';
import { dialog, hold, select, tile, tiles } from './gestures.mjs';
import { draw, range } from './pictures.mjs';

/** A gallery with some pictures, and the requests that change something as they are sent. */
async function filled(t, count, options) {
  const { server, page, context } = await gallery(t, options);
  const stored = await server.upload(await draw(page, range(count)), { category: 'hills' });
  const sent = [];
  context.on('request', (request) => request.method() !== 'GET' && sent.push(`${request.method()} ${new URL(request.url()).pathname}`));
  await page.reload();
  await eventually(async () => assert.equal(await tiles(page).count(), count));
  return { server, page, stored, sent };
}

const toast = (page, words) => page.locator('.toast').filter({ hasText: words });
/** Opens an image with its details. */
async function details(page, name) {
  await tile(page, name).click();
  await page.getByRole('button', { name: 'Details' }).click();
  return page.getByRole('complementary', { name: 'Details' });
}

test('a description is written beside the image, and is there after the page is loaded again', async (t) => {
  const { server, page, stored } = await filled(t, 2);
  const form = await details(page, stored[0].originalName);
  await form.getByLabel('Description').fill('A morning in May');
  await form.getByLabel('Category').fill('walks');
  assert.deepEqual(await amiss(page), []);
  await form.getByRole('button', { name: 'Save' }).click();
  await toast(page, 'Saved.').waitFor();
  const now = await server.ask(`/api/images/${stored[0].id}`);
  assert.deepEqual([now.description, now.category], ['A morning in May', 'walks']);
  await page.keyboard.press('Escape');
  await tile(page, /^A morning in May, walks/).waitFor();
  await page.reload();
  await tile(page, /^A morning in May, walks/).waitFor();
});

for (const [when, early] of [['while the form was open', false], ['before the form knew its version', true]]) {
  test(`what somebody else wrote ${when} is shown, and not written over unasked`, async (t) => {
    const { server, page, stored } = await filled(t, 1, { expected: ['status of 412'] });
    const path = `/api/images/${stored[0].id}`;
    const letGo = early ? await hold(page, `**${path}`) : () => {};
    const looked = page.waitForResponse((response) => response.url().endsWith(path));
    const form = await details(page, stored[0].originalName);
    if (!early) await looked;
    await form.getByLabel('Description').fill('Mine');
    await server.ask(path, { method: 'PATCH', headers: { 'content-type': 'application/json' }, body: '{"description":"Theirs"}' });
    letGo();
    await looked;
    await form.getByRole('button', { name: 'Save' }).click();
    await dialog(page).getByText('Theirs').waitFor();
    assert.deepEqual(await amiss(page), []);
    assert.equal((await server.images())[0].description, 'Theirs');
    await dialog(page).getByRole('button', { name: 'Save mine over it' }).click();
    await toast(page, 'Saved.').waitFor();
    assert.equal((await server.images())[0].description, 'Mine');
  });
}

test('a form that nobody has written in shows what somebody else wrote before it was opened', async (t) => {
  const { server, page, stored } = await filled(t, 1);
  await server.ask(`/api/images/${stored[0].id}`, { method: 'PATCH', headers: { 'content-type': 'application/json' }, body: '{"description":"Theirs"}' });
  const form = await details(page, stored[0].originalName);
  await eventually(async () => assert.equal(await form.getByLabel('Description').inputValue(), 'Theirs'));
  await page.getByRole('button', { name: 'Close' }).click();
  assert.equal(await dialog(page).count(), 0, 'nothing is asked for');
  assert.equal((await server.images())[0].description, 'Theirs');
});

test('what is not saved is asked for before it is left', async (t) => {
  const { page, stored } = await filled(t, 1);
  const form = await details(page, stored[0].originalName);
  await form.getByLabel('Description').fill('Not yet');
  await page.getByRole('button', { name: 'Close' }).click();
  await dialog(page).getByRole('button', { name: 'Cancel' }).click();
  assert.equal(await form.getByLabel('Description').inputValue(), 'Not yet');
});

/** Two images, the first open, with a save of it that is held until the returned function is called, and then goes on or is answered by `after`. */
async function saving(t, after, options) {
  const { server, page, stored } = await filled(t, 2, options);
  const path = `/api/images/${stored[0].id}`;
  const looked = page.waitForResponse((response) => response.url().endsWith(path));
  const form = await details(page, stored[0].originalName);
  await looked;
  const letGo = await hold(page, `**${path}`, { method: 'PATCH', after });
  await form.getByLabel('Description').fill('A morning in May');
  await form.getByRole('button', { name: 'Save' }).click();
  await form.getByRole('button', { name: 'Saving…' }).waitFor();
  return { server, page, stored, form, letGo };
}
const turnTo = async (page, to, name) => {
  await page.getByRole('button', { name: to, exact: true }).click();
  await page.locator('.viewer h1').filter({ hasText: name }).waitFor();
};

test('an image may be left while what was written of it is on its way, and is shown as saved when one comes back', async (t) => {
  const { server, page, stored, form, letGo } = await saving(t);
  const [to, back] = await page.getByRole('button', { name: 'Next', exact: true }).isVisible() ? ['Next', 'Previous'] : ['Previous', 'Next'];
  await turnTo(page, to, stored[1].originalName);
  assert.equal(await dialog(page).count(), 0, 'nothing is asked');
  await turnTo(page, back, stored[0].originalName);
  await turnTo(page, to, stored[1].originalName);
  letGo();
  await toast(page, 'Saved.').waitFor();
  assert.equal(await page.locator('.viewer h1').textContent(), stored[1].originalName, 'the image that is looked at stays');
  assert.equal((await server.ask(`/api/images/${stored[0].id}`)).description, 'A morning in May');
  await turnTo(page, back, 'A morning in May');
  await eventually(async () => assert.equal(await form.getByLabel('Description').inputValue(), 'A morning in May'));
});

test('that something was not saved is told after the image was left, and can be tried again', async (t) => {
  const refuse = (asked) => asked.fulfill({ status: 503, contentType: 'application/problem+json', body: '{"type":"unavailable","detail":"The store does not answer."}' });
  const { server, page, stored, letGo } = await saving(t, refuse, { expected: ['status of 503'] });
  await page.getByRole('button', { name: 'Close', exact: true }).click();
  await page.locator('.viewer').waitFor({ state: 'hidden' });
  letGo();
  const told = toast(page, `What you wrote of ${stored[0].originalName} was not saved: The store does not answer.`);
  await told.getByRole('button', { name: 'Try again' }).click();
  await toast(page, 'Saved.').waitFor();
  assert.equal((await server.ask(`/api/images/${stored[0].id}`)).description, 'A morning in May');
});

test('what is written while the last words are on their way stays, and is asked for before it is left', async (t) => {
  const { page, form, letGo } = await saving(t);
  await form.getByLabel('Description').fill('A morning in May, at six');
  letGo();
  await toast(page, 'Saved.').waitFor();
  assert.equal(await form.getByLabel('Description').inputValue(), 'A morning in May, at six');
  await page.getByRole('button', { name: 'Close', exact: true }).click();
  await dialog(page).getByRole('button', { name: 'Cancel' }).click();
});

test('many images are described at once', async (t) => {
  const { server, page, stored } = await filled(t, 4);
  const some = stored.slice(1, 4);
  await select(page, ...some.map(({ originalName }) => originalName));
  await page.getByRole('button', { name: 'Describe' }).click();
  await dialog(page).getByLabel('Description').fill('The same day');
  await dialog(page).getByRole('button', { name: 'Save' }).click();
  await toast(page, '3 items changed.').waitFor();
  const described = (await server.images()).filter(({ description }) => description === 'The same day').map(({ id }) => id);
  assert.deepEqual(described.sort(), some.map(({ id }) => id).sort());
});

test('the category of many images is removed at once', async (t) => {
  const { server, page, stored } = await filled(t, 3);
  await select(page, stored[0].originalName, stored[1].originalName);
  await page.getByRole('button', { name: 'Describe' }).click();
  await dialog(page).getByLabel('Remove the category').check();
  assert.deepEqual(await amiss(page), []);
  await dialog(page).getByRole('button', { name: 'Save' }).click();
  await toast(page, '2 items changed.').waitFor();
  assert.deepEqual((await server.images()).map(({ category }) => category).sort(), ['', '', 'hills']);
});

test('the category of one image is removed', async (t) => {
  const { server, page, stored } = await filled(t, 1);
  const form = await details(page, stored[0].originalName);
  await form.getByLabel('Category').fill('');
  await form.getByRole('button', { name: 'Save' }).click();
  await toast(page, 'Saved.').waitFor();
  assert.equal((await server.images())[0].category, '');
});

test('before many images are described, it is said how many have words that would be replaced', async (t) => {
  const { server, page, stored } = await filled(t, 3);
  const write = (id, json) => server.ask(`/api/images/${id}`, { method: 'PATCH', headers: { 'content-type': 'application/json' }, body: JSON.stringify(json) });
  for (const { id } of stored.slice(0, 2)) await write(id, { description: 'Written with care' });
  await write(stored[2].id, { category: null });
  await page.reload();
  await tile(page, 'Written with care').first().waitFor();
  for (const one of await tiles(page).all()) await one.click({ modifiers: ['Control'] });
  await page.getByRole('button', { name: 'Describe' }).click();
  await dialog(page).getByText('2 of these have a description, which is replaced if you write one.').waitFor();
  await dialog(page).getByText('2 of these have a category, which is replaced if you write one.').waitFor();
  assert.deepEqual(await amiss(page), []);
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Clear selection' }).click();
  await select(page, stored[2].originalName);
  await page.getByRole('button', { name: 'Describe' }).click();
  await dialog(page).getByLabel('Description').waitFor();
  assert.equal(await dialog(page).getByText('replaced').count(), 0, 'an image without words loses none');
});

test('a delete that is undone never reaches the server', async (t) => {
  const { server, page, stored, sent } = await filled(t, 3);
  await select(page, stored[0].originalName, stored[1].originalName);
  await page.keyboard.press('Delete');
  await toast(page, '2 images are being deleted.').waitFor();
  await eventually(async () => assert.equal(await tiles(page).count(), 1));
  assert.deepEqual(await amiss(page), []);
  await toast(page, '2 images are being deleted.').getByRole('button', { name: 'Undo' }).click();
  await eventually(async () => assert.equal(await tiles(page).count(), 3));
  // The page says goodbye, when it would have sent what was still to be deleted.
  await page.goto(`${server.url}/safety`);
  assert.deepEqual(sent, []);
  assert.equal((await server.images()).length, 3);
  assert.equal((await fetch(server.url + stored[0].url)).status, 200);
});

test('the keys undo a delete as well', async (t) => {
  const { page, stored, sent } = await filled(t, 2);
  await tile(page, stored[0].originalName).focus();
  await page.keyboard.press('Delete');
  await toast(page, '1 image is being deleted.').waitFor();
  await page.keyboard.press('Control+z');
  await tile(page, stored[0].originalName).waitFor();
  assert.deepEqual(sent, []);
});

test('what was said of a delete that was undone is gone once the next one begins', async (t) => {
  const { page, stored } = await filled(t, 2);
  await tile(page, stored[0].originalName).focus();
  await page.keyboard.press('Delete');
  await toast(page, '1 image is being deleted.').getByRole('button', { name: 'Undo' }).click();
  await toast(page, 'Nothing was deleted.').waitFor();
  await tile(page, stored[1].originalName).focus();
  await page.keyboard.press('Delete');
  await toast(page, '1 image is being deleted.').waitFor();
  assert.equal(await toast(page, 'Nothing was deleted.').count(), 0);
  await toast(page, '1 image is being deleted.').getByRole('button', { name: 'Undo' }).click();
  await toast(page, 'Nothing was deleted.').waitFor();
});

test('a delete that nobody undoes is carried out', async (t) => {
  const { server, page, stored } = await filled(t, 2);
  const path = `/api/images/${stored[0].id}`;
  const carriedOut = page.waitForResponse((answer) => answer.request().method() === 'DELETE' && new URL(answer.url()).pathname === path);
  await tile(page, stored[0].originalName).focus();
  await page.keyboard.press('Delete');
  assert.equal((await carriedOut).status(), 200);
  assert.deepEqual((await server.images()).map(({ id }) => id), [stored[1].id]);
  assert.equal((await fetch(server.url + stored[0].url)).status, 404);
});

test('a delete is carried out when the page is left', async (t) => {
  const { server, page, stored } = await filled(t, 2);
  await tile(page, stored[0].originalName).focus();
  await page.keyboard.press('Delete');
  await toast(page, '1 image is being deleted.').waitFor();
  await page.getByRole('link', { name: 'Safety' }).click();
  await eventually(async () => assert.deepEqual((await server.images()).map(({ id }) => id), [stored[1].id]));
});

test('a delete that fails brings the image back and says why', async (t) => {
  const { page, stored } = await filled(t, 2, { expected: ['status of 503'] });
  await page.route('**/api/images/*', (route) => (route.request().method() === 'DELETE'
    ? route.fulfill({ status: 503, contentType: 'application/problem+json', body: '{"type":"unavailable","detail":"The store does not answer."}' }) : route.continue()));
  await tile(page, stored[0].originalName).focus();
  await page.keyboard.press('Delete');
  await toast(page, 'could not be deleted: The store does not answer.').waitFor();
  await tile(page, stored[0].originalName).waitFor();
});

test('from the viewer an image is deleted and the next one is shown', async (t) => {
  const { page, stored } = await filled(t, 3);
  await tiles(page).first().click();
  const name = await page.locator('.viewer h1').textContent();
  await page.keyboard.press('Delete');
  await toast(page, '1 image is being deleted.').waitFor();
  await eventually(async () => assert.notEqual(await page.locator('.viewer h1').textContent(), name));
  assert.ok(stored.some(({ originalName }) => originalName === name));
});
