// Reads the backend's reply as it streams past: passes it on, keeps back what the gate answers itself.

import { errorFields } from './wire.mjs';

const READY = 0x5a; // Z
const COMPLETE = 0x43; // C
const ERROR = 0x45; // E
const NOTIFICATION = 0x41; // A
const PARSE_COMPLETE = 0x31; // 1
const WATCHED = new Set([READY, COMPLETE, ERROR, NOTIFICATION, PARSE_COMPLETE]);

/**
 * `status` is null until ReadyForQuery has been seen; that message is kept back, for the gate to send when its own work
 * for the request is done. `parses` are the Parse messages of the request in order, each {added, done}: the answers to
 * those the gate added are dropped, `done` is called for each that succeeded.
 */
export class ReplyReader {
  status = null;
  tags = [];
  error = null;
  notifications = [];
  parses = [];
  tagNames = new Map();
  #left = 0;
  #rest = null;
  #send;

  constructor(send) {
    this.#send = send;
  }

  /** Whether what was passed on ends with a whole message: only then may another one follow. */
  get aligned() {
    return this.#left === 0;
  }

  push(piece) {
    let bytes = piece;
    if (this.#rest) {
      bytes = Buffer.concat([this.#rest, piece]);
      this.#rest = null;
    }
    let from = 0;
    let at = Math.min(this.#left, bytes.length);
    this.#left -= at;
    while (at < bytes.length) {
      const whole = at + 5 <= bytes.length ? 1 + bytes.readInt32BE(at + 1) : Infinity;
      const watched = WATCHED.has(bytes[at]);
      if (at + 5 > bytes.length || (watched && at + whole > bytes.length)) break;
      if (watched) {
        const replacement = this.#watch(bytes[at], bytes.subarray(at + 5, at + whole));
        if (replacement !== undefined) {
          if (at > from) this.#send(bytes.subarray(from, at));
          if (replacement) this.#send(replacement);
          from = at + whole;
        }
        at += whole;
      } else {
        const next = Math.min(at + whole, bytes.length);
        this.#left = at + whole - next;
        at = next;
      }
    }
    if (at > from) this.#send(bytes.subarray(from, at));
    if (at < bytes.length) this.#rest = bytes.subarray(at);
  }

  /** What to send in place of the message: undefined for itself, null for nothing. */
  #watch(type, body) {
    if (type === READY) {
      this.status = String.fromCharCode(body[0]);
      return null;
    }
    if (type === COMPLETE) {
      const tag = body.toString('latin1', 0, body.length - 1);
      this.tags.push(tag);
      return this.tagNames.get(tag);
    }
    if (type === ERROR) this.error ??= errorFields(body);
    if (type === NOTIFICATION) {
      this.notifications.push(Buffer.from(body));
      return null;
    }
    if (type === PARSE_COMPLETE) {
      const parse = this.parses.shift();
      parse?.done();
      if (parse?.added) return null;
    }
    return undefined;
  }
}
