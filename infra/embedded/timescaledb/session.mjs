// The one session inside, shared by turns. A client owns it from its unit's start until ReadyForQuery says idle; clients
// that wait are served first come, first served.

import { deliver, follow, wanted } from './channels.mjs';
import { Contents, Refused } from './contents.mjs';
import { DatabaseLost } from './link.mjs';
import { ReplyReader } from './reply.mjs';
import { milliseconds, REPORTED } from './state.mjs';
import { translate } from './unit.mjs';
import * as wire from './wire.mjs';

const STATEFUL = /^(?:SET|RESET|DISCARD|DO|CALL)/;
const ROLES = /^(?:CREATE ROLE|ALTER ROLE|DROP ROLE|DO|CALL)/;
const MAKES_TEMP = /^(?:DO|CALL)/;
const OUTCOME_UNKNOWN = 'the database process died while it ran this statement; whether it took effect is unknown';
const ROLLED_BACK = 'the database process died in the middle of this transaction; it is rolled back';

export class Session {
  clients = new Set();
  settings = new Map();
  contents;
  #link;
  #log;
  #idleTimeoutMs;
  #queue = [];
  #owner = null;
  #executing = null;
  #open = false;
  #running = false;
  #again = false;
  #stopping = false;
  #idleTimer = null;
  #maintenance = [];

  constructor({ link, log, idleTimeoutMs }) {
    this.#link = link;
    this.#log = log;
    this.#idleTimeoutMs = idleTimeoutMs;
    this.contents = new Contents(link);
    link.on('down', () => this.#lost());
  }

  /** Of the database: counts its starts. */
  get epoch() {
    return this.#link.epoch;
  }

  get roles() {
    return this.contents.roles;
  }

  /** After each start of the database. */
  async opened() {
    await this.contents.opened();
    this.settings = await this.contents.settings();
    await this.contents.listen(wanted(this.clients));
    this.#open = true;
    this.pump();
  }

  /** A client has a unit to run. */
  request(client) {
    if (client === this.#owner) clearTimeout(this.#idleTimer);
    else this.#enqueue(client);
    this.pump();
  }

  #enqueue(client) {
    if (client.queued) return;
    client.queued = true;
    this.#queue.push(client);
  }

  /** Runs `work(rows)` as soon as no client owns the session; it must leave no transaction open. */
  maintain(work) {
    return new Promise((resolve, reject) => {
      this.#maintenance.push({ work, resolve, reject });
      this.pump();
    });
  }

  /** What the client waits for ends with 57014: running, or still in the queue. */
  cancel(client) {
    if (client === this.#executing) return this.#link.cancel();
    const [unit] = client.units;
    if (!client.queued || !unit?.frames || unit.frames.at(-1).type === 'H') return undefined;
    client.took(client.units.shift());
    client.send(wire.errorResponse('ERROR', '57014', 'canceling statement due to user request'));
    return client.send(wire.readyForQuery('I'));
  }

  /** Serves no further unit; resolves when the running statement has ended, or after `timeoutMs`. */
  async stop(timeoutMs) {
    this.#stopping = true;
    const deadline = Date.now() + timeoutMs;
    while (this.#running && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 5));
    return !this.#running;
  }

  pump() {
    this.#again = true;
    if (this.#running) return;
    this.#running = true;
    this.#turns().catch((error) => {
      this.#running = false;
      this.#log('error', 'the gate failed; the database starts again', { error: error.stack });
      this.#link.kill();
    });
  }

  async #turns() {
    while (this.#again) {
      this.#again = false;
      while (this.#open && !this.#stopping && (await this.#step()));
    }
    this.#running = false;
  }

  /** Does the next thing there is to do; false when there is none. */
  async #step() {
    const owner = this.#owner;
    if (owner?.units.length) await this.#turn(owner);
    else if (owner) {
      this.#startIdleTimer(owner);
      return false;
    } else if (this.#maintenance.length) await this.#maintainNow(this.#maintenance.shift());
    else if (this.#queue.length) {
      const next = this.#queue.shift();
      next.queued = false;
      if (next.units.length) await this.#turn(next);
    } else return false;
    return true;
  }

  async #maintainNow({ work, resolve, reject }) {
    try {
      await this.contents.clear();
      resolve(await work((sql) => this.contents.rows(sql)));
    } catch (error) {
      reject(error);
    }
  }

  async #turn(client) {
    const [unit] = client.units;
    if (client !== this.#owner && !unit.end && !(await this.#acquire(client))) return;
    this.#owner = client;
    client.units.shift();
    client.took(unit);
    const reply = new ReplyReader((bytes) => client.send(bytes));
    try {
      if (unit.end) await this.#finish(client);
      else await this.#run(client, unit, reply);
    } catch (error) {
      if (!(error instanceof DatabaseLost)) throw error;
      this.#release(client);
      if (unit.end) this.#gone(client);
      else if (reply.aligned) client.fail('57P02', OUTCOME_UNKNOWN);
      else client.destroy(); // an error in the middle of a row would be read as part of it
    }
  }

  /** Makes the session the client's; false when that failed. Nothing of its unit has run then. */
  async #acquire(client) {
    try {
      await this.contents.load(client);
      return true;
    } catch (error) {
      if (error instanceof DatabaseLost) {
        client.queued = true; // it waits for the database to come back
        this.#queue.unshift(client);
      } else if (error instanceof Refused) client.fail(error.code, error.message);
      else throw error;
      return false;
    }
  }

