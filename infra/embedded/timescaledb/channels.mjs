// LISTEN and NOTIFY: the session inside listens to what any client wants; the gate gives each client its own.

import { notification, readCString } from './wire.mjs';

/** Applies LISTEN and UNLISTEN statements to the client's channels; returns whether one was given up. */
export function follow(client, changes) {
  for (const { on, channel } of changes) {
    const name = Buffer.from(channel ?? '', 'latin1').toString('utf8');
    if (on) client.channels.add(name);
    else if (name === '*') client.channels.clear();
    else client.channels.delete(name);
  }
  return changes.some((change) => !change.on);
}

/** Sends notifications (message bodies) to the clients that listen, with the sender's id as its pid. */
export function deliver(bodies, sender, clients) {
  for (const body of bodies) {
    const channel = readCString(body, 4);
    const payload = readCString(body, channel.next).text;
    for (const client of clients) {
      if (client.channels.has(channel.text)) client.send(notification(sender.id, channel.text, payload));
    }
  }
}

/** All channels that some client listens to. */
export const wanted = (clients) => new Set([...clients].flatMap((client) => [...client.channels]));
