// A unit of work: messages of a client up to Sync, Query or Flush, made ready for the one session inside.

import { noEffect } from './rewrite.mjs';
import { raise } from './sql.mjs';
import { bindNames } from './statements.mjs';
import { cstring, message, query, readCString } from './wire.mjs';

const NO_FUNCTION_CALL = raise(
  '0A000',
  'the function call protocol is not supported',
  'Call the function in a SELECT.',
);
const STATEMENT = 0x53; // S, in Describe and Close

class Translation {
  messages = [];
  parses = [];
  effect = noEffect();
  #names;
  #epochs;

  constructor(names, epochs) {
    this.#names = names;
    this.#epochs = epochs;
  }

  #affect(effect) {
    if (!effect) return;
    for (const [name, value] of Object.entries(effect)) {
      if (Array.isArray(value)) this.effect[name].push(...value);
      else this.effect[name] ||= value;
    }
  }

  /** Before a message that uses a statement: prepares it again where this session does not have it. */
  #need(name) {
    const { bytes, effect, done } = this.#names.missing(name, this.#epoch(name));
    this.#affect(effect);
    if (!bytes) return;
    this.messages.push(bytes);
    this.parses.push({ added: true, done });
  }

  #epoch(name) {
    return name === '' ? this.#epochs.unnamed : this.#epochs.named;
  }

  Q({ raw, body }) {
    const text = body.toString('latin1', 0, body.length - 1);
    const { sql, effect } = this.#names.rewrite(text);
    this.#affect(effect);
    this.#names.dropUnnamed();
    return sql === text ? raw : message('Q', Buffer.from(`${sql}\0`, 'latin1'));
  }

  P({ body }) {
    const { bytes, effect, done } = this.#names.parse(body, this.#epoch(body[0] === 0 ? '' : 'named'));
    this.#affect(effect);
    this.parses.push({ added: false, done });
    return bytes;
  }

  B({ raw, body }) {
    const { statement, portalEnd, statementEnd } = bindNames(body);
    this.#need(statement);
    if (statement === '') return raw;
    return message(
      'B',
      body.subarray(0, portalEnd),
      cstring(this.#names.inner(statement)),
      body.subarray(statementEnd),
    );
  }

  D({ raw, body }) {
    if (body[0] !== STATEMENT) return raw;
    const { text: name } = readCString(body, 1);
    this.#need(name);
    return message('D', body.subarray(0, 1), cstring(this.#names.inner(name)));
  }

  C({ raw, body }) {
    if (body[0] !== STATEMENT) return raw;
    return message('C', body.subarray(0, 1), cstring(this.#names.undefine(readCString(body, 1).text)));
  }

  F() {
    return query(NO_FUNCTION_CALL);
  }
}

/**
 * Frames of one unit as they run inside: statements renamed, lost ones prepared again, texts rewritten. `epochs` tells
 * named and unnamed statements of this session from those of earlier ones.
 */
export function translate(frames, names, epochs) {
  const unit = new Translation(names, epochs);
  for (const frame of frames) unit.messages.push(unit[frame.type]?.(frame) ?? frame.raw);
  const tagNames = new Map();
  if (unit.effect.deallocateAll) {
    tagNames.set('UNLISTEN', message('C', cstring(unit.effect.resetAll ? 'DISCARD ALL' : 'DEALLOCATE ALL')));
  }
  return { messages: unit.messages, parses: unit.parses, effect: unit.effect, tagNames };
}
