// Where files come from: dropped anywhere, pasted, picked, or taken with the camera.
import { $, h } from '../dom.js';

const TAKEN = 'image/*,video/mp4,video/webm,.heic,.heif,.avif';

/** Calls `take(files)` with whatever a person brings. */
export function listen(take) {
  const pick = h('input', { type: 'file', multiple: true, accept: TAKEN, hidden: true, 'aria-label': 'Files to upload', id: 'files' });
  const shoot = h('input', { type: 'file', accept: 'image/*', capture: 'environment', hidden: true, 'aria-label': 'A photo to take' });
  for (const input of [pick, shoot]) {
    document.body.append(input);
    input.addEventListener('change', () => {
      take([...input.files]);
      input.value = '';
    });
  }
  $('#pick').addEventListener('click', () => pick.click());
  // A camera that is held in the hand: there the fingers are the pointer.
  $('#camera').hidden = !matchMedia('(pointer: coarse)').matches;
  $('#camera').addEventListener('click', () => shoot.click());

  addEventListener('paste', (event) => {
    const files = [...event.clipboardData?.files ?? []];
    if (!files.length) return;
    event.preventDefault();
    take(files);
  });
  listenToDrops(take);
  return () => pick.click();
}

function listenToDrops(take) {
  const root = document.documentElement;
  let depth = 0;
  // A tile that is dragged within the page is no file.
  let inside = false;
  const brings = (event) => !inside && event.dataTransfer?.types.includes('Files');
  addEventListener('dragstart', () => { inside = true; });
  addEventListener('dragend', () => { inside = false; });
  addEventListener('dragenter', (event) => {
    if (!brings(event)) return;
    depth += 1;
    root.classList.add('dropping');
  });
  addEventListener('dragleave', (event) => {
    if (brings(event) && (depth -= 1) <= 0) root.classList.remove('dropping');
  });
  addEventListener('dragover', (event) => {
    if (!brings(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = document.querySelector('dialog[open]') ? 'none' : 'copy';
  });
  addEventListener('drop', async (event) => {
    depth = 0;
    root.classList.remove('dropping');
    if (!brings(event)) return;
    event.preventDefault();
    if (!document.querySelector('dialog[open]')) take(await dropped(event.dataTransfer));
  });
}

/** Every file that was dropped, those in folders too. */
async function dropped(transfer) {
  // The entries are gone after the first wait.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  return (await Promise.all(entries.map(within))).flat();
}

async function within(entry) {
  if (entry.name.startsWith('.')) return [];
  if (entry.isFile) return new Promise((resolve) => { entry.file((file) => resolve([file]), () => resolve([])); });
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve) => { reader.readEntries(resolve, () => resolve([])); });
    if (!some.length) break;
    found.push(...some);
  }
  return (await Promise.all(found.map(within))).flat();
}
