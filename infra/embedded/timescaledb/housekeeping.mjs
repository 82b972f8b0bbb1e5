// What PostgreSQL's background processes do and this build has not: checkpoints, so that the write-ahead log and the next
// start's recovery stay small, and vacuum with statistics for tables that changed a lot.

const CHECKPOINT_BYTES = 64 * 1024 * 1024;
const CHECKPOINT_MS = 5 * 60_000;
const WAL_POSITION = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";

// Row counts of the session since the database started: without background processes they are never added to the
// cumulative statistics that autovacuum would read.
const CHANGES = `
  SELECT s.relid, format('%I.%I', s.schemaname, s.relname), s.n_tup_ins, s.n_tup_upd + s.n_tup_del, greatest(c.reltuples, 0)
  FROM pg_stat_xact_user_tables s JOIN pg_class c ON c.oid = s.relid
  WHERE s.n_tup_ins + s.n_tup_upd + s.n_tup_del > 0`;

/** What a table needs, by PostgreSQL's autovacuum defaults: `inserted` and `dead` rows since it was last looked after. */
export function need({ inserted, dead, rows }) {
  if (dead > 50 + 0.2 * rows) return 'VACUUM (ANALYZE)';
  return inserted + dead > 50 + 0.1 * rows ? 'ANALYZE' : null;
}

export class Housekeeping {
  #session;
  #log;
  #intervalMs;
  #timer = null;
  #epoch = 0;
  #done = new Map(); // by table: the counts when it was last looked after
  #checkpointed = { at: Date.now(), position: 0 };

  constructor({ session, log, intervalMs }) {
    this.#session = session;
    this.#log = log;
    this.#intervalMs = intervalMs;
  }

  start() {
    if (this.#intervalMs > 0) this.#timer = setTimeout(() => this.#round(), this.#intervalMs);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#intervalMs = 0;
  }

  async #round() {
    try {
      await this.#session.maintain((rows) => this.#checkpoint(rows));
      await this.#session.maintain((rows) => this.#vacuum(rows));
    } catch (error) {
      this.#log('warning', 'housekeeping failed', { error: error.message });
    }
    this.start();
  }

  async #checkpoint(rows) {
    const position = Number((await rows(WAL_POSITION))[0][0]);
    const grown = position - this.#checkpointed.position;
    if (grown < CHECKPOINT_BYTES && (grown === 0 || Date.now() - this.#checkpointed.at < CHECKPOINT_MS)) return;
    const started = performance.now();
    await rows('CHECKPOINT');
    this.#checkpointed = { at: Date.now(), position: Number((await rows(WAL_POSITION))[0][0]) };
    this.#log('debug', 'checkpoint', { bytes: grown, ms: Math.round(performance.now() - started) });
  }

  /** The neediest table, one a round: all clients wait meanwhile. */
  async #vacuum(rows) {
    if (this.#epoch !== this.#session.epoch) this.#done.clear(); // the counts began anew
    this.#epoch = this.#session.epoch;
    const candidates = (await rows(CHANGES))
      .map(([id, table, inserted, dead, count]) => {
        const done = this.#done.get(id) ?? { inserted: 0, dead: 0 };
        const since = { inserted: inserted - done.inserted, dead: dead - done.dead, rows: Number(count) };
        return {
          id,
          table,
          inserted: Number(inserted),
          dead: Number(dead),
          command: need(since),
          weight: since.inserted + since.dead,
        };
      })
      .filter(({ command }) => command)
      .sort((a, b) => b.weight - a.weight);
    if (candidates.length === 0) return;
    const [{ id, table, inserted, dead, command }] = candidates;
    const started = performance.now();
    await rows(`${command} ${table}`);
    this.#done.set(id, { inserted, dead: command === 'ANALYZE' ? (this.#done.get(id)?.dead ?? 0) : dead });
    this.#log('debug', 'vacuum', { table, command, ms: Math.round(performance.now() - started) });
  }
}
