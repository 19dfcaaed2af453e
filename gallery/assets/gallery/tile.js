// One item as a tile, and what it is called.
import { thumbnail } from '../api.js';
import { count, h } from '../dom.js';

/** Formats that browsers show by themselves, so that the original may stand in where there is nothing smaller. */
const SHOWN = /^image\/(jpeg|png|gif|webp|avif|bmp|x-icon|vnd\.microsoft\.icon|svg\+xml|heic|heif)$/;

/** What an item is called: what was said of it, else its file's name. */
export function nameOf(item) {
  return item.title || item.description || item.originalName || (item.type === 'link' && item.url) || 'Without a name';
}

/** The image that stands for an item: itself, or the first of a group. */
export const face = (item) => (item.type === 'group' ? item.files?.[0] ?? item : item);
/** Whether there is an image of it here. Records of an import may name bytes elsewhere, which this page does not load. */
export const isPicture = ({ type, url }) => (type ?? 'image') === 'image' && url?.startsWith('/');
/** The address of an image as large as the window. What may move is shown as it is: smaller forms stand still. */
export function large({ url, contentType, size }) {
  return /gif|webp/.test(contentType ?? '') && size < 10_000_000 ? url : thumbnail(url, Math.max(innerWidth, innerHeight));
}

/** An address that may be followed, or null: whatever a record holds, no script is run. */
export function safe(url) {
  try {
    const parsed = new URL(url, location.origin);
    return ['http:', 'https:'].includes(parsed.protocol) ? parsed.href : null;
  } catch {
    return null;
  }
}

/** How an item is read out. */
export function label(item) {
  const kind = { video: 'video', link: 'link', group: `group of ${count(item.fileCount ?? item.files?.length ?? 0, 'image')}` }[item.type];
  return [nameOf(item), kind, item.category].filter(Boolean).join(', ');
}

/** How many images are fetched at a time. A browser has six connections to a server, and a slow server takes long for each image:
 * uploads and everything else must not wait behind them. */
export const fetching = { most: 4 };
const waiting = [];
const coming = new Set();
let soon = null;

function fetchSoon() { soon ??= setTimeout(fetchSome); }

function fetchSome() {
  soon = null;
  for (const image of coming) if (!image.isConnected || !image.hasAttribute('src')) coming.delete(image);
  while (coming.size < fetching.most && waiting.length) {
    const { image, address } = waiting.shift();
    // Where its tile has gone since, nobody would see it.
    if (!image.isConnected) continue;
    image.src = address;
    // One that is far from the window comes when the browser sees fit.
    const { top, bottom } = image.getBoundingClientRect();
    if (bottom > -500 && top < innerHeight + 500) coming.add(image);
  }
}

/** An image that fills `size` CSS pixels each way, or a symbol where there is none. */
export function picture(item, size) {
  const shown = face(item);
  if (!isPicture(shown)) return h('span', { class: 'symbol', text: { video: '▶', link: '↗' }[shown.type] ?? '▢' });
  const aspect = shown.width && shown.height ? Math.min(3, Math.max(1, shown.width / shown.height)) : 1;
  const image = h('img', { alt: '', loading: 'lazy', decoding: 'async', fetchpriority: 'low', draggable: 'false', width: shown.width, height: shown.height });
  const came = () => {
    coming.delete(image);
    fetchSoon();
  };
  image.addEventListener('load', came);
  image.addEventListener('error', () => {
    came();
    const original = SHOWN.test(shown.contentType ?? '') ? shown.url : null;
    if (original && image.getAttribute('src') !== original) image.src = original;
    else if (image.getAttribute('src')) image.replaceWith(h('span', { class: 'symbol failed', text: '▢' }));
  });
  waiting.push({ image, address: thumbnail(shown.url, size * aspect) });
  fetchSoon();
  return image;
}

const BADGE = { video: '▶', link: '↗' };
/** What lies over the image of a tile. Keys and screen readers have their own ways to what it shows. */
export function overlay(item) {
  const badge = item.type === 'group' ? String(item.fileCount ?? item.files?.length ?? '') : BADGE[item.type];
  const text = item.title || item.description;
  return [
    h('span', { class: 'check', 'aria-hidden': 'true' }),
    badge && h('span', { class: 'badge', 'aria-hidden': 'true', data: { badge } }),
    (text || !isPicture(face(item))) && h('span', { class: 'caption', 'aria-hidden': 'true', text: text || nameOf(item) }),
  ].filter(Boolean);
}
