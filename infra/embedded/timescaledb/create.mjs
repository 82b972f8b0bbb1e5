// Makes the files of a new database. A process of its own: the first start of this build is in template1 whatever database
// is asked for, and a second engine in one process would hold its memory twice.

import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadPackage } from './engine.mjs';

const SELF = fileURLToPath(import.meta.url);
const DRAFT = 'pgdata-new-';

/** The folder of the database files in `dir`, made when missing. All or nothing: a half-made one is thrown away. */
export function databaseFolder(dir, modules) {
  const folder = path.join(dir, 'pgdata');
  for (const name of readdirSync(dir))
    if (name.startsWith(DRAFT)) rmSync(path.join(dir, name), { recursive: true, force: true });
  if (existsSync(folder)) return folder;
  const draft = path.join(dir, `${DRAFT}${process.pid}`);
  try {
    execFileSync(process.execPath, [SELF, draft, modules], { stdio: ['ignore', 'ignore', 'pipe'] });
  } catch (error) {
    throw new Error(error.stderr?.toString().trim() || error.message);
  }
  renameSync(draft, folder);
  return folder;
}

async function create(folder, modules) {
  const { PGlite } = await loadPackage(modules);
  await (await PGlite.create(folder)).close();
}

if (process.argv[1] === SELF) {
  await create(process.argv[2], process.argv[3]).then(
    () => process.exit(0),
    (error) => {
      process.stderr.write(`${error.message}\n`);
      process.exit(1);
    },
  );
}
