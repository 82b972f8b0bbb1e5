// One client's connection: handshake, cutting its bytes into units, sending replies.

import { randomBytes } from 'node:crypto';
import { milliseconds, Profile, REPORTED, startupSettings } from './state.mjs';
import { bindNames, StatementNames } from './statements.mjs';
import * as wire from './wire.mjs';

const STARTUP_LIMIT = 10_000; // as PostgreSQL's MAX_STARTUP_PACKET_LENGTH
const PENDING_LIMIT = 8 * 1024 * 1024; // received and not yet run: beyond, the socket is not read
const REPLY_LIMIT = 64 * 1024 * 1024; // sent and not yet taken: beyond, the database waits
const FRONTEND = new Set('QPBDECSHFXdcfp');
const UNIT_END = new Set('QSHF');

function exactString(body, start) {
  const { text, next } = wire.readCString(body, start);
  if (next !== body.length) throw new wire.ProtocolViolation('a message is longer than its content');
  return text;
}

// What reaches the backend must be well formed: there, a malformed message ends the process for all.
const CHECKS = {
  Q: (body) => exactString(body, 0),
  B: bindNames,
  P: (body) => {
    const { next } = wire.readCString(body, wire.readCString(body, 0).next);
    if (next + 2 > body.length || next + 2 + 4 * body.readInt16BE(next) !== body.length) {
      throw new wire.ProtocolViolation('a Parse message has another length than it says');
    }
  },
  E: (body) => {
    if (wire.readCString(body, 0).next + 4 !== body.length)
      throw new wire.ProtocolViolation('an Execute message has another length than it says');
  },
  D: (body) => exactString(body, 1),
  C: (body) => exactString(body, 1),
};

function check(type, body) {
  if ((type === 'D' || type === 'C') && body[0] !== 0x53 && body[0] !== 0x50) {
    throw new wire.ProtocolViolation('a Describe or Close message is neither for a statement nor for a portal');
  }
  if ((type === 'S' || type === 'H') && body.length)
    throw new wire.ProtocolViolation('a message is longer than its content');
  CHECKS[type]?.(body);
}

export class Client {
  // Of its session, kept by session.mjs and contents.mjs:
  units = [];
  queued = false;
  status = 'I'; // of the transaction; null between an extended query's start and its Sync
  dirty = false; // may have changed settings since they were last read
  pinned = false; // holds what must not be shared
  unseen = {}; // kinds of changes since the session was last idle
  lostTemp = false;
  timeoutMs = 0;
  channels = new Set();
  custom = new Set(); // names of settings like my.name, which pg_settings does not list
  reported = new Map();
  profile = null;
  login = null;
  user = '';
  superuser = false;
  // Of its connection:
  #socket;
  #gate;
  #input = new wire.ByteQueue();
  #frames = [];
  #pending = 0;
  #started = false;
  #ended = false;
  #corked = false;
  #stallTimer = null;
  #handshakeTimer;

  constructor({ socket, id, gate }) {
    this.id = id;
    this.#socket = socket;
    this.#gate = gate;
    this.names = new StatementNames(this);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 30_000);
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('error', () => {}); // close follows
    socket.on('close', () => this.#over());
    socket.on('drain', () => this.#drained());
    this.#handshakeTimer = setTimeout(() => {
      if (!this.#started) socket.destroy();
    }, 60_000);
  }

