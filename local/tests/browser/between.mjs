// What stands between the browser and the server, as a proxy does: it sees what passes, and goes wrong where a test says so.
import { once } from 'node:events';
import { createServer, request as ask } from 'node:http';
import { afterwards } from './server.mjs';

export class Between {
  /** Every request that came, in order: `{ method, path, headers, bytes, status }`, `bytes` being those passed on. */
  seen = [];
  /** What is done with a request instead of passing it on: a function of it that returns nothing, or an object with one of
   *
   * - `answer`: a status, or `[status, text]`, which is answered in the server's place, once all of the body is here;
   * - `after`: so many bytes of the body are passed on, and then nothing happens until either side has gone; `held` is told;
   * - `deaf`: the server gets all of it and answers, and the connection breaks before the client hears of it (`early`; browsers
   *   may send it once more by themselves then), or in the middle of the answer (`late`);
   * - `to`: another server gets it;
   * - `without`: the names of headers that are not passed on. */
  plan = () => {};
  #held = [];

  static async start(t, server) {
    const between = new Between();
    between.server = server;
    const listening = createServer((request, response) => between.#pass(request, response).catch(() => response.destroy()));
    listening.requestTimeout = 0;
    listening.listen(0, '127.0.0.1');
    await once(listening, 'listening');
    between.url = `http://127.0.0.1:${listening.address().port}`;
    afterwards(t, () => {
      listening.closeAllConnections();
      return new Promise((resolve) => listening.close(resolve));
    });
    return between;
  }

  /** Resolves once a request is held. */
  held() { return new Promise((resolve) => this.#held.push(resolve)); }

  /** Those that were seen with this method, and below this path. */
  of(method, path = '/') { return this.seen.filter((one) => one.method === method && one.path.startsWith(path)); }

  async #pass(request, response) {
    const { method, url: path, headers } = request;
    const one = { method, path, headers, bytes: 0, status: 0 };
    this.seen.push(one);
    const { answer, after, deaf, to = this.server, without = [] } = this.plan(one) ?? {};
    if (answer) {
      const [status, text] = [answer].flat();
      for await (const _ of request);
      one.status = status;
      response.writeHead(status, { 'content-type': text?.startsWith('{') ? 'application/problem+json' : 'text/html' }).end(text);
      return;
    }
    const passed = Object.fromEntries(Object.entries(headers).filter(([name]) => !without.includes(name)));
    // Asks first, so that a server which refuses without reading all of it is heard, and does not break off what is on its way.
    const asks = Number(headers['content-length'] ?? 0) > 0;
    const server = ask(to.url + path, { method, headers: asks ? { ...passed, expect: '100-continue' } : passed, agent: false });
    const answered = new Promise((resolve, reject) => server.once('response', resolve).on('error', reject));
    answered.catch(() => response.destroy());
    response.once('close', () => response.writableEnded || server.destroy());
    server.flushHeaders();
    let refused = false;
    if (asks) refused = await Promise.race([once(server, 'continue').then(() => false), answered.then(() => true)]);
    let held = false;
    for await (const chunk of request) {
      // Whoever does not read on does not notice that the client has gone.
      if (held || refused) continue;
      const piece = chunk.subarray(0, (after ?? Infinity) - one.bytes);
      one.bytes += piece.length;
      if (piece.length > 0) await Promise.race([new Promise((resolve) => server.write(piece, resolve)), answered]);
      held = one.bytes === after;
      if (held) this.#held.splice(0).forEach((tell) => tell(one));
    }
    if (held) return;
    server.end();
    const from = await answered;
    one.status = from.statusCode;
    if (deaf !== 'early') response.writeHead(from.statusCode, from.headers).flushHeaders();
    if (!deaf) return void from.pipe(response);
    from.resume();
    response.destroy();
  }
}
