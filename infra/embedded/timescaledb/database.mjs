// The database process: one PGlite, one pipe (file descriptor 3) to the gate, one request at a time.
// The loop reads and writes with blocking calls: the engine is synchronous anyway, replies stream out while they are made,
// and nothing piles up in memory when the gate reads slowly.

import { fsyncSync, readSync, writeSync } from 'node:fs';
import { isMainThread, Worker } from 'node:worker_threads';
import { onInterrupt, watchLifeline } from './cancel.mjs';
import { databaseFolder } from './create.mjs';
import { openEngine } from './engine.mjs';
import { FRAME, frameHeader, HEADER } from './frames.mjs';
import { lockFolder } from './lock.mjs';

const PIPE = 3;
const BATCH = 256 * 1024;

// process.exit would wait for the watcher, which waits in its read.
const die = () => process.kill(process.pid, 'SIGKILL');

function writeAll(bytes) {
  for (let at = 0; at < bytes.length;) at += writeSync(PIPE, bytes, at, bytes.length - at);
}

function readExactly(count) {
  const bytes = Buffer.allocUnsafe(count);
  for (let at = 0; at < count;) {
    const got = readSync(PIPE, bytes, at, count - at, null);
    if (got === 0) return null;
    at += got;
  }
  return bytes;
}

/** Joins the engine's small pieces (8 kB) into few writes. */
class Reply {
  #buffer = Buffer.allocUnsafe(BATCH + HEADER);
  #used = 0;

  add = (view) => {
    if (this.#used + view.length > BATCH) this.flush();
    if (view.length > BATCH) {
      writeAll(frameHeader(FRAME.data, view.length));
      writeAll(Buffer.from(view));
      return;
    }
    this.#buffer.set(view, HEADER + this.#used);
    this.#used += view.length;
  };

  flush() {
    if (this.#used === 0) return;
    frameHeader(FRAME.data, this.#used).copy(this.#buffer);
    writeAll(this.#buffer.subarray(0, HEADER + this.#used));
    this.#used = 0;
  }

  finish() {
    this.flush();
    writeAll(frameHeader(FRAME.done, 0));
  }
}

function serve(engine) {
  const reply = new Reply();
  let running = 0;
  let interrupted = false;
  onInterrupt((number) => {
    if (number !== running) return; // it has ended meanwhile: the next one must not be hit
    interrupted = true;
    engine.interrupt();
  });
  for (let number = 1; ; number = (number + 1) >>> 0) {
    const header = readExactly(HEADER);
    if (header === null) return;
    const payload = readExactly(header.readUInt32BE(1));
    if (header[0] === FRAME.shutdown) {
      engine.close();
      writeAll(frameHeader(FRAME.closed, 0));
      return;
    }
    running = number;
    engine.exec(payload, reply.add);
    running = 0;
    if (interrupted) engine.interrupt(false);
    interrupted = false;
    reply.finish();
  }
}

function fail(error) {
  const text = Buffer.from(error.message ?? String(error));
  writeAll(Buffer.concat([frameHeader(FRAME.failed, text.length), text]));
  die();
}

async function main() {
  // Ctrl-C reaches the whole process group; the gate decides when the database ends.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => {});
  const watcher = new Worker(new URL(import.meta.url));
  watcher.unref();
  const started = performance.now();
  const [dataDir, modules, fsync] = process.argv.slice(2);
  await lockFolder(dataDir);
  const engine = await openEngine({
    dataDir: databaseFolder(dataDir, modules),
    modules,
    fsync: fsync === 'fsync',
    syncFile: fsyncSync,
  });
  const ready = Buffer.from(JSON.stringify({ start_ms: Math.round(performance.now() - started) }));
  writeAll(Buffer.concat([frameHeader(FRAME.ready, ready.length), ready]));
  serve(engine);
  die();
}

// The gate holds the other end of the lifeline: when it is gone, by whatever death, this process goes at once.
if (!isMainThread) watchLifeline(die);
else await main().catch(fail);
