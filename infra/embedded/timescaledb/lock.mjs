// One database process a folder. Held by the process that writes, so that it ends exactly when that process does.

import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const PATIENCE_MS = 10_000; // a killed gate's database may still be on its way out
const SETTLE_MS = 300;
// The whole of sockaddr_un.sun_path: Node 20 fills a shorter name up with zeros, later ones do not, and the two would not meet.
const NAME_LENGTH = 108;

/** When the process started, in clock ticks since boot: tells a reused pid apart. Null where there is no /proc. */
function startTime(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ESRCH') return null;
    throw error;
  }
}

function alive({ pid, started }) {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (error.code !== 'EPERM') return false;
  }
  const now = startTime(pid);
  return now === null || now === started;
}

function readOwner(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT' || error instanceof SyntaxError) return null;
    throw error;
  }
}

/** Linux: an abstract socket named after the folder's inode. The kernel frees it with the process, so it is never stale. */
function bindName(dir) {
  const { dev, ino } = statSync(dir);
  const server = net.createServer((socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.once('error', (error) => (error.code === 'EADDRINUSE' ? resolve(null) : reject(error)));
    server.listen(`\0energyai-database-${dev}-${ino}`.padEnd(NAME_LENGTH, '-'), () => resolve(server.unref()));
  });
}

async function tryLock(dir, file, mine) {
  if (process.platform === 'linux') {
    if (!(await bindName(dir))) return false;
  } else {
    const other = readOwner(file);
    if (other && other.pid !== process.pid && alive(other)) return false;
  }
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, JSON.stringify(mine));
  renameSync(draft, file);
  if (process.platform === 'linux') return true;
  await sleep(SETTLE_MS); // two that found the same stale lock: the later rename wins
  return readOwner(file)?.pid === process.pid;
}

/** Locks `dir` for this process; throws with the owner's pid when another process keeps it. */
export async function lockFolder(dir) {
  mkdirSync(dir, { recursive: true });
  const file = path.join(dir, 'database.lock');
  const mine = { pid: process.pid, started: startTime(process.pid) };
  for (const deadline = Date.now() + PATIENCE_MS; ; await sleep(100)) {
    if (await tryLock(dir, file, mine)) return;
    const other = readOwner(file);
    const orphan = other && other.pid !== process.pid && !alive(other);
    if (Date.now() > deadline || (!orphan && Date.now() > deadline - PATIENCE_MS / 2)) {
      throw new Error(
        `${dir} is open in another database process (pid ${other?.pid ?? 'unknown'}): stop it, or choose another folder`,
      );
    }
  }
}
