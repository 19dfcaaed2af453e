// The panel of uploads: how far they are, what failed and why, and the buttons for it.
import { $, announce, bytes, count, fill, h } from '../dom.js';
import { iconButton } from './icons.js';
import { isHopeless } from './queue.js';

const HELD = {
  offline: 'The server cannot be reached. It goes on by itself when it can.',
  full: 'The disk is full. What is uploaded is safe. Make room, then go on.',
  closed: 'The server takes nothing at the moment. What is uploaded is safe.',
  signedOut: 'Sign in to go on.',
};
/** In words for the people who chose the files; where there is none, the server's own sentence is shown. */
const WORDS = {
  'too-large': 'Too large.', 'not-an-image': 'Not an image or a video that can be kept here. These are: JPEG, PNG, GIF, WebP, AVIF, HEIC, BMP, TIFF, ICO, MP4 and WebM.',
  undecodable: 'Damaged: it cannot be read as an image.',
  'too-many-pixels': 'It has too many pixels.', 'empty-file': 'The file is empty.', 'insufficient-storage': 'There is no room left for it.',
};
const CUT_OFF = 'Stored, but the file is cut off: part of the picture may be missing.';
/** The most files that are listed at a time. */
const ROWS = 120;

/** Shows what the queue does in `#uploads`. */
export class Panel {
  #queue; #frame = 0; #failure = null; #rows = new Map(); #said = ''; #saidAt = 0;
  #title = h('h2', { id: 'uploads-title' });
  #note = h('p', { class: 'note', role: 'status', hidden: true });
  #bar = h('progress', { max: 1, value: 0, 'aria-labelledby': 'uploads-title' });
  #list = h('ul', { 'aria-label': 'Files' });
  #pause = h('button', { type: 'button', on: { click: () => this.#pauseOrGoOn() } });
  #retry = h('button', { type: 'button', text: 'Retry all', on: { click: () => this.#queue.retryAll() } });
  #cancel = h('button', { type: 'button', text: 'Cancel all', on: { click: () => this.#queue.cancelAll() } });
  #fold = iconButton('fold', 'Collapse', () => this.#toggle(), { class: 'icon plain', 'aria-expanded': 'true', 'aria-controls': 'uploads-body' });
  #close = iconButton('close', 'Close', () => this.#queue.clear(), { class: 'icon plain' });
  #body = h('div', { id: 'uploads-body', class: 'panel-body' }, this.#list, h('div', { class: 'actions' }, this.#retry, this.#cancel, this.#pause));
  #root = h('section', { class: 'panel', 'aria-labelledby': 'uploads-title', hidden: true },
    h('div', { class: 'panel-head' }, this.#title, this.#fold, this.#close), this.#bar, this.#note, this.#body);

  constructor(queue) {
    this.#queue = queue;
    $('#uploads').append(this.#root);
    queue.addEventListener('change', () => { this.#frame ||= requestAnimationFrame(() => this.#draw()); });
    addEventListener('beforeunload', (event) => { if (queue.isBusy) event.preventDefault(); });
  }

  #pauseOrGoOn() {
    const { paused, held } = this.#queue;
    if (paused || held) this.#queue.resume(); else this.#queue.pause();
  }

  #toggle() {
    this.#body.hidden = !this.#body.hidden;
    this.#fold.setAttribute('aria-expanded', !this.#body.hidden);
    this.#fold.setAttribute('aria-label', this.#body.hidden ? 'Expand' : 'Collapse');
    this.#fold.classList.toggle('folded', this.#body.hidden);
  }

  #draw() {
    this.#frame = 0;
    const queue = this.#queue;
    const all = queue.tasks.filter(({ state }) => state !== 'cancelled');
    const [done, failed] = [queue.count('done'), queue.count('failed')];
    this.#root.hidden = all.length === 0;
    if (!all.length) {
      this.#list.replaceChildren();
      this.#rows.clear();
      return;
    }
    const stands = queue.paused || queue.held;
    const cut = all.filter(({ item }) => item?.truncated).length;
    const some = `${failed ? `, ${failed} failed` : ''}${cut ? `, ${cut} cut off` : ''}`;
    this.#title.textContent = queue.isBusy ? `${queue.paused ? 'Paused: ' : ''}${done} of ${all.length} done${some}`
      : failed ? `${done} of ${all.length} uploaded${some}` : `${count(done, 'file')} uploaded${some}`;
    const size = all.reduce((sum, { file }) => sum + file.size + 1, 0);
    this.#bar.value = all.reduce((sum, task) => sum + (task.file.size + 1) * (task.state === 'failed' ? 1 : task.progress), 0) / size;
    this.#bar.hidden = !queue.isBusy;
    this.#note.hidden = !queue.held;
    if (this.#note.textContent !== (HELD[queue.held] ?? '')) this.#note.textContent = HELD[queue.held] ?? '';
    this.#pause.hidden = this.#cancel.hidden = !queue.isBusy;
    this.#pause.textContent = stands ? 'Go on' : 'Pause';
    this.#retry.hidden = queue.retriable.length < 2;
    this.#close.hidden = queue.isBusy;
    this.#drawRows(all);
    this.#turnToFailure(all);
    this.#say(queue);
  }

  /** Rows come in the order of the files and stay; of very many, those that are done go, and those that wait long are not there yet. */
  #drawRows(all) {
    const open = all.filter(({ state }) => state !== 'done');
    const shown = new Set([...open.slice(0, ROWS), ...all.filter(({ state }) => state === 'done').slice(-Math.max(10, ROWS - open.length))]);
    for (const [task, row] of this.#rows) {
      if (shown.has(task)) continue;
      row.element.remove();
      this.#rows.delete(task);
    }
    for (const task of all) {
      if (!shown.has(task)) continue;
      let row = this.#rows.get(task);
      if (!row) {
        row = this.#row(task);
        this.#rows.set(task, row);
        this.#list.append(row.element);
      }
      row.draw();
    }
  }

  /** The first file that failed comes into view, once. */
  #turnToFailure(all) {
    const first = all.find(({ state }) => state === 'failed') ?? null;
    if (first === this.#failure || this.#body.hidden) return;
    this.#failure = first;
    const element = this.#rows.get(first)?.element;
    const behavior = matchMedia('(prefers-reduced-motion: reduce)').matches ? 'instant' : 'smooth';
    if (element) this.#list.scrollTo({ top: element.offsetTop - this.#list.offsetTop, behavior });
  }

  #row(task) {
    const { name } = task.file;
    const state = h('span', { class: 'how' });
    const bar = h('progress', { max: 1, 'aria-label': `Progress of ${name}` });
    const retry = h('button', { type: 'button', text: 'Retry', 'aria-label': `Retry ${name}`, on: { click: () => this.#queue.retry(task) } });
    const cancel = iconButton('close', `Cancel ${name}`, () => this.#queue.cancel(task), { class: 'icon plain small' });
    const element = h('li', {}, h('span', { class: 'file', text: name, title: name }), state, retry, cancel, bar);
    let drawn = '';
    const draw = () => {
      bar.value = task.progress;
      const text = this.#words(task);
      if (text === drawn) return;
      drawn = text;
      state.textContent = text;
      element.className = task.state;
      bar.hidden = task.state !== 'running';
      retry.hidden = task.state !== 'failed' || isHopeless(task.problem);
      cancel.hidden = task.state === 'done';
    };
    return { element, draw };
  }

  #words({ state, problem, progress, file, item }) {
    if (state === 'waiting') return 'Waiting';
    if (state === 'running') return progress < 1 ? `${Math.floor(progress * 100)} % of ${bytes(file.size)}` : 'Being stored';
    if (state === 'failed') return this.#why(problem);
    return item?.truncated ? CUT_OFF : 'Done';
  }

  #why({ type, message, limitBytes }) {
    return type === 'too-large' && limitBytes ? `Too large: at most ${bytes(limitBytes)}.` : WORDS[type] ?? message;
  }

  /** Says how far it is now and then, and at once when it ends. */
  #say({ isBusy }) {
    const text = this.#title.textContent;
    if (text === this.#said || isBusy && Date.now() - this.#saidAt < 8000) return;
    this.#said = text;
    this.#saidAt = Date.now();
    announce(text);
  }
}
