// The gate's side of the database process: starts it, restarts it when it dies, and runs one request at a time.

import { spawn } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { fileURLToPath } from 'node:url';
import { FRAME, frameHeader, FrameReader } from './frames.mjs';

const BACKOFF_MS = [0, 200, 500, 1000, 2000, 5000];
const STEADY_MS = 30_000; // a process that lived this long starts the backoff from the beginning

/** The database process died while a request was running: whether it took effect is unknown. */
export class DatabaseLost extends Error {}

/**
 * Events: `up` (epoch), `down` (reason). `epoch` counts starts: prepared statements and the like belong to one epoch.
 */
export class DatabaseLink extends EventEmitter {
  epoch = 0;
  up = false;
  #child = null;
  #pipe = null;
  #request = null;
  #closing = false;
  #closed = false;
  #failures = 0;
  #number = 0;
  #arguments;
  #log;

  constructor({ dataDir, modules, fsync, log }) {
    super();
    this.#arguments = [dataDir, modules, fsync ? 'fsync' : 'nofsync'];
    this.#log = log;
  }

  get pid() {
    return this.#child?.pid ?? null;
  }

  /** Resolves when the first start succeeded; rejects when it failed (no retry: a bad folder or installation). */
  start() {
    return new Promise((resolve, reject) => {
      const settle = (error) => {
        this.off('up', settle);
        this.off('down', failed);
        if (error instanceof Error) reject(error);
        else resolve();
      };
      const failed = (reason) => {
        this.#closing = true;
        settle(new Error(reason));
      };
      this.on('up', settle);
      this.on('down', failed);
      this.#spawn();
    });
  }

  #spawn() {
    const script = fileURLToPath(new URL('./database.mjs', import.meta.url));
    const child = spawn(process.execPath, [script, ...this.#arguments], {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'],
    });
    const born = Date.now();
    let reason = '';
    this.#child = child;
    this.#pipe = child.stdio[3];
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (text) => this.#log('debug', 'database output', { text: text.toString().slice(0, 2000) }));
    }
    for (const stream of child.stdio) stream?.on('error', () => {}); // the exit event tells
    const reader = new FrameReader({
      onData: (piece) => this.#request?.onData(piece),
      onFrame: (type, payload) => {
        if (type === FRAME.ready) {
          this.epoch += 1;
          this.#number = 0;
          this.up = true;
          this.#log('info', 'database started', { database_pid: child.pid, ...JSON.parse(payload) });
          this.emit('up', this.epoch);
        } else if (type === FRAME.done) this.#settle();
        else if (type === FRAME.closed) this.#closed = true;
        else if (type === FRAME.failed) reason = payload.toString();
      },
    });
    this.#pipe.on('data', (chunk) => reader.push(chunk));
    child.on('error', (error) => {
      reason = error.message;
    });
    child.on('close', (code, signal) => this.#died(reason || `exit ${signal ?? code}`, Date.now() - born));
  }

  #died(reason, lived) {
    this.up = false;
    this.#child = null;
    if (!this.#closing) this.#log('error', 'database process died', { reason, lived_ms: lived });
    this.#settle(new DatabaseLost(reason));
    this.emit('down', reason);
    if (this.#closing) return;
    this.#failures = lived > STEADY_MS ? 0 : this.#failures + 1;
    const wait = BACKOFF_MS[Math.min(this.#failures, BACKOFF_MS.length - 1)];
    setTimeout(() => {
      if (!this.#closing) this.#spawn();
    }, wait);
  }

  #settle(error) {
    const request = this.#request;
    this.#request = null;
    if (error) request?.reject(error);
    else request?.resolve();
  }

  /** Runs whole frontend messages (buffers); `onData` gets the reply in pieces. Rejects with DatabaseLost. */
  exec(messages, onData) {
    if (!this.up) return Promise.reject(new DatabaseLost('the database is starting'));
    if (this.#request) throw new Error('the database runs one request at a time');
    return new Promise((resolve, reject) => {
      this.#request = { resolve, reject, onData };
      this.#number = (this.#number + 1) >>> 0;
      this.#pipe.cork();
      this.#pipe.write(
        frameHeader(
          FRAME.exec,
          messages.reduce((sum, bytes) => sum + bytes.length, 0),
        ),
      );
      for (const bytes of messages) this.#pipe.write(bytes);
      this.#pipe.uncork();
    });
  }

  /** Stop or go on reading replies: the database process then waits in its write. */
  pause() {
    this.#pipe?.pause();
  }

  resume() {
    this.#pipe?.resume();
  }

  /** Asks the running request to end with an error (57014). */
  cancel() {
    if (!this.#request) return;
    const number = Buffer.allocUnsafe(4);
    number.writeUInt32BE(this.#number);
    this.#child.stdio[4].write(number);
  }

  /** Ends a statement that does not end by itself; the database starts again and recovers. */
  kill() {
    this.#child?.kill('SIGKILL');
  }

  /** Clean shutdown; forced after `timeoutMs`. Resolves with whether it was clean. */
  close(timeoutMs) {
    this.#closing = true;
    const child = this.#child;
    if (!child) return Promise.resolve(false);
    return new Promise((resolve) => {
      const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
      child.once('close', () => {
        clearTimeout(timer);
        resolve(this.#closed);
      });
      if (this.up) this.#pipe.write(frameHeader(FRAME.shutdown, 0));
      else child.kill('SIGKILL');
    });
  }
}
