// Frames between gate and database process: type (1 byte), length (4 bytes, big endian), payload. Binary, no copies of text.

export const HEADER = 5;
export const FRAME = { exec: 1, shutdown: 2, ready: 3, data: 4, done: 5, failed: 6, closed: 7 };

export function frameHeader(type, length) {
  const header = Buffer.allocUnsafe(HEADER);
  header[0] = type;
  header.writeUInt32BE(length, 1);
  return header;
}

/** Cuts a byte stream into frames. Payloads of data frames are passed on as they arrive, in pieces, never joined. */
export class FrameReader {
  #head = Buffer.alloc(0);
  #type = 0;
  #left = 0;
  #parts = [];

  constructor({ onData, onFrame }) {
    this.onData = onData;
    this.onFrame = onFrame;
  }

  push(chunk) {
    let at = 0;
    while (at < chunk.length || (this.#type && this.#left === 0)) {
      if (!this.#type) {
        const need = HEADER - this.#head.length;
        this.#head = Buffer.concat([this.#head, chunk.subarray(at, at + need)]);
        at += need;
        if (this.#head.length < HEADER) return;
        this.#type = this.#head[0];
        this.#left = this.#head.readUInt32BE(1);
        this.#head = Buffer.alloc(0);
      }
      const piece = chunk.subarray(at, at + this.#left);
      at += piece.length;
      this.#left -= piece.length;
      if (this.#type === FRAME.data) {
        if (piece.length) this.onData(piece);
      } else this.#parts.push(piece);
      if (this.#left === 0) this.#finish();
    }
  }

  #finish() {
    const type = this.#type;
    const payload = Buffer.concat(this.#parts);
    this.#type = 0;
    this.#parts = [];
    if (type !== FRAME.data) this.onFrame(type, payload);
  }
}
