// Looking closer at an image: by wheel, pinch, keys, buttons and double click.
const MOST = 8;

/** Lets `image` be zoomed within `stage`. `on`: `zoomed(scale)`, `swiped(direction)`: -1 to the one before, 1 to the next. */
export class Zoom {
  scale = 1;
  #x = 0; #y = 0;
  #image = null;
  #stage; #on;
  #pointers = new Map();
  #start = null;

  constructor(stage, on) {
    this.#stage = stage;
    this.#on = on;
    stage.addEventListener('wheel', (event) => this.#wheel(event), { passive: false });
    stage.addEventListener('dblclick', (event) => this.#image && this.by(this.scale > 1 ? 1 / this.scale : 2.5, event.clientX, event.clientY));
    stage.addEventListener('pointerdown', (event) => this.#down(event));
    stage.addEventListener('pointermove', (event) => this.#move(event));
    for (const name of ['pointerup', 'pointercancel']) stage.addEventListener(name, (event) => this.#up(event));
  }

  /** Takes up another image, or null. */
  watch(image) {
    this.#image = image;
    this.#pointers.clear();
    this.reset();
  }

  reset() {
    this.scale = 1;
    this.#x = this.#y = 0;
    this.#apply();
  }

  /** Zooms by a factor; what is at this point of the window stays there. */
  by(factor, x, y) {
    if (!this.#image) return;
    const box = this.#stage.getBoundingClientRect();
    const [fromX, fromY] = [(x ?? box.left + box.width / 2) - box.left - box.width / 2, (y ?? box.top + box.height / 2) - box.top - box.height / 2];
    const scale = Math.max(1, Math.min(MOST, this.scale * factor));
    const real = scale / this.scale;
    this.#x = fromX - (fromX - this.#x) * real;
    this.#y = fromY - (fromY - this.#y) * real;
    this.scale = scale;
    this.#apply();
  }

  pan(x, y) {
    this.#x += x;
    this.#y += y;
    this.#apply();
  }

  #apply() {
    const { clientWidth, clientHeight } = this.#stage;
    const [mostX, mostY] = [clientWidth * (this.scale - 1) / 2, clientHeight * (this.scale - 1) / 2];
    this.#x = Math.max(-mostX, Math.min(mostX, this.#x));
    this.#y = Math.max(-mostY, Math.min(mostY, this.#y));
    if (this.#image) this.#image.style.transform = this.scale === 1 ? '' : `translate(${this.#x}px, ${this.#y}px) scale(${this.scale})`;
    this.#stage.classList.toggle('zoomed', this.scale > 1);
    this.#on.zoomed(this.scale);
  }

  #wheel(event) {
    if (!this.#image) return;
    event.preventDefault();
    this.by(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), event.clientX, event.clientY);
  }

  #down(event) {
    if (event.button || event.target.closest('button, a, video, iframe')) return;
    this.#pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.#stage.setPointerCapture(event.pointerId);
    this.#start = { x: event.clientX, y: event.clientY, spread: this.#spread() };
  }

  #spread() {
    const [one, two] = [...this.#pointers.values()];
    return two && { distance: Math.hypot(one.x - two.x, one.y - two.y), x: (one.x + two.x) / 2, y: (one.y + two.y) / 2 };
  }

  #move(event) {
    const pointer = this.#pointers.get(event.pointerId);
    if (!pointer) return;
    const before = this.#spread();
    const [x, y] = [event.clientX - pointer.x, event.clientY - pointer.y];
    Object.assign(pointer, { x: event.clientX, y: event.clientY });
    const after = this.#spread();
    if (after) {
      this.by(after.distance / Math.max(1, before.distance), after.x, after.y);
      this.pan(after.x - before.x, after.y - before.y);
    } else if (this.scale > 1) this.pan(x, y);
  }

  #up(event) {
    if (!this.#pointers.delete(event.pointerId)) return;
    const start = this.#start;
    if (event.type !== 'pointerup' || this.#pointers.size || start.spread || this.scale > 1 || event.pointerType === 'mouse') return;
    const [x, y] = [event.clientX - start.x, event.clientY - start.y];
    if (Math.abs(x) > 50 && Math.abs(x) > 2 * Math.abs(y)) this.#on.swiped(x > 0 ? -1 : 1);
  }
}
