// The real binary, serving a folder of its own.
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const BINARY = process.env.KEEPSAKE_BINARY;

const endings = new WeakMap();

/** Does something after the test, but before whatever was asked for earlier: a folder goes after its server. */
export function afterwards(t, what) {
  if (!endings.has(t)) {
    endings.set(t, []);
    t.after(async () => {
      const failures = [];
      for (const ending of endings.get(t).reverse()) await Promise.resolve().then(ending).catch((error) => failures.push(error));
      if (failures.length > 0) throw failures[0];
    });
  }
  endings.get(t).push(what);
}

/** A folder that is gone after the test. */
export async function folder(t) {
  const path = await mkdtemp(join(tmpdir(), 'keepsake-browser-'));
  afterwards(t, () => rm(path, { recursive: true, force: true, maxRetries: 5 }));
  return path;
}

/** A running server: `url`, and what it printed when it started as `greeting`. */
export class Server {
  /** Starts it on a folder, and waits until it serves. `port` 0 is a free one; `before` is a command that ends in running it. */
  static async start(t, path, variables = {}, port = 0, before = []) {
    if (!BINARY) throw new Error('KEEPSAKE_BINARY does not say which binary to test: .ci/browser sets it');
    const env = { HOST: '127.0.0.1', PORT: String(port), RUST_LOG: 'error', DATA_DIR: path, ...variables };
    const [command, ...rest] = [...before, BINARY];
    const process = spawn(command, rest, { cwd: path, env, stdio: ['ignore', 'pipe', 'inherit'] });
    const server = new Server();
    server.process = process;
    server.ended = new Promise((resolve) => process.once('exit', (code, signal) => resolve(code ?? signal)));
    afterwards(t, () => server.kill());
    server.greeting = await greeting(process, server.ended);
    server.url = server.greeting[0].split('serves ')[1];
    return server;
  }

  /** The same place, once more. */
  get port() { return Number(new URL(this.url).port); }

  /** Tells it to stop, and waits until it has. */
  async stop() {
    this.process.kill('SIGTERM');
    const code = await this.ended;
    if (code !== 0) throw new Error(`the server stopped with ${code}`);
  }

  async kill() {
    this.process.kill('SIGKILL');
    await this.ended;
  }

  /** What the API answers, as someone would see it who does not use the page. */
  async ask(path, { method = 'GET', token, ...rest } = {}) {
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    const answer = await fetch(this.url + path, { method, headers, ...rest });
    if (!answer.ok) throw new Error(`${method} ${path} was answered ${answer.status}: ${await answer.text()}`);
    return answer.json();
  }

  /** Every image there is, groups taken apart. */
  async images() {
    return (await this.ask('/api/images?flat=true&limit=1000')).images;
  }

  /** Stores pictures without the page; all in one form. */
  async upload(pictures, fields = {}, token) {
    const body = new FormData();
    for (const { name, mimeType, buffer } of pictures) body.append('image', new Blob([buffer], { type: mimeType }), name);
    for (const [name, value] of Object.entries(fields)) body.append(name, value);
    const answer = await this.ask('/api/upload', { method: 'POST', body, token });
    return answer.images ?? [answer];
  }
}

async function greeting(process, ended) {
  const lines = [];
  const read = (async () => {
    for await (const line of createInterface({ input: process.stdout })) {
      lines.push(line);
      if (line.startsWith('  recovery ')) break;
    }
  })();
  await Promise.race([read, ended]);
  if (!lines.at(-1)?.startsWith('  recovery ')) throw new Error(`the server did not start: ${lines.join('\n')}`);
  // What it prints later, nobody waits for; but it must be able to.
  process.stdout.resume();
  return lines;
}
