// What one client has set in its session, and the SQL that saves it, puts it back and clears it.

import { quoteIdentifier, quoteLiteral } from './sql.mjs';

/** Settings a server reports to its clients whenever they change. */
export const REPORTED = [
  'server_version',
  'server_encoding',
  'client_encoding',
  'application_name',
  'default_transaction_read_only',
  'DateStyle',
  'IntervalStyle',
  'TimeZone',
  'integer_datetimes',
  'standard_conforming_strings',
  'search_path',
  'is_superuser',
  'session_authorization',
];
/** What the gate reads of a session: the reported settings, and what it puts into effect itself. */
export const SHOW_SESSION = [...REPORTED, 'statement_timeout'];

const UNITS_MS = { us: 0.001, ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 };

/** A duration setting ("0", "500ms", "2min", "1500") in milliseconds; 0 when it is none. */
export function milliseconds(text) {
  const [, count, unit] = /^\s*(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d)?\s*$/.exec(text ?? '') ?? [];
  return count ? Number(count) * UNITS_MS[unit ?? 'ms'] : 0;
}

/** A client's settings as of its last turn. `key` is equal for clients that see the same session. */
export class Profile {
  constructor({ user, superuser, settings, sessionUser = user, role = 'none' }) {
    Object.assign(this, { user, superuser, settings, sessionUser, role });
    this.key = JSON.stringify([sessionUser, role, [...settings].sort(([a], [b]) => (a < b ? -1 : 1))]);
  }

  /** SQL that makes a cleared session this client's. A role may set only what it is allowed to set. */
  applySql() {
    const authorization = `SET SESSION AUTHORIZATION ${quoteIdentifier(this.sessionUser)}`;
    const settings = [...this.settings].map(
      ([name, value]) => `set_config(${quoteLiteral(name)}, ${quoteLiteral(value)}, false)`,
    );
    const parts = settings.length ? [`SELECT ${settings.join(', ')}`] : [];
    if (this.superuser) parts.push(authorization);
    else parts.unshift(authorization);
    if (this.role !== 'none') parts.push(`SET ROLE ${quoteIdentifier(this.role)}`);
    return parts.join('; ');
  }
}

/** SQL that reads the session; its rows go to `captured`. */
export function captureSql(customNames) {
  const custom = [...customNames].map(
    (name) => `UNION ALL SELECT ${quoteLiteral(name)}, current_setting(${quoteLiteral(name)}, true)`,
  );
  return (
    'SHOW session_authorization; SHOW role; SET SESSION AUTHORIZATION postgres; ' +
    "SELECT name, setting FROM pg_settings WHERE source = 'session' AND name NOT LIKE 'transaction\\_%' " +
    custom.join(' ')
  );
}

/** The profile that the rows of `captureSql` describe. */
export function captured(profile, rows) {
  const [[sessionUser], [role], ...settings] = rows;
  const set = settings.filter(([, value]) => value !== null && value !== '');
  return new Profile({ user: profile.user, superuser: profile.superuser, settings: new Map(set), sessionUser, role });
}

/** SQL that brings the session back to the server's defaults. */
export function clearSql({ temp, pinned }) {
  const parts = ['SET SESSION AUTHORIZATION postgres', 'RESET ROLE', 'RESET ALL'];
  if (temp) parts.push('DISCARD TEMP');
  if (pinned) parts.push('CLOSE ALL', 'SELECT pg_advisory_unlock_all()');
  return parts.join('; ');
}

/** Settings of a startup packet: parameters of its own, and `-c name=value` or `--name=value` in `options`. */
export function startupSettings(parameters) {
  const settings = new Map();
  for (const part of (parameters.options ?? '').match(/(?:\\.|[^\s\\])+/g) ?? []) {
    const option = part.replace(/\\(.)/g, '$1').replace(/^(?:-c|--)/, '');
    const equals = option.indexOf('=');
    if (equals > 0) settings.set(option.slice(0, equals).replaceAll('-', '_'), option.slice(equals + 1));
  }
  for (const [name, value] of Object.entries(parameters)) {
    if (!['user', 'database', 'options', 'replication'].includes(name) && !name.startsWith('_pq_.'))
      settings.set(name, value);
  }
  return settings;
}