  #receive(chunk) {
    if (this.#ended) return;
    this.#input.push(chunk);
    try {
      while (!this.#ended && (this.#started ? this.#message() : this.#startup()));
    } catch (error) {
      if (!(error instanceof wire.ProtocolViolation)) throw error;
      this.#gate.log('warning', 'protocol violation', { client: this.id, error: error.message });
      this.fail('08P01', error.message);
    }
    if (this.#pending > PENDING_LIMIT && this.units.length) this.#socket.pause();
  }

  #startup() {
    const head = this.#input.peek(4);
    if (!head) return false;
    const length = head.readInt32BE(0);
    if (length < 8 || length > STARTUP_LIMIT) throw new wire.ProtocolViolation('invalid length of startup packet');
    if (this.#input.length < length) return false;
    const packet = this.#input.take(length);
    const code = packet.readInt32BE(4);
    if (code === wire.SSL_REQUEST || code === wire.GSS_REQUEST) this.#socket.write('N');
    else if (code === wire.CANCEL_REQUEST) {
      if (length === 16) this.#gate.cancel(packet.readInt32BE(8), packet.readInt32BE(12));
      this.#socket.end();
      this.#ended = true;
    } else if (code >>> 16 !== 3)
      throw new wire.ProtocolViolation(
        `unsupported frontend protocol ${code >>> 16}.${code & 0xffff}: server supports 3.0`,
      );
    else this.#greet(code, wire.startupParameters(packet.subarray(8)));
    return true;
  }

  #greet(code, parameters) {
    clearTimeout(this.#handshakeTimer);
    const refusal = this.#gate.refusal(parameters);
    if (refusal) return this.fail(...refusal);
    this.user = parameters.user;
    this.superuser = this.#gate.session.roles.get(this.user).superuser;
    this.login = new Profile({ user: this.user, superuser: this.superuser, settings: startupSettings(parameters) });
    this.profile = this.login;
    this.timeoutMs = milliseconds(this.#startupValue('statement_timeout'));
    this.secret = randomBytes(4).readInt32BE(0);
    const unknown = Object.keys(parameters).filter((name) => name.startsWith('_pq_.'));
    const replies = code !== wire.PROTOCOL_3 || unknown.length ? [wire.negotiateProtocol(unknown)] : [];
    replies.push(wire.authenticationOk());
    const own = { is_superuser: this.superuser ? 'on' : 'off', session_authorization: this.user };
    for (const name of REPORTED) {
      const value = own[name] ?? this.#startupValue(name) ?? this.#gate.session.settings.get(name);
      this.reported.set(name, value);
      replies.push(wire.parameterStatus(name, value));
    }
    replies.push(wire.backendKeyData(this.id, this.secret), wire.readyForQuery('I'));
    this.#started = true;
    this.send(Buffer.concat(replies));
    return undefined;
  }

  #startupValue(name) {
    const wanted = [...this.login.settings].find(([key]) => key.toLowerCase() === name.toLowerCase());
    if (!wanted || name === 'DateStyle') return undefined;
    return name === 'client_encoding' && /^(?:utf-?8|unicode|auto)$/i.test(wanted[1]) ? 'UTF8' : wanted[1];
  }

  #message() {
    const head = this.#input.peek(5);
    if (!head) return false;
    const type = String.fromCharCode(head[0]);
    const length = head.readInt32BE(1);
    if (!FRONTEND.has(type)) throw new wire.ProtocolViolation(`invalid frontend message type ${head[0]}`);
    if (length < 4 || length > this.#gate.maxMessage)
      throw new wire.ProtocolViolation(`invalid message length ${length}`);
    if (this.#input.length < 1 + length) return false;
    const raw = this.#input.take(1 + length);
    this.#accept({ type, raw, body: raw.subarray(5) });
    return true;
  }

  #accept(frame) {
    const { type, raw, body } = frame;
    if (type === 'X') return this.#over();
    if ('dcfp'.includes(type)) return undefined; // left over from a COPY that was refused, or a password nobody asked for
    check(type, body);
    this.#frames.push(frame);
    this.#pending += raw.length;
    if (this.#pending > 2 * this.#gate.maxMessage) throw new wire.ProtocolViolation('too many messages without Sync');
    if (UNIT_END.has(type)) {
      this.units.push({ frames: this.#frames, end: false });
      this.#frames = [];
      this.#gate.session.request(this);
    }
    return undefined;
  }

  /** Called when a unit is taken from the queue. */
  took(unit) {
    if (unit.end) return;
    this.#pending -= unit.frames.reduce((sum, frame) => sum + frame.raw.length, 0);
    if (this.#socket.isPaused()) this.#socket.resume();
  }

  send(bytes) {
    if (!this.#writable) return;
    if (!this.#corked) {
      this.#corked = true;
      this.#socket.cork();
      setImmediate(() => this.flush());
    }
    this.#socket.write(bytes);
    if (this.#socket.writableLength > REPLY_LIMIT && !this.#stallTimer) {
      this.#gate.link.pause();
      this.#stallTimer = setTimeout(() => this.#socket.destroy(), 60_000); // reads nothing, and all others wait
    }
  }

  #drained() {
    if (!this.#stallTimer) return;
    clearTimeout(this.#stallTimer);
    this.#stallTimer = null;
    this.#gate.link.resume();
  }

  /** Small messages leave together, in one packet. */
  flush() {
    this.#corked = false;
    this.#socket.uncork();
  }

  /** Last words, then the end of the connection. */
  fail(code, text, hint) {
    if (this.#writable) this.#socket.end(wire.errorResponse('FATAL', code, text, hint));
    this.#over();
  }

  destroy() {
    this.#socket.destroy();
    this.#over();
  }

  get #writable() {
    return !this.#socket.destroyed && !this.#socket.writableEnded;
  }

  /** The client asked to end, was ended, or its socket broke: what came before is done first, then its end. */
  #over() {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#handshakeTimer);
    this.#drained();
    if (!this.#started) {
      this.#gate.session.clients.delete(this);
      this.gone();
      return;
    }
    this.units.push({ end: true });
    this.#gate.session.request(this);
  }

  /** Nothing of it is left inside. */
  gone() {
    if (this.#writable) this.#socket.end();
    setTimeout(() => this.#socket.destroy(), 2000).unref();
  }
}
