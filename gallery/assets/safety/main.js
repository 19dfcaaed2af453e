// The safety page.
import { $, fill, h } from '../dom.js';
import { look, start } from '../session.js';

await start();
const health = await look();
fill($('#main'), h('h1', { text: 'Will the images still be here tomorrow?' }), h('p', { text: health?.persistence?.evidence ?? '' }));
