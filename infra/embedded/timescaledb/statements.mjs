// One client's prepared statements: named apart from all others inside the one session, and prepared again after the
// database process was replaced.

import { cstring, message, readCString, ProtocolViolation } from './wire.mjs';
import { identifier, lowerCase, quoteIdentifier, raise, statements, suspicious } from './sql.mjs';

const NO_COPY_IN = raise(
  '0A000',
  'COPY FROM STDIN is not supported by the embedded database',
  'Use INSERT with several rows or INSERT ... SELECT FROM unnest(...), or set ENERGYAI_DATABASE_URL to a TimescaleDB server.',
);
const NO_AUTHORIZATION = raise(
  '42501',
  'permission denied to set session authorization',
  'Connect as the role that is wanted.',
);
// Texts are handled as latin1, a character a byte: whatever the client's encoding, what is not rewritten stays as it was.
const asBytes = (text) => Buffer.from(text, 'utf8').toString('latin1');
const KEPT = 1024 * 1024; // longer texts are not prepared again


/** What a text does to session state; `sql` is the text to run in its place. */
export function noEffect() {
  return { temp: false, pin: false, sequence: false, dirty: false, deallocateAll: false, resetAll: false, listen: [], custom: [] };
}

export class StatementNames {
  #client;
  #names = new Map();
  #unnamed = null;
  #count = 0;

  constructor(client) {
    this.#client = client;
  }

