// What PostgreSQL's background processes do and this build has not: checkpoints, so that the write-ahead log and the next
// start's recovery stay small, and vacuum with statistics for tables that changed a lot.

const CHECKPOINT_BYTES = 64 * 1024 * 1024;
const CHECKPOINT_MS = 5 * 60_000;
const WAL_POSITION = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";

// PostgreSQL's autovacuum defaults; the neediest table first, one a round, as all clients wait meanwhile.
const NEEDY = `
  SELECT format('%I.%I', s.schemaname, s.relname)
  FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
  WHERE s.n_dead_tup > 50 + 0.2 * greatest(c.reltuples, 0) OR s.n_mod_since_analyze > 50 + 0.1 * greatest(c.reltuples, 0)
  ORDER BY s.n_dead_tup + s.n_mod_since_analyze DESC LIMIT 1`;

export class Housekeeping {
  #session;
  #log;
  #intervalMs;
  #timer = null;
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

  async #vacuum(rows) {
    const [needy] = await rows(NEEDY);
    if (!needy) return;
    const started = performance.now();
    await rows(`VACUUM (ANALYZE) ${needy[0]}`);
    this.#log('debug', 'vacuum', { table: needy[0], ms: Math.round(performance.now() - started) });
  }
}
