// Interrupting a running statement. The engine's thread is inside WebAssembly then and reads nothing; a second thread
// waits on the lifeline and reaches into it through the inspector, which V8 serves at the next loop of the running code.

import { readSync } from 'node:fs';
import inspector from 'node:inspector';

export const LIFELINE = 4;
export const CANCEL_BYTES = 4;

/** Main thread: `interrupt(request)` is called in the middle of the running code, with the request's number. */
export function onInterrupt(interrupt) {
  globalThis.energyaiInterrupt = interrupt;
}

function interruptMain(request) {
  const session = new inspector.Session();
  session.connectToMainThread(); // only now: nothing is to be paid for while nobody cancels
  session.post('Runtime.evaluate', { expression: `energyaiInterrupt(${request})` });
  session.disconnect();
}

/** Second thread: numbers of requests to interrupt arrive on the lifeline; its end is the gate's death. */
export function watchLifeline(gateDied) {
  const bytes = Buffer.alloc(CANCEL_BYTES);
  let have = 0;
  for (;;) {
    const got = readSync(LIFELINE, bytes, have, CANCEL_BYTES - have, null);
    if (got === 0) return gateDied();
    have = (have + got) % CANCEL_BYTES;
    if (have === 0) interruptMain(bytes.readUInt32BE());
  }
}
