// One image at a time, as large as the window.
//
// It is no modal dialog of the browser, as those cover the messages ("Undo"): what is behind it is made inert instead.
import { api, thumbnail } from '../api.js';
import { confirm } from '../dialogs.js';
import { $, announce, fill, h, number } from '../dom.js';
import { details } from './details.js';
import { icon, iconButton } from './icons.js';
import { isPicture, label, large, nameOf, safe } from './tile.js';
import { Zoom } from './zoom.js';

const BEHIND = ['.bar', '#banner', '#main', '#uploads', '.skip'];
const PROVIDERS = { youtube: 'YouTube', drive: 'Google Drive' };

/** `on`: `moved(item)`, `closed()`, `remove(item)`, `changed(item)`, `openGroup(id)`. */
export class Viewer {
  item = null;
  #on; #list = null;
  #isDirty = () => false;
  #stage = h('div', { class: 'stage' });
  #aside = h('aside', { 'aria-label': 'Details', hidden: true });
  #title = h('h1', { id: 'viewed', tabindex: '-1' });
  #place = h('span', { class: 'where' });
  #download = h('a', { class: 'button icon', 'aria-label': 'Download', title: 'Download' }, icon('download'));
  #group = h('button', { type: 'button', class: 'of-group', text: 'Open the group', on: { click: () => this.#on.openGroup(this.item.groupId) } });
  #previous = iconButton('previous', 'Previous', () => this.step(-1), { class: 'icon turn turn-back' });
  #next = iconButton('next', 'Next', () => this.step(1), { class: 'icon turn turn-on' });
  #smaller = iconButton('smaller', 'Zoom out', () => this.#zoom.by(1 / 1.5));
  #larger = iconButton('larger', 'Zoom in', () => this.#zoom.by(1.5));
  #more = iconButton('details', 'Details', () => this.#toggleDetails(), { class: 'icon', 'aria-expanded': 'false' });
  #zoom = new Zoom(this.#stage, { zoomed: (scale) => this.#zoomed(scale), swiped: (direction) => this.step(direction) });
  #root = h('div', { class: 'viewer', role: 'dialog', 'aria-modal': 'true', 'aria-labelledby': 'viewed', hidden: true },
    h('div', { class: 'viewer-bar' }, iconButton('close', 'Close', () => this.#on.closed()), this.#title, this.#place, this.#group, this.#smaller, this.#larger,
      this.#download, iconButton('remove', 'Delete', () => this.#on.remove(this.item), { class: 'icon danger' }), this.#more),
    h('div', { class: 'viewer-body' }, this.#previous, this.#stage, this.#next, this.#aside));

  constructor(on) {
    this.#on = on;
    addEventListener('keydown', (event) => this.isOpen && !event.target.closest('dialog') && this.#pressed(event));
    $('#uploads').before(this.#root);
  }

  get isOpen() { return !this.#root.hidden; }

  /** Shows the item of this id, with those of the list before and after it. False where there is none. */
  async show(id, list) {
    this.#list = list;
    const [index, inner] = this.#find(id);
    const item = index < 0 ? await api('GET', `/api/images/${encodeURIComponent(id)}`) : this.#at(index, inner);
    if (this.isOpen && this.item?.id === id) return;
    const wasOpen = this.isOpen;
    this.#root.hidden = false;
    document.documentElement.classList.add('viewing');
    for (const selector of BEHIND) $(selector).inert = true;
    this.#draw(item);
    if (wasOpen) announce(label(item));
    if (!wasOpen || document.activeElement === document.body) this.#title.focus();
  }

  close() {
    if (!this.isOpen) return;
    this.#root.hidden = true;
    this.#zoom.watch(null);
    this.#stage.replaceChildren();
    this.item = null;
    this.#isDirty = () => false;
    document.documentElement.classList.remove('viewing');
    for (const selector of BEHIND) $(selector).inert = false;
  }

  #find(id) {
    const index = this.#list.items.findIndex((item) => item.id === id && item.type !== 'group' || item.files?.some((file) => file.id === id));
    return [index, index < 0 ? 0 : (this.#list.items[index].files ?? []).findIndex((file) => file.id === id)];
  }

  #at(index, inner) {
    const item = this.#list.items[index];
    return item.files ? item.files[inner] : item;
  }

  /** Where the list has this item, as an index; -1 where it has not. */
  get index() { return this.item ? this.#find(this.item.id)[0] : -1; }

  /** The item before (-1) or after (1) the shown one; the images of a group come one by one. */
  neighbour(direction) {
    let [index, inner] = this.#find(this.item.id);
    while (index >= 0) {
      inner += direction;
      const group = this.#list.items[index].files;
      if (!group || !group[inner]) {
        index += direction;
        const next = this.#list.items[index];
        if (!next) return null;
        inner = direction < 0 && next.files ? next.files.length - 1 : 0;
      }
      const item = this.#at(index, inner);
      if (!this.#list.hides(item.id)) return item;
    }
    return null;
  }

  async step(direction) {
    const wanted = this.item.id;
    if (!this.neighbour(direction)) await this.#list.need(this.index + 1);
    const item = this.item?.id === wanted && this.neighbour(direction);
    if (!item || !await this.mayLeave()) return;
    this.#on.moved(item);
  }

  /** Asks, where something that was written is not saved. */
  async mayLeave() {
    return !this.#isDirty() || confirm('Leave without saving?', 'What you wrote of this image is not saved.', { label: 'Leave', kind: 'danger' });
  }

  #draw(item) {
    this.item = item;
    this.#title.textContent = nameOf(item);
    const { index } = this;
    this.#place.textContent = index < 0 ? '' : `${number(index + 1)} of ${number(this.#list.length)}`;
    this.#previous.hidden = !this.neighbour(-1);
    this.#next.hidden = !this.neighbour(1) && (this.#list.complete || index < 0);
    this.#group.hidden = !item.groupId || this.#list.group?.id === item.groupId;
    const here = item.url?.startsWith('/');
    this.#download.hidden = !here;
    if (here) this.#download.href = `${item.url}?download=1`;
    this.#download.setAttribute('download', item.originalName ?? '');
    const shown = this.#show(item);
    this.#zoom.watch(shown);
    this.#smaller.hidden = this.#larger.hidden = !shown;
    if (!this.#aside.hidden) this.#showDetails();
    for (const direction of [1, -1]) {
      const other = this.neighbour(direction);
      if (other && isPicture(other)) new Image().src = large(other);
    }
  }

  /** Puts the item on the stage; returns the image that can be zoomed, if it is one. */
  #show(item) {
    if (item.type === 'video' && item.url?.startsWith('/')) {
      fill(this.#stage, h('video', { src: item.url, controls: true, preload: 'metadata', playsinline: true, 'aria-label': nameOf(item) }));
      return null;
    }
    if (!isPicture(item)) {
      fill(this.#stage, this.#link(item));
      return null;
    }
    const image = h('img', { alt: nameOf(item), draggable: 'false', decoding: 'async', width: item.width, height: item.height });
    image.addEventListener('error', () => {
      if (image.getAttribute('src') !== item.url) image.src = item.url;
      else fill(this.#stage, h('p', { class: 'cannot', text: 'This browser cannot show the image. It can be downloaded.' }));
    });
    image.src = large(item);
    // Until the large one is here, the one of the grid, which is at hand.
    const small = thumbnail(item.url, 320);
    if (item.width > 640) {
      image.style.backgroundImage = `url("${small}")`;
      image.addEventListener('load', () => { image.style.backgroundImage = ''; });
    }
    fill(this.#stage, image);
    return image;
  }

  #link(item) {
    const address = safe(item.url);
    const player = item.embedUrl && safe(item.embedUrl);
    const provider = PROVIDERS[item.provider];
    const play = player && provider && h('button', {
      type: 'button', class: 'primary', text: `Play from ${provider}`,
      on: { click: () => fill(this.#stage, h('iframe', {
        src: player, title: nameOf(item), allow: 'fullscreen; encrypted-media; picture-in-picture',
        sandbox: 'allow-scripts allow-same-origin allow-presentation allow-popups', referrerpolicy: 'strict-origin-when-cross-origin',
      })) },
    });
    return h('div', { class: 'elsewhere' }, h('p', { text: nameOf(item) }), play,
      play && h('p', { class: 'muted', text: `${provider} then learns that it is watched from here.` }),
      address ? h('a', { href: address, rel: 'noopener noreferrer', target: '_blank', text: `Open ${new URL(address).host}` })
        : h('p', { text: 'Its address is none that can be opened.' }));
  }

  #zoomed(scale) {
    this.#smaller.disabled = scale <= 1;
    const image = $('img', this.#stage);
    // What is looked at closely is worth its own pixels.
    if (scale > 1.4 && image && this.item?.size && image.getAttribute('src') !== this.item.url && image.complete) image.src = this.item.url;
  }

  #toggleDetails() {
    this.#aside.hidden = !this.#aside.hidden;
    this.#more.setAttribute('aria-expanded', !this.#aside.hidden);
    if (this.#aside.hidden) this.#isDirty = () => false;
    else this.#showDetails();
  }

  #showDetails() {
    this.#isDirty = details(this.#aside, this.item, (item) => {
      // It may have been left while that was saved.
      if (this.item?.id === item.id) {
        this.item = item;
        this.#title.textContent = nameOf(item);
      }
      this.#on.changed(item);
    });
  }

  #pressed(event) {
    if (event.key === 'Escape') {
      this.#on.closed();
      event.preventDefault();
      return;
    }
    if (event.target.closest('input, textarea, select, video') || event.ctrlKey || event.metaKey || event.altKey) return;
    const zoomed = this.#zoom.scale > 1;
    const pan = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] }[event.key];
    if (zoomed && pan) this.#zoom.pan(...pan);
    else if (event.key === 'ArrowLeft') this.step(-1);
    else if (event.key === 'ArrowRight') this.step(1);
    else if (event.key === '+' || event.key === '=') this.#zoom.by(1.5);
    else if (event.key === '-') this.#zoom.by(1 / 1.5);
    else if (event.key === '0') this.#zoom.reset();
    else if (event.key === 'i') this.#toggleDetails();
    else if (event.key === 'Delete') this.#on.remove(this.item);
    else return;
    event.preventDefault();
  }
}
