// The queue of uploads: some at once, paused and taken up again, tried again, and no file stored twice.
import { network } from '../api.js';
import { may, onSession } from '../session.js';
import { key, send } from './send.js';

const AT_ONCE = 3;
const TRIES = 6;

/** What one file is up to: `state` is `waiting`, `running`, `done`, `failed` or `cancelled`. */
class Task {
  state = 'waiting';
  /** From 0 to 1. */
  progress = 0;
  problem = null;
  item = null;
  key = key();
  tries = 0;
  stop = null;
  ticket = null;

  constructor(file, fields) {
    this.file = file;
    this.fields = fields;
  }
}

/** Events: `change`, and `stored` with a task's `item`. */
export class Queue extends EventTarget {
  tasks = [];
  /** Whether a person paused it. */
  paused = false;
  /** Why nothing is sent at the moment, where that is not a person's wish: `offline`, `full`, `closed` (no writes) or `signedOut`. */
  held = null;
  #again = null;

  constructor() {
    super();
    const release = (...reasons) => { if (reasons.includes(this.held)) this.#release(); };
    onSession(() => may('upload') && release('signedOut'));
    network.addEventListener('reached', () => release('offline'));
    addEventListener('online', () => release('offline'));
  }

  /** Adds files with the same fields; in a group each gets its place. */
  add(files, fields) {
    for (const [at, file] of files.entries()) {
      const order = fields.groupId ? (fields.order ?? 1) + at : undefined;
      this.tasks.push(new Task(file, { ...fields, order }));
    }
    if (['full', 'closed'].includes(this.held)) this.held = null;
    this.#go();
  }

  count(...states) { return this.tasks.filter(({ state }) => states.includes(state)).length; }
  get isBusy() { return this.count('waiting', 'running') > 0; }

  pause() {
    this.paused = true;
    this.#stopAll();
    this.#changed();
  }

  resume() {
    this.paused = false;
    this.#release();
  }

  retry(...tasks) {
    for (const task of tasks) if (task.state === 'failed') Object.assign(task, { state: 'waiting', problem: null, tries: 0 });
    if (!this.paused) this.#release();
  }

  retryAll() { this.retry(...this.tasks.filter(({ state }) => state === 'failed')); }

  cancel(...tasks) {
    const open = tasks.filter(({ state }) => ['waiting', 'running', 'failed'].includes(state));
    // All at once: nothing that is to be cancelled starts in place of what was.
    for (const task of open) task.state = 'cancelled';
    for (const task of open) task.stop?.abort();
    this.#go();
  }

  cancelAll() { this.cancel(...this.tasks); }

  /** Forgets what has ended. */
  clear() {
    this.tasks = this.tasks.filter(({ state }) => ['waiting', 'running'].includes(state));
    this.#changed();
  }

  #release() {
    this.held = null;
    clearTimeout(this.#again);
    this.#go();
  }

  #hold(reason, seconds) {
    this.held = reason;
    clearTimeout(this.#again);
    if (seconds) this.#again = setTimeout(() => this.#release(), seconds * 1000);
    this.#stopAll();
  }

  #stopAll() {
    for (const task of this.tasks) {
      if (task.state !== 'running') continue;
      Object.assign(task, { state: 'waiting', progress: 0 });
      task.stop.abort();
    }
  }

  #go() {
    while (!this.paused && !this.held && this.count('running') < AT_ONCE) {
      const task = this.tasks.find(({ state }) => state === 'waiting');
      if (!task) break;
      this.#run(task);
    }
    this.#changed();
  }

  async #run(task) {
    const stop = new AbortController();
    Object.assign(task, { state: 'running', progress: 0, problem: null, stop });
    try {
      const item = await send(task, { signal: stop.signal, progress: (part) => { task.progress = part; this.#changed(); } });
      if (task.stop === stop && task.state !== 'cancelled') Object.assign(task, { state: 'done', progress: 1, item });
      this.dispatchEvent(new CustomEvent('stored', { detail: item }));
    } catch (problem) {
      if (task.stop === stop && task.state === 'running') await this.#failed(task, problem, stop);
    }
    this.#go();
  }

  /** What can pass goes back into the queue; what cannot is shown. */
  async #failed(task, problem, stop) {
    const { status, retryAfter } = problem;
    const again = () => Object.assign(task, { state: 'waiting', progress: 0 });
    task.tries += 1;
    if (status === 0) {
      again();
      this.#hold('offline', Math.min(30, 2 ** task.tries));
    } else if (status === 401) {
      again();
      this.#hold('signedOut');
    } else if (status === 507 || status === 503 && !retryAfter) {
      Object.assign(task, { state: 'failed', problem });
      this.#hold(status === 507 ? 'full' : 'closed');
    } else if (task.tries < TRIES && (status === 429 || status === 409 || status === 503 && retryAfter)) {
      const seconds = Math.min(60, Number(retryAfter) || 1) * task.tries;
      await new Promise((resolve) => { setTimeout(resolve, seconds * 1000); stop.signal.addEventListener('abort', resolve); });
      if (task.state === 'running' && task.stop === stop) again();
    } else Object.assign(task, { state: 'failed', problem: problem.status === undefined ? new Error('The file cannot be read.') : problem });
  }

  #changed() { this.dispatchEvent(new Event('change')); }
}
