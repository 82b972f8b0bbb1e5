// One client's prepared statements: named apart from all others inside the one session, and prepared again after the
// database process was replaced.

import { rewrite } from './rewrite.mjs';
import { cstring, message, ProtocolViolation, readCString } from './wire.mjs';

const KEPT = 1024 * 1024; // longer texts are not prepared again

export class StatementNames {
  #client;
  #names = new Map();
  #unnamed = null;
  #count = 0;

  constructor(client) {
    this.#client = client;
  }

  #entry(name) {
    let entry = this.#names.get(name);
    if (!entry) {
      this.#count += 1;
      entry = { inner: `g${this.#client.id}_${this.#count}`, parse: null, epoch: null };
      this.#names.set(name, entry);
    }
    return entry;
  }

  /** The name inside for a statement that is being made. */
  define(name) {
    return this.#entry(name).inner;
  }

  /** The name inside; of an unknown statement one that does not exist either. */
  inner(name) {
    return name === '' ? '' : (this.#names.get(name)?.inner ?? `g${this.#client.id}_none`);
  }

  /** The name inside for a statement that is being dropped. */
  undefine(name) {
    if (name === '') this.#unnamed = null;
    const inner = this.inner(name);
    this.#names.delete(name);
    return inner;
  }

  /** Names inside of all named statements; forgets them. */
  forget() {
    const inner = [...this.#names.values()].map((entry) => entry.inner);
    this.#names.clear();
    this.#unnamed = null;
    return inner;
  }

  /** A simple query drops the unnamed statement. */
  dropUnnamed() {
    this.#unnamed = null;
  }

  /** Text as it runs inside: {sql, effect}. */
  rewrite(text) {
    return rewrite(text, { names: this, user: this.#client.user, superuser: this.#client.superuser });
  }

  /** Parse: renamed, text rewritten. `done` is to be called when the database has accepted it. */
  parse(body, epoch) {
    const { text: name, next } = readCString(body, 0);
    const { next: end } = readCString(body, next);
    const text = body.toString('latin1', next, end - 1);
    const { sql, effect } = this.rewrite(text);
    const query = sql === text ? body.subarray(next, end) : Buffer.from(`${sql}\0`, 'latin1');
    const entry = name === '' ? { inner: '' } : this.#entry(name);
    const bytes = message('P', cstring(entry.inner), query, body.subarray(end));
    if (name === '') this.#unnamed = entry;
    const kept = bytes.length <= KEPT ? bytes : null;
    return { bytes, effect, done: () => Object.assign(entry, { parse: kept, effect, epoch }) };
  }

  /** What must run before a message that uses `name`: its Parse, when the session of this `epoch` does not have it. */
  missing(name, epoch) {
    const entry = name === '' ? this.#unnamed : this.#names.get(name);
    if (!entry?.parse || entry.epoch === epoch) return { bytes: null, effect: entry?.effect };
    return { bytes: entry.parse, effect: entry.effect, done: () => Object.assign(entry, { epoch }) };
  }
}

/** Checks that a Bind body holds what its counts say (a short one must not reach the backend); its names. */
export function bindNames(body) {
  const portal = readCString(body, 0);
  const statement = readCString(body, portal.next);
  let at = statement.next;
  const need = (bytes) => {
    if (at + bytes > body.length) throw new ProtocolViolation('a Bind message is shorter than it says');
  };
  const count = () => {
    need(2);
    const value = body.readInt16BE(at);
    if (value < 0) throw new ProtocolViolation('a Bind message has a negative count');
    at += 2;
    return value;
  };
  const formats = count();
  at += 2 * formats;
  for (let left = count(); left > 0; left -= 1) {
    need(4);
    const length = body.readInt32BE(at);
    at += 4;
    need(Math.max(0, length));
    at += Math.max(0, length);
  }
  const results = count();
  at += 2 * results;
  if (at !== body.length) throw new ProtocolViolation('a Bind message has another length than it says');
  return { statement: statement.text, portalEnd: portal.next, statementEnd: statement.next };
}
