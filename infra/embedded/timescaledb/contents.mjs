// What is in the one session at the moment, and whose: saved when its owner may have changed it, cleared, put back.

import { quoteIdentifier } from './sql.mjs';
import { captured, captureSql, clearSql, SHOW_SESSION } from './state.mjs';
import * as wire from './wire.mjs';

const GARBAGE_LIMIT = 200; // statements of clients that are gone, before they are dropped

/** The session cannot be made the client's: its settings or its role do not (any longer) hold. */
export class Refused extends Error {
  constructor(cause) {
    super(cause.message);
    this.code = cause.code;
  }
}

export class Contents {
  roles = new Map();
  /** Left in the session by its last owner. */
  left = { temp: false, pinned: false };
  sequences = false; // some client reads currval or lastval: cleared at each change of owner
  #link;
  #loaded = null; // client whose state is in the session
  #key = null; // and as which profile; null when unknown
  #last = null; // client that ran last
  #serial = 0; // of the unnamed statement: it is lost when the gate or another client runs
  #garbage = [];

  constructor(link) {
    this.#link = link;
  }

  get epochs() {
    return { named: this.#link.epoch, unnamed: `${this.#link.epoch}/${this.#serial}` };
  }

  /** After a start of the database: the session is empty. */
  async opened() {
    this.#loaded = null;
    this.#key = null;
    this.#last = null;
    this.#garbage = [];
    this.left = { temp: false, pinned: false };
    await this.readRoles();
  }

  /** Runs SQL of the gate itself; rows of text. An error of the database is thrown. */
  async rows(sql) {
    this.#serial += 1;
    return wire.textRows(await this.#reply([wire.query(sql)]));
  }

  async #reply(messages) {
    const pieces = [];
    await this.#link.exec(messages, (piece) => pieces.push(piece));
    return Buffer.concat(pieces);
  }

  /** Makes the session the client's. For the same client, or one with the same settings and nothing left behind, no query runs. */
  async load(client) {
    await this.#save(client);
    const foreign = this.#loaded !== client && (this.left.temp || this.left.pinned);
    if (foreign || this.#key !== client.profile.key || this.#garbage.length > GARBAGE_LIMIT) {
      await this.clear();
      await this.#apply(client);
    }
    if (this.#last !== client) {
      this.#serial += 1;
      if (this.sequences) await this.rows('DISCARD SEQUENCES');
    }
    this.#loaded = client;
    this.#last = client;
    this.#key = client.profile.key;
  }

  async #apply(client) {
    try {
      await this.rows(client.profile.applySql());
    } catch (error) {
      if (error.code) throw new Refused(error);
      throw error;
    }
  }

  /** Reads back what the last owner may have set, before another comes. */
  async #save(next) {
    const last = this.#loaded;
    if (!last?.dirty || last === next) return;
    last.dirty = false;
    this.#key = null;
    last.profile = captured(last.profile, await this.rows(captureSql(last.custom)));
  }

  /** Nobody's session, with the server's defaults. */
  async clear() {
    await this.#save(null);
    this.#key = null;
    if (this.#loaded && this.left.temp) this.#loaded.lostTemp = true;
    this.#loaded = null;
    await this.rows(clearSql(this.left));
    this.left = { temp: false, pinned: false };
    const names = this.#garbage.splice(0);
    if (names.length) await this.#reply([...names.map(wire.closeStatement), wire.sync()]);
  }

  /** First sight of currval or lastval, before it runs: what another client left must not be read. */
  async readsSequences() {
    if (!this.sequences) await this.rows('DISCARD SEQUENCES');
    this.sequences = true;
  }

  /** The client is gone. */
  forget(client) {
    this.drop(client.names.forget());
    if (this.#last === client) this.#last = null;
    if (this.#loaded !== client) return;
    this.#loaded = null;
    if (client.dirty || this.left.temp || this.left.pinned) this.#key = null;
  }

  /** Prepared statements that nobody needs; dropped later. */
  drop(statements) {
    this.#garbage.push(...statements);
  }

  /** Values of SHOW_SESSION, by name. */
  async settings() {
    const values = await this.rows(SHOW_SESSION.map((name) => `SHOW ${name}`).join('; '));
    return new Map(SHOW_SESSION.map((name, i) => [name, values[i][0]]));
  }

  /** Whether something is held that must not be shared: advisory locks of the session, cursors WITH HOLD. */
  async readPinned() {
    const [[count]] = await this.rows(
      "SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') + (SELECT count(*) FROM pg_cursors WHERE is_holdable)",
    );
    this.left.pinned = count !== '0';
    return this.left.pinned;
  }

  async readTemp() {
    const [[count]] = await this.rows("SELECT count(*) FROM pg_class WHERE relpersistence = 't'");
    this.left.temp = count !== '0';
  }

  async readRoles() {
    const rows = await this.rows('SELECT rolname, rolsuper, rolcanlogin FROM pg_roles');
    this.roles = new Map(
      rows.map(([name, superuser, login]) => [name, { superuser: superuser === 't', login: login === 't' }]),
    );
  }

  async listen(channels) {
    const names = [...channels];
    if (names.length) await this.rows(names.map((name) => `LISTEN ${quoteIdentifier(name)}`).join('; '));
  }
}