  #inner(name) {
    let entry = this.#names.get(name);
    if (!entry) {
      this.#count += 1;
      entry = { inner: `g${this.#client.id}_${this.#count}`, parse: null, epoch: 0 };
      this.#names.set(name, entry);
    }
    return entry;
  }

  /** Names inside the database of all named statements; forgets them. */
  forget() {
    const inner = [...this.#names.values()].map((entry) => entry.inner);
    this.#names.clear();
    this.#unnamed = null;
    return inner;
  }

  /** Parse: renamed, text rewritten. `done` is to be called when the database has accepted it. */
  parse(body, epoch) {
    const { text: name, next } = readCString(body, 0);
    const { next: end } = readCString(body, next);
    const text = body.toString('latin1', next, end - 1);
    const { sql, ...effect } = this.rewrite(text);
    const query = sql === text ? body.subarray(next, end) : Buffer.from(`${sql}\0`, 'latin1');
    const entry = name === '' ? { inner: '' } : this.#inner(name);
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

  inner(name) {
    return name === '' ? '' : (this.#names.get(name)?.inner ?? `g${this.#client.id}_none`);
  }

  close(name) {
    if (name === '') this.#unnamed = null;
    const inner = this.inner(name);
    this.#names.delete(name);
    return inner;
  }

  /** A simple query drops the unnamed statement. */
  dropUnnamed() {
    this.#unnamed = null;
  }

  /** The text as it runs inside, and what it does to the session. */
  rewrite(text) {
    const effect = noEffect();
    if (!suspicious(text)) return { sql: text, ...effect };
    effect.sequence = /currval|lastval/i.test(text);
    effect.pin = /advisory_lock|\bwith\s+hold\b/i.test(text);
    effect.temp = /\btemp(?:orary)?\b|\bpg_temp\b/i.test(text);
    effect.dirty = /set_config/i.test(text);
    for (const match of text.matchAll(/set_config\s*\(\s*'([\w.]+)'/gi)) effect.custom.push(match[1]);
    const edits = [];
    for (const tokens of statements(text)) this.#statement(tokens, effect, edits);
    const denied = edits.find((edit) => edit.all);
    if (denied) return { sql: denied.all, ...effect };
    let sql = text;
    for (const edit of edits.sort((a, b) => b.start - a.start)) sql = sql.slice(0, edit.start) + edit.with + sql.slice(edit.end);
    return { sql, ...effect };
  }

  #statement(tokens, effect, edits) {
    const words = tokens.map((token) => lowerCase(token.text));
    const whole = (replacement) => edits.push({ start: tokens[0].start, end: tokens.at(-1).end, with: replacement });
    const rename = (token, entry) => edits.push({ start: token.start, end: token.end, with: quoteIdentifier(entry) });
    const [first, second, third] = words;
    if (first === 'copy' && words.some((word, i) => word === 'from' && words[i + 1] === 'stdin')) edits.push({ start: 0, all: NO_COPY_IN });
    else if (first === 'prepare' && second !== 'transaction' && tokens[1]) rename(tokens[1], this.#inner(identifier(tokens[1].text)).inner);
    else if (first === 'deallocate') this.#deallocate(tokens, words, effect, edits, whole, rename);
    else if (first === 'listen' || first === 'unlisten') {
      effect.listen.push({ on: first === 'listen', channel: second === '*' ? '*' : tokens[1] && identifier(tokens[1].text) });
    } else if (first === 'discard' && second === 'all') {
      effect.resetAll = true;
      effect.deallocateAll = true;
      whole('UNLISTEN energyai_gate_all');
    } else if (first === 'reset' && second === 'all') effect.resetAll = true;
    const authorization = words.indexOf('authorization');
    if ((first === 'set' || first === 'reset') && authorization > 0 && authorization < 4) {
      if (first === 'reset' || words[authorization + 1] === 'default') {
        whole(`SET SESSION AUTHORIZATION ${quoteIdentifier(asBytes(this.#client.user))}`);
      } else if (!this.#client.superuser) edits.push({ start: 0, all: NO_AUTHORIZATION });
    }
    if (!this.#client.superuser && words.some((word) => /session[\s_]+authorization/.test(word))) edits.push({ start: 0, all: NO_AUTHORIZATION });
    if (first === 'set') this.#customName(words, third, effect);
    this.#executes(tokens, words, rename);
  }

  #customName(words, third, effect) {
    const at = words[1] === 'session' || words[1] === 'local' ? 2 : 1;
    if (words[at + 1] === '.' && words[at + 2]) effect.custom.push(`${identifier(words[at])}.${identifier(words[at + 2])}`);
  }

  #deallocate(tokens, words, effect, edits, whole, rename) {
    const at = words[1] === 'prepare' ? 2 : 1;
    if (words[at] === 'all') {
      effect.deallocateAll = true;
      whole('UNLISTEN energyai_gate_none');
    } else if (tokens[at]) {
      const name = identifier(tokens[at].text);
      rename(tokens[at], this.inner(name));
      this.#names.delete(name);
    }
  }

  /** EXECUTE as a statement, after EXPLAIN or CREATE TABLE … AS; not GRANT EXECUTE ON, not a trigger's EXECUTE FUNCTION. */
  #executes(tokens, words, rename) {
    if (!['execute', 'explain', 'create'].includes(words[0])) return;
    words.forEach((word, i) => {
      if (word !== 'execute' || !tokens[i + 1] || ['function', 'procedure'].includes(words[i + 1])) return;
      rename(tokens[i + 1], this.inner(identifier(tokens[i + 1].text)));
    });
  }
}

/** Checks that a Bind body holds what its counts say: a short one must not reach the backend. */
export function bindNames(body) {
  const portal = readCString(body, 0);
  const statement = readCString(body, portal.next);
  let at = statement.next;
  const need = (count) => {
    if (at + count > body.length) throw new ProtocolViolation('a Bind message is shorter than it says');
  };
  const count = () => {
    need(2);
    at += 2;
    return body.readInt16BE(at - 2);
  };
  const formats = count();
  at += 2 * formats;
  for (let left = count(); left > 0; left -= 1) {
    need(4);
    const length = body.readInt32BE(at);
    at += 4 + Math.max(0, length);
    need(0);
  }
  const results = count();
  at += 2 * results;
  if (at !== body.length) throw new ProtocolViolation('a Bind message has another length than it says');
  return { portal: portal.text, statement: statement.text, portalEnd: portal.next, statementEnd: statement.next };
}
