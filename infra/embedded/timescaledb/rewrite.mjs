// SQL texts on their way in: what they do to the session is noted, statement names are replaced by the client's own, and
// what one session for many cannot do is replaced by a clear error.
// Texts are latin1, a character a byte: whatever the client's encoding, what is not rewritten stays as it was.

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
const HIDDEN_AUTHORIZATION = /session[\s_]+authorization/i;
const LOOKED_AT = new Set(
  'copy set reset listen unlisten discard prepare deallocate execute explain create'.split(' '),
);
const asBytes = (text) => Buffer.from(text, 'utf8').toString('latin1');

/** What a text does: leaves temporary tables, locks that pin the session, changed settings; asks for sequences' values. */
export function noEffect() {
  return {
    temp: false,
    pin: false,
    sequence: false,
    dirty: false,
    deallocateAll: false,
    resetAll: false,
    listen: [], // {on, channel}
    custom: [], // names of settings like my.name
  };
}

/**
 * The text as it runs inside, and its effect. `names` maps the client's statement names: `define`, `inner`, `undefine`.
 * `user` and `superuser` are who the client logged in as.
 */
export function rewrite(text, { names, user, superuser }) {
  const effect = noEffect();
  if (!suspicious(text)) return { sql: text, effect };
  effect.sequence = /currval|lastval/i.test(text);
  effect.pin = /advisory_lock|\bwith\s+hold\b/i.test(text);
  effect.temp = /\btemp(?:orary)?\b|\bpg_temp\b/i.test(text);
  effect.dirty = /set_config/i.test(text);
  for (const match of text.matchAll(/set_config\s*\(\s*'([\w.]+)'/gi)) effect.custom.push(match[1]);
  const edits = [];
  // Of most statements only the first word is looked at: an INSERT of many rows may hold such words as data.
  const all = !superuser && HIDDEN_AUTHORIZATION.test(text);
  for (const tokens of statements(text, (first) => all || LOOKED_AT.has(first))) {
    const statement = new Statement(tokens, edits, effect);
    statement.copy();
    statement.authorization(user, superuser);
    statement.session();
    statement.prepared(names);
  }
  const refusal = edits.find((edit) => edit.refuse);
  if (refusal) return { sql: refusal.refuse, effect };
  let sql = text;
  for (const { start, end, put } of edits.sort((a, b) => b.start - a.start)) {
    sql = sql.slice(0, start) + put + sql.slice(end);
  }
  return { sql, effect };
}

class Statement {
  #tokens;
  #words;
  #edits;
  #effect;

  constructor(tokens, edits, effect) {
    this.#tokens = tokens;
    this.#words = tokens.map((token) => lowerCase(token.text));
    this.#edits = edits;
    this.#effect = effect;
  }

  #replace(put) {
    this.#edits.push({ start: this.#tokens[0].start, end: this.#tokens.at(-1).end, put });
  }

  #refuse(sql) {
    this.#edits.push({ refuse: sql });
  }

  copy() {
    const words = this.#words;
    if (words[0] === 'copy' && words.some((word, i) => word === 'from' && words[i + 1] === 'stdin')) {
      this.#refuse(NO_COPY_IN);
    }
  }

  /** A client stays who it logged in as, unless that is a superuser. "Default" is that role, not the engine's. */
  authorization(user, superuser) {
    const [first] = this.#words;
    const at = this.#words.indexOf('authorization');
    if ((first === 'set' || first === 'reset') && at > 0 && at < 4) {
      if (first === 'reset' || this.#words[at + 1] === 'default') {
        this.#replace(`SET SESSION AUTHORIZATION ${quoteIdentifier(asBytes(user))}`);
        return;
      }
      if (!superuser) this.#refuse(NO_AUTHORIZATION);
    }
    const hidden = this.#words.some((word) => HIDDEN_AUTHORIZATION.test(word));
    if (hidden && !superuser) this.#refuse(NO_AUTHORIZATION);
  }

  session() {
    const [first, second] = this.#words;
    if (first === 'listen' || first === 'unlisten') {
      const channel = second === '*' ? '*' : this.#tokens[1] && identifier(this.#tokens[1].text);
      this.#effect.listen.push({ on: first === 'listen', channel });
    } else if (first === 'discard' && second === 'all') {
      this.#effect.resetAll = true;
      this.#effect.deallocateAll = true;
      this.#replace('UNLISTEN energyai_gate_all'); // the gate does the rest, for this client only
    } else if (first === 'reset' && second === 'all') this.#effect.resetAll = true;
    else if (first === 'set') this.#customSetting();
  }

  #customSetting() {
    const words = this.#words;
    const at = words[1] === 'session' || words[1] === 'local' ? 2 : 1;
    if (words[at + 1] !== '.' || !words[at + 2]) return;
    this.#effect.custom.push(`${identifier(words[at])}.${identifier(words[at + 2])}`);
  }

  prepared(names) {
    const words = this.#words;
    if (words[0] === 'prepare' && words[1] !== 'transaction') this.#rename(1, (name) => names.define(name));
    else if (words[0] === 'deallocate') this.#deallocate(names);
    else if (['execute', 'explain', 'create'].includes(words[0])) {
      // CREATE TABLE … AS EXECUTE name; but not a trigger's EXECUTE FUNCTION
      words.forEach((word, i) => {
        if (word !== 'execute' || ['function', 'procedure'].includes(words[i + 1])) return;
        this.#rename(i + 1, (name) => names.inner(name));
      });
    }
  }

  #deallocate(names) {
    const at = this.#words[1] === 'prepare' ? 2 : 1;
    if (this.#words[at] === 'all') {
      this.#effect.deallocateAll = true;
      this.#replace('UNLISTEN energyai_gate_none');
    } else this.#rename(at, (name) => names.undefine(name));
  }

  #rename(index, map) {
    const token = this.#tokens[index];
    if (!token) return;
    this.#edits.push({ start: token.start, end: token.end, put: quoteIdentifier(map(identifier(token.text))) });
  }
}
