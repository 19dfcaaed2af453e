// The gallery.
import { api } from '../api.js';
import { $, fill, h } from '../dom.js';
import { start } from '../session.js';

await start();
const { images } = await api('GET', '/api/images', { query: { limit: 60 } });
fill($('#main'), h('h1', { class: 'hidden-visually', text: 'Images' }), images.map((image) => h('p', { text: image.originalName ?? image.id })));
