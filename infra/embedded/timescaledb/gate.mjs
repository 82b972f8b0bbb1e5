#!/usr/bin/env node
// The gate: many clients, one embedded TimescaleDB. Usage: node gate.mjs --help

import net from 'node:net';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Client } from './client.mjs';
import { DATABASE } from './engine.mjs';
import { Housekeeping } from './housekeeping.mjs';
import { DatabaseLink } from './link.mjs';
import { Session } from './session.mjs';

const USAGE = `usage: node gate.mjs --data DIR --modules DIR [--port P] [--host H] [options]

Serves the TimescaleDB in --data (created when missing) to PostgreSQL clients. Prints one line of JSON on standard
output when ready; logs go to standard error. SIGTERM and SIGINT end it cleanly.

  --data DIR                           folder of the database
  --modules DIR                        node_modules folder made by "npm ci"
  --port P                             0, the default: a free port
  --host H                             address to listen on (127.0.0.1). There are no passwords: keep it on loopback
  --idle-in-transaction-timeout SEC    60; an owner idle for longer is ended, as it blocks all others
  --fsync                              also survive a power cut (slower commits); a killed process is always survived
  --housekeeping SEC                   15; how often to look whether a checkpoint or vacuum is due; 0: never
  --max-message-mb MB                  256; longer messages end their connection
  --verbose                            debug lines in the log`;

const OPTIONS = {
  data: { type: 'string' },
  modules: { type: 'string' },
  port: { type: 'string', default: '0' },
  host: { type: 'string', default: '127.0.0.1' },
  'idle-in-transaction-timeout': { type: 'string', default: '60' },
  fsync: { type: 'boolean', default: false },
  housekeeping: { type: 'string', default: '15' },
  'max-message-mb': { type: 'string', default: '256' },
  verbose: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
};
const STATEMENT_MS = 10_000; // at the end, for the running statement
const SHUTDOWN_MS = 10_000; // and for the database's last checkpoint

class UsageError extends Error {}

function number(values, name, low, high) {
  const value = Number(values[name]);
  if (!(value >= low && value <= high))
    throw new UsageError(`--${name} must be a number from ${low} to ${high}, not "${values[name]}"`);
  return value;
}

function readOptions(argv) {
  let values;
  try {
    ({ values } = parseArgs({ args: argv, options: OPTIONS }));
  } catch (error) {
    throw new UsageError(error.message);
  }
  if (values.help) return { help: true };
  for (const name of ['data', 'modules']) if (!values[name]) throw new UsageError(`--${name} DIR is missing`);
  return {
    dataDir: path.resolve(values.data),
    modules: path.resolve(values.modules),
    port: number(values, 'port', 0, 65535),
    host: values.host,
    idleTimeoutMs: 1000 * number(values, 'idle-in-transaction-timeout', 0.1, 86_400),
    fsync: values.fsync,
    housekeepingMs: 1000 * number(values, 'housekeeping', 0, 86_400),
    maxMessage: 1024 * 1024 * number(values, 'max-message-mb', 1, 1000),
    verbose: values.verbose,
  };
}

const logger =
  (verbose) =>
  (level, event, details = {}) => {
    if (level === 'debug' && !verbose) return;
    process.stderr.write(`${JSON.stringify({ ts: new Date().toISOString(), level, event, ...details })}\n`);
  };

class Gate {
  #count = 0;

  constructor(options) {
    this.log = logger(options.verbose);
    this.maxMessage = options.maxMessage;
    this.link = new DatabaseLink({ ...options, log: this.log });
    this.session = new Session({ link: this.link, log: this.log, idleTimeoutMs: options.idleTimeoutMs });
    this.housekeeping = new Housekeeping({ session: this.session, log: this.log, intervalMs: options.housekeepingMs });
    this.server = net.createServer((socket) => {
      this.#count = (this.#count % 0x7fffffff) + 1;
      this.session.clients.add(new Client({ socket, id: this.#count, gate: this }));
    });
  }

  /** Why a startup packet is refused: code, text, hint; null when it is not. */
  refusal({ user, database = user, replication }) {
    if (this.session.roles.size === 0) return ['57P03', 'the database system is starting up'];
    if (!user) return ['28000', 'no PostgreSQL user name specified in startup packet'];
    const role = this.session.roles.get(user);
    if (!role)
      return [
        '28000',
        `role "${user}" does not exist`,
        'The embedded database starts with role postgres; migrations create the others.',
      ];
    if (!role.login) return ['28000', `role "${user}" is not permitted to log in`];
    if (database !== DATABASE)
      return ['3D000', `database "${database}" does not exist`, `The embedded database has one database: ${DATABASE}.`];
    if (replication && !/^(?:off|false|no|0)$/i.test(replication))
      return ['0A000', 'replication is not supported by the embedded database'];
    return null;
  }

  cancel(id, secret) {
    for (const client of this.session.clients) {
      if (client.id === id && client.secret === secret) this.session.cancel(client);
    }
  }

  async open() {
    await this.link.start();
    await this.session.opened();
    this.link.on('up', () => {
      this.session.opened().catch((error) => this.log('error', 'the database did not open', { error: error.message }));
    });
    this.housekeeping.start();
  }

  listen(port, host) {
    return new Promise((resolve, reject) => {
      this.server.once('error', (error) => {
        const taken =
          error.code === 'EADDRINUSE'
            ? `port ${port} is in use: choose another with --port, or 0 for a free one`
            : error.message;
        reject(new Error(taken));
      });
      this.server.listen({ port, host, backlog: 511 }, () => resolve(this.server.address().port));
    });
  }

  /** Lets the running statement end, closes the database; unfinished transactions are rolled back. */
  async close() {
    this.server.close();
    this.housekeeping.stop();
    const ended = await this.session.stop(STATEMENT_MS);
    if (!ended) this.link.kill();
    const clean = await this.link.close(SHUTDOWN_MS);
    if (clean) this.log('info', 'database closed');
    else this.log('warning', 'database ended without a checkpoint; its next start recovers');
    for (const client of this.session.clients)
      client.fail('57P01', 'terminating connection due to administrator command');
  }
}

async function main() {
  const options = readOptions(process.argv.slice(2));
  if (options.help) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  const started = performance.now();
  const gate = new Gate(options);
  let ending = false;
  const end = (signal) => {
    if (ending) return;
    ending = true;
    gate.log('info', 'closing', { signal });
    gate.close().then(
      () => process.exit(0),
      (error) => {
        gate.log('error', 'close failed', { error: error.stack });
        process.exit(1);
      },
    );
  };
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => end(signal));
  const port = await gate.listen(options.port, options.host); // first: a port that is taken is told at once
  await gate.open();
  const ready = {
    ready: true,
    port,
    pid: process.pid,
    database_pid: gate.link.pid,
    url: `postgresql://postgres@${options.host}:${port}/${DATABASE}`,
    start_ms: Math.round(performance.now() - started),
  };
  process.stdout.write(`${JSON.stringify(ready)}\n`);
}

main().catch((error) => {
  process.stderr.write(
    `gate: ${error.message}\n${error instanceof UsageError ? 'Run "node gate.mjs --help" for the options.\n' : ''}`,
  );
  process.exit(error instanceof UsageError ? 2 : 1);
});
