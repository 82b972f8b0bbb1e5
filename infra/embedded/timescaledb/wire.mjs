// PostgreSQL wire protocol, version 3: building messages and cutting byte streams into messages.

export const PROTOCOL_3 = 196608;
export const SSL_REQUEST = 80877103;
export const GSS_REQUEST = 80877104;
export const CANCEL_REQUEST = 80877102;

/** One message: type letter, then a length that counts itself, then the body. */
export function message(type, ...parts) {
  const body = parts.length === 1 ? parts[0] : Buffer.concat(parts);
  const out = Buffer.allocUnsafe(5 + body.length);
  out.write(type, 0, 'latin1');
  out.writeInt32BE(4 + body.length, 1);
  body.copy(out, 5);
  return out;
}

export const cstring = (text) => Buffer.from(`${text}\0`);

export function int32(value) {
  const out = Buffer.allocUnsafe(4);
  out.writeInt32BE(value);
  return out;
}

export const query = (sql) => message('Q', cstring(sql));
export const sync = () => message('S', Buffer.alloc(0));
export const closeStatement = (name) => message('C', Buffer.from('S'), cstring(name));
export const authenticationOk = () => message('R', int32(0));
export const readyForQuery = (status) => message('Z', Buffer.from(status, 'latin1'));
export const parameterStatus = (name, value) => message('S', cstring(name), cstring(value));
export const backendKeyData = (pid, secret) => message('K', int32(pid), int32(secret));

/** NegotiateProtocolVersion: the newest minor version we speak, and the options we did not know. */
export function negotiateProtocol(unknownOptions) {
  return message('v', int32(PROTOCOL_3), int32(unknownOptions.length), ...unknownOptions.map(cstring));
}

/** NotificationResponse for a client that listens. */
export const notification = (pid, channel, payload) => message('A', int32(pid), cstring(channel), cstring(payload));

function fields(type, severity, code, text, hint) {
  const parts = [`S${severity}`, `V${severity}`, `C${code}`, `M${text}`];
  if (hint) parts.push(`H${hint}`);
  return message(type, ...parts.map(cstring), Buffer.from([0]));
}

export const errorResponse = (severity, code, text, hint) => fields('E', severity, code, text, hint);
export const noticeResponse = (severity, code, text, hint) => fields('N', severity, code, text, hint);

/** The fields of an ErrorResponse or NoticeResponse body, by their letter. */
export function errorFields(body) {
  const found = {};
  for (const part of body.toString('utf8').split('\0')) if (part) found[part[0]] = part.slice(1);
  return found;
}

/** Name and value pairs of a startup packet's body (after the version). */
export function startupParameters(body) {
  const parts = body.toString('utf8').split('\0');
  const parameters = {};
  for (let i = 0; i + 1 < parts.length && parts[i] !== ''; i += 2) parameters[parts[i]] = parts[i + 1];
  return parameters;
}

/** The zero-terminated string at `offset`: its bytes as text, and the offset behind it. */
export function readCString(buffer, offset) {
  const end = buffer.indexOf(0, offset);
  if (end < 0) throw new ProtocolViolation('a string of the message is not terminated');
  return { text: buffer.toString('utf8', offset, end), next: end + 1 };
}

/** What a client sent is not the protocol: it is told so (08P01) and its connection closed. */
export class ProtocolViolation extends Error {}

/**
 * Collects the bytes of one client without copying them again and again: large messages arrive in many
 * small chunks, so chunks are joined only once a whole message is there.
 */
export class ByteQueue {
  chunks = [];
  length = 0;

  push(chunk) {
    this.chunks.push(chunk);
    this.length += chunk.length;
  }

  /** The first `count` bytes without removing them; null when they have not arrived. */
  peek(count) {
    if (this.length < count) return null;
    if (this.chunks[0].length < count) this.#join(count);
    return this.chunks[0].subarray(0, count);
  }

  /** Removes and returns the first `count` bytes. */
  take(count) {
    if (count === 0) return Buffer.alloc(0);
    const bytes = this.peek(count);
    if (this.chunks[0].length === count) this.chunks.shift();
    else this.chunks[0] = this.chunks[0].subarray(count);
    this.length -= count;
    return bytes;
  }

  #join(count) {
    let size = 0;
    let used = 0;
    while (size < count) size += this.chunks[used++].length;
    this.chunks.splice(0, used, Buffer.concat(this.chunks.slice(0, used), size));
  }
}

/** The rows of a reply to a simple query, as text or null; an ErrorResponse is thrown. */
export function textRows(reply) {
  const rows = [];
  for (let at = 0; at < reply.length; at += 1 + reply.readInt32BE(at + 1)) {
    const type = reply[at];
    if (type === 0x45) {
      const { C: code, M: text } = errorFields(reply.subarray(at + 5, at + 1 + reply.readInt32BE(at + 1)));
      throw Object.assign(new Error(text), { code });
    }
    if (type === 0x44) rows.push(dataRow(reply, at + 5));
  }
  return rows;
}

function dataRow(reply, start) {
  const row = [];
  let at = start + 2;
  for (let left = reply.readInt16BE(start); left > 0; left -= 1) {
    const length = reply.readInt32BE(at);
    at += 4;
    row.push(length < 0 ? null : reply.toString('utf8', at, at + length));
    at += Math.max(0, length);
  }
  return row;
}
