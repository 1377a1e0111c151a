/**
 * What every server of the benchmark answers, whatever it is written with.
 *
 * - `GET /bench/hello`: `hello`, as text/plain.
 * - `POST /bench/upload`: reads the body and answers how many bytes it had, as text/plain.
 * - `GET /bench/download`: `large`, as application/octet-stream, with its length.
 * - `GET /bench/stream`: the same bytes in 16 pieces of 64 KiB, one after the other, with their length.
 * - `GET /bench/wait`: nothing, until the client has gone.
 */

export const hello = "Hello world!"

/** 1 MiB that does not compress to nothing. */
export const large: Uint8Array = Uint8Array.from(
  { length: 1024 * 1024 },
  (_, index) => (index * 31 + (index >> 8)) & 0xff
)

/** `large` in pieces. */
export const pieces: ReadonlyArray<Uint8Array> = Array.from(
  { length: 16 },
  (_, index) => large.subarray(index * 65_536, (index + 1) * 65_536)
)

/** Connections that wait to be accepted: as many as Linux allows, so that no workload measures it. */
export const backlog = 4096

/** The UNIX socket to listen on: the first argument of every server. */
export const socketPath = (): string => {
  const path = process.argv[2]
  if (path === undefined) throw new Error("usage: node SERVER.ts SOCKET [hello|upload|download|stream|wait]")
  return path
}
