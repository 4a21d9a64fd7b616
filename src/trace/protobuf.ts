// Writes the wire format of Protocol Buffers, as much of it as Perfetto's packets need. A field is a tag, which is its number and how its value
// is written, and the value. Messages within messages have their length before them.
// https://protobuf.dev/programming-guides/encoding/

const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const GROUP = 128;

export class ProtobufWriter {
  private bytes = Buffer.allocUnsafe(1 << 17);
  private used = 0;

  /** How many bytes wait to be taken. */
  get size(): number {
    return this.used;
  }

  /** A whole number, also a negative one (of int32 and int64, not of sint). */
  integer(field: number, value: number): void {
    this.tag(field, VARINT);
    this.varint(value);
  }

  /** A uint64 that a number cannot hold. */
  bigInteger(field: number, value: bigint): void {
    this.tag(field, VARINT);
    let rest = BigInt.asUintN(64, value);
    for (; rest >= 128n; rest >>= 7n) this.byte(Number(rest & 127n) | GROUP);
    this.byte(Number(rest));
  }

  /** A fixed64, of 53 bits at most. */
  fixed64(field: number, value: number): void {
    this.tag(field, FIXED64);
    this.reserve(8);
    this.bytes.writeUInt32LE(value % 2 ** 32, this.used);
    this.bytes.writeUInt32LE(Math.floor(value / 2 ** 32), this.used + 4);
    this.used += 8;
  }

  double(field: number, value: number): void {
    this.tag(field, FIXED64);
    this.reserve(8);
    this.used = this.bytes.writeDoubleLE(value, this.used);
  }

  string(field: number, text: string): void {
    const at = this.begin(field);
    this.reserve(text.length * 3);
    this.used += this.bytes.write(text, this.used);
    this.end(at);
  }

  /** Begins a message; pass what this returns to `end`. */
  begin(field: number): number {
    this.tag(field, LENGTH);
    this.byte(0);
    return this.used;
  }

  /** Writes the length of what came since `begin`. Most messages are short, and one byte was left for it; others are moved. */
  end(at: number): void {
    const length = this.used - at;
    if (length < GROUP) {
      this.bytes[at - 1] = length;
      return;
    }
    let more = 0;
    for (let rest = length; rest >= GROUP; rest = Math.floor(rest / GROUP)) more++;
    this.reserve(more);
    this.bytes.copyWithin(at + more, at, this.used);
    this.used = at - 1;
    this.varint(length);
    this.used += length;
  }

  /** A copy of what was written since the last time. No message may be open. */
  take(): Uint8Array {
    const taken = Buffer.from(this.bytes.subarray(0, this.used));
    this.used = 0;
    return taken;
  }

  private tag(field: number, type: number): void {
    this.varint(field * 8 + type);
  }

  private varint(value: number): void {
    this.reserve(10);
    const { bytes } = this;
    let rest = value;
    if (rest < 0) {
      // Two's complement of 64 bits: nine groups of seven, and the sign.
      for (let i = 0; i < 9; i++, rest = Math.floor(rest / GROUP)) bytes[this.used++] = (rest & 127) | GROUP;
      bytes[this.used++] = 1;
      return;
    }
    for (; rest >= GROUP; rest = Math.floor(rest / GROUP)) bytes[this.used++] = (rest & 127) | GROUP;
    bytes[this.used++] = rest;
  }

  private byte(value: number): void {
    this.reserve(1);
    this.bytes[this.used++] = value;
  }

  private reserve(length: number): void {
    if (this.used + length <= this.bytes.length) return;
    const larger = Buffer.allocUnsafe((this.used + length) * 2);
    this.bytes.copy(larger, 0, 0, this.used);
    this.bytes = larger;
  }
}
