// A table of what was measured, and whether it is within its bounds. Each row is told when it is known, and all at the end.

export class Table {
  #rows = [];

  constructor(title) { this.#rows.push([title, '', 'bound']); }

  row(name, value, { below } = {}) {
    const bound = below === undefined ? '' : `< ${below}${value < below ? '' : '  BROKEN'}`;
    const row = [name, value.toLocaleString('en', { maximumFractionDigits: value < 10 ? 2 : 0 }), bound];
    console.error(row.join('  '));
    this.#rows.push(row);
    this.broken ||= below !== undefined && !(value < below);
  }

  /** Prints it; true where every bound holds. */
  print() {
    const width = Math.max(...this.#rows.map(([name]) => name.length));
    for (const [name, value, bound] of this.#rows) console.log(`${name.padEnd(width)}  ${value.padStart(10)}  ${bound}`.trimEnd());
    return !this.broken;
  }
}