  async #run(client, unit, reply) {
    const { messages, parses, tagNames, effect } = translate(unit.frames, client.names, this.contents.epochs);
    if (effect.sequence && client.status === 'I') await this.contents.readsSequences();
    this.contents.left.temp ||= effect.temp;
    this.contents.left.pinned ||= effect.pin;
    for (const name of effect.custom) client.custom.add(name);
    Object.assign(reply, { parses, tagNames });
    if (client.lostTemp) this.#warnOfTemp(client);
    await this.#execute(client, messages, (piece) => reply.push(piece));
    client.status = reply.status;
    await this.#afterUnit(client, reply, effect);
  }

  async #execute(client, messages, onData) {
    const timer = client.timeoutMs > 0 ? setTimeout(() => this.#link.cancel(), client.timeoutMs) : null;
    this.#executing = client;
    client.status = null;
    try {
      await this.#link.exec(messages, onData);
    } finally {
      clearTimeout(timer);
      this.#executing = null;
    }
  }

  #warnOfTemp(client) {
    client.lostTemp = false;
    const hint = 'Use temporary tables within one transaction.';
    client.send(
      wire.noticeResponse('WARNING', '01000', 'temporary tables were dropped: another client ran in between', hint),
    );
  }

  async #afterUnit(client, reply, effect) {
    const { status, tags, error } = reply;
    const touched = effect.dirty || effect.resetAll || tags.some((tag) => STATEFUL.test(tag));
    client.dirty ||= touched;
    client.unseen.settings ||= touched;
    client.unseen.roles ||= tags.some((tag) => ROLES.test(tag));
    client.unseen.temp ||= effect.temp || tags.some((tag) => MAKES_TEMP.test(tag));
    client.unseen.pinned ||= effect.pin;
    if (effect.deallocateAll && !error) this.contents.drop(client.names.forget());
    if (!error && follow(client, effect.listen)) client.unseen.channels = true;
    if (effect.resetAll && !error && status !== 'E') await this.contents.rows(client.login.applySql());
    if (client.unseen.settings && (status === 'I' || status === 'T') && !(await this.#report(client))) return;
    if (status === 'I') await this.#atRest(client);
    deliver(reply.notifications, client, this.clients);
    if (status) client.send(wire.readyForQuery(status));
    if (status === 'I' && !client.pinned) this.#release(client);
  }

  /** No transaction is open: looks at what the owner may have left. */
  async #atRest(client) {
    const { unseen } = client;
    client.unseen = {};
    if (unseen.roles) await this.contents.readRoles();
    if (unseen.temp) await this.contents.readTemp();
    if (unseen.pinned || client.pinned) client.pinned = await this.contents.readPinned();
    if (unseen.channels) await this.contents.listen(wanted(this.clients));
  }

  /** Tells the client its changed settings; false when it became another user than it may. */
  async #report(client) {
    const settings = await this.contents.settings();
    if (!client.superuser && settings.get('session_authorization') !== client.user) {
      await this.#rollback(client);
      this.#release(client);
      client.fail('42501', 'the session authorization was changed');
      return false;
    }
    client.timeoutMs = milliseconds(settings.get('statement_timeout'));
    for (const name of REPORTED) {
      const value = settings.get(name);
      if (client.reported.get(name) === value) continue;
      client.reported.set(name, value);
      client.send(wire.parameterStatus(name, value));
    }
    return true;
  }

  /** The owner gives the session away; its further units wait at the end of the queue. */
  #release(client) {
    clearTimeout(this.#idleTimer);
    client.status = 'I';
    client.pinned = false;
    client.unseen = {};
    if (this.#owner === client) this.#owner = null;
    if (client.units.length) this.#enqueue(client);
  }

  /** The client's end: what it began is undone, what it named is dropped. */
  async #finish(client) {
    await this.#rollback(client);
    this.#gone(client);
    this.#release(client);
  }

  #gone(client) {
    this.clients.delete(client);
    this.contents.forget(client);
    client.gone();
  }

  async #rollback(client) {
    if (client.status === 'I') return;
    const messages = client.status === null ? [wire.sync(), wire.query('ROLLBACK')] : [wire.query('ROLLBACK')];
    client.dirty = true;
    await this.#link.exec(messages, () => {});
    client.status = 'I';
  }

  #startIdleTimer(client) {
    clearTimeout(this.#idleTimer);
    this.#idleTimer = setTimeout(() => {
      if (this.#owner !== client || client.units.length) return;
      this.#log('warning', 'a client kept the session for too long', { client: client.id, user: client.user });
      const hint = 'The embedded database has one session: an idle owner blocks all others.';
      client.fail('25P03', 'terminating connection due to idle-in-transaction timeout', hint);
    }, this.#idleTimeoutMs);
  }

  /** The database is gone: with it the owner's transaction, unless its statement runs (then `#turn` tells it). */
  #lost() {
    this.#open = false;
    const owner = this.#owner;
    if (!owner || this.#running) return;
    this.#release(owner);
    owner.fail('57P02', ROLLED_BACK);
  }
}
