// A grid of any number of tiles, of which only those near the window are in the document.
//
// All tiles are squares of one size, so the place of each is known before its item is: the scrollbar is true from the start.
import { $, h } from '../dom.js';
import { face, label, overlay, picture } from './tile.js';

/** Rows beyond the window that are kept ready, in windows. */
const READY = 0.75;
/** How many windows a second count as flying past: images are asked for when that ends. */
const FAST = 8;
const LONG_PRESS = 500;

/** `on`: `open(index)`, `remove()`, `move(index, by)` (where the order can be changed), `drop(from, to)` likewise. */
export class Grid {
  /** Where the keys act. */
  active = 0;
  #element; #selection; #on;
  #list = null;
  #columns = 1; #size = 100; #gap = 8;
  #rows = new Map();
  /** The image of each item that has a tile, so that it goes along when the tile is another one. */
  #pictures = new Map();
  #spare = [];
  #frame = 0;
  #last = { top: 0, time: 0 };
  #fast = false;
  #settle = null;
  #press = null;
  #dragged = null;
  #activeId = null;

  constructor(element, selection, on) {
    this.#element = element;
    this.#selection = selection;
    this.#on = on;
    element.setAttribute('role', 'grid');
    element.setAttribute('aria-multiselectable', 'true');
    new ResizeObserver(() => this.#measure()).observe(element);
    addEventListener('scroll', () => this.#scrolled(), { passive: true });
    addEventListener('resize', () => this.#soon());
    selection.addEventListener('change', () => this.#paintSelection());
    element.addEventListener('click', (event) => this.#clicked(event));
    element.addEventListener('keydown', (event) => this.#pressed(event));
    element.addEventListener('focusin', (event) => this.#focused(event));
    this.#listenToTouch();
    this.#listenToDrag();
  }

  /** Shows a list. `movable`: whether its order can be changed. */
  show(list, { name, movable = false, active = 0 }) {
    this.#list = list;
    this.movable = movable;
    this.active = active;
    this.#activeId = list.items[active]?.id ?? null;
    this.#element.setAttribute('aria-label', name);
    for (const row of this.#rows.keys()) this.#release(row);
    this.update();
  }

  /** Shows what is in the list now. */
  update() {
    const { length, items } = this.#list;
    this.#element.hidden = length === 0;
    const at = items[this.active]?.id === this.#activeId ? this.active : this.#activeId ? this.#list.index(this.#activeId) : -1;
    const hadFocus = this.#element.contains(document.activeElement);
    this.active = Math.max(0, Math.min(at >= 0 ? at : this.active, length - 1));
    this.#activeId = items[this.active]?.id ?? null;
    this.#measure();
    this.#draw();
    if (hadFocus && length) this.#tile(this.active)?.focus({ preventScroll: true });
  }

  /** Gives the focus to a tile, and brings it into sight. */
  focus(index = this.active) {
    this.active = Math.max(0, Math.min(index, this.#list.length - 1));
    this.#activeId = this.#list.items[this.active]?.id ?? null;
    this.#reveal(this.active);
    this.#draw();
    this.#tile(this.active)?.focus({ preventScroll: true });
  }

  /** Tries again to show what could not be fetched. */
  repair() {
    for (const failed of this.#element.querySelectorAll('.failed')) failed.closest('.tile').item = undefined;
    this.#soon();
  }

  #tile(index) { return this.#rows.get(Math.floor(index / this.#columns))?.children[index % this.#columns]; }

  #measure() {
    const width = this.#element.clientWidth;
    if (!width || !this.#list) return;
    const small = width < 560;
    const gap = small ? 4 : 10;
    const columns = Math.max(2, Math.floor((width + gap) / ((small ? 92 : 180) + gap)));
    const size = (width - gap * (columns - 1)) / columns;
    if (columns !== this.#columns || size !== this.#size) {
      const first = this.#firstInSight() * this.#columns;
      const wasScrolled = this.#top() > 0;
      this.#columns = columns; this.#size = size; this.#gap = gap;
      this.#element.style.setProperty('--columns', columns);
      this.#element.style.setProperty('--size', `${size}px`);
      this.#element.style.setProperty('--gap', `${gap}px`);
      for (const row of this.#rows.keys()) this.#release(row);
      if (wasScrolled) scrollTo({ top: this.#start() + Math.floor(first / columns) * this.#height - this.#covered() });
    }
    const rows = Math.ceil(this.#list.length / columns);
    this.#element.style.height = `${Math.max(0, rows * this.#height - gap)}px`;
    this.#element.setAttribute('aria-rowcount', rows);
    this.#element.setAttribute('aria-colcount', columns);
    this.#draw();
  }

  get #height() { return this.#size + this.#gap; }
  /** How far the window is below the grid's start. */
  #top() { return -this.#element.getBoundingClientRect().top; }
  #start() { return scrollY - this.#top(); }
  #firstInSight() { return Math.max(0, Math.floor((this.#top() + this.#covered()) / this.#height)); }
  /** How much of the window's top is covered by what sticks there. */
  #covered() {
    const [top, chosen] = [$('.top'), $('#chosen')];
    const part = getComputedStyle(top).position !== 'sticky' ? $('.bar') : chosen.hidden ? top : chosen;
    return Math.max(0, part.getBoundingClientRect().bottom);
  }

  #reveal(index) {
    const top = this.#start() + Math.floor(index / this.#columns) * this.#height;
    const above = top - this.#covered() - this.#gap;
    const below = top + this.#height - innerHeight;
    if (scrollY > above) scrollTo({ top: above });
    else if (scrollY < below) scrollTo({ top: below });
  }

  #scrolled() {
    const now = performance.now();
    const speed = Math.abs(scrollY - this.#last.top) / innerHeight / Math.max(1, now - this.#last.time) * 1000;
    if (now - this.#last.time > 30) this.#last = { top: scrollY, time: now };
    if (speed > FAST) this.#fast = true;
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => { this.#fast = false; this.#draw(); }, 120);
    this.#soon();
  }

  #soon() { this.#frame ||= requestAnimationFrame(() => { this.#frame = 0; this.#draw(); }); }

  #draw() {
    const list = this.#list;
    if (!list || this.#element.hidden) return;
    const top = this.#top();
    const rows = Math.ceil(list.length / this.#columns);
    const first = Math.max(0, Math.floor((top - innerHeight * READY) / this.#height));
    const last = Math.min(rows - 1, Math.floor((top + innerHeight * (1 + READY)) / this.#height));
    const pinned = Math.floor(this.active / this.#columns);
    for (const row of this.#rows.keys()) if ((row < first || row > last) && row !== pinned || row >= rows) this.#release(row);
    for (let row = first; row <= last; row += 1) this.#bind(row);
    if (pinned < rows) this.#bind(pinned);
    for (const [id, image] of this.#pictures) if (!image.isConnected) this.#pictures.delete(id);
    list.need(Math.min(list.length, (last + 1) * this.#columns));
  }

  #release(row) {
    const element = this.#rows.get(row);
    this.#rows.delete(row);
    element.remove();
    // What is still being fetched for it is not wanted any more.
    for (const image of element.querySelectorAll('img')) image.removeAttribute('src');
    for (const { item } of element.children) if (item) this.#pictures.delete(item.id);
    if (this.#spare.length < 40) this.#spare.push(element);
  }

  #bind(row) {
    let element = this.#rows.get(row);
    if (!element) {
      element = this.#spare.pop() ?? h('div', { role: 'row', class: 'row' });
      while (element.children.length > this.#columns) element.lastChild.remove();
      while (element.children.length < this.#columns) element.append(h('div', { role: 'gridcell', class: 'tile' }));
      for (const tile of element.children) tile.item = undefined;
      element.style.top = `${row * this.#height}px`;
      element.setAttribute('aria-rowindex', row + 1);
      this.#rows.set(row, element);
      // Rows stand in their order, for who reads the page without seeing it.
      const after = [...this.#element.children].find((other) => Number(other.getAttribute('aria-rowindex')) > row + 1);
      this.#element.insertBefore(element, after ?? null);
    }
    for (let column = 0; column < this.#columns; column += 1) this.#fill(element.children[column], row * this.#columns + column);
  }

  #fill(tile, index) {
    const item = this.#list.items[index] ?? (index < this.#list.length ? null : false);
    tile.tabIndex = index === this.active ? 0 : -1;
    const drawn = tile.item === item && tile.index === index;
    if (drawn && !(tile.bare && !this.#fast)) return;
    Object.assign(tile, { item, index, bare: this.#fast });
    tile.classList.toggle('absent', item === false);
    tile.classList.toggle('stack', item?.type === 'group');
    tile.setAttribute('aria-colindex', index % this.#columns + 1);
    if (item) {
      tile.setAttribute('aria-label', label(item));
      tile.draggable = this.movable;
      tile.replaceChildren(...(this.#fast ? [] : [this.#picture(item)]), ...overlay(item));
    } else {
      tile.setAttribute('aria-label', item === null ? 'Loading' : 'Empty');
      tile.draggable = false;
      tile.replaceChildren();
    }
    this.#paint(tile);
  }

  #picture(item) {
    const { url } = face(item);
    let image = this.#pictures.get(item.id);
    if (!image || image.of !== url || image.at !== this.#size) {
      image = Object.assign(picture(item, this.#size), { of: url, at: this.#size });
      this.#pictures.set(item.id, image);
    }
    return image;
  }

  #paint(tile) {
    const selected = Boolean(tile.item) && this.#selection.has(tile.item.id);
    if (tile.item) tile.setAttribute('aria-selected', selected); else tile.removeAttribute('aria-selected');
    tile.classList.toggle('selected', selected);
  }

  #paintSelection() {
    this.#element.classList.toggle('selecting', this.#selection.size > 0);
    for (const row of this.#rows.values()) for (const tile of row.children) this.#paint(tile);
  }

  #focused({ target }) {
    if (!target.item && target.item !== null) return;
    const old = this.#tile(this.active);
    if (old) old.tabIndex = -1;
    this.active = target.index;
    this.#activeId = target.item?.id ?? null;
    target.tabIndex = 0;
  }

  #clicked(event) {
    const tile = event.target.closest('.tile');
    if (!tile?.item || this.#press?.done) return;
    const { item, index } = tile;
    if (event.shiftKey) this.#selection.range(this.#list.items, index);
    else if (event.ctrlKey || event.metaKey || event.target.closest('.check') || this.#selection.size) this.#selection.toggle(item.id, index);
    else this.#on.open(index);
  }

  #pressed(event) {
    const { length, items } = this.#list;
    const { key, shiftKey, altKey } = event;
    const command = event.ctrlKey || event.metaKey;
    const row = this.active - this.active % this.#columns;
    const page = Math.max(1, Math.floor(innerHeight / this.#height) - 1) * this.#columns;
    const to = {
      ArrowLeft: this.active - 1, ArrowRight: this.active + 1, ArrowUp: this.active - this.#columns, ArrowDown: this.active + this.#columns,
      Home: command ? 0 : row, End: command ? length - 1 : row + this.#columns - 1, PageUp: this.active - page, PageDown: this.active + page,
    }[key];
    const item = items[this.active];
    if (to !== undefined && altKey) {
      if (!this.movable || !item) return;
      this.#on.move(this.active, to - this.active);
    } else if (to !== undefined) {
      if (/^Arrow/.test(key) && (to < 0 || to >= length)) return event.preventDefault();
      const from = this.active;
      if (shiftKey && !this.#selection.size) this.#selection.anchor = from;
      this.focus(to);
      if (shiftKey) this.#selection.range(items, this.active);
    } else if (key === 'Enter' && item) this.#on.open(this.active);
    else if (key === ' ' && item) {
      if (shiftKey) this.#selection.range(items, this.active); else this.#selection.toggle(item.id, this.active);
    } else if ((key === 'Delete' || key === 'Backspace') && item) {
      if (!this.#selection.size) this.#selection.toggle(item.id, this.active);
      this.#on.remove();
    } else if (key === 'a' && command) this.#on.all();
    else return;
    event.preventDefault();
  }

  /** A long press selects, as there is no key to hold on a phone. */
  #listenToTouch() {
    const cancel = () => clearTimeout(this.#press?.timer);
    this.#element.addEventListener('pointerdown', ({ target, pointerType, clientX: x, clientY: y }) => {
      cancel();
      this.#press = { x, y };
      const tile = target.closest('.tile');
      if (pointerType === 'mouse' || !tile?.item) return;
      this.#press.timer = setTimeout(() => {
        this.#press.done = true;
        this.#selection.toggle(tile.item.id, tile.index);
      }, LONG_PRESS);
    });
    this.#element.addEventListener('pointermove', ({ clientX, clientY }) => {
      if (this.#press && Math.hypot(clientX - this.#press.x, clientY - this.#press.y) > 10) cancel();
    });
    for (const event of ['pointerup', 'pointercancel']) this.#element.addEventListener(event, cancel);
    this.#element.addEventListener('contextmenu', (event) => { if (this.#press?.timer) event.preventDefault(); });
  }

  /** Tiles of a group are dragged to their place; `move` is the way without dragging. */
  #listenToDrag() {
    const over = ({ target }) => (this.#dragged === null ? null : target.closest?.('.tile'));
    const mark = (tile) => {
      for (const marked of this.#element.querySelectorAll('.before, .after')) marked.classList.remove('before', 'after');
      tile?.classList.add(tile.index < this.#dragged ? 'before' : 'after');
    };
    this.#element.addEventListener('dragstart', (event) => {
      const tile = event.target.closest('.tile');
      if (!this.movable || !tile?.item) return event.preventDefault();
      this.#dragged = tile.index;
      event.dataTransfer.effectAllowed = 'move';
      event.dataTransfer.setData('text/plain', tile.item.id);
    });
    this.#element.addEventListener('dragover', (event) => {
      const tile = over(event);
      if (!tile?.item) return;
      event.preventDefault();
      mark(tile);
    });
    this.#element.addEventListener('drop', (event) => {
      const tile = over(event);
      if (!tile?.item) return;
      event.preventDefault();
      if (tile.index !== this.#dragged) this.#on.drop(this.#dragged, tile.index);
    });
    this.#element.addEventListener('dragend', () => { mark(null); this.#dragged = null; });
  }
}
